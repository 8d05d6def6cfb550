"""What an episode leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ebatch_env.costs import CostTable
from ebatch_env.errors import FloatArray, IntArray
from ebatch_env.simulator.plan import RoundPlan
from ebatch_env.trace import RequestTrace


class PassRecord(NamedTuple):
    """One layer's part of a round."""

    layer: int
    start_s: float  # its weights are there and it begins to compute
    end_s: float
    energy_j: float  # weights, input GEMM and steps; joins are charged to layer 0


@dataclass(frozen=True)
class RoundRecord:
    """One execution of a plan.

    Attributes:
        start_s: the decision.
        end_s: the end of the last pass.
        plan: as the policy gave it.
        time_steps: T after the machine's limit and "to the end of the longest busy lane" are worked out.
        active: shape (S,) int32, lanes paid for at each step, a_1..a_S.
        joined: sequences that entered after the fill.
        join_boundaries: steps before which some did.
        shed: requests dropped before the fill. (A decision that sheds and then holds leaves no round.)
        pass_start_s, pass_end_s, pass_energy_j: shape (n,).
        energy_j: the round's energy without static power.
    """

    start_s: float
    end_s: float
    plan: RoundPlan
    time_steps: int
    active: IntArray
    joined: int
    join_boundaries: int
    shed: int
    pass_start_s: FloatArray
    pass_end_s: FloatArray
    pass_energy_j: FloatArray
    energy_j: float

    @property
    def passes(self) -> tuple[PassRecord, ...]:
        """The passes in order."""
        rows = zip(self.pass_start_s.tolist(), self.pass_end_s.tolist(), self.pass_energy_j.tolist(), strict=True)
        return tuple(PassRecord(layer, *row) for layer, row in enumerate(rows))


@dataclass(frozen=True)
class EpisodeLog:
    """One episode.

    Attributes:
        trace: the work.
        completion_s: shape (R,), NaN for a request that was shed or never served.
        start_s: shape (R,), when it entered a lane, NaN if never.
        lane: shape (R,) int32, its lane, -1 if it never ran.
        shed: shape (R,) bool.
        missed: deadlines that passed before their request was complete or shed.
        energy_j: all energy, static power included.
        energy_parts: the same by component; the values add up to ``energy_j``.
        latency_integral_s: integral of N(t) dt, N = requests arrived and neither complete nor shed.
        end_s: the clock at the end.
        rounds: every round, in order.
        holds: decisions to hold.
        decisions: all decisions.
        lane_steps: lane-steps paid for, padding included; ``useful_lane_steps``: those that advanced a sequence.
        truncated: the episode was cut off with work left, see ``max_decisions`` of `Simulator`.
    """

    trace: RequestTrace
    completion_s: FloatArray
    start_s: FloatArray
    lane: IntArray
    shed: npt.NDArray[np.bool_]
    missed: int
    energy_j: float
    energy_parts: Mapping[str, float]
    latency_integral_s: float
    end_s: float
    rounds: tuple[RoundRecord, ...]
    holds: int
    decisions: int
    lane_steps: int
    useful_lane_steps: int
    truncated: bool

    @property
    def served(self) -> int:
        """Requests completed."""
        return int(np.isfinite(self.completion_s).sum())

    @property
    def latency_s(self) -> FloatArray:
        """Completion less arrival, shape (R,), NaN where not served."""
        return self.completion_s - self.trace.arrival_s


def energy_parts(
    table: CostTable, rounds: int, join_boundaries: int, hist: npt.NDArray[np.int64], static_j: float
) -> dict[str, float]:
    """Energy by component (J) from an episode's counts.

    Args:
        table: the machine.
        rounds: rounds run; each pays every layer's load and input GEMM once.
        join_boundaries: boundaries with joins; each pays layer 0's input GEMM again where there is one.
        hist: shape (B+1,), time-steps run with a = 0..B lanes; every layer runs each of them.
        static_j: static power times elapsed time.
    """
    parts = {}
    for name, part in table.parts.items():
        fixed = float(np.sum(part.load_j) + np.sum(part.input_j))
        joins = join_boundaries * float(part.input_j[0])
        parts[name] = rounds * fixed + joins + float(hist @ np.asarray(part.step_j)[:, : hist.size].sum(0))
    parts["static"] = static_j
    return parts
