"""Which sequence's step every lane runs in every unit of time: the ways to fill a batch.

``aligned`` groups start together and end together (padding, length buckets); in a ``staggered`` schedule a lane takes
the next sequence as soon as one ends, at whatever moment that is: E-BATCH's concatenation, with the recurrent state set
back at each join.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ebatch_env.errors import check_integer

IDLE = -1
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Schedule:
    """Lanes over time.

    Attributes:
        sequence: (L, U) row of the sequence that lane l works on in unit u; `IDLE`: on none.
        step: (L, U) the time-step of that sequence, from 0; `IDLE` where idle.
    """

    sequence: Integers  # (L, U)
    step: Integers  # (L, U)

    @property
    def lanes(self) -> int:
        """L."""
        return int(self.sequence.shape[0])

    @property
    def busy(self) -> npt.NDArray[np.bool_]:
        """(L, U) whether the lane works."""
        return np.asarray(self.sequence != IDLE)

    @property
    def start(self) -> npt.NDArray[np.bool_]:
        """(L, U) whether a sequence starts here, from a state of zeros."""
        return np.asarray(self.step == 0)


def compact(length: Integers) -> Schedule:
    """Every sequence once, in about as few lane-units as there are steps: for lanes that do not matter."""
    lanes = -(-int(length.sum()) // int(length.max()))
    return queue_in_lanes(length, np.argsort(-length, kind="stable"), lanes)


def aligned(groups: Iterable[npt.ArrayLike], length: Integers) -> Schedule:
    """Group after group: member i of each in lane i, all from the same unit; the next group waits for the longest.

    Args:
        groups: rows of sequences; groups of one size.
        length: (S,) steps of all sequences.
    """
    sequence, step = [], []
    for group in groups:
        rows = np.asarray(group, np.int64)
        time = np.arange(length[rows].max())
        inside = time < length[rows, None]
        sequence.append(np.where(inside, rows[:, None], IDLE))
        step.append(np.where(inside, time, IDLE))
    return Schedule(np.concatenate(sequence, axis=1), np.concatenate(step, axis=1))


def staggered(length: Integers, lanes: int, units: int, rng: np.random.Generator) -> Schedule:
    """An endless queue, seen after it has run for long: every lane busy, each at a moment of its own.

    Sequences are drawn independently. A lane's first one is drawn in proportion to length and cut at a random step: that
    is what an observer finds who comes at a random moment. Steps before the cut are missing from the schedule, so it is
    for counting (`shared_by_lanes`), not for running; `queue_in_lanes` is.
    """
    check_integer("lanes", lanes, low=1)
    check_integer("units", units, low=1)
    sequence, step = np.empty((lanes, units), np.int64), np.empty((lanes, units), np.int64)
    for lane in range(lanes):
        row = int(rng.choice(len(length), p=length / length.sum()))
        at, unit = int(rng.integers(length[row])), 0
        while unit < units:
            until = min(units, unit + int(length[row]) - at)
            sequence[lane, unit:until] = row
            step[lane, unit:until] = np.arange(at, at + until - unit)
            unit, at, row = until, 0, int(rng.integers(len(length)))
    return Schedule(sequence, step)


def queue_in_lanes(length: Integers, order: Sequence[int] | Integers, lanes: int, delay: npt.ArrayLike = 0) -> Schedule:
    """Every sequence of ``order`` once, in full: whichever lane is free first takes the next one.

    Args:
        length: (S,) steps of all sequences.
        order: their rows, first to last.
        lanes: L.
        delay: units before a lane is free for the first time: one number, or (L,).
    """
    check_integer("lanes", lanes, low=1)
    ends = np.zeros(lanes, np.int64) + np.asarray(delay, np.int64)
    places = []
    for row in order:
        lane = int(ends.argmin())
        places.append((row, lane, int(ends[lane])))
        ends[lane] += length[row]
    sequence = np.full((lanes, int(ends.max())), IDLE)
    step = sequence.copy()
    for row, lane, begin in places:
        sequence[lane, begin : begin + length[row]] = row
        step[lane, begin : begin + length[row]] = np.arange(length[row])
    return Schedule(sequence, step)


def random_groups(sequences: int, size: int, count: int, rng: np.random.Generator) -> list[Integers]:
    """``count`` groups, each drawn without replacement from all sequences."""
    return [rng.permutation(sequences)[:size] for _ in range(count)]


def similar_groups(length: Integers, size: int, count: int, rng: np.random.Generator) -> list[Integers]:
    """``count`` groups of neighbours in order of length, ties in random order."""
    groups = []
    for _ in range(count):
        order = np.lexsort((rng.random(len(length)), length))
        first = int(rng.integers(len(length) - size + 1))
        groups.append(order[first : first + size])
    return groups


def class_groups(label: Integers, size: int, count: int, rng: np.random.Generator) -> list[Integers]:
    """``count`` groups, each of one class, the classes in turn, drawn without replacement.

    Raises:
        ValueError: a class has fewer than ``size`` sequences.
    """
    classes, members = np.unique(label, return_counts=True)
    check_integer("size", size, low=1, high=int(members.min()))
    return [rng.permutation(np.flatnonzero(label == classes[i % len(classes)]))[:size] for i in range(count)]
