"""The two scores once more, written in Python from the READMEs, to check the modules against."""

import hashlib
import struct


def decompress(payload: bytes) -> tuple[bytes, int, int]:
    """Text, literals and matches of a well-formed text_compression submission."""
    bits = "".join(f"{byte:08b}" for byte in payload)
    assert payload[0] == 1
    at = 8

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at] or "0", 2)

    def table(symbols: int) -> dict[str, int]:
        lengths: list[int] = []
        while len(lengths) < symbols:
            nibble = take(4)
            lengths += [nibble] if nibble else [0] * (take(4) + 1)
        words, code, before = {}, 0, 0
        for length, symbol in sorted((n, s) for s, n in enumerate(lengths) if n):
            code <<= length - before
            words[f"{code:0{length}b}"] = symbol
            code, before = code + 1, length
        return words

    def symbol(words: dict[str, int]) -> int:
        nonlocal at
        end = at + 1
        while bits[at:end] not in words:
            end += 1
        word, at = bits[at:end], end
        return words[word]

    def value(kind: int) -> int:
        return kind if kind < 4 else (2 + kind % 2 << kind // 2 - 1) + take(kind // 2 - 1)

    symbols, distances = table(144), table(26)
    text, literals, matches = bytearray(), 0, 0
    while len(text) < 8180:
        found = symbol(symbols)
        if found < 128:
            text.append(found)
            literals += 1
            continue
        length = 3 + value(found - 128)
        distance = 1 + value(symbol(distances))
        for _ in range(length):
            text.append(text[-distance])
        matches += 1
    assert len(bits) - at < 8
    assert "1" not in bits[at:]
    return bytes(text), literals, matches


def compression_score(size: int) -> int:
    return (4096 - size) * 1_000_000 // (4096 - 3072)


def forecast_errors(payload: bytes, seed: bytes, series: list[int]) -> tuple[int, int]:
    """Model error and naive error of a well-formed series_forecast submission."""
    _, count, _, intercept = struct.unpack("<BBHi", payload[:8])
    terms = [struct.unpack_from("<Bi", payload, 8 + 5 * i) for i in range(count)]
    words: list[int] = []
    for block in (0, 1):
        words += struct.unpack("<8I", hashlib.sha256(seed + bytes([block])).digest())
    model = naive = 0
    for word in words:
        start = 100 + word % (len(series) - 100 - 11 + 1)
        known = series[:start]
        for truth in series[start : start + 11]:
            total = intercept + sum(weight * known[-lag] for lag, weight in terms)
            known.append(min(10_000, max(0, (total + 32_768) // 65_536)))
            model += abs(known[-1] - truth)
            naive += abs(series[start - 1] - truth)
    return model, naive


def forecast_score(model: int, naive: int) -> int:
    return max(0, 1_000_000 - model * 500_000 // max(naive, 1))
