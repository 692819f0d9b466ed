"""A miner of the text compression challenge: a real compressor, more thorough with more skill.

Skill 0 looks 1 KiB back and takes what it finds first, 1 searches the whole text, 2 parses
lazily, 3 searches for the cheapest parse. An attempt above 0 is a variation: some matches, chosen
by the attempt, are spelled out as literals, fewer with more skill; the codes are made anew.
"""

import hashlib
from functools import cache
from pathlib import Path

from challenges.examples.text_compression.encoding import Token, encode
from challenges.examples.text_compression.parsing import cheapest, find_matches, greedy, lazy

TEXT_PATH = Path(__file__).parent / "data" / "text.txt"
FEWEST_CHANGES = 3
EXTRA_CHANGES = (24, 16, 10, 4)  # at most, by skill


@cache
def _parse(skill: int) -> tuple[bytes, list[Token]]:
    text = TEXT_PATH.read_bytes()
    matches = find_matches(text)
    if skill == 0:
        return text, greedy(text, matches, window=1024)
    if skill == 1:
        return text, greedy(text, matches, window=len(text))
    if skill == 2:
        return text, lazy(text, matches)
    return text, cheapest(text, matches, rounds=6)


def _numbers(skill: int, attempt: int, count: int) -> list[int]:
    """Return numbers below 2**32 that depend on nothing but the arguments."""
    key = f"text_compression {skill} {attempt}".encode()
    stream = hashlib.shake_256(key).digest(4 * count)
    return [int.from_bytes(stream[i : i + 4], "big") for i in range(0, len(stream), 4)]


def _vary(text: bytes, tokens: list[Token], numbers: list[int]) -> list[Token]:
    """Return the same text with one match spelled out for each number."""
    places = [i for i, (length, _) in enumerate(tokens) if 0 < length <= 5]
    chosen = {places[number % len(places)] for number in numbers}
    varied: list[Token] = []
    at = 0
    for i, (length, other) in enumerate(tokens):
        size = length or 1
        if i in chosen:
            varied.extend((0, byte) for byte in text[at : at + size])
        else:
            varied.append((length, other))
        at += size
    return varied


def payload(skill: int, attempt: int) -> bytes:
    """Make the submission of a miner of `skill` 0..3 at its `attempt`; at most 4,096 bytes."""
    text, tokens = _parse(skill)
    if attempt:
        first, *rest = _numbers(skill, attempt, 1 + FEWEST_CHANGES + EXTRA_CHANGES[skill])
        changes = FEWEST_CHANGES + first % (EXTRA_CHANGES[skill] + 1)
        tokens = _vary(text, tokens, rest[:changes])
    return encode(tokens)
