"""Interquartile means with bootstrap intervals, and paired comparisons.

These are the statistics of Agarwal et al., "Deep RL at the Edge of the Statistical Precipice", NeurIPS 2021. Their
library rliable is not used: it brings in arch, seaborn and more for a few lines of numpy, and its probability of
improvement ignores that our policies play the same episodes. The tests compare with scipy.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from ebatch_env.errors import FloatArray
from ebatch_env.metrics import EpisodeMetrics
from ebatch_env.scoring.records import FIELDS, EpisodeRecord

METRICS = FIELDS[FIELDS.index("energy_j") :]
RESAMPLES = 10_000
CONFIDENCE = 0.95
BOOTSTRAP_SEED = 20_220_101
ALL = "all"  # in place of an environment's id: over all of them


@dataclass(frozen=True)
class Aggregate:
    """A metric of a policy on an environment over the episodes.

    Attributes:
        env: an id, or `ALL`.
        policy, metric: which.
        episodes: how many had a value (a metric is NaN where nothing was served).
        mean: arithmetic mean.
        iqm: interquartile mean; NaN without any value.
        low, high: ends of its 95 % bootstrap interval; NaN with fewer than two values.
        truncated: how many of the policy's episodes there were cut off with work left, which makes them look cheap.
    """

    env: str
    policy: str
    metric: str
    episodes: int
    mean: float
    iqm: float
    low: float
    high: float
    truncated: int = 0


@dataclass(frozen=True)
class Improvement:
    """How often one policy had the lower cost in the same episode.

    Attributes:
        env: an id.
        policy, rival: the two.
        probability: share of the episodes in which ``policy`` was cheaper than ``rival``; a tie counts half. An episode
            that was truncated is dearer than any that was not, and as dear as any other that was.
        low, high: ends of its 95 % bootstrap interval; NaN with fewer than two episodes.
    """

    env: str
    policy: str
    rival: str
    probability: float
    low: float
    high: float


def interquartile_mean(values: npt.ArrayLike) -> FloatArray:
    """Mean of the middle half along the last axis: a quarter of the values, rounded down, is cut off at each end.

    >>> float(interquartile_mean([1.0, 2.0, 4.0, 100.0]))
    3.0
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64), axis=-1)
    cut = ordered.shape[-1] // 4
    return np.asarray(ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1), dtype=np.float64)


