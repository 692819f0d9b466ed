"""The submission format of README.md, and least squares in pure Python to fill it."""

import struct
from collections.abc import Sequence
from operator import mul

VERSION = 1
ONE = 1 << 16  # Q16.16


def encode(intercept: float, lags: Sequence[int], coefficients: Sequence[float]) -> bytes:
    """Encode the submission that states this model; numbers are rounded to Q16.16 and saturated."""
    head = struct.pack("<BBHi", VERSION, len(lags), 0, _fixed(intercept))
    terms = zip(lags, coefficients, strict=True)
    return head + b"".join(struct.pack("<Bi", lag, _fixed(value)) for lag, value in terms)


def _fixed(value: float) -> int:
    return max(-(2**31), min(2**31 - 1, round(value * ONE)))


def solve(matrix: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """Eliminate without pivoting: the matrix is symmetric and positive definite."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    size = len(rows)
    for i, pivot in enumerate(rows):
        for row in rows[i + 1 :]:
            factor = row[i] / pivot[i]
            for j in range(i, size + 1):
                row[j] -= factor * pivot[j]
    solution = [0.0] * size
    for i in range(size - 1, -1, -1):
        known = sum(map(mul, rows[i][i + 1 : size], solution[i + 1 :]))
        solution[i] = (rows[i][size] - known) / rows[i][i]
    return solution


def fit(values: Sequence[float], lags: Sequence[int], ridge: float) -> tuple[float, list[float]]:
    """Return intercept and coefficients with the least squared one-step error on `values`.

    `ridge` is added to the diagonal as a share of the series' energy: it keeps the equations
    regular and shrinks the coefficients.
    """
    mean = sum(values) / len(values)
    centred = [value - mean for value in values]
    deepest, end = max(lags), len(values)
    target = centred[deepest:]
    columns = [centred[deepest - lag : end - lag] for lag in lags]
    gram = [[0.0] * len(lags) for _ in lags]
    for i, column in enumerate(columns):
        for j in range(i, len(lags)):
            gram[i][j] = gram[j][i] = sum(map(mul, column, columns[j]))
    for i in range(len(lags)):
        gram[i][i] += ridge * (gram[i][i] + 1.0)
    coefficients = solve(gram, [sum(map(mul, column, target)) for column in columns])
    return mean * (1.0 - sum(coefficients)), coefficients
