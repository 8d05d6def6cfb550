"""The trained networks that the sections ``memoization`` and ``precision`` measure, and how they average over seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from ebatch_env.approximation.data import SequenceData, load
from ebatch_env.approximation.networks import RecurrentClassifier
from ebatch_env.approximation.schedules import Schedule, queue_in_lanes
from ebatch_env.approximation.thresholds import Point, sweep
from ebatch_env.approximation.training import RECIPES, recipe, trained
from ebatch_env.reproduction.report import Options, Progress
from ebatch_env.scoring.pool import in_any_order

SEEDS = (0, 1, 2)
QUICK_NAMES = ("vowels-lstm", "digits-gru")
CONFIDENCE = 0.95
LOSSES = (0.0, 0.01, 0.02)  # accuracy that a threshold may cost on the training data
LOSS = 0.01  # the paper's
LANES = 64
BATCH_SEED = 1_000  # of the ways to fill lanes, plus the network's seed

Measured = TypeVar("Measured")
Interval = tuple[float, float] | None


def names(options: Options) -> tuple[str, ...]:
    """Recipes to measure."""
    return QUICK_NAMES if options.quick else tuple(RECIPES)


def seeds(options: Options) -> tuple[int, ...]:
    """Seeds to train with."""
    return SEEDS[:1] if options.quick else SEEDS


def quick_text() -> str:
    """What a quick run changes."""
    return (
        f"{len(QUICK_NAMES)} networks ({', '.join(QUICK_NAMES)}) instead of {len(RECIPES)}, so that means over "
        "networks are of "
        f"others, and {len(seeds(Options(quick=True)))} seed instead of {len(SEEDS)}: its figures have no interval."
    )


@cache
def network(name: str, seed: int) -> RecurrentClassifier:
    """Trained once per process."""
    return trained(name, seed)


def data(name: str) -> SequenceData:
    """What the recipe's network was trained on."""
    return load(recipe(name).data)


@cache
def training_sweep(name: str, seed: int, throttling: bool = True) -> tuple[Point, ...]:
    """Thresholds on the training data, up to the first that loses more than any of `LOSSES`."""
    net, part = network(name, seed), data(name).train
    exact = sweep(net, part, ())[0].accuracy
    return tuple(sweep(net, part, throttling=throttling, stop_below=exact - max(LOSSES)))


def staggered_queue(name: str, seed: int, lanes: int = LANES) -> Schedule:
    """The test part in random order through ``lanes`` lanes that start at moments of their own."""
    length = data(name).test.length
    rng = np.random.default_rng(BATCH_SEED + seed)
    return queue_in_lanes(length, rng.permutation(len(length)), lanes, rng.integers(length.max(), size=lanes))


def mean_interval(values: Sequence[float]) -> tuple[float, Interval]:
    """Mean over seeds and its 95 % Student interval; no interval of a single value.

    >>> mean_interval([1.0])
    (1.0, None)
    """
    found = np.asarray(values, np.float64)
    if len(found) < 2:
        return float(found.mean()), None
    half = float(stdtrit(len(found) - 1, (1 + CONFIDENCE) / 2) * found.std(ddof=1) / np.sqrt(len(found)))
    return float(found.mean()), (float(found.mean()) - half, float(found.mean()) + half)


def mean_curve(
    curves: Sequence[npt.ArrayLike], most: float = 1.0, least: float = 0.0
) -> tuple[list[float], list[float], list[float]]:
    """Mean over seeds at each place of equally long curves, and the ends of the intervals, cut to what can be."""
    ends = [mean_interval(column) for column in np.asarray(curves, np.float64).T.tolist()]
    low, high = zip(*((m, m) if span is None else span for m, span in ends), strict=True)
    return [m for m, _ in ends], np.clip(low, least, most).tolist(), np.clip(high, least, most).tolist()


def with_interval(values: Sequence[float], digits: int = 1, most: float | None = None) -> str:
    """Mean and interval as a table's cell; with ``most`` the interval is cut to 0..``most``, what a share can be."""
    mean, span = mean_interval(values)
    if span is None:
        return f"{mean:.{digits}f} (1 seed)"
    low, high = span if most is None else (max(0.0, span[0]), min(most, span[1]))
    return f"{mean:.{digits}f} ({low:.{digits}f}..{high:.{digits}f})"


def over_networks(found: Mapping[str, Sequence[Measured]], value: Callable[[Measured], float]) -> list[float]:
    """Means over networks, a value per seed."""
    return [float(np.mean([value(one) for one in column])) for column in zip(*found.values(), strict=True)]


def measure_all(
    measure: Callable[[str, int], Measured], options: Options, progress: Progress
) -> dict[str, list[Measured]]:
    """``measure(name, seed)`` of every network and seed, by name; ``measure`` must be importable by name."""
    jobs = [_Job(measure, name, seed) for name in names(options) for seed in seeds(options)]
    results: dict[_Job[Measured], Measured] = {}
    for job, result in in_any_order(_do, jobs, options.processes):
        results[job] = result
        progress(len(results) / len(jobs), f"{job.name}, seed {job.seed}")
    return {name: [results[job] for job in jobs if job.name == name] for name in names(options)}


@dataclass(frozen=True)
class _Job(Generic[Measured]):
    measure: Callable[[str, int], Measured]
    name: str
    seed: int


def _do(job: _Job[Measured]) -> Measured:
    return job.measure(job.name, job.seed)
