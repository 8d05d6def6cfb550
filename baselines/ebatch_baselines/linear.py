"""Linear control: every part of the plan from a weighted sum of what is seen, for a black-box optimiser to set."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from ebatch_baselines.base import LONGEST, NO_LIMIT, Baseline
from ebatch_baselines.view import View
from ebatch_env.environment.actions import Plans
from ebatch_env.environment.system import System
from ebatch_env.errors import FloatArray
from ebatch_env.scoring.policy import Knob
from ebatch_env.scoring.tuning import Tuned
from ebatch_env.simulator.plan import Order

# Fields of the observation that the sums are over, as they are written (in [0, 1] or [-1, 1]), besides a constant.
SEEN = (
    "queue_length",
    "queue_steps",
    "oldest_wait",
    "mean_wait",
    "oldest_length",
    "oldest_slack",
    "queue_late",
    "lanes_busy",
    "lanes_mean_left",
    "lanes_most_left",
    "lanes_mean_done",
    "lanes_least_slack",
    "rate_short",
    "rate_long",
)
# What each sum decides, and its constant without tuning: E-BATCH with a middling T.
SUMS = {"steps": 1.0, "cap": 3.0, "hold": -1.0, "joins": 1.0, "shortest": -0.5, "similar": -0.5, "shed": 0.5}
REACH = 4.0  # weights lie within this
# Hold until three quarters of the lanes wait, or a slack of two reference latencies is left: what pays in quiet hours.
_PATIENT = {"shortest": 1.0, "hold": -2.7, "hold:queue_length": -3.0, "hold:oldest_slack": 4.0}
# Members worth starting a search from, by the knobs in which they differ from the default. T is the least offered at -3.5 and the
# largest at 3.5; the cap is a quarter of the lanes at -1.16 and half of them at -0.1.
STARTS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "E-BATCH": {},
        "E-BATCH, T in the middle": {"steps": 0.0},
        "E-BATCH, shortest first": {"shortest": 1.0, "shed": 1.0},
        "least T, shortest first": {"steps": -3.5, "shortest": 1.0, "shed": 1.0},
        "least T, a quarter of the lanes, shortest first": {
            "steps": -3.5,
            "cap": -1.16,
            "joins": -1.0,
            "shortest": 1.0,
        },
        "least T, half of the lanes": {"steps": -3.5, "cap": -0.1, "joins": -1.0},
        "half of the lanes, shortest first": {"cap": -0.1, "joins": -1.0, "shortest": 1.0, "shed": 1.0},
        "to completion": {"steps": 3.5, "joins": -1.0},
        "to completion, once many wait or one has waited": {
            "steps": 3.5,
            "joins": -1.0,
            "hold": 1.0,
            "hold:queue_length": -4.0,
            "hold:oldest_wait": -2.0,
        },
        "long T, once many wait or slack runs out": {"steps": 1.4, **_PATIENT},
        "least T, once many wait or slack runs out": {"steps": -3.5, **_PATIENT},
    }
)


def _knobs() -> tuple[Knob, ...]:
    found = []
    for decided, constant in SUMS.items():
        found.append(Knob(decided, -REACH, REACH, constant, meaning=f"constant of the sum that decides `{decided}`"))
        found += [Knob(f"{decided}:{seen}", -REACH, REACH, 0.0, meaning=f"weight of `{seen}` in it") for seen in SEEN]
    return tuple(found)


class Linear(Baseline):
    """Every part of the plan from a weighted sum of what is seen.

    Source: ours; the family that `ebatch headroom` searches with CMA-ES (Hansen, arXiv:1604.00772). E-BATCH with a fixed
    T, timeouts, caps on the busy lanes, and rules that change with queue, age, slack or rate are members.
    Mapping: with z the sums, s(z) = 1 / (1 + exp(-z)), B the lanes and K the offered T in increasing order: T is number
    round(s(z_steps) * (K - 1)); so many enter that at most s(z_cap) * B * 1.05 lanes are busy at the start, without limit
    if that is B or more; with no lane busy nobody enters while z_hold > 0; joins if z_joins > 0; the order is the one of
    largest z among shortest, similar, and 0 for first come; shed if z_shed > 0. Joins are off under a cap.

    | knob | default | range | meaning |
    |---|---|---|---|
    | `steps`, `cap`, `hold`, `joins`, `shortest`, `similar`, `shed` | 1, 3, -1, 1, -0.5, -0.5, 0.5 | -4..4 | the sums' constants |
    | `steps:queue_length`, ... | 0 | -4..4 | weight of a field of the observation in a sum; `SEEN` lists the fields |
    """

    name: ClassVar[str] = "linear"
    knobs: ClassVar[tuple[Knob, ...]] = _knobs()
    tuned_by_default: ClassVar[bool] = False  # its search wants thousands of candidates

    @classmethod
    def weights_of(cls, knobs: Mapping[str, float]) -> FloatArray:
        """The weights, shape (105,), of the member that differs from the default in ``knobs``."""
        return np.array([float(knobs.get(knob.name, knob.default)) for knob in cls.knobs])

    @staticmethod
    def search(*args: Any, **kwargs: Any) -> Tuned:
        """`ebatch_baselines.search.search`: how `ebatch tune` tunes this policy, whose weights are too many for its own way."""
        from ebatch_baselines.search import search  # which needs this class

        return search(*args, **kwargs)

    def __init__(self, system: System, **knobs: Any) -> None:
        super().__init__(system, **knobs)
        codec = system.actions
        offered = codec.levels["time_steps"][codec.legal["time_steps"]]
        reach = np.where(offered == LONGEST, system.table.max_time_steps + 1, offered)
        self._offered = offered[np.argsort(reach)]
        self._columns = [system.observations.index[name] for name in SEEN]
        weights = np.array(list(self.settings.values())).reshape(len(SUMS), 1 + len(SEEN))
        self.weights: FloatArray = weights[None]  # (1, sums, fields)

    def plan(self, view: View) -> Plans:
        """One sum per decision."""
        rows = view.observation[:, self._columns].astype(np.float64)
        z = self.weights[..., 0] + (self.weights[..., 1:] * rows[:, None, :]).sum(axis=-1)  # (E, sums)
        sums = dict(zip(SUMS, z.T, strict=True))
        share = 1.0 / (1.0 + np.exp(-z[:, :2]))
        steps = self._offered[np.rint(share[:, 0] * (self._offered.size - 1)).astype(np.int64)]
        cap = np.rint(share[:, 1] * self.system.lanes * 1.05).astype(np.int64)
        limited = cap < self.system.lanes
        admit = np.where(limited, self.at_most(view, np.maximum(cap - view.busy, np.where(view.idle, 1, 0))), NO_LIMIT)
        admit = np.where(view.idle & (sums["hold"] > 0), 0, admit)
        order = np.where(sums["shortest"] > 0, int(Order.SHORTEST), int(Order.FIRST_COME))
        similar = (sums["similar"] > 0) & (sums["similar"] > sums["shortest"])
        return Plans.of(
            view.size,
            time_steps=steps,
            admit=admit,
            joins=(sums["joins"] > 0) & ~limited,
            order=np.where(similar, int(Order.SIMILAR), order),
            shed=sums["shed"] > 0,
        )
