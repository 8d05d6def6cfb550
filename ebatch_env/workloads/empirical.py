"""Lengths known by their percentiles, shipped or your own."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources

import numpy as np

from ebatch_env.errors import FloatArray, IntArray, check_array, check_integer, fail
from ebatch_env.workloads.lengths import MAX_TABULATED, Discrete

FRAMES_PER_SECOND = 100.0  # speech features: one frame every 10 ms

# name -> (column of data/length_quantiles.csv, steps per unit of that column)
NAMED_QUANTILES = {
    "translation": ("wmt_newstest_en_words", 1.0),
    "speech": ("librispeech_dev_clean_duration_s", FRAMES_PER_SECOND),
    "sentiment": ("sst_train_words", 1.0),
    "transcript": ("librispeech_dev_clean_transcript_chars", 1.0),
}


@dataclass(frozen=True)
class Empirical(Discrete):
    """Lengths known by their percentiles, such as the shipped corpora.

    With U uniform, a length is the percentile curve at U, linearly interpolated between its points, divided by the
    stride, raised to 1 if below, and rounded (halves up). Mean and quantiles are those of the rounded lengths.

    Args:
        source: ``"translation"`` (words), ``"speech"`` (frames of 10 ms), ``"sentiment"`` (words), ``"transcript"``
            (characters), or a tuple of two or more equally spaced quantiles in steps, from minimum to maximum.
        stride: whole number >= 1; a front end with this stride divides the steps.

    >>> Empirical("translation").max_length, Empirical("speech", stride=2).max_length
    (78, 1632)
    >>> Empirical((1, 1, 5)).quantile([0.5, 1.0]).tolist()
    [1.0, 5.0]
    """

    source: str | tuple[float, ...]
    stride: int = 1
    kind: str = field(default="empirical", init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the fields."""
        object.__setattr__(self, "stride", check_integer("stride", self.stride, low=1, high=MAX_TABULATED))
        if isinstance(self.source, str):
            if self.source not in NAMED_QUANTILES:
                raise fail("source", self.source, "one of " + ", ".join(map(repr, NAMED_QUANTILES)) + " or quantiles")
            return
        quantiles = check_array("source", self.source, shape=(None,))
        if quantiles.size < 2 or bool((np.diff(quantiles) < 0.0).any()):
            raise fail("source", self.source, "two or more quantiles that never fall")
        if quantiles[-1] / self.stride > MAX_TABULATED:
            raise fail("source", self.source, f"at most {MAX_TABULATED} steps")
        object.__setattr__(self, "source", tuple(quantiles.tolist()))

    @classmethod
    def from_csv(cls, path: str | os.PathLike[str], column: str, *, stride: int = 1) -> Empirical:
        """Quantiles from one column of a CSV with a header: equally spaced, minimum first, maximum last.

        Raises:
            ValueError: no such column, or a cell that is no number; the message names file, column and line.
        """
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if column not in (reader.fieldnames or ()):
                raise fail(f"{os.fspath(path)}: column", column, f"one of {reader.fieldnames}")
            quantiles = []
            for row in reader:
                try:
                    quantiles.append(float(row[column]))
                except (TypeError, ValueError):
                    where = f"{os.fspath(path)}, line {reader.line_num}, column {column!r}"
                    raise fail(where, row[column], "a number") from None
        return cls(tuple(quantiles), stride)

    @property
    def mean(self) -> float:
        """Mean of the rounded lengths."""
        return self._mean

    @cached_property
    def _mean(self) -> float:
        values, cdf = self.distribution
        return math.fsum((values * np.diff(cdf, prepend=0.0)).tolist())

    @property
    def max_length(self) -> int:
        """The last percentile, rounded."""
        return int(self.quantile(1.0))

    def _law(self) -> tuple[IntArray, FloatArray]:
        """P(length <= k) is where the percentile curve crosses k + 1/2."""
        points = np.array(named_quantiles(self.source) if isinstance(self.source, str) else self.source)
        points = np.maximum(points / self.stride, 1.0)
        first, last = (math.floor(x + 0.5) for x in (points[0], points[-1]))
        values = np.arange(first, last + 1, dtype=np.int32)
        edges = values[:-1] + 0.5
        above = np.searchsorted(points, edges)  # the first point not below the edge; >= 1, since points[0] is below it
        left, right = points[above - 1], points[above]
        chance = (above - 1 + (edges - left) / (right - left)) / (points.size - 1)
        return values, np.append(chance, 1.0)


@cache
def named_quantiles(name: str) -> Sequence[float]:
    """The 101 percentiles of a shipped table, in steps before any stride."""
    column, scale = NAMED_QUANTILES[name]
    text = resources.files("ebatch_env.workloads").joinpath("data/length_quantiles.csv").read_text(encoding="utf-8")
    return tuple(float(row[column]) * scale for row in csv.DictReader(text.splitlines()))
