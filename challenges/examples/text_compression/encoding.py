"""The submission format of README.md, written: tokens in, bytes out.

A token is ``(0, character)`` for a literal or ``(length, distance)`` for a match.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence

Token = tuple[int, int]

VERSION = 1
LITERALS = 128
SYMBOLS = 144
DISTANCES = 26
MIN_MATCH = 3
MAX_MATCH = 258
MAX_BITS = 15


def value_class(value: int) -> tuple[int, str]:
    """Return a number's class and its extra bits: the inverse of the module's ``read_value``."""
    if value < 4:
        return value, ""
    extra = value.bit_length() - 2
    rest = value & ((1 << extra) - 1)
    return 2 * extra + 2 + (value >> extra & 1), f"{rest:0{extra}b}"


LENGTH_CLASS = [value_class(length) for length in range(MAX_MATCH - MIN_MATCH + 1)]
DISTANCE_CLASS = [value_class(distance) for distance in range(8192)]


def code_lengths(counts: Sequence[int]) -> list[int]:
    """Return Huffman code lengths, at most 15 bits, 0 for a symbol that does not occur."""
    heap: list[tuple[int, int, tuple[int, ...]]] = [
        (count, symbol, (symbol,)) for symbol, count in enumerate(counts) if count
    ]
    if len(heap) == 1:
        return [int(count > 0) for count in counts]
    lengths = [0] * len(counts)
    heapq.heapify(heap)
    while len(heap) > 1:
        low, _, left = heapq.heappop(heap)
        high, tie, right = heap[0]
        for symbol in left + right:
            lengths[symbol] += 1
        heapq.heapreplace(heap, (low + high, tie, left + right))
    if max(lengths, default=0) > MAX_BITS:
        return code_lengths([(count + 1) // 2 for count in counts])
    return lengths


def canonical_codes(lengths: Sequence[int]) -> list[str]:
    """Return code words as strings of bits, numbered by length, then by symbol."""
    words = [""] * len(lengths)
    code = previous = 0
    for bits, symbol in sorted((bits, symbol) for symbol, bits in enumerate(lengths) if bits):
        code <<= bits - previous
        words[symbol] = f"{code:0{bits}b}"
        code, previous = code + 1, bits
    return words


def encode_table(lengths: Sequence[int]) -> str:
    """Write a code table: a nibble a length; nibble 0 and then r for r + 1 zeros."""
    parts = []
    at = 0
    while at < len(lengths):
        run = 0
        while run < 16 and at + run < len(lengths) and not lengths[at + run]:
            run += 1
        parts.append(f"0000{run - 1:04b}" if run else f"{lengths[at]:04b}")
        at += run or 1
    return "".join(parts)


def symbol_counts(tokens: Iterable[Token]) -> tuple[list[int], list[int]]:
    """Count how often each symbol and each distance class occurs."""
    symbols = [0] * SYMBOLS
    distances = [0] * DISTANCES
    for (length, other), count in Counter(tokens).items():
        if length:
            symbols[LITERALS + LENGTH_CLASS[length - MIN_MATCH][0]] += count
            distances[DISTANCE_CLASS[other - 1][0]] += count
        else:
            symbols[other] += count
    return symbols, distances


def encode(tokens: Sequence[Token]) -> bytes:
    """Write the submission that holds these tokens, under Huffman codes made for them."""
    symbol_lengths, distance_lengths = map(code_lengths, symbol_counts(tokens))
    symbols = canonical_codes(symbol_lengths)
    distances = canonical_codes(distance_lengths)
    lengths = [symbols[LITERALS + which] + extra for which, extra in LENGTH_CLASS]
    parts = [f"{VERSION:08b}", encode_table(symbol_lengths), encode_table(distance_lengths)]
    for length, other in tokens:
        if length:
            which, extra = DISTANCE_CLASS[other - 1]
            parts.append(lengths[length - MIN_MATCH])
            parts.append(distances[which] + extra)
        else:
            parts.append(symbols[other])
    bits = "".join(parts)
    size = (len(bits) + 7) // 8
    return int(bits.ljust(size * 8, "0"), 2).to_bytes(size, "big")