def iqm_interval(values: FloatArray) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the interquartile mean of ``values`` (n,); NaN if n < 2."""
    n = values.size
    if n < 2:
        return np.nan, np.nan
    # Resampling positions among the sorted values gives sorted resamples, so the draws can be shared by all metrics.
    means = np.sort(values)[_middle_draws(n)].mean(axis=1)
    return _ends(means)


def mean_interval(values: npt.ArrayLike) -> tuple[float, float]:
    """The 95 % interval of the mean of ``values`` (n,) by Student's t; NaN if n < 2.

    For means over a few seeds, which are close to normal: a percentile bootstrap of 4 to 8 values would be too narrow.
    See `student` for how exact it is.
    """
    found = np.asarray(values, dtype=np.float64)
    if found.size < 2:
        return np.nan, np.nan
    reach = student(found.size - 1) * float(found.std(ddof=1)) / math.sqrt(found.size)
    return float(found.mean()) - reach, float(found.mean()) + reach


def student(freedom: float) -> float:
    """Half the width of a 95 % interval in standard errors, by Student's t with ``freedom`` degrees of freedom.

    The quantile is the expansion of Abramowitz and Stegun 26.7.5, within 0.02 % from 5 degrees on and 1 % at 2; with 1 it
    comes out a ninth too small.
    """
    z, v = NormalDist().inv_cdf((1 + CONFIDENCE) / 2), freedom
    t = z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    t += (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    return t + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)


def stratified_interval(strata: Sequence[FloatArray]) -> tuple[float, float]:
    """The same of several groups pooled, each resampled within itself; NaN if none has two values."""
    if all(group.size < 2 for group in strata):
        return np.nan, np.nan
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    draws = [np.sort(group)[rng.integers(group.size, size=(RESAMPLES, group.size))] for group in strata]
    return _ends(interquartile_mean(np.concatenate(draws, axis=1)))


def episode_costs(episodes: Iterable[EpisodeMetrics | EpisodeRecord]) -> FloatArray:
    """The costs of episodes, shape (n,): infinite where one was truncated, as work left undone costs nothing."""
    return np.array([math.inf if episode.truncated else episode.cost for episode in episodes], np.float64)


def improvement(costs: FloatArray, rival: FloatArray) -> tuple[float, float, float]:
    """Probability that ``costs`` (n,) is below ``rival`` (n,), pair by pair, and its interval (NaN if n < 2)."""
    wins = (costs < rival) + 0.5 * (costs == rival)
    if wins.size < 2:
        return float(wins.mean()), np.nan, np.nan
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    # Only how many of each of the three outcomes are drawn matters.
    outcomes, counts = np.unique(wins, return_counts=True)
    drawn = rng.multinomial(wins.size, counts / wins.size, size=RESAMPLES)
    return float(wins.mean()), *_ends(drawn @ outcomes / wins.size)


def relative(costs: FloatArray, rival: FloatArray) -> tuple[float, float, float]:
    """Mean of ``costs`` (n,) over that of ``rival`` (n,) on the same episodes, less 1, and its interval (NaN if n < 2).

    Resamples draw episodes, so that what is common to both cancels. All are NaN if either has an infinite cost.
    """
    if not (np.isfinite(costs).all() and np.isfinite(rival).all()) or rival.mean() == 0.0:
        return np.nan, np.nan, np.nan
    value = float(costs.mean() / rival.mean() - 1.0)
    if costs.size < 2:
        return value, np.nan, np.nan
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    drawn = rng.multinomial(costs.size, np.full(costs.size, 1.0 / costs.size), size=RESAMPLES)
    totals = drawn @ rival
    return value, *_ends((drawn @ costs)[totals != 0.0] / totals[totals != 0.0] - 1.0)


def aggregate(records: Sequence[EpisodeRecord]) -> list[Aggregate]:
    """Every metric of every policy on every environment, in the order of the records.

    With several environments the costs over `ALL` of them follow, for the policies that played on each: a cost is in
    multiples of its environment's reference costs, so costs can be pooled.
    """
    groups = _grouped(records)
    found = []
    for (env, policy), rows in groups.items():
        cut_off = _truncated(rows)
        for metric in METRICS:
            values = np.array([getattr(row, metric) for row in rows], dtype=np.float64)
            values = values[~np.isnan(values)]
            found.append(Aggregate(env, policy, metric, values.size, *_centre(values), *iqm_interval(values), cut_off))
    envs = list(dict.fromkeys(env for env, _ in groups))
    if len(envs) > 1:
        for policy in dict.fromkeys(policy for _, policy in groups):
            if all((env, policy) in groups for env in envs):
                strata = [_costs(groups[env, policy]) for env in envs]
                cut_off = sum(_truncated(groups[env, policy]) for env in envs)
                pooled = np.concatenate(strata)
                interval = stratified_interval(strata)
                found.append(Aggregate(ALL, policy, "cost", pooled.size, *_centre(pooled), *interval, cut_off))
    return found


def improvements(records: Sequence[EpisodeRecord]) -> list[Improvement]:
    """Every ordered pair of policies on every environment."""
    costs = {key: _costs(rows, truncated=np.inf) for key, rows in _grouped(records).items()}
    return [
        Improvement(env, policy, rival, *improvement(mine, costs[env, rival]))
        for (env, policy), mine in costs.items()
        for other, rival in costs
        if other == env and rival != policy
    ]


def _grouped(records: Sequence[EpisodeRecord]) -> dict[tuple[str, str], list[EpisodeRecord]]:
    groups: dict[tuple[str, str], list[EpisodeRecord]] = {}
    for record in sorted(records, key=lambda r: r.episode):  # pairs by position
        groups.setdefault((record.env, record.policy), []).append(record)
    order = dict.fromkeys((record.env, record.policy) for record in records)
    return {key: groups[key] for key in order}


def _costs(rows: Sequence[EpisodeRecord], truncated: float | None = None) -> FloatArray:
    """Costs by episode, ``truncated`` in place of those of truncated ones."""
    costs = [truncated if truncated is not None and row.truncated else row.cost for row in rows]
    return np.array(costs, dtype=np.float64)


def _truncated(rows: Sequence[EpisodeRecord]) -> int:
    return sum(row.truncated for row in rows)


def _centre(values: FloatArray) -> tuple[float, float]:
    if not values.size:
        return np.nan, np.nan
    return float(values.mean()), float(interquartile_mean(values))


def _ends(means: FloatArray) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


@lru_cache(maxsize=4)
def _middle_draws(n: int) -> npt.NDArray[np.int64]:
    """Positions of the middle halves of sorted resamples of n values, shape (`RESAMPLES`, about n / 2)."""
    draws = np.random.default_rng(BOOTSTRAP_SEED).integers(n, size=(RESAMPLES, n))
    draws.sort(axis=1)
    cut = n // 4
    return np.ascontiguousarray(draws[:, cut : n - cut])
