"""Statistics over training seeds and episodes at once.

All agents and all baselines play the same episodes, so seeds and episodes are crossed: a resample draws seeds and draws
episodes, and takes every drawn agent on every drawn episode (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics
2007). That covers the chance in the training as well as the chance in the requests. A baseline is a single row, for which
this is the usual bootstrap over episodes.

Seen as in Agarwal et al., "Deep RL at the Edge of the Statistical Precipice", NeurIPS 2021, episodes are tasks and seeds are
runs; `probability` is their probability of improvement against a rival with one run per task.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ebatch_env.errors import FloatArray
from ebatch_env.scoring.statistics import BOOTSTRAP_SEED, CONFIDENCE, RESAMPLES, interquartile_mean, iqm_interval

CHUNK = 1000  # resamples at a time: bounds the memory
Estimate = tuple[float, float, float]  # the value, and the ends of its 95 % interval, NaN where there is too little


def iqm(values: FloatArray) -> Estimate:
    """Interquartile mean of ``values`` (S, N), NaN left out, and its interval over seeds and episodes."""
    seeds, episodes = values.shape
    center = float(_middle(values.reshape(1, -1))[0])
    if values.size < 2:
        return center, np.nan, np.nan
    if seeds == 1 and not np.isnan(values).any():  # the same as `ebatch evaluate` tells, and quicker
        return center, *iqm_interval(values[0])
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    means = []
    for _ in range(0, RESAMPLES, CHUNK):
        rows = rng.integers(seeds, size=(CHUNK, seeds, 1))
        columns = rng.integers(episodes, size=(CHUNK, 1, episodes))
        means.append(_middle(values[rows, columns].reshape(CHUNK, -1)))
    return center, *_ends(np.concatenate(means))


def relative(costs: FloatArray, rival: FloatArray) -> Estimate:
    """Mean of ``costs`` (S, N) over that of ``rival`` (N,) on the same episodes, less 1; NaN if either has an infinite one."""
    if not (np.isfinite(costs).all() and np.isfinite(rival).all()) or rival.mean() == 0.0:
        return np.nan, np.nan, np.nan
    center = float(costs.mean() / rival.mean() - 1.0)
    if costs.size < 2:
        return center, np.nan, np.nan
    seeds, episodes = _weights(*costs.shape)
    ratios = ((seeds @ costs) * episodes).sum(axis=1) / (episodes @ rival)
    return center, *_ends(ratios - 1.0)


def probability(costs: FloatArray, rival: FloatArray) -> Estimate:
    """Probability that ``costs`` (S, N) is below ``rival`` (N,) on an episode; a tie, also of two infinite ones, is half."""
    wins = (costs < rival) + 0.5 * (costs == rival)
    center = float(wins.mean())
    if wins.size < 2:
        return center, np.nan, np.nan
    seeds, episodes = _weights(*wins.shape)
    return center, *_ends(((seeds @ wins) * episodes).sum(axis=1))


def _weights(seeds: int, episodes: int) -> tuple[FloatArray, FloatArray]:
    """How often each seed (R, S) and each episode (R, N) is drawn, as shares."""
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    return tuple(  # type: ignore[return-value]
        rng.multinomial(n, np.full(n, 1.0 / n), size=RESAMPLES) / n for n in (seeds, episodes)
    )


def _middle(rows: FloatArray) -> FloatArray:
    """Interquartile mean of each row (R, M), NaN left out; NaN where there is nothing else."""
    if not np.isnan(rows).any():
        return interquartile_mean(rows)
    found = [row[~np.isnan(row)] for row in rows]
    return np.array([float(interquartile_mean(row)) if row.size else np.nan for row in found])


def _ends(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    values = values[~np.isnan(values)]
    if not values.size:
        return np.nan, np.nan
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
