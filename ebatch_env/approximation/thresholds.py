"""The threshold of fuzzy memoization: one per network, the largest that keeps the accuracy on the training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ebatch_env.approximation.data import Split
from ebatch_env.approximation.evaluation import evaluate
from ebatch_env.approximation.memoization import FuzzyMemoization
from ebatch_env.approximation.networks import RecurrentClassifier
from ebatch_env.errors import check_number

GRID = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.2, 1.6, 2.4)
NEVER = -1.0  # a threshold that no change is below


@dataclass(frozen=True)
class Point:
    """What a threshold does on some data.

    Attributes:
        threshold: theta.
        accuracy: share of the sequences classified rightly.
        reuse: share of the neuron evaluations skipped.
    """

    threshold: float
    accuracy: float
    reuse: float


def sweep(
    network: RecurrentClassifier,
    split: Split,
    thresholds: Sequence[float] = GRID,
    *,
    throttling: bool = True,
    stop_below: float = 0.0,
    **how: Any,
) -> list[Point]:
    """Accuracy and reuse at each threshold, rising from `NEVER`, which is added in front.

    Args:
        network: trained.
        split: the data.
        thresholds: theta, rising.
        throttling: see `FuzzyMemoization`.
        stop_below: an accuracy: the first point below it is the last one.
        how: further arguments of `evaluate`.
    """
    points = []
    for threshold in (NEVER, *thresholds):
        run = evaluate(network, split, memoization=FuzzyMemoization(threshold, throttling), **how)
        points.append(Point(threshold, run.accuracy, run.reuse))
        if run.accuracy < stop_below:
            break
    return points


def largest(points: Sequence[Point], loss: float) -> Point:
    """The last point before the accuracy is more than ``loss`` below the first point's; a first point always is one.

    A later threshold may keep the accuracy again by chance; such a one is not taken.

    Args:
        points: of a `sweep` on the training data.
        loss: as a fraction, 0..1: 0.01 is a loss of one per cent of all sequences.

    Raises:
        ValueError: ``loss`` out of range.
    """
    check_number("loss", loss, low=0.0, high=1.0)
    last = points[0]
    for point in points[1:]:
        if point.accuracy < points[0].accuracy - loss - 1e-9:
            break
        last = point
    return last
