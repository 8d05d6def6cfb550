"""Rules for batch queues: greedy, (cap, wait-for), and the exact optimum."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ebatch_baselines.base import LONGEST, NO_LIMIT, ORDER, SHED, Baseline
from ebatch_baselines.optimum import QueueSolution, batch_queue_optimum
from ebatch_baselines.view import View
from ebatch_env.environment.actions import Plans
from ebatch_env.environment.system import System
from ebatch_env.scoring.policy import Knob
from ebatch_env.workloads import Poisson


class Greedy(Baseline):
    """Whenever a round can start, everybody who waits enters, and it runs to the end of its longest sequence.

    Source: the greedy rule of batch queues; Triton's dynamic batcher with delay 0.
    Mapping: admit all, T to the end of the longest busy lane, no joins.

    | knob | default | range | meaning |
    |---|---|---|---|
    | `order` | first-come | first-come, shortest, similar | which waiting request is next |
    | `shed` | False | False, True | drop requests that can no longer meet their deadline |
    """

    name: ClassVar[str] = "greedy"
    knobs: ClassVar[tuple[Knob, ...]] = (ORDER, SHED)

    def plan(self, view: View) -> Plans:
        """Everybody in, to the end."""
        return Plans.of(view.size, time_steps=LONGEST, admit=NO_LIMIT, joins=0, **self.service())


class Cap(Baseline):
    """The (cap, wait-for) rule: a free server waits for ``wait_for`` requests, then serves up to ``cap``.

    Source: control limits of batch queues (Deb and Serfozo, Advances in Applied Probability 5, 1973) with a cap.
    Mapping: with all lanes free hold until ``wait_for`` wait, admit up to ``cap``, T to the end, no joins; nobody else
    enters until all lanes are free. At the end of a trace the environment starts what still waits.

    | knob | default | range | meaning |
    |---|---|---|---|
    | `cap` | 4096 | 1..4096, log | largest batch; beyond the lanes: all of them |
    | `wait_for` | 1 | 1..4096, log | smallest queue worth serving; at most the lanes |
    """

    name: ClassVar[str] = "cap"
    knobs: ClassVar[tuple[Knob, ...]] = (
        Knob("cap", 1, 4096, 4096, integer=True, log=True, meaning="largest batch; beyond the lanes: all of them"),
        Knob("wait_for", 1, 4096, 1, integer=True, log=True, meaning="smallest queue worth serving; at most the lanes"),
    )

    def plan(self, view: View) -> Plans:
        """Hold, start a batch, or let it run on."""
        start = view.idle & (view.waiting >= min(self.settings["wait_for"], self.system.lanes))
        admit = np.where(start, self.at_most(view, self.settings["cap"]), 0)
        return Plans.of(view.size, time_steps=LONGEST, admit=admit, joins=0)


class OptimalQueue(Baseline):
    """The optimal rule of a batch queue, exactly: `batch_queue_optimum`.

    Source: semi-Markov decision process, relative value iteration (Xu et al., arXiv 2301.12865).
    Mapping: with all lanes free look up the batch for the number waiting, among the sizes the action offers; 0: hold.
    Beyond the solver's queue limit the last batch is served.

    The arrival rate is the system's load times its saturated throughput; the service time of a batch is the machine's
    step. It has no knobs.

    Attributes:
        solution: the rule and its mean time in system.

    Raises:
        ValueError: the system is not a batch queue: lengths other than 1, more than one layer, arrivals that are not
            Poisson, a range of loads, a cost other than latency, or an action that does not choose the admission.
    """

    name: ClassVar[str] = "optimal-queue"

    def __init__(self, system: System, **knobs: Any) -> None:
        super().__init__(system, **knobs)
        wrong = not_a_batch_queue(system)
        if wrong:
            raise ValueError(f"policy 'optimal-queue' must act on a batch queue, but {wrong}")
        levels = system.actions.levels["admit"]
        sizes = np.unique(np.where(levels == NO_LIMIT, system.lanes, levels))
        tau = system.table.round_s(1, np.arange(system.lanes + 1))
        rate = system.load[0] * system.saturation.throughput_rps
        allowed = sizes[(sizes > 0) & (sizes <= system.lanes)].tolist()
        self.solution: QueueSolution = batch_queue_optimum(tau, rate, sizes=allowed)

    def plan(self, view: View) -> Plans:
        """Look the batch up."""
        rule = self.solution.policy
        batch = rule[np.minimum(view.waiting, rule.size - 1)]
        return Plans.of(view.size, time_steps=1, admit=np.where(batch > 0, self.at_most(view, batch), 0), joins=0)


def not_a_batch_queue(system: System) -> str:
    """Why ``system`` is not a batch queue with the mean time in system as its cost; empty if it is one."""
    objective, table = system.objective, system.table
    low, high = system.load
    longest = int(system.workload.lengths.max_length)
    reasons = {
        f"its sequences have up to {longest} time-steps, not 1": longest != 1,
        f"its network has {table.n_layers} layers, not 1": table.n_layers != 1,
        "its machine loads weights ahead of what it computes": table.prefetch and bool(table.load_s.any()),
        "its arrivals are not Poisson": type(getattr(system.workload, "arrivals", None)) is not Poisson,
        f"its load is drawn from {low:g}..{high:g} in every episode": low != high,
        "its cost has no latency": objective.latency == 0,
        "energy is part of its cost": objective.energy > 0 and system.saturation.energy_per_request_j > 0,
        "deadlines are part of its cost": system.deadline is not None and objective.miss + objective.shed > 0,
        "its actions do not choose the admission": "admit" not in system.actions.controls,
        "its actions cannot hold": 0 not in system.actions.levels["admit"].tolist(),
    }
    return "; ".join(reason for reason, holds in reasons.items() if holds)
