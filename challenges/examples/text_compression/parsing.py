"""Ways to cut a text into literals and matches, from hasty to thorough.

`greedy` and `lazy` take the longest match at hand; `cheapest` is a shortest path through the text
under the bit costs of the codes found so far, repeated until the costs settle.
"""

from collections.abc import Sequence

from challenges.examples.text_compression.encoding import (
    DISTANCE_CLASS,
    LENGTH_CLASS,
    LITERALS,
    MAX_MATCH,
    MIN_MATCH,
    Token,
    code_lengths,
    symbol_counts,
)

#: For each position the matches worth knowing: (length, distance), both increasing.
Matches = Sequence[Sequence[tuple[int, int]]]

UNSEEN_BITS = 12  # the assumed cost of a symbol that the last round never used


def _match_length(text: bytes, earlier: int, position: int) -> int:
    limit = min(MAX_MATCH, len(text) - position)
    length = MIN_MATCH
    while length < limit and text[earlier + length] == text[position + length]:
        length += 1
    return length


def find_matches(text: bytes) -> Matches:
    """Find, for each position, the nearest match of each length that exists."""
    seen: dict[bytes, list[int]] = {}
    found: list[list[tuple[int, int]]] = []
    for position in range(len(text)):
        key = text[position : position + MIN_MATCH]
        here: list[tuple[int, int]] = []
        longest = MIN_MATCH - 1
        places = seen.setdefault(key, [])
        for earlier in reversed(places if len(key) == MIN_MATCH else []):
            end = position + longest
            if text[earlier + longest : earlier + longest + 1] != text[end : end + 1]:
                continue
            length = _match_length(text, earlier, position)
            if length > longest:
                here.append((length, position - earlier))
                longest = length
        places.append(position)
        found.append(here)
    return found


def greedy(text: bytes, matches: Matches, window: int) -> list[Token]:
    """Take the longest match within `window` bytes back, always."""
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        near = [match for match in matches[at] if match[1] <= window]
        tokens.append(near[-1] if near else (0, text[at]))
        at += tokens[-1][0] or 1
    return tokens


def _worth(match: tuple[int, int]) -> bool:
    # a match of 3 far away costs about as much as its three literals
    return match[0] > MIN_MATCH or match[1] <= 256


def lazy(text: bytes, matches: Matches) -> list[Token]:
    """Take the longest match, unless the next position has a longer one."""
    tokens: list[Token] = []
    at = 0
    while at < len(text):
        match = matches[at][-1] if matches[at] else (0, 0)
        later = matches[at + 1] if at + 1 < len(text) else []
        if not match[0] or not _worth(match) or (later and later[-1][0] > match[0]):
            match = (0, text[at])
        tokens.append(match)
        at += match[0] or 1
    return tokens


def _costs(tokens: Sequence[Token]) -> tuple[list[int], list[int], list[int]]:
    """Count the bits of literals, match lengths and distances under the codes of these tokens."""
    symbol_bits, distance_bits = (
        [bits or UNSEEN_BITS for bits in code_lengths(counts)] for counts in symbol_counts(tokens)
    )
    lengths = [symbol_bits[LITERALS + which] + len(extra) for which, extra in LENGTH_CLASS]
    distances = [distance_bits[which] + len(extra) for which, extra in DISTANCE_CLASS]
    return symbol_bits[:LITERALS], lengths, distances


def _shortest_path(text: bytes, matches: Matches, tokens: Sequence[Token]) -> list[Token]:
    literal_bits, length_bits, distance_bits = _costs(tokens)
    cost = [0] * (len(text) + 1)
    choice: list[Token] = [(0, 0)] * len(text)
    for at in range(len(text) - 1, -1, -1):  # cost[at]: bits from here to the end
        best = cost[at + 1] + literal_bits[text[at]]
        token = (0, text[at])
        shortest = MIN_MATCH
        for longest, distance in matches[at]:
            base = distance_bits[distance - 1]
            for length in range(shortest, longest + 1):
                bits = base + length_bits[length - MIN_MATCH] + cost[at + length]
                if bits < best:
                    best, token = bits, (length, distance)
            shortest = longest + 1
        cost[at], choice[at] = best, token
    path: list[Token] = []
    at = 0
    while at < len(text):
        path.append(choice[at])
        at += choice[at][0] or 1
    return path


def cheapest(text: bytes, matches: Matches, rounds: int) -> list[Token]:
    """Find the cheapest parse under the codes of the round before, `rounds` times."""
    tokens = lazy(text, matches)
    for _ in range(rounds):
        tokens = _shortest_path(text, matches, tokens)
    return tokens
