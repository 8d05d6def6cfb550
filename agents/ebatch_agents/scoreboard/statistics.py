"""Statistics over training seeds and episodes at once.

All agents and all baselines play the same episodes, so seeds and episodes are crossed: a resample draws seeds and draws
episodes, and takes every drawn agent on every drawn episode (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics
2007). That covers the chance in the training as well as the chance in the requests. A baseline is a single row, for which
this is the usual bootstrap over episodes.

Of five seeds a plain percentile interval would cover 85 % rather than 95 %, as it takes the spread of a few for that of all. So its
percentiles are expanded (Hesterberg, "What teachers should know about the bootstrap", The American Statistician 2015, section
3.4.1): as far out as Student's t asks, with the degrees of freedom that Satterthwaite's formula gives for the two sources of
chance. Where training hardly matters, that is hardly at all.

Seen as in Agarwal et al., "Deep RL at the Edge of the Statistical Precipice", NeurIPS 2021, episodes are tasks and seeds are
runs; `probability` is their probability of improvement against a rival with one run per task.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from ebatch_env.errors import FloatArray
from ebatch_env.scoring.statistics import (
    BOOTSTRAP_SEED,
    CONFIDENCE,
    RESAMPLES,
    interquartile_mean,
    iqm_interval,
    student,
)

CHUNK = 1000  # resamples at a time: bounds the memory
FEWER = 2000  # resamples where only a variance is wanted
Estimate = tuple[float, float, float]  # the value, and the ends of its 95 % interval, NaN where there is too little


def iqm(values: FloatArray) -> Estimate:
    """Interquartile mean of ``values`` (S, N), NaN left out, and its interval over seeds and episodes."""
    seeds, episodes = values.shape
    center = float(_middle(values.reshape(1, -1))[0])
    if values.size < 2:
        return center, np.nan, np.nan
    if seeds == 1 and not np.isnan(values).any():  # the same as `ebatch evaluate` tells, and quicker
        return center, *iqm_interval(values[0])

    def resampled(count: int, draw_seeds: bool, draw_episodes: bool) -> FloatArray:
        rng = np.random.default_rng(BOOTSTRAP_SEED)
        rows = np.tile(np.arange(seeds)[None, :, None], (CHUNK, 1, 1))
        columns = np.arange(episodes)[None, None, :]
        means = []
        for _ in range(0, count, CHUNK):
            if draw_seeds:
                rows = rng.integers(seeds, size=(CHUNK, seeds, 1))
            if draw_episodes:
                columns = rng.integers(episodes, size=(CHUNK, 1, episodes))
            means.append(_middle(values[rows, columns].reshape(CHUNK, -1)))
        return np.concatenate(means)

    return center, *_interval(resampled, seeds, episodes)


def relative(costs: FloatArray, rival: FloatArray) -> Estimate:
    """Mean of ``costs`` (S, N) over that of ``rival`` (N,) on the same episodes, less 1; NaN if either has an infinite one."""
    if not (np.isfinite(costs).all() and np.isfinite(rival).all()) or rival.mean() == 0.0:
        return np.nan, np.nan, np.nan
    center = float(costs.mean() / rival.mean() - 1.0)
    if costs.size < 2:
        return center, np.nan, np.nan

    def resampled(count: int, draw_seeds: bool, draw_episodes: bool) -> FloatArray:
        seeds, episodes = _weights(count, costs.shape, draw_seeds, draw_episodes)
        return np.asarray(((seeds @ costs) * episodes).sum(axis=1) / (episodes @ rival) - 1.0)

    return center, *_interval(resampled, *costs.shape)


def probability(costs: FloatArray, rival: FloatArray) -> Estimate:
    """Probability that ``costs`` (S, N) is below ``rival`` (N,) on an episode; a tie, also of two infinite ones, is half."""
    wins = (costs < rival) + 0.5 * (costs == rival)
    center = float(wins.mean())
    if wins.size < 2:
        return center, np.nan, np.nan

    def resampled(count: int, draw_seeds: bool, draw_episodes: bool) -> FloatArray:
        seeds, episodes = _weights(count, wins.shape, draw_seeds, draw_episodes)
        return np.asarray(((seeds @ wins) * episodes).sum(axis=1))

    return center, *_interval(resampled, *wins.shape)


def _weights(
    count: int, shape: tuple[int, ...], draw_seeds: bool, draw_episodes: bool
) -> tuple[FloatArray, FloatArray]:
    """How often each seed (R, S) and each episode (R, N) is drawn, as shares."""
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    parts = []
    for n, drawn in zip(shape, (draw_seeds, draw_episodes), strict=True):
        shares = np.full(n, 1.0 / n)
        parts.append(rng.multinomial(n, shares, size=count) / n if drawn else np.tile(shares, (count, 1)))
    return parts[0], parts[1]


def _middle(rows: FloatArray) -> FloatArray:
    """Interquartile mean of each row (R, M), NaN left out; NaN where there is nothing else."""
    if not np.isnan(rows).any():
        cut = rows.shape[1] // 4
        last = rows.shape[1] - cut - 1  # quicker than to sort
        middle = np.partition(rows, (cut, last), axis=1)[:, cut : last + 1]
        return np.asarray(middle.mean(axis=1), dtype=np.float64)
    found = [row[~np.isnan(row)] for row in rows]
    return np.array([float(interquartile_mean(row)) if row.size else np.nan for row in found])


def _interval(resampled: Callable[[int, bool, bool], FloatArray], seeds: int, episodes: int) -> tuple[float, float]:
    """Ends of the interval, from a function that resamples so many times seeds, episodes, or both."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    both = resampled(RESAMPLES, True, True)
    both = both[~np.isnan(both)]
    if not both.size:
        return np.nan, np.nan
    reach = z
    if seeds > 1:
        plain, full, freedom = 0.0, 0.0, 0.0  # variances as resampled and as they should be; Satterthwaite's sum
        for n, found in ((seeds, resampled(FEWER, True, False)), (episodes, resampled(FEWER, False, True))):
            if n > 1:
                variance = float(np.nanvar(found))
                plain, full = plain + variance, full + variance * n / (n - 1)
                freedom += (variance * n / (n - 1)) ** 2 / (n - 1)
        if plain > 0.0:
            reach = student(full**2 / freedom) * math.sqrt(full / plain)
    tail = NormalDist().cdf(-reach)
    low, high = np.quantile(both, [tail, 1.0 - tail])
    return float(low), float(high)
