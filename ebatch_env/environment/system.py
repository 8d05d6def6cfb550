"""`System`: an environment's keywords worked out: the machine, the work, the objective, the codecs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ebatch_env.costs import CostTable
from ebatch_env.environment.actions import CONTROLS, ActionCodec
from ebatch_env.environment.keywords import check_load, check_plan, max_decisions_for, resolved, table_of
from ebatch_env.environment.observations import MIX_BINS, ObservationLayout, machine_fields, state_fields
from ebatch_env.environment.rewards import Objective
from ebatch_env.errors import check_integer, check_number, fail
from ebatch_env.machines import Accelerator, resolve_machine
from ebatch_env.networks import Network, resolve_network
from ebatch_env.saturation import Saturation, saturation
from ebatch_env.simulator.plan import RoundPlan
from ebatch_env.simulator.state import check_clock, check_fits
from ebatch_env.trace import RequestTrace
from ebatch_env.workloads import WorkloadLike, resolve_workload
from ebatch_env.workloads.checks import check_lengths, checked_trace, is_built_in

RESIDUAL_QUANTILES = 4096


@dataclass(frozen=True, eq=False)
class System:
    """Everything about an environment that does not change from decision to decision. Build it with `System.build`.

    Attributes:
        network, accelerator: what runs where.
        reference: the machine that load, deadline, hold and costs are relative to.
        table: the accelerator's `CostTable` for the network and the lanes.
        lanes: lanes B.
        workload: where the traces come from.
        load: arrivals relative to the saturated reference; a pair is a range drawn from anew each episode.
        requests: requests R of an episode.
        deadline: a request's deadline after its arrival, in reference latencies; None: no deadlines.
        hold_s: the longest a hold lasts; ``inf``: until the next arrival.
        objective: weights of the cost.
        lengths_known: whether sequence lengths can be seen and used.
        saturation: the yardstick, of the reference: throughput at load 1, energy per request, reference latency.
        actions, observations: the codecs.
        constants: shape (D,) float32, the observation's constant part, 0 elsewhere.
        mix_edges: shape (7,), the octiles of the lengths; mean_length: their mean.
        max_decisions: an episode is truncated after this many.
    """

    network: Network
    accelerator: Accelerator
    reference: Accelerator
    table: CostTable
    lanes: int
    workload: WorkloadLike
    load: tuple[float, float]
    requests: int
    deadline: float | None
    hold_s: float
    objective: Objective
    lengths_known: bool
    saturation: Saturation
    actions: ActionCodec
    observations: ObservationLayout
    constants: npt.NDArray[np.float32]
    mix_edges: npt.NDArray[np.int32]
    mean_length: float
    max_decisions: int

    @classmethod
    def build(
        cls,
        *,
        network: str | Mapping[str, Any] | Network = "MNMT",
        accelerator: str | Mapping[str, Any] | Accelerator = "epur",
        lanes: int = 64,
        workload: str | Mapping[str, Any] | WorkloadLike = "translation",
        load: float | Sequence[float] = 0.8,
        requests: int = 1024,
        deadline: float | None = None,
        hold: float = 0.1,
        objective: Objective | Mapping[str, float] | None = None,
        lengths_known: bool = True,
        controls: Sequence[str] = CONTROLS,
        time_step_levels: Sequence[int | None] | None = None,
        admit_levels: Sequence[int | None] | None = None,
        plan: RoundPlan | Mapping[str, Any] | None = None,
        flat_actions: bool = False,
        max_decisions: int | None = None,
        reference_accelerator: str | Mapping[str, Any] | Accelerator | None = None,
        **unknown: Any,
    ) -> System:
        """Work out the keywords of an environment; they are described on `EBatchEnv`.

        Raises:
            ValueError: an unknown keyword, or one outside its range; the message names it, its value and the range.
        """
        for name in unknown:
            raise fail("keyword", name, f"one of {', '.join(cls.keywords())}")
        net = resolve_network(network)
        machine = reference = resolved("accelerator", accelerator, resolve_machine)
        if reference_accelerator is not None:
            reference = resolved("reference_accelerator", reference_accelerator, resolve_machine)
        lanes = check_integer("lanes", lanes, low=1, high=4096)
        work = resolved("workload", workload, resolve_workload)
        requests = check_integer("requests", requests, low=1, high=10_000_000)
        low, high = check_load(load)
        if deadline is not None:
            deadline = check_number("deadline", deadline, low=0.0, low_open=True, high=1e9)
        if hold != math.inf:
            hold = check_number("hold", hold, low=0.0, low_open=True, high=1e9)
        for field, flag in (("lengths_known", lengths_known), ("flat_actions", flat_actions)):
            if not isinstance(flag, (bool, np.bool_)):
                raise fail(field, flag, "True or False")
        lengths = check_lengths(work.lengths)
        table = table_of(machine, net, lanes)
        check_fits(table, int(lengths.max_length))
        sat = saturation(table if reference is machine else table_of(reference, net, lanes), lanes, lengths)
        span_s = requests / (low * sat.throughput_rps)
        check_clock(table, span_s, hold * sat.latency_s)
        weights = Objective.resolve(objective)
        actions = ActionCodec.build(
            table,
            lanes,
            controls=controls,
            time_step_levels=time_step_levels,
            admit_levels=admit_levels,
            plan=check_plan(plan),
            flat=bool(flat_actions),
            lengths_known=bool(lengths_known),
            has_deadlines=deadline is not None or bool(getattr(work, "has_deadlines", False)),
        )
        edges = np.rint(lengths.quantile(np.arange(1, MIX_BINS) / MIX_BINS)).astype(np.int32)
        fields = state_fields(
            lanes=lanes,
            mean_length=lengths.mean,
            latency_s=sat.latency_s,
            throughput_rps=sat.throughput_rps,
            mix_edges=edges.tolist(),
        )
        constants = machine_fields(table, lanes, lengths.mean, sat, weights, deadline, bool(lengths_known))
        layout = ObservationLayout([*fields, *(field for field, _ in constants)])
        if max_decisions is None:
            max_decisions = max_decisions_for(requests, int(lengths.max_length), span_s / (hold * sat.latency_s))
        return cls(
            network=net,
            accelerator=machine,
            reference=reference,
            table=table,
            lanes=lanes,
            workload=work,
            load=(low, high),
            requests=requests,
            deadline=deadline,
            hold_s=hold * sat.latency_s,
            objective=weights,
            lengths_known=bool(lengths_known),
            saturation=sat,
            actions=actions,
            observations=layout,
            constants=layout.write({field.name: value for field, value in constants}),
            mix_edges=edges,
            mean_length=float(lengths.mean),
            max_decisions=check_integer("max_decisions", max_decisions, low=1),
        )

    @classmethod
    def keywords(cls) -> tuple[str, ...]:
        """Names of the keywords of `build`."""
        parameters = inspect.signature(cls.build).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)

    @property
    def machines(self) -> tuple[System, ...]:
        """The machines that an episode may be played on, each a system: this one. A `Fleet` has several."""
        return (self,)

    def draw_machine(self, rng: np.random.Generator) -> int:
        """The number of an episode's machine, 0: there is nothing to draw."""
        return 0

    @property
    def deadline_s(self) -> float | None:
        """A request's deadline after its arrival (s)."""
        return None if self.deadline is None else self.deadline * self.saturation.latency_s

    def sample_trace(self, rng: np.random.Generator) -> RequestTrace:
        """Draw one episode's work.

        Raises:
            ValueError: a workload that is not built in broke its promises; the message names field, value and range.
        """
        low, high = self.load
        load = low if low == high else low + (high - low) * float(rng.random())
        rate = load * self.saturation.throughput_rps
        trace = self.workload.sample(rng, self.requests, rate, self.deadline_s)
        return trace if self._trusted else self.check_trace(trace, self.requests)

    @cached_property
    def mean_residual(self) -> npt.NDArray[np.float64]:
        """Mean steps left of a sequence that has run d steps and not ended, d = 0, 1, ...; shape (max_length,).

        From 4096 quantiles of the lengths; at least 1, also beyond the longest of them.
        """
        lengths = np.sort(self.workload.lengths.quantile((np.arange(RESIDUAL_QUANTILES) + 0.5) / RESIDUAL_QUANTILES))
        done = np.arange(int(self.workload.lengths.max_length))
        ended = np.searchsorted(lengths, done, side="right")
        above = np.append(np.cumsum(lengths[::-1])[::-1], 0.0)
        left = above[ended] / np.maximum(lengths.size - ended, 1) - done
        return np.asarray(np.maximum(left, 1.0), dtype=np.float64)

    @cached_property
    def _trusted(self) -> bool:
        return is_built_in(self.workload)

    def check_trace(self, trace: Any, requests: int) -> RequestTrace:
        """Return ``trace`` if it is a right one of so many ``requests`` that this system can play.

        Raises:
            ValueError: it is not; the message names field, value and range.
        """
        checked = checked_trace(trace, requests, int(self.workload.lengths.max_length))
        check_clock(self.table, float(checked.arrival_s[-1]), self.hold_s)
        return checked

    def cost_per_unit(self) -> npt.NDArray[np.float64]:
        """`Objective.per_unit` with this system's references, shape (5,)."""
        return self.objective.per_unit(
            energy_j=self.saturation.energy_per_request_j, latency_s=self.saturation.latency_s
        )
