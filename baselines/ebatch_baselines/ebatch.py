"""E-BATCH: long rounds with joins, their length fixed or chosen from the machine's latency-energy curve.

What "E-BATCH" means here: the abstract of the paper (Silfa, Arnau and Gonzalez, ACM TACO 19(1), 2022, arXiv 2009.10656)
states the mechanism. Sequences are concatenated into large batches, the accelerator reports each completion so that a
waiting sequence joins at once, and the number of time-steps per batch is set at run time for the platform's best trade
of latency against energy. The algorithm listing is not public where we looked. The rule that chooses T below is
therefore an interpretation of that sentence and not the paper's.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from ebatch_baselines.base import LONGEST, ORDER, SHED, STEPS, Baseline
from ebatch_baselines.view import View
from ebatch_env.environment.actions import Plans
from ebatch_env.environment.system import System
from ebatch_env.errors import FloatArray
from ebatch_env.scoring.policy import Knob


class EBatchFixed(Baseline):
    """E-BATCH with the same number of time-steps in every round.

    Source: Silfa, Arnau and Gonzalez, ACM TACO 19(1), 2022; see this module's docstring.
    Mapping: admit all, first come first served, joins on, T = ``time_steps``.

    | knob | default | range | meaning |
    |---|---|---|---|
    | `time_steps` | 16 | 1..4096, log | T; rounded down to one that the action offers |
    | `order` | first-come | first-come, shortest, similar | which waiting request is next |
    | `shed` | False | False, True | drop requests that can no longer meet their deadline |
    """

    name: ClassVar[str] = "ebatch-fixed"
    knobs: ClassVar[tuple[Knob, ...]] = (STEPS, ORDER, SHED)

    def plan(self, view: View) -> Plans:
        """T, everybody in."""
        return Plans.of(view.size, time_steps=self.settings["time_steps"], **self.service())


class EBatch(Baseline):
    """E-BATCH with T chosen at every round (our interpretation of the paper).

    Source: Silfa, Arnau and Gonzalez, ACM TACO 19(1), 2022; see this module's docstring.
    Mapping: admit all; T is the offered one with the least predicted cost per sequence, with or without joins where
    a join costs an input GEMM (TPU), with joins elsewhere::

        C(T) = L / u(T) * (w_e * e(T) / E  +  w * w_l * N * r(T) / D)  +  lag * q * w * w_l * r(T) / D

    | symbol | meaning |
    |---|---|
    | r(T), e(T) | seconds and joules of the round: ``CostTable.round_s``, ``round_j`` at the steps and lanes used, and an input GEMM at each boundary with a join |
    | u(T) | lane-steps that advance a sequence: lanes that run out count only as far as they go, joiners fill them up |
    | N | sequences in the system, the mean of now and of the round's end: plus arrivals, less u(T) / L |
    | q | share of the layers behind the first, (n - 1) / n; 1 on a machine without notifications |
    | L, E, D | mean sequence length, reference energy per request, reference latency |
    | w_e | the objective's weight of energy |
    | w_l | the objective's weight of latency, plus that of a miss divided by the deadline in units of D |

    The first term is what the work of one sequence costs: energy per lane-step falls with T as loads are shared by more
    steps, and while a lane-step is being bought everybody in the system waits, so a long queue asks for throughput. The
    second is the price of large T: a newcomer waits for the round to end, and a sequence that is done early in it still
    waits for the layers before the last to finish. Lanes that run out make u(T) stop growing. The minimum is the knee
    of the machine's latency-energy curve for the present queue and lanes. Of equal costs the longest T is taken. If all
    weights are 0, w_e = w_l = 1.

    If the earliest deadline that can still be met is near, T is at most the longest whose round ends ``hurry`` times as
    fast as that.

    | knob | default | range | meaning |
    |---|---|---|---|
    | `latency_weight` | 1 | 0.01..100, log | w, weight of delays relative to the objective's own |
    | `lag` | 0.5 | 0..4 | rounds by which a round's length delays a sequence |
    | `hurry` | 0 | 0..4 | rounds that should fit before the next deadline; 0: ignore deadlines |
    | `order` | first-come | first-come, shortest, similar | which waiting request is next |
    | `shed` | False | False, True | drop requests that can no longer meet their deadline |
    """

    name: ClassVar[str] = "ebatch"
    knobs: ClassVar[tuple[Knob, ...]] = (
        Knob("latency_weight", 0.01, 100.0, 1.0, log=True, meaning="weight of delays relative to the objective's own"),
        Knob("lag", 0.0, 4.0, 0.5, meaning="rounds by which a round's length delays a sequence"),
        Knob("hurry", 0.0, 4.0, 0.0, meaning="rounds that should fit before the next deadline; 0: ignore deadlines"),
        ORDER,
        SHED,
    )

    def __init__(self, system: System, **knobs: Any) -> None:
        super().__init__(system, **knobs)
        codec = system.actions
        offered = codec.levels["time_steps"][codec.legal["time_steps"]]
        # "Longest" reaches as far as the longest sequence, or as much of it as fits on chip.
        reach = np.where(offered == LONGEST, system.table.max_time_steps, offered)
        rank = np.lexsort((offered != LONGEST, reach))  # "longest" before the T it is capped to
        self._offered, self._reach = offered[rank], reach[rank]
        objective = system.objective
        # A second of delay costs what latency costs, and takes a share of somebody's deadline away.
        energy, latency = objective.energy, objective.latency + objective.miss / (system.deadline or math.inf)
        if energy + latency == 0.0:
            energy = latency = 1.0
        reference_j, reference_s = system.saturation.energy_per_request_j, system.saturation.latency_s
        self._per_joule = energy / reference_j if reference_j > 0 else 0.0
        self._per_second = self.settings["latency_weight"] * latency / reference_s

        self._can_join = system.table.notifies and not system.table.whole_sequences
        self._joins_cost = self._can_join and system.table.has_input_gemm and "joins" in system.actions.controls
        # With joins and notifications layer 0 keeps nobody waiting for the round's end; the layers behind it do.
        layers = system.table.n_layers
        waiting_layers = layers - 1 if self._can_join else layers
        self._lag = self.settings["lag"] * waiting_layers / layers

    def plan(self, view: View) -> Plans:
        """T of least predicted cost, everybody in."""
        cost, seconds = self._cost(view, joins=self._can_join)
        joins = np.full(view.size, self._can_join)
        if self._joins_cost:
            without = self._cost(view, joins=False)
            joins = cost.min(axis=1) <= without[0].min(axis=1)
            cost, seconds = (np.where(joins[:, None], *pair) for pair in zip((cost, seconds), without, strict=True))
        if self.settings["hurry"] > 0:
            slack = np.minimum(
                np.where(view.lanes_slack > 0, view.lanes_slack, np.inf),
                np.where(view.oldest_slack > 0, view.oldest_slack, np.inf),
            )
            late = seconds * self.settings["hurry"] > slack[:, None]
            # If even the shortest round is too long there is nothing to be gained by hurrying.
            cost = np.where(late & ~late.all(axis=1, keepdims=True), np.inf, cost)
        # Of equal costs the longest round: it ends with its last lane anyway, and somebody may join until then.
        best = cost.shape[1] - 1 - np.argmin(cost[:, ::-1], axis=1)
        return Plans.of(view.size, time_steps=self._offered[best], joins=joins, **self.service())

    def _cost(self, view: View, *, joins: bool) -> tuple[FloatArray, FloatArray]:
        """C(T) and r(T) of the K offered T, each of shape (E, K)."""
        table, lanes, mean = self.system.table, self.system.lanes, self.system.mean_length
        length = np.maximum(view.waiting_length, 1.0)[:, None]
        enter = np.minimum(view.free, view.waiting)[:, None]
        last = np.where(enter > 0, np.maximum(view.most_left[:, None], length), view.most_left[:, None])
        last = np.maximum(np.ceil(last), 1.0).astype(np.int64)
        reach = np.where(self._offered == LONGEST, np.minimum(self._reach, last), self._reach)  # (E, K)
        used = view.lane_steps(reach) + enter * np.minimum(length, reach)
        joined = np.zeros_like(used)
        if joins:
            # Joiners: the rest of the queue, and whoever arrives while layer 0 runs.
            full_s = table.round_s(reach, np.full_like(reach, lanes))
            newcomers = view.rate[:, None] * full_s / table.n_layers
            queued = view.waiting[:, None] - enter
            spare = np.maximum(lanes * reach - used, 0.0)
            more = np.minimum(spare, queued * length + newcomers * mean)
            used, joined = used + more, more / length
            steps = np.where(queued + newcomers >= 1.0, reach, np.minimum(reach, last))
        else:
            steps = np.minimum(reach, last)
        if table.notifies and not table.whole_sequences:
            active = np.clip(np.rint(used / np.maximum(steps, 1)), 1, lanes)
        else:
            active = np.broadcast_to(np.maximum(view.busy[:, None] + enter, 1), steps.shape)
        steps, active = np.maximum(steps, 1).astype(np.int64), active.astype(np.int64)
        boundaries = np.minimum(joined, steps)
        seconds = table.round_s(steps, active) + boundaries * table.input_floor_s[0]
        joules = table.round_j(steps, active) + boundaries * table.input_j[0]
        now = (view.busy + view.waiting)[:, None]
        then = np.maximum(now + view.rate[:, None] * seconds - used / mean, 0.0)
        present = 0.5 * (now + then)
        work = self._per_joule * joules + self._per_second * present * seconds
        lag = self._lag * self._per_second * seconds
        return mean / np.maximum(used, 1.0) * work + lag, seconds
