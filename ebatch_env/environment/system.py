"""`System`: an environment's keywords worked out: the machine, the work, the objective, the codecs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ebatch_env.costs import CostTable
from ebatch_env.environment.actions import CONTROLS, ActionCodec
from ebatch_env.environment.observations import CURVE, MIX_BINS, Field, ObservationLayout, state_fields
from ebatch_env.environment.rewards import Objective
from ebatch_env.errors import check_integer, check_number, fail
from ebatch_env.machines import Accelerator, resolve_machine
from ebatch_env.networks import Network, resolve_network
from ebatch_env.saturation import Saturation, saturation
from ebatch_env.simulator.plan import RoundPlan
from ebatch_env.simulator.state import check_fits
from ebatch_env.trace import RequestTrace
from ebatch_env.workloads import WorkloadLike, resolve_workload


@dataclass(frozen=True, eq=False)
class System:
    """Everything about an environment that does not change from decision to decision. Build it with `System.build`.

    Attributes:
        network, accelerator: what runs where.
        table: the accelerator's `CostTable` for the network and the lanes.
        lanes: lanes B.
        workload: where the traces come from.
        load: arrivals relative to the saturated machine; a pair is a range drawn from anew each episode.
        requests: requests R of an episode.
        deadline: a request's deadline after its arrival, in reference latencies; None: no deadlines.
        hold_s: the longest a hold lasts; ``inf``: until the next arrival.
        objective: weights of the cost.
        lengths_known: whether sequence lengths can be seen and used.
        saturation: the yardstick: throughput at load 1, energy per request, reference latency.
        actions, observations: the codecs.
        constants: shape (D,) float32, the observation's constant part, 0 elsewhere.
        max_decisions: an episode is truncated after this many.
    """

    network: Network
    accelerator: Accelerator
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
    ) -> System:
        """Work out the keywords of an environment; they are described on `EBatchEnv`.

        Raises:
            ValueError: any keyword outside its range; the message names it, its value and the range.
        """
        net = resolve_network(network)
        machine = resolve_machine(accelerator)
        lanes = check_integer("lanes", lanes, low=1, high=4096)
        work = resolve_workload(workload)
        requests = check_integer("requests", requests, low=1, high=10_000_000)
        loads = (load, load) if isinstance(load, (int, float, np.integer, np.floating)) else tuple(load)
        if len(loads) != 2:
            raise fail("load", load, "a number or a pair (low, high)")
        low = check_number("load", loads[0], low=0.0, low_open=True, high=1000.0)
        high = check_number("load", loads[1], low=low, high=1000.0)
        if deadline is not None:
            deadline = check_number("deadline", deadline, low=0.0, low_open=True, high=1e9)
        if hold != math.inf:
            hold = check_number("hold", hold, low=0.0, low_open=True)
        if not isinstance(lengths_known, (bool, np.bool_)):
            raise fail("lengths_known", lengths_known, "True or False")
        table = machine.cost_table(net, lanes)
        lengths = work.lengths
        check_fits(table, int(lengths.max_length))
        sat = saturation(table, lanes, lengths)
        weights = Objective.resolve(objective)
        actions = ActionCodec.build(
            table,
            lanes,
            controls=controls,
            time_step_levels=time_step_levels,
            admit_levels=admit_levels,
            plan=RoundPlan(**plan) if isinstance(plan, Mapping) else plan,
            flat=flat_actions,
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
            # Even one sequence at a time in the shortest rounds stays below this.
            max_decisions = min(4 * requests * (int(lengths.mean) + 16), 1 << 40)
        return cls(
            network=net,
            accelerator=machine,
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

    @property
    def deadline_s(self) -> float | None:
        """A request's deadline after its arrival (s)."""
        return None if self.deadline is None else self.deadline * self.saturation.latency_s

    def sample_trace(self, rng: np.random.Generator) -> RequestTrace:
        """Draw one episode's work."""
        low, high = self.load
        load = low if low == high else low + (high - low) * float(rng.random())
        rate = load * self.saturation.throughput_rps
        return self.workload.sample(rng, self.requests, rate, self.deadline_s)

    def cost_per_unit(self) -> npt.NDArray[np.float64]:
        """`Objective.per_unit` with this system's references, shape (5,)."""
        return self.objective.per_unit(
            energy_j=self.saturation.energy_per_request_j, latency_s=self.saturation.latency_s
        )

    def curve_lanes(self) -> list[int]:
        """Numbers of busy lanes at which the observation shows the step costs."""
        return [max(1, math.ceil(share * self.lanes)) for share in CURVE]


def machine_fields(
    table: CostTable,
    lanes: int,
    mean_length: float,
    sat: Saturation,
    objective: Objective,
    deadline: float | None,
    lengths_known: bool,
) -> list[tuple[Field, float]]:
    """The observation's constant fields with their values: the machine and the objective.

    Times are seen in reference latencies and energies in reference energies, so one policy can serve machines of any
    speed.
    """
    step_s, step_j = sat.latency_s / mean_length, max(sat.energy_per_request_j, 1e-300) * lanes / mean_length
    rows: list[tuple[Field, float]] = [
        (Field("lanes", "lanes", "squash", 64.0, "lanes B"), lanes),
        (Field("layers", "layers", "squash", 8.0, "layers n"), table.n_layers),
        (Field("max_time_steps", "steps", "squash", mean_length, "largest T"), table.max_time_steps),
        (Field("load_s", "s", "squash", sat.latency_s, "weight loads of a round"), float(table.load_s.sum())),
        (Field("load_j", "J", "squash", step_j * mean_length, "their energy"), float(table.load_j.sum())),
        (
            Field("input_floor_s", "s", "squash", sat.latency_s, "least time of a round's input GEMMs"),
            float(table.input_floor_s.sum()),
        ),
        (Field("input_j", "J", "squash", step_j * mean_length, "their energy"), float(table.input_j.sum())),
        (Field("join_s", "s", "squash", step_s, "cost of a boundary with joins"), float(table.input_floor_s[0])),
    ]
    for share in CURVE:
        a = max(1, math.ceil(share * lanes))
        which = f"one step of every layer with {share:.3g} of the lanes (at least 1) busy"
        rows.append((Field(f"step_s_{share:.3g}", "s", "squash", step_s, which), float(table.step_s[:, a].sum())))
    for share in CURVE:
        a = max(1, math.ceil(share * lanes))
        which = f"energy of one step of every layer with {share:.3g} of the lanes busy"
        rows.append((Field(f"step_j_{share:.3g}", "J", "squash", step_j, which), float(table.step_j[:, a].sum())))
    static = step_j * mean_length / sat.latency_s
    rows += [
        (Field("static_w", "W", "squash", static, "power drawn always"), table.static_w),
        (Field("prefetch", "", "flag", 1.0, "loads overlap the pass before"), table.prefetch),
        (Field("notifies", "", "flag", 1.0, "completion notifications and joins"), table.notifies),
        (Field("whole_sequences", "", "flag", 1.0, "only whole sequences can run"), table.whole_sequences),
        (Field("lengths_known", "", "flag", 1.0, "sequence lengths are visible"), lengths_known),
        (
            Field("deadline", "s", "squash", 4 * sat.latency_s, "deadline after arrival; 0 for none"),
            (deadline or 0.0) * sat.latency_s,
        ),
    ]
    weights = objective.to_dict()
    for term in ("energy", "latency", "miss", "shed"):
        meaning = f"weight of the cost term `{term}`"
        rows.append((Field(f"weight_{term}", "", "squash", 1.0, meaning), weights[term]))
    return rows
