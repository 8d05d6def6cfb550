"""Full waves: on a machine whose step time rises in stairs, start as many lanes as fill whole stairs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ebatch_baselines.base import LONGEST, NO_LIMIT, ORDER, SHED, STEPS, Baseline
from ebatch_baselines.view import View
from ebatch_env.costs import CostTable
from ebatch_env.environment.actions import Plans
from ebatch_env.environment.system import System
from ebatch_env.scoring.policy import Knob
from ebatch_env.simulator.state import Int64Array

_EQUAL = 1.0 + 1e-9  # costs that differ by less differ in rounding only


def whole_waves(table: CostTable, time_steps: int, tolerance: float) -> Int64Array:
    """How many lanes to fill where 0..B could be, shape (B+1,).

    A wave's edge is a number of lanes with which one more makes the time per lane worse; with all B lanes the last wave ends.
    Of the edges within reach, and the reach itself, those whose time per lane is within ``tolerance`` of the best come into
    question, and the smallest is taken: a shorter round at the same throughput.

    Args:
        table: the machine; times from `CostTable.round_s`.
        time_steps: T of the rounds, at most the machine's limit.
        tolerance: share by which time per lane may be above the best.
    """
    counts = np.arange(1, table.step_s.shape[1])
    per_lane = np.asarray(table.round_s(time_steps, counts)) / counts
    edge = np.append(per_lane[1:] > per_lane[:-1] * _EQUAL, True)
    fine = per_lane[None, :] <= np.minimum.accumulate(per_lane)[:, None] * (1.0 + tolerance) * _EQUAL  # (reach, count)
    allowed = fine & (edge | (counts[None, :] == counts[:, None])) & (counts[None, :] <= counts[:, None])
    return np.append(0, counts[np.argmax(allowed, axis=1)]).astype(np.int64)


class FullWaves(Baseline):
    """Closed batches that fill whole waves where many wait, E-BATCH with one T where few do.

    Source: ours, read off agents that learnt the bursts of ``ebatch/EPUR-Translation-v0``. GPU programmers know the effect
    as wave quantization (NVIDIA, Matrix Multiplication Background User's Guide): work that fills a wave by half takes a
    whole one.
    Mapping: T = ``time_steps``. The edges of the waves come from the machine's step times at that T, see `whole_waves`.
    With no lane busy and more waiting than the whole waves within reach hold, start these and no more, without joins.
    Otherwise all enter and join. Once the oldest waiting request has less slack than ``drain`` nobody enters while a lane
    is busy, so that the next closed batch can start. On a machine whose time per lane falls all the way the only edge is
    the last lane.
    An admission that the action does not offer is rounded down, as everywhere.

    | knob | default | range | meaning |
    |---|---|---|---|
    | `time_steps` | 16 | 1..4096, log | T; rounded down to one that the action offers |
    | `tolerance` | 0.05 | 0..0.5 | share by which time per lane may be above the best, for fewer waves |
    | `joins` | True | False, True | running batches are open to all, within rounds too; False: between rounds only, up to the edge |
    | `drain` | 1.5 | 0..8 | slack of the oldest below which running batches are closed, in reference latencies; 0: never |
    | `order` | shortest | first-come, shortest, similar | which waiting request is next |
    | `shed` | True | False, True | drop requests that can no longer meet their deadline |
    """

    name: ClassVar[str] = "full-waves"
    knobs: ClassVar[tuple[Knob, ...]] = (
        STEPS,
        Knob("tolerance", 0.0, 0.5, 0.05, meaning="share by which time per lane may be above the best"),
        Knob("joins", 0, 1, True, choices=(False, True), meaning="all may enter what runs; False: up to the edge"),
        Knob("drain", 0.0, 8.0, 1.5, meaning="slack below which running batches are closed, in reference latencies"),
        replace(ORDER, default="shortest"),
        replace(SHED, default=True),
    )

    def __init__(self, system: System, **knobs: Any) -> None:
        super().__init__(system, **knobs)
        steps, limit = self.offered_steps(self.settings["time_steps"]), system.table.max_time_steps
        steps = limit if steps == LONGEST else min(steps, limit)
        self._waves = whole_waves(system.table, steps, self.settings["tolerance"])

    def plan(self, view: View) -> Plans:
        """Start whole waves, let all in, or let nobody in."""
        chosen = self.settings
        present = view.busy + view.waiting
        target = self._waves[np.minimum(present, self.system.lanes)]
        over = (target < present) & (view.idle | (not chosen["joins"]))
        closed = ~view.idle & (chosen["drain"] > 0) & (view.oldest_slack < self.seconds_of(chosen["drain"]))
        limited = self.at_most(view, np.maximum(target - view.busy, 0))
        return Plans.of(
            view.size,
            time_steps=chosen["time_steps"],
            admit=np.where(closed, 0, np.where(over, limited, NO_LIMIT)),
            joins=chosen["joins"] & ~over & ~closed,
            **self.service(),
        )
