"""Memoization and precision in a batch: a weight row is spared only if every lane can spare it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ebatch_env.approximation.schedules import Schedule
from ebatch_env.errors import FloatArray

LANES = (1, 2, 4, 8, 16, 32, 64)
UNITS_AT_ONCE = 64


def shared_by_lanes(spared: npt.NDArray[np.bool_], schedule: Schedule, *, starts_agree: bool = False) -> FloatArray:
    """Share of the rows that the first a lanes all spare, for a = 1..L: (L,).

    Each lane decides for itself, so one run of the sequences, however they were laid out, serves every schedule. A unit
    counts for a if all of the first a lanes are busy in it; NaN where there is no such unit.

    Args:
        spared: (S, T, R) whether a step of a sequence spares a row.
        schedule: which lane runs what.
        starts_agree: let a sequence's first step hold nobody up, and count only units in which some lane is past its
            own: what disagreement alone costs, starts apart.
    """
    total, units = np.zeros(schedule.lanes), np.zeros(schedule.lanes)
    for first in range(0, schedule.sequence.shape[1], UNITS_AT_ONCE):
        window = (slice(None), slice(first, first + UNITS_AT_ONCE))
        sequence, step = schedule.sequence[window], schedule.step[window]
        rows = spared[sequence, step]  # (L, U, R); an idle lane's are the last sequence's, and masked below
        counted = np.logical_and.accumulate(schedule.busy[window], axis=0)
        if starts_agree:
            rows = rows | (step == 0)[..., None]
            counted &= np.logical_or.accumulate(step > 0, axis=0)
        share = np.logical_and.accumulate(rows, axis=0).mean(axis=2)  # (L, U)
        total += (share * counted).sum(axis=1)
        units += counted.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / units, dtype=np.float64)


def as_points(curve: npt.ArrayLike, lanes: Sequence[int] = LANES) -> list[list[float]]:
    """A curve over 1..L lanes as the points ``[[lanes, share], ...]`` that the machines take, never rising.

    Args:
        curve: (L,); it ends at its first NaN.
        lanes: where to take points, rising; those beyond the curve are left out.
    """
    values = np.minimum.accumulate(np.asarray(curve, np.float64))
    return [[a, float(values[a - 1])] for a in lanes if a <= len(values) and np.isfinite(values[a - 1])]
