"""Coverage-guided fuzzing with atheris: `python -m tests.fuzz --target NAME --seconds N`.

`--target all` takes one target after the other, `--list` names them. A target is watched for
errors that are not its documented ones, for inputs that take too long, and for memory. What was
found is written to `build/fuzz/NAME/` and `--replay FILE` gives it to the target once more.

atheris is not among the node's dependencies: install it beside them (`pip install atheris`).
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path("build") / "fuzz"
MEMORY_MB = 2_048
SLOW_S = 20
START_S = 120
"""For imports, instrumenting and the valid inputs, before the seconds of fuzzing begin."""
PACKAGES = (
    "protocol",
    "consensus",
    "registry",
    "storage",
    "chain",
    "runtime",
    "challenges",
    "validator_node",
    "libp2p.pubsub",
    "libp2p.kad_dht",
)
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_PEAK = re.compile(r"stat::peak_rss_mb:\s*(\d+)")
_COVERAGE = re.compile(r"cov: (\d+)")


def main() -> int:
    """Run what the command line says; the exit status is 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", action="append", default=[], help="a name, or all")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--replay", type=Path, help="give one file to the target, with no fuzzing")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.list:
        from tests.fuzz.targets import TARGETS

        sys.stdout.write("".join(f"{name}\n" for name in TARGETS))
        return 0
    if not arguments.target:
        parser.error("--target NAME, or --target all; --list names them")
    if arguments.replay is not None:
        return _replay(arguments.target[0], arguments.replay)
    if importlib.util.find_spec("atheris") is None:
        sys.stderr.write("atheris is not installed here: pip install atheris, then again\n")
        return 2
    if arguments.one:
        _fuzz(arguments.target[0], arguments.seconds)
    return _fuzz_each(arguments.target, arguments.seconds)


def _replay(name: str, file: Path) -> int:
    from tests.fuzz.target import Site, attempt_watched
    from tests.fuzz.targets import TARGETS

    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder))
        with site.stack:
            taken = attempt_watched(TARGETS[name](site), file.read_bytes())
    sys.stdout.write(f"{name}: {'taken' if taken else 'refused'}, as documented\n")
    return 0


def _fuzz_each(names: list[str], seconds: int) -> int:
    """Fuzz each target in a process of its own: libFuzzer ends the process it runs in."""
    from tests.fuzz.targets import TARGETS

    chosen = list(TARGETS) if names == ["all"] else names
    unknown = [name for name in chosen if name not in TARGETS]
    if unknown:
        sys.stderr.write(f"no target {', '.join(unknown)}; --list names them\n")
        return 2
    sys.stdout.write(f"{'target':22} {'executions':>11} {'branches':>9} {'peak MB':>8}  finding\n")
    found = False
    for name in chosen:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.fuzz", "--one"),
                *("--target", name, "--seconds", str(seconds)),
            ],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds + START_S,
            check=False,
        )
        output = done.stdout + done.stderr
        log = FOLDER / name / "log.txt"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(output)
        executed, peak = (m.group(1) if m else "?" for m in _searched(output, _EXECUTED, _PEAK))
        branches = (_COVERAGE.findall(output) or ["?"])[-1]
        finding = "none" if done.returncode == 0 else f"status {done.returncode}, see {log}"
        found = found or done.returncode != 0
        sys.stdout.write(f"{name:22} {executed:>11} {branches:>9} {peak:>8}  {finding}\n")
        sys.stdout.flush()
    return int(found)


def _searched(text: str, *patterns: re.Pattern[str]) -> list[re.Match[str] | None]:
    """Return the first match of each pattern."""
    return [pattern.search(text) for pattern in patterns]


def _fuzz(name: str, seconds: int) -> None:
    """Fuzz one target; does not return."""
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

    with atheris.instrument_imports(include=list(PACKAGES)):
        from tests.fuzz.mutation import BOMBS, mutate
        from tests.fuzz.target import Site, attempt
        from tests.fuzz.targets import TARGETS

        results = FOLDER / name
        results.mkdir(parents=True, exist_ok=True)
        # libFuzzer ends the process without cleaning up; the system's own cleaning gets the folder.
        site = Site(Path(tempfile.mkdtemp(prefix="fuzz-")))
        target = TARGETS[name](site)
        for seed in target.seeds:
            attempt(target, seed)  # imports what is imported late

    corpus = site.folder / "corpus"
    corpus.mkdir()
    for number, seed in enumerate((*target.seeds, *BOMBS)):
        (corpus / f"{number:03}").write_bytes(seed)

    def mutator(data: bytes, max_size: int, seed: int) -> bytes:
        if seed % 8 == 0:
            return bytes(atheris.Mutate(data, max_size))
        # Where the decoder is compiled code its branches are not seen, and the fuzzer keeps
        # none of the valid inputs: so half of all mutations start from one of them.
        base = target.seeds[seed % len(target.seeds)] if seed % 2 else data
        return mutate(base, target.seeds, seed)[:max_size]

    options: list[Any] = [
        f"-max_total_time={seconds}",
        f"-rss_limit_mb={MEMORY_MB}",
        f"-timeout={SLOW_S}",
        f"-artifact_prefix={results}/",
        *("-print_final_stats=1", "-max_len=65536", "-len_control=0", "-verbosity=1"),
        str(corpus),
    ]
    atheris.Setup(
        [sys.argv[0], *options], lambda data: attempt(target, data), custom_mutator=mutator
    )
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
