"""The DeepBench tasks of Zhao, Zhang and Olukotun (MLSys 2019), published and modelled, and the search over loops."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ebatch_env.errors import FloatArray
from ebatch_env.machines import V100, Accelerator, Brainwave, Plasticine
from ebatch_env.machines.plasticine import Loops
from ebatch_env.networks import Layer, Network


@dataclass(frozen=True)
class Task:
    """One layer of equal input and hidden size, one sequence, with its published latencies (ms); None: none known.

    The latencies are recalled and were not checked against the paper.
    """

    cell: str
    hidden: int
    steps: int
    v100_ms: float | None
    brainwave_ms: float
    plasticine_ms: float | None
    plasticine_tops: float | None

    @property
    def name(self) -> str:
        """For example "LSTM 1024/25": hidden units and steps."""
        return f"{self.cell.upper()} {self.hidden}/{self.steps}"

    @property
    def network(self) -> Network:
        """The layer as a network."""
        return Network.stack(self.name, self.cell, 1, self.hidden, source="DeepBench, server inference")

    @property
    def layer(self) -> Layer:
        """The layer itself."""
        return self.network.layers[0]

    @property
    def operations(self) -> int:
        """Two per weight and step. (DeepBench's own figures for cuDNN leave the input half out: half of this.)"""
        return 2 * self.layer.weights * self.steps

    def tops(self, latency_ms: float) -> float:
        """Effective 10^12 operations per second at that latency."""
        return self.operations / latency_ms / 1e9


TASKS: Sequence[Task] = (
    Task("lstm", 256, 150, 1.69, 0.425, 0.0419, 3.8),
    Task("lstm", 512, 25, 0.60, 0.077, 0.0139, 7.6),
    Task("lstm", 1024, 25, 0.71, 0.074, 0.0292, 14.4),
    Task("lstm", 1536, 50, 4.38, 0.145, 0.1224, 15.4),
    Task("lstm", 2048, 25, 1.55, 0.074, 0.1060, 15.8),
    Task("gru", 512, 1, 0.39, 0.013, 0.0004, 7.6),
    Task("gru", 1024, 1500, 33.77, 3.792, 1.4430, 13.1),
    Task("gru", 1536, 375, 13.12, 0.951, 0.7463, 14.2),
    Task("gru", 2048, 375, 17.70, 0.954, 1.2833, 14.7),
    Task("gru", 2560, 375, 23.57, 0.993, 1.9733, 15.0),
    # Probably in the table as well; its other latencies are not recalled.
    Task("gru", 2816, 750, None, 1.987, None, None),
)
FULL_TASKS = tuple(task for task in TASKS if task.plasticine_ms is not None)

# One choice per cell that gives most of the published latencies: derived from them, the paper's own are not recalled.
PAPERS_LOOPS = {"lstm": Loops(4, 8), "gru": Loops(5, 8)}


def latency_ms(machine: Accelerator, task: Task) -> float:
    """One sequence alone, in one round (ms)."""
    return 1e3 * float(machine.cost_table(task.network, 1).round_s(task.steps, 1))


def with_loops(loops: Loops, machine: Plasticine | None = None) -> Plasticine:
    """Plasticine unrolled like this."""
    return replace(machine or Plasticine(), hu=loops.hu, ru=loops.ru)


def geometric_mean(ratios: Iterable[float]) -> float:
    """exp(mean(log))."""
    return float(np.exp(np.mean(np.log(list(ratios)))))


@dataclass(frozen=True)
class Searched:
    """What the search over loops found for a task.

    Attributes:
        task: which.
        paper, best: unrollings: `PAPERS_LOOPS` and the best that fits.
        paper_ms, best_ms: their latencies.
        choices: unrollings that fit.
        on_chip: whether 8-bit weights fit the memory units with any of them; where they do not, that limit is dropped.
        closest: the unrolling whose latency comes closest to the published one, and its latency; None without one.
        as_close: how many unrollings come within 1 % of the published latency.
    """

    task: Task
    paper: Loops
    paper_ms: float
    best: Loops
    best_ms: float
    choices: int
    on_chip: bool
    closest: tuple[Loops, float] | None
    as_close: int

    @property
    def gain(self) -> float:
        """Published latency over the best one; where none is known, that of the cycle rule with the paper's loops."""
        published = self.task.plasticine_ms
        return (self.paper_ms if published is None else published) / self.best_ms


def search(task: Task, machine: Plasticine | None = None) -> Searched:
    """Try every unrolling within the machine's units.

    Raises:
        ValueError: none fits.
    """
    machine = machine or Plasticine()
    on_chip = list(machine.choices([task.layer], weights_fit=True))
    choices = on_chip or list(machine.choices([task.layer]))
    best = machine.search([task.layer], weights_fit=bool(on_chip))
    paper = PAPERS_LOOPS[task.cell]
    latencies = {loops: latency_ms(with_loops(loops, machine), task) for loops in choices}
    closest, as_close = None, 0
    if task.plasticine_ms is not None:
        off = {loops: abs(math.log(ms / task.plasticine_ms)) for loops, ms in latencies.items()}
        nearest = min(off, key=lambda loops: (round(off[loops], 9), loops != paper, loops.hu))
        closest = (nearest, latencies[nearest])
        as_close = sum(value < math.log(1.01) for value in off.values())
    return Searched(
        task=task,
        paper=paper,
        paper_ms=1e3 * _seconds(machine, task, paper),
        best=best,
        best_ms=latencies[best],
        choices=len(choices),
        on_chip=bool(on_chip),
        closest=closest,
        as_close=as_close,
    )


def _seconds(machine: Plasticine, task: Task, loops: Loops) -> float:
    """The cycle rule itself, whether or not the cell fits."""
    cycles = machine.work_cycles(task.layer, loops) + machine.latency_cycles(task.layer, loops)
    return (task.steps * cycles + machine.start_cycles) / machine.frequency_hz


def best_per_width(task: Task, machine: Plasticine | None = None) -> dict[int, float]:
    """TOPS of the best unrolling with each ``hu`` that fits."""
    machine = machine or Plasticine()
    found: dict[int, float] = {}
    for loops in machine.choices([task.layer], weights_fit=True):
        tops = task.tops(1e3 * _seconds(machine, task, loops))
        found[loops.hu] = max(tops, found.get(loops.hu, 0.0))
    return found


class Modelled:
    """Latencies of the models, (11,) each in the order of `TASKS` (ms)."""

    def __init__(self, searched: Sequence[Searched]) -> None:
        self.plasticine = [latency_ms(with_loops(PAPERS_LOOPS[task.cell]), task) for task in TASKS]
        self.searched = [found.best_ms for found in searched]
        self.brainwave = [latency_ms(Brainwave(), task) for task in TASKS]
        self.v100 = [latency_ms(V100(), task) for task in TASKS]


@dataclass(frozen=True)
class FloorRule:
    """A rule for the V100's latencies and its relative errors on the ten tasks, (10,)."""

    name: str
    errors: FloatArray


ANCHORS = ("LSTM 256/150", "GRU 512/1")  # the two floors were taken from these
_BLIND = np.array([task.name not in ANCHORS for task in FULL_TASKS])


def median_error(errors: FloatArray) -> float:
    """Median size of the errors on the eight tasks that are no anchors."""
    return float(np.median(np.abs(errors[_BLIND])))


def floor_rules() -> list[FloorRule]:
    """How far floors and a roofline explain the V100's latencies."""
    published = np.array([task.v100_ms for task in FULL_TASKS], dtype=np.float64)

    def errors(machine: V100) -> FloatArray:
        return np.array([latency_ms(machine, task) for task in FULL_TASKS]) / published - 1.0

    default = V100()
    bare = replace(default, call_floor_s=0.0, step_floor_s=0.0)
    call, step = _refit(published)
    refitted = replace(default, call_floor_s=call, step_floor_s=step)
    return [
        FloorRule("roofline alone", errors(bare)),
        FloorRule("call floor, roofline", errors(replace(default, step_floor_s=0.0))),
        FloorRule("call floor, max(step floor, roofline)", errors(replace(default, overlap=True))),
        FloorRule("call floor, step floor + roofline (the machine)", errors(default)),
        FloorRule(f"the same, floors refitted to all ten: {call * 1e3:.2f} ms, {step * 1e6:.1f} us", errors(refitted)),
    ]


def _refit(published_ms: FloatArray) -> tuple[float, float]:
    """The two floors (s) with the least mean logarithmic error over the ten tasks: a bound on what the rule can do."""
    bare = V100(call_floor_s=0.0, step_floor_s=0.0)
    rest = np.array([latency_ms(bare, task) for task in FULL_TASKS])
    per_step = np.array([latency_ms(replace(bare, step_floor_s=1e-3), task) for task in FULL_TASKS]) - rest
    calls, steps = np.meshgrid(np.linspace(0.0, 0.6, 121), np.linspace(0.0, 40e-3, 161), indexing="ij")  # ms
    predicted = rest + calls[..., None] + steps[..., None] * per_step
    loss = np.abs(np.log(predicted / published_ms)).mean(-1)
    i, j = np.unravel_index(int(np.argmin(loss)), loss.shape)
    return float(calls[i, j]) * 1e-3, float(steps[i, j]) * 1e-3
