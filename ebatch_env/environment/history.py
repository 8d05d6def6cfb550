"""What a picture shows: the recent past of one environment, and the same as text."""

from __future__ import annotations

import math
import string
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ebatch_env.environment.dynamics import Dynamics
from ebatch_env.environment.system import System
from ebatch_env.errors import FloatArray, IntArray
from ebatch_env.simulator import kernel as k

if TYPE_CHECKING:
    pass

WINDOW = 4.0  # reference latencies on the time axis
MAX_ROWS = 128  # lanes shown, at most
MAX_EVENTS = 256  # decisions kept, at most
COLUMNS = 96  # of an ansi frame
ANSI_LANES = 64  # lanes in one of its lines
GLYPHS, DIGITS = string.ascii_letters, string.digits + string.ascii_lowercase


def engineering(value: float, unit: str) -> str:
    """``value`` with three digits and an SI prefix.

    >>> engineering(0.01234, "s"), engineering(0, "J"), engineering(999.9, "W")
    ('12.3 ms', '0 J', '1 kW')
    """
    scale, prefix = si_prefix(value * 1.0005)
    return f"{value / scale:.3g} {prefix}{unit}"


def si_prefix(value: float) -> tuple[float, str]:
    """The scale and the SI prefix ``value`` is best written with."""
    if value == 0.0 or not math.isfinite(value):
        return 1.0, ""
    power = min(4, max(-5, math.floor(math.log10(abs(value)) / 3)))
    return 1000.0**power, "fpnµm kMGT"[power + 5].strip()


@dataclass(frozen=True, slots=True)
class Round:
    """What a round of n passes over m sequences looks like; ``ready`` sequences were in their lane when it began."""

    number: int
    planned: int  # T
    steps: int  # run
    pass_s: FloatArray  # (2, n) start and end of each pass
    request: IntArray  # (m,)
    ready: npt.NDArray[np.bool_]  # (m,)
    begin_s: FloatArray  # (m, n) when each pass runs the sequence's first step ...
    until_s: FloatArray  # (m, n) ... and its last


@dataclass(frozen=True, slots=True)
class Event:
    """One decision as it is drawn: a round, or a hold."""

    start_s: float
    end_s: float
    clock_s: float  # later than the end if the machine then idled until the next arrival
    power_w: float  # mean from start to end
    queue: int  # waiting after shedding and the fill
    arrived: tuple[int, int]  # the first and one past the last request to arrive by clock_s
    shed: int
    missed: int
    round: Round | None


