"""An attacker who guesses the topic of a stream from sizes and times, trained on known ones.

Two simple ones that are strong in different places: naive Bayes over what every single record
looks like, and linear discriminants over sums (Fisher's, with shrinkage). The better one counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, pstdev
from typing import Final, TypeAlias

from leak_answers import Seen

Vector: TypeAlias = list[float]
Labelled: TypeAlias = Sequence[tuple[int, Seen]]
_SHRINKAGE: Final = 0.02
_GAP_BIN: Final = 1.5


def accuracy(known: Labelled, judged: Labelled) -> float:
    """Return the share of streams that the better attacker names rightly."""
    guessers = (Bayes(known), Discriminants(known))
    return max(
        fmean([float(guesser.guess(each) == label) for label, each in judged])
        for guesser in guessers
    )


def _gaps_ms(seen: Seen) -> list[int]:
    return [after - before for before, after in pairwise(seen.at_ms)]


def _bin(value: float) -> int:
    return round(math.log(1 + value, _GAP_BIN))


def _marks(seen: Seen) -> list[tuple[object, ...]]:
    """Say what every record looks like, and the whole."""
    sizes = seen.size_bytes
    gaps = [_bin(gap) for gap in _gaps_ms(seen)]
    marks: list[tuple[object, ...]] = [("size", size) for size in sizes]
    marks += [("gap", gap) for gap in gaps]
    marks += [("both", size, gap) for size, gap in zip(sizes[1:], gaps, strict=True)]
    marks += [("pair", *pair) for pair in pairwise(sizes)]
    return [*marks, ("count", _bin(len(sizes))), ("took", _bin(seen.at_ms[-1]))]


class Bayes:
    """Multinomial naive Bayes with Laplace's smoothing."""

    def __init__(self, known: Labelled) -> None:
        self._counts: dict[int, Counter[tuple[object, ...]]] = {}
        for label, seen in known:
            self._counts.setdefault(label, Counter()).update(_marks(seen))
        self._names = len({name for each in self._counts.values() for name in each})
        self._totals = {label: each.total() for label, each in self._counts.items()}

    def guess(self, seen: Seen) -> int:
        """Return the likeliest label."""
        marks = _marks(seen)

        def likelihood(label: int) -> float:
            counts, total = self._counts[label], self._totals[label] + self._names
            return sum(math.log((counts[mark] + 1) / total) for mark in marks)

        return max(self._counts, key=likelihood)


def _sums(seen: Seen) -> Vector:
    sizes, gaps = seen.size_bytes, [float(gap) for gap in _gaps_ms(seen)]
    order = sorted(gaps)
    return [
        math.log(len(sizes)),
        math.log(sum(sizes)),
        math.log(1 + seen.at_ms[-1]),
        fmean(sizes),
        pstdev(sizes),
        math.log(1 + fmean(gaps)),
        math.log(1 + pstdev(gaps)),
        *[math.log(1 + order[len(order) * part // 8]) for part in range(1, 8)],
        fmean([float(gap > 2 * fmean(gaps)) for gap in gaps]),
    ]


class Discriminants:
    """One linear function a label, from means and one shared covariance."""

    def __init__(self, known: Labelled) -> None:
        vectors = [(label, _sums(seen)) for label, seen in known]
        columns = list(zip(*[vector for _, vector in vectors], strict=True))
        self._means = [fmean(column) for column in columns]
        self._spreads = [pstdev(column) or 1.0 for column in columns]
        scaled = [(label, self._scaled(vector)) for label, vector in vectors]
        labels = sorted({label for label, _ in scaled})
        of_label = {each: [v for label, v in scaled if label == each] for each in labels}
        middles = {each: _mean(of_label[each]) for each in labels}
        covariance = _covariance([_minus(v, middles[label]) for label, v in scaled])
        self._functions = {each: _solved(covariance, middles[each]) for each in labels}
        self._offsets = {each: -0.5 * _dot(self._functions[each], middles[each]) for each in labels}

    def _scaled(self, vector: Vector) -> Vector:
        return [
            (value - mean) / spread
            for value, mean, spread in zip(vector, self._means, self._spreads, strict=True)
        ]

    def guess(self, seen: Seen) -> int:
        """Return the likeliest label."""
        vector = self._scaled(_sums(seen))
        return max(
            self._functions,
            key=lambda label: _dot(self._functions[label], vector) + self._offsets[label],
        )


def _dot(one: Vector, two: Vector) -> float:
    return sum(a * b for a, b in zip(one, two, strict=True))


def _minus(one: Vector, two: Vector) -> Vector:
    return [a - b for a, b in zip(one, two, strict=True)]


def _mean(vectors: Sequence[Vector]) -> Vector:
    return [fmean(column) for column in zip(*vectors, strict=True)]


def _covariance(vectors: Sequence[Vector]) -> list[Vector]:
    columns = list(zip(*vectors, strict=True))
    found = [
        [sum(a * b for a, b in zip(one, two, strict=True)) / len(vectors) for two in columns]
        for one in columns
    ]
    for place in range(len(found)):
        found[place][place] += _SHRINKAGE
    return found


def _solved(matrix: Sequence[Vector], right: Vector) -> Vector:
    """Solve a system that is positive definite, by elimination."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    size = len(rows)
    for column in range(size):
        pivot = max(range(column, size), key=lambda row: abs(rows[row][column]))
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for row in range(size):
            if row != column:
                factor = rows[row][column] / rows[column][column]
                rows[row] = [a - factor * b for a, b in zip(rows[row], rows[column], strict=True)]
    return [rows[place][size] / rows[place][place] for place in range(size)]
