"""Fuzzy memoization on one trained network: thresholds, accuracy, reuse, and what a batch leaves of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ebatch_env.approximation.data import Split
from ebatch_env.approximation.evaluation import Evaluation, evaluate
from ebatch_env.approximation.lanes import shared_by_lanes
from ebatch_env.approximation.memoization import FuzzyMemoization
from ebatch_env.approximation.networks import RecurrentClassifier
from ebatch_env.approximation.schedules import (
    aligned,
    class_groups,
    queue_in_lanes,
    random_groups,
    similar_groups,
    staggered,
)
from ebatch_env.approximation.thresholds import Point, largest, sweep
from ebatch_env.errors import FloatArray
from ebatch_env.reproduction import trained_networks as nets
from ebatch_env.reproduction.approximate_serving import LANES

CURVE = (0.0, 0.2, 0.4, 0.8, 1.6)  # thresholds of the curves on the test data
RISING = (4, 16)  # lanes for which the threshold is searched anew
HIGH = (0.0, 0.2, 0.4, 0.8, 1.6, 3.2)  # thresholds tried for them
UNITS = 256  # of a staggered schedule
GROUPS = 24  # of an aligned one
FILLINGS = ("staggered", "aligned, random", "aligned, similar length", "aligned, one class", "staggered, starts apart")


@dataclass(frozen=True)
class Measured:
    """One network; accuracies and reuse are of the test data unless said otherwise.

    Attributes:
        name, seed: which.
        exact: accuracy without memoization.
        at_loss: by loss allowed on the training data: what the threshold does.
        plain: the same for `nets.LOSS` without throttling.
        validated: for a threshold chosen on the validation part instead.
        curves: accuracy and reuse at `CURVE`, with and without throttling.
        fillings: by way of filling lanes: share of the rows that a lanes all skip, a = 1.., at the threshold for
            `nets.LOSS`, or at 0 if no threshold keeps the accuracy.
        together: the same for a in `LANES` where lanes evaluate together, staggered; its accuracies.
        together_accuracy: of these runs.
        rising: staggered lanes that evaluate together, for a in `RISING`, with a threshold searched for that a.
    """

    name: str
    seed: int
    exact: float
    at_loss: Mapping[float, Point]
    plain: Point
    validated: Point
    curves: Mapping[bool, list[Point]]
    fillings: Mapping[str, FloatArray]
    together: list[float]
    together_accuracy: list[float]
    rising: list[Point]


def never(seeds: Sequence[Measured]) -> bool:
    """Whether no threshold keeps the accuracy within `nets.LOSS`, for no seed."""
    return all(one.at_loss[nets.LOSS].threshold < 0 for one in seeds)


def measure(name: str, seed: int) -> Measured:
    """Train, or take from the cache, and run all of it."""
    net, data = nets.network(name, seed), nets.data(name)
    chosen = {loss: largest(nets.training_sweep(name, seed), loss).threshold for loss in nets.LOSSES}
    threshold = chosen[nets.LOSS]
    run = evaluate(net, data.test, memoization=FuzzyMemoization(threshold))
    plain = largest(nets.training_sweep(name, seed, throttling=False), nets.LOSS).threshold
    exact = sweep(net, data.validation, ())[0].accuracy
    validated = largest(sweep(net, data.validation, stop_below=exact - nets.LOSS), nets.LOSS).threshold
    curves = {throttling: sweep(net, data.test, CURVE, throttling=throttling) for throttling in (True, False)}
    seen = {point.threshold: point for point in curves[True]}
    seen[threshold] = Point(threshold, run.accuracy, run.reuse)
    accuracy = curves[True][0].accuracy
    groups = [(accuracy, 0.0)] * len(LANES)  # what comes out where nothing is ever reused
    if threshold >= 0:
        runs = together(net, data.test, threshold, name, seed)
        groups = [(group.accuracy, group.reuse) for group in runs]
    return Measured(
        name,
        seed,
        accuracy,
        {loss: _at(net, data.test, value, seen) for loss, value in chosen.items()},
        _at(net, data.test, plain, {point.threshold: point for point in curves[False]}, throttling=False),
        _at(net, data.test, validated, seen),
        curves,
        fillings(
            run if threshold >= 0 else evaluate(net, data.test, memoization=FuzzyMemoization(0.0)), data.test, seed
        ),
        [reuse for _, reuse in groups],
        [kept for kept, _ in groups],
        rising_thresholds(net, name, seed),
    )


def _at(
    net: RecurrentClassifier, part: Split, threshold: float, seen: dict[float, Point], throttling: bool = True
) -> Point:
    if threshold not in seen:
        run = evaluate(net, part, memoization=FuzzyMemoization(threshold, throttling))
        seen[threshold] = Point(threshold, run.accuracy, run.reuse)
    return seen[threshold]


def fillings(run: Evaluation, part: Split, seed: int) -> dict[str, FloatArray]:
    """Share of rows that the first a lanes all skip, for every way to fill `nets.LANES` lanes: (lanes,) each."""
    skipped, rng = run.by_sequence(run.reused), np.random.default_rng(nets.BATCH_SEED + seed)
    length, lanes = part.length, min(nets.LANES, part.sequences)
    of_class = min(lanes, int(np.bincount(part.label).min()))
    stream = staggered(length, nets.LANES, UNITS, rng)
    groups = (
        random_groups(part.sequences, lanes, GROUPS, rng),
        similar_groups(length, lanes, GROUPS, rng),
        class_groups(part.label, of_class, GROUPS, rng),
    )
    curves: list[FloatArray] = [
        shared_by_lanes(skipped, stream),
        *(shared_by_lanes(skipped, aligned(group, length)) for group in groups),
        shared_by_lanes(skipped, stream, starts_agree=True),
    ]
    return {way: _padded(curve) for way, curve in zip(FILLINGS, curves, strict=True)}


def _padded(curve: npt.NDArray[np.float64]) -> FloatArray:
    return np.concatenate([curve, np.full(nets.LANES - len(curve), np.nan)])


def together(net: RecurrentClassifier, part: Split, threshold: float, name: str, seed: int) -> list[Evaluation]:
    """Staggered lanes that evaluate together, for each number in `LANES`."""
    queue = nets.staggered_queue(name, seed)
    scheme = FuzzyMemoization(threshold)
    return [evaluate(net, part, memoization=scheme, schedule=queue, group=count) for count in LANES]


def rising_thresholds(net: RecurrentClassifier, name: str, seed: int) -> list[Point]:
    """Lanes that evaluate together lose less accuracy, so their threshold may be larger: searched for each of `RISING`.

    From the single lane's threshold on, which fewer evaluations than ever keep. Numbers of lanes that the training part
    cannot keep busy for three sequences each are left out.
    """
    train, points = nets.data(name).train, []
    rng = np.random.default_rng(nets.BATCH_SEED + seed)
    single = largest(nets.training_sweep(name, seed), nets.LOSS).threshold
    exact = nets.training_sweep(name, seed)[0].accuracy
    for count in RISING:
        if 3 * count > train.sequences:
            break
        lanes = count * max(1, nets.LANES // count)
        delay = rng.integers(train.length.max(), size=lanes)
        queue = queue_in_lanes(train.length, rng.permutation(train.sequences), lanes, delay)
        grid = [threshold for threshold in HIGH if threshold > single]
        found = sweep(net, train, grid, stop_below=exact - nets.LOSS, schedule=queue, group=count)
        threshold = max(single, largest(found, nets.LOSS).threshold)
        scheme, queue = FuzzyMemoization(threshold), nets.staggered_queue(name, seed)
        run = evaluate(net, nets.data(name).test, memoization=scheme, schedule=queue, group=count)
        points.append(Point(threshold, run.accuracy, run.reuse))
    return points