class History:
    """The recent decisions of system 0 of a `Dynamics`, bounded in time and in number.

    ``system`` is the machine of the episode.
    """

    def __init__(self, system: System) -> None:
        self._on(system)
        self.events: deque[Event] = deque(maxlen=MAX_EVENTS)

    def begin(self, dynamics: Dynamics) -> None:
        """Forget everything: a new episode is in place."""
        self._on(dynamics.playing(0))
        self.events.clear()
        self._see(dynamics)
        self.origin_s = self.clock_s

    def _on(self, machine: System) -> None:
        self.system = machine
        self.span_s = WINDOW * machine.saturation.latency_s

    def _see(self, dynamics: Dynamics) -> None:
        state = dynamics.systems
        self.f, self.i, self.lanes = state.f[0].copy(), state.i[0].copy(), state.in_lanes(0)
        self.rf, self.ri = state.rf[0], state.ri[0]
        self.clock_s, self.energy_j = float(self.f[k.CLOCK]), float(self.f[k.ENERGY] + self.f[k.STEP_ENERGY])

    def record(self, dynamics: Dynamics) -> None:
        """Take in the decision just carried out."""
        i, lanes, start, energy = self.i, self.lanes, self.clock_s, self.energy_j
        self._see(dynamics)
        ran, held = self.i[k.ROUNDS] > i[k.ROUNDS], self.i[k.HOLDS] > i[k.HOLDS]
        end = float(self.f[k.LAST_END]) if ran else self.clock_s if held else start
        energy_j = self.energy_j - energy - self.system.table.static_w * (self.clock_s - end)
        shed = int(self.i[k.LAST_SHED])
        event = Event(
            start_s=start,
            end_s=end,
            clock_s=self.clock_s,
            power_w=max(0.0, energy_j / (end - start)) if end > start else 0.0,
            queue=int(i[k.WAITING]) - shed - (int(self.i[k.LAST_STARTED]) if ran else 0),
            arrived=(int(i[k.NEXT]), int(self.i[k.NEXT])),
            shed=shed,
            missed=int(self.i[k.MISSED] - i[k.MISSED]),
            round=self._replay(lanes, int(i[k.BUSY]), dynamics) if ran else None,
        )
        self.events.append(event)
        low = self.window()[0]
        while self.events and self.events[0].clock_s < low:
            self.events.popleft()

    def _replay(self, before: IntArray, busy: int, dynamics: Dynamics) -> Round:
        """When each sequence's steps ran in each pass: the kernel keeps the runs of equal a, so replay them."""
        table, scratch = self.system.table, dynamics.scratch[0]
        active, done = scratch.active(self.i), scratch.done(self.i, table)
        request = np.unique(np.concatenate([done, before[k.REQUEST], self.lanes[k.REQUEST]]))
        request = request[request >= 0].astype(np.int32)
        lane, entered = self.ri[k.LANE, request], self.rf[k.START, request]
        left = np.where(before[k.REQUEST, lane] == request, before[k.LEFT, lane], self.ri[k.LENGTH, request])
        ready = entered <= self.f[k.LAST_START]
        # Boundaries between steps in each pass, (n, S+1), as if nobody had joined ...
        pass_s = scratch.passes.copy()
        rows = np.full(table.n_layers, int(self.i[k.LAST_LANE_STEPS]))
        rows[0] = (busy + int(self.i[k.LAST_STARTED])) * int(self.i[k.LAST_T])
        gemm_s = np.maximum(table.input_floor_s, rows * table.input_row_s)
        steps = np.concatenate([(pass_s[0] + gemm_s)[:, None], table.step_s[:, active]], axis=1)
        boundary = np.cumsum(steps, axis=1)
        # ... and layer 0's input GEMM once more at each boundary with joins.
        joins, which = np.unique(entered[~ready], return_inverse=True)
        extra = table.input_floor_s[0] * np.arange(joins.size)
        nearest = 1e-6 * float(table.step_s[0, active].min(initial=np.inf))
        at = np.searchsorted(boundary[0], joins - extra - nearest)
        first = np.zeros(request.size, np.int64)
        first[~ready] = at[which]
        last = np.minimum(first + left, active.size)
        begin, until = boundary[:, first].T.copy(), boundary[:, last].T.copy()
        begin[:, 0] += table.input_floor_s[0] * np.searchsorted(at, first, side="right")
        until[:, 0] += table.input_floor_s[0] * np.searchsorted(at, last, side="left")
        number, planned, steps_run = (int(self.i[n]) for n in (k.ROUNDS, k.LAST_T, k.LAST_S))
        return Round(number, planned, steps_run, pass_s, request, ready, begin, until)

    def window(self) -> tuple[float, float]:
        """The time axis: ends at the clock, once the episode is older than the axis is long."""
        low = max(self.origin_s, self.clock_s - self.span_s)
        if len(self.events) == MAX_EVENTS and low < self.events[0].start_s < self.clock_s:
            return self.events[0].start_s, self.clock_s
        return low, low + self.span_s

    def title(self) -> str:
        """Network on accelerator."""
        lanes = f"{self.system.lanes} lanes" + (f", first {MAX_ROWS} shown" if self.system.lanes > MAX_ROWS else "")
        return f"{self.system.network.name} on {self.system.accelerator.name}, {lanes}"

    def counters(self) -> list[tuple[str, str]]:
        """What the episode has come to: names and values."""
        i, lanes, requests = self.i, self.system.lanes, int(self.i[k.REQUESTS])
        steps, served = int(i[k.LAST_S]), int(i[k.SERVED])
        occupancy = f"{100 * i[k.LAST_LANE_STEPS] / (steps * lanes):.0f} %" if steps else "-"
        return [
            ("clock", engineering(self.clock_s, "s")),
            ("rounds + holds", f"{i[k.ROUNDS]} + {i[k.HOLDS]}"),
            ("served", f"{served} / {requests}"),
            ("waiting", f"{i[k.WAITING]}"),
            ("lanes busy", f"{i[k.BUSY]} / {lanes}"),
            ("shed, missed", f"{i[k.SHED]}, {i[k.MISSED]}"),
            ("energy", engineering(self.energy_j, "J")),
            ("energy / served", engineering(self.energy_j / served, "J") if served else "-"),
            ("mean power", engineering(self.energy_j / self.clock_s, "W") if self.clock_s > 0 else "-"),
            ("last T, ran", f"{i[k.LAST_T]}, {steps}" if steps else "-"),
            ("occupancy", occupancy),
            ("in / joined / out", f"{i[k.LAST_STARTED]} / {i[k.LAST_JOINED]} / {i[k.LAST_DONE]}"),
        ]


def ansi_frame(history: History) -> str:
    """The state as lines of `COLUMNS` characters: lanes by letter, steps left as powers of two, queue, counters."""
    i, lanes = history.i, history.lanes
    shown = min(lanes.shape[1], MAX_ROWS)
    rows = [history.title()]
    for low in range(0, shown, ANSI_LANES):
        part = lanes[:2, low : min(low + ANSI_LANES, shown)].T.tolist()
        letters = "".join(GLYPHS[request % len(GLYPHS)] if request >= 0 else "." for request, _ in part)
        powers = "".join(DIGITS[(left - 1).bit_length()] if request >= 0 else " " for request, left in part)
        rows += [f"lane {low:>4} |{letters}|", f"log2 left |{powers}|"]
    waiting = int(i[k.WAITING])
    bar = "#" * waiting if waiting <= ANSI_LANES else "#" * (ANSI_LANES - 1) + ">"
    rows.append(f"queue     |{bar:<{ANSI_LANES}}| {waiting}")
    texts = [f"{name} {value}" for name, value in history.counters()]
    rows += ["   ".join(f"{text:<29}" for text in texts[n : n + 3]) for n in range(0, len(texts), 3)]
    return "\n".join(row[:COLUMNS].ljust(COLUMNS) for row in rows) + "\n"
