"""Python submissions from a seed: right, wrong, slow, crashing, hostile, odd and no Python at all.

For `python_coding`, whose miners submit `solve(numbers)`. What is odd here is what two machines, or
two runs on one, could most easily answer differently: addresses, hashes, the order of sets, where
memory, fuel and the stack end.
"""

from __future__ import annotations

from functools import cache
from random import Random

from challenges import examples

NAME = "python_coding"
SKILLS = 4
SIZES = (0, 1, 7, 100, 1_000, 30_000, 1_000_000, 2**31, 2**63, 10**30)
ODD = (
    "id(numbers)",
    "id(object()) % 1000",
    "hash('a' + str(numbers))",
    "repr(object())",
    "[*{'x', 'y', 'z', *map(str, numbers)}]",
    "str({1.5, 'q', (2, 3), None, frozenset(numbers)})",
    "{str(n): n / 7 for n in numbers}",
    "0.1 + 0.2",
    "float('nan')",
    "1e308 * 10",
    "'\\ud800'",
    "2 ** len(numbers) ** 3",
    "b'bytes'",
    "solve",
    "__import__('sys').getsizeof(numbers)",
    "len(dir(__builtins__))",
    "sorted(vars(__import__('sys'))['modules'])",
    "__import__('math').sin(sum(numbers))",
    "__import__('random').random()",
    "__import__('random').Random(len(numbers)).random()",
    "str(__import__('sys').exc_info())",
    "__import__('gc').get_count()",
    "len(__import__('gc').get_objects())",
    "__import__('sys')._getframe().f_back.f_locals.__repr__()[:200]",
    "'x' * SIZE",
    "[0] * SIZE",
    "sum(range(min(SIZE, 10 ** 6)))",
    "bytearray(SIZE)[-1:].hex()",
    "' '.join(map(hex, numbers)).encode().decode('utf-16', 'replace')",
)
"""Expressions to answer with; SIZE stands for a number."""
FAILURES = (
    "raise ValueError(numbers)",
    "raise KeyboardInterrupt",
    "raise SystemExit(SIZE % 256)",
    "raise ExceptionGroup('g', [ValueError(1), KeyError(2)])",
    "assert not numbers, numbers",
    "return solve(numbers + [1])",
    "return (lambda f: f(f))(lambda f: f(f))",
    "return numbers[SIZE % 2 ** 40]",
    "return 1 // (len(numbers) % 3)",
    "yield 5",
    "import nothing_of_that_name",
    "import os; os.abort()",
    "import sys; sys.setrecursionlimit(10 ** 6); return solve(numbers)",
    "import re; return len(re.match('(a*)*b', 'a' * (SIZE % 30)) or '')",
    "held = []\n    while True: held.append(bytes(1 + SIZE % 100_000))",
    "while True: pass",
    "while len(numbers) > 20: pass\n    return right(numbers)",
)
"""Bodies that mostly do not answer."""
DAMAGES = (b"", b"\x00", b"\xff", b"\n", b"(", b"'''", b"\t", b" if ", b"0", b"\\", b"#", b"\r")


@cache
def attacks() -> tuple[bytes, ...]:
    """Return the example's own attacks."""
    folder = examples.FOLDER / NAME / "attacks"
    return tuple(path.read_bytes() for path in sorted(folder.glob("*.txt")))


def _right(random: Random) -> bytes:
    return examples.payload(NAME, random.choice((2, 3)), random.randrange(1_000))


def _wrong(random: Random) -> bytes:
    """Mostly wrong: a weak miner's, or a right one with one number or sign changed."""
    if random.random() < 0.4:
        return examples.payload(NAME, random.randrange(2), random.randrange(1_000))
    body = _right(random)
    places = [at for at, byte in enumerate(body) if byte in b"01+<>=:"]
    at = random.choice(places)
    return body[:at] + random.choice((b"0", b"2", b"-", b"<", b">", b"")) + body[at + 1 :]


def _slow(random: Random) -> bytes:
    """Right, after some work: up to far more than the fuel of one call."""
    rounds = int(10 ** random.uniform(1, 8))
    work = random.choice(("pass", "numbers[:]", "str(_)", "[_] * 50", "{_: _}"))
    return _right(random) + (
        f"\nright = solve\ndef solve(numbers):\n    for _ in range({rounds}):\n        {work}\n"
        "    return right(numbers)\n"
    ).encode("ascii")


def _odd(random: Random) -> bytes:
    answer = random.choice(ODD).replace("SIZE", str(random.choice(SIZES)))
    return f"def solve(numbers):\n    return {answer}\n".encode("ascii")


def _failing(random: Random) -> bytes:
    body = random.choice(FAILURES).replace("SIZE", str(random.choice(SIZES)))
    when = random.choice(("", f"if len(numbers) < {random.randrange(37)}: return right(numbers)"))
    lines = f"\nright = solve\ndef solve(numbers):\n    {when}\n    {body}\n"
    return _right(random) + lines.encode("ascii")


def _attack(random: Random) -> bytes:
    return random.choice(attacks()) + f"\n# {random.randrange(100)}\n".encode("ascii")


def _damaged(random: Random) -> bytes:
    body = random.choice((_right, _slow, _odd, _failing, _attack))(random)
    at, end = sorted(random.randrange(len(body) + 1) for _ in range(2))
    return body[:at] + random.choice(DAMAGES) + body[random.choice((at, at + 1, end)) :]


def _noise(random: Random) -> bytes:
    size = random.choice((0, 1, 40, 1_024, 16_384))
    return random.choice(
        (random.randbytes(size), b"(" * size, b"solve = len\n" + b"x = 1\n" * (size // 6))
    )


KINDS = ((_right, 3), (_wrong, 4), (_slow, 3), (_odd, 4), (_failing, 4), (_attack, 3))
_MAKERS = [*(maker for maker, _ in KINDS), _damaged, _noise]
_SHARES = [*(share for _, share in KINDS), 3, 1]


def submission(random: Random, limit: int) -> bytes:
    """Return a submission of at most `limit` bytes."""
    return random.choices(_MAKERS, _SHARES)[0](random)[:limit]
