"""Observations: what every index means. The kernel that fills them is in ``dynamics``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from ebatch_env.costs import CostTable
from ebatch_env.environment.rewards import Objective
from ebatch_env.errors import FloatArray
from ebatch_env.saturation import Saturation
from ebatch_env.simulator.state import Int64Array

END_BINS = 10  # lanes that end within 1, 2, 4, ..., 512 steps
MIX_BINS = 8  # octiles of the workload's length distribution
CURVE = (1 / 64, 1 / 8, 1 / 4, 1 / 2, 1.0)  # shares of the lanes at which the machine's step costs are shown

RANGES = {"share": (0.0, 1.0), "squash": (0.0, 1.0), "signed": (-1.0, 1.0), "flag": (0.0, 1.0)}


@dataclass(frozen=True)
class Field:
    """One index of the observation.

    Attributes:
        name: what `ObservationLayout.read` calls it.
        unit: of the quantity read back.
        form: how it is written: ``share`` and ``flag`` as they are; ``squash`` x as x / (scale + x), in [0, 1];
            ``signed`` x as x / (scale + abs(x)), in [-1, 1].
        scale: see ``form``; in the field's unit.
        meaning: one line.
        tells_length: it would give lengths away, so it is 0 if they are hidden.
    """

    name: str
    unit: str
    form: str
    scale: float
    meaning: str
    tells_length: bool = False

    @property
    def low(self) -> float:
        """Least value."""
        return RANGES[self.form][0]

    @property
    def high(self) -> float:
        """Largest value."""
        return RANGES[self.form][1]


class ObservationLayout:
    """The fields in order, and reading them back in physical units.

    >>> layout = ObservationLayout([Field("queue_length", "requests", "squash", 64.0, "waiting")])
    >>> layout.read(np.array([[0.5]], np.float32), "queue_length")
    array([64.])
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        self.fields = tuple(fields)
        self.index = {field.name: n for n, field in enumerate(self.fields)}
        assert len(self.index) == len(self.fields)

    @property
    def size(self) -> int:
        """Length D of an observation."""
        return len(self.fields)

    @property
    def space(self) -> gym.spaces.Box:
        """The observation space of one environment."""
        low = np.array([field.low for field in self.fields], np.float32)
        high = np.array([field.high for field in self.fields], np.float32)
        return gym.spaces.Box(low, high, dtype=np.float32)

    def read(self, observation: npt.NDArray[np.floating], name: str) -> FloatArray:
        """Field ``name`` of observations (..., D) in its unit, float64 of shape (...).

        A squashed field loses precision as it grows: at 100 scales it is good to six digits, at 10,000 to three.
        """
        field = self.fields[self.index[name]]
        value = np.asarray(observation[..., self.index[name]], dtype=np.float64)
        if field.form in ("share", "flag"):
            return value
        return np.asarray(field.scale * value / np.maximum(1.0 - np.abs(value), 1e-7), dtype=np.float64)

    def machine_of(self, observation: npt.NDArray[np.floating]) -> Int64Array:
        """Which machine each observation (..., D) shows, by its number, shape (...): there is one, number 0."""
        return np.zeros(np.shape(observation)[:-1], np.int64)

    def scale_text(self, n: int) -> str:
        """The scale of field ``n`` as the table has it."""
        field = self.fields[n]
        return f"{field.scale:.6g}" if field.form in ("squash", "signed") else ""

    def write(self, values: dict[str, float]) -> npt.NDArray[np.float32]:
        """An observation (D,) with the given fields set and all others 0."""
        out = np.zeros(self.size, np.float32)
        for name, value in values.items():
            field = self.fields[self.index[name]]
            plain = field.form in ("share", "flag")
            out[self.index[name]] = value if plain else value / (field.scale + abs(value))
        return out

    def markdown(self) -> str:
        """The fields as a table, for the docs."""
        rows = ["| index | name | unit | written as | scale | range | meaning |", "|---|---|---|---|---|---|---|"]
        for n, field in enumerate(self.fields):
            span = f"[{field.low:g}, {field.high:g}]"
            written = f"{field.form} | {self.scale_text(n)} | {span}"
            rows.append(f"| {n} | `{field.name}` | {field.unit} | {written} | {field.meaning} |")
        return "\n".join(rows)


def state_fields(
    *, lanes: int, mean_length: float, latency_s: float, throughput_rps: float, mix_edges: Sequence[int]
) -> list[Field]:
    """The fields that change from decision to decision, in the order the kernel writes them."""
    steps = float(mean_length)
    fields = [
        Field("queue_length", "requests", "squash", lanes, "requests waiting"),
        Field("queue_steps", "steps", "squash", lanes * steps, "time-steps waiting; 0 if lengths are hidden", True),
    ]
    bounds = [0, *(int(edge) for edge in mix_edges)]
    for n in range(MIX_BINS):
        upper = f"{bounds[n + 1]}" if n + 1 < len(bounds) else "up"
        meaning = f"share of the queue with {bounds[n] + 1}..{upper} steps; 0 if hidden"
        fields.append(Field(f"queue_mix_{n}", "", "share", 1.0, meaning, True))
    fields += [
        Field("oldest_wait", "s", "squash", latency_s, "age of the oldest waiting request"),
        Field("mean_wait", "s", "squash", latency_s, "mean age of the waiting requests"),
        Field("oldest_length", "steps", "squash", steps, "length of the oldest waiting request; 0 if hidden", True),
        Field(
            "oldest_slack", "s", "signed", latency_s, "its deadline less now; 1 if none waits or there is no deadline"
        ),
        Field("queue_late", "", "share", 1.0, "share of the queue whose deadline has passed"),
        Field("lanes_busy", "", "share", 1.0, "busy lanes / lanes"),
        Field("lanes_least_left", "steps", "squash", steps, "fewest steps left in a busy lane; 0 if hidden", True),
        Field("lanes_mean_left", "steps", "squash", steps, "mean steps left over busy lanes; 0 if hidden", True),
        Field("lanes_most_left", "steps", "squash", steps, "most steps left in a busy lane; 0 if hidden", True),
    ]
    for n in range(END_BINS):
        meaning = f"lanes busy and ending within {1 << n} steps / lanes; 0 if hidden"
        fields.append(Field(f"lanes_end_{1 << n}", "", "share", 1.0, meaning, True))
    fields += [
        Field("lanes_mean_done", "steps", "squash", steps, "mean steps already run over busy lanes"),
        Field("lanes_most_done", "steps", "squash", steps, "most steps already run in a busy lane"),
        Field("lanes_least_slack", "s", "signed", latency_s, "earliest deadline in the lanes less now; 1 if none"),
        Field("rate_short", "1/s", "squash", throughput_rps, "arrival rate, exponential window of 1 reference latency"),
        Field("rate_long", "1/s", "squash", throughput_rps, "arrival rate, exponential window of 16 of them"),
        Field("last_held", "", "flag", 1.0, "the last decision was to hold"),
        Field("last_planned", "steps", "squash", steps, "planned steps T of the last round, 0 before the first"),
        Field("last_steps", "steps", "squash", steps, "steps it ran"),
        Field("last_occupancy", "", "share", 1.0, "lane-steps it paid for / (steps * lanes)"),
        Field("last_duration", "s", "squash", latency_s, "how long it took"),
        Field("last_started", "requests", "squash", lanes, "sequences that entered in its fill"),
        Field("last_joined", "requests", "squash", lanes, "sequences that joined it"),
        Field("last_completed", "requests", "squash", lanes, "sequences it completed"),
        Field("last_shed", "requests", "squash", lanes, "requests shed by the last decision"),
    ]
    return fields


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
