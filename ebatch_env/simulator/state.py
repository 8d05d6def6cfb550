"""The arrays behind the kernel: a machine packed for it, and the state of E systems."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ebatch_env.costs import CostTable
from ebatch_env.errors import FloatArray, fail
from ebatch_env.simulator import entry
from ebatch_env.simulator import kernel as k
from ebatch_env.trace import RequestTrace

Int64Array = npt.NDArray[np.int64]

# Rows of a power-of-two length would all fall on the same few cache sets; a little more keeps them apart.
PADDING = 8
CACHE_LINE = 64  # bytes
TICKS = 16  # see `check_clock`


def _together(*arrays: tuple[tuple[int, ...], Any]) -> list[npt.NDArray[Any]]:
    """Arrays of zeros of the given shapes and types, one behind the other in memory.

    NumPy asks for huge pages for an array of 4 MB, which thousands of systems fill only together: without, they have
    more pages than a core keeps the addresses of.
    """
    sizes = [math.prod(shape) * np.dtype(kind).itemsize for shape, kind in arrays]
    starts = np.cumsum([0, *(-(-size // CACHE_LINE) * CACHE_LINE for size in sizes)]).tolist()
    room = np.zeros(starts[-1] // 8 + CACHE_LINE // 8).view(np.uint8)
    room = room[-room.ctypes.data % CACHE_LINE :]
    return [
        room[start : start + size].view(kind).reshape(shape)
        for (shape, kind), start, size in zip(arrays, starts[:-1], sizes, strict=True)
    ]


class Machine(NamedTuple):
    """A `CostTable` and the simulator's settings as the kernel reads them; all shared, all read-only."""

    machine: FloatArray  # (N_MACHINE,) scalars, see kernel.STATIC_W..FLAGS
    layers: FloatArray  # (5, n) load_s, load_j, input_floor_s, input_row_s, input_j
    step_s: FloatArray  # (n+1, B+1), row n: the sum over layers 1..n-2
    step_j: FloatArray  # (B+1,) summed over layers
    alone: FloatArray  # (L+1,) CostTable.alone_s of each length


def pack_machine(
    table: CostTable,
    *,
    hold_s: float,
    longest: int,
    lengths_known: bool = True,
    drain: bool = False,
    ordered: bool = True,
    record: bool = True,
) -> Machine:
    """Pack ``table`` and the settings.

    Args:
        table: the machine.
        hold_s: the longest a hold lasts (s).
        longest: the longest sequence L that may come.
        lengths_known: False hides the lengths from `Order` and from shedding.
        drain: with no lane busy and no arrival to come, a plan that admits none admits all instead.
        ordered: keep the waiting requests by length; without it only first come, first served is possible.
        record: keep completions, lanes, starts and pass times, which metrics, logs and pictures need and dynamics does not.
    """
    middle = slice(1, -1)
    flags = {
        k.PREFETCH: table.prefetch,
        k.NOTIFIES: table.notifies,
        k.WHOLE: table.whole_sequences,
        k.KNOWN: lengths_known,
        k.DRAIN: drain,
        k.GEMM: table.has_input_gemm,
        k.MIDDLE_GEMM: bool((table.input_floor_s[middle] + table.input_row_s[middle]).any()),
        k.ORDERED: ordered,
        k.RECORD: record,
    }
    scalars = np.zeros(k.N_MACHINE)
    scalars[k.STATIC_W] = table.static_w
    scalars[k.MAX_T] = table.max_time_steps
    scalars[k.HOLD_S] = hold_s
    scalars[k.FIXED_J] = table.load_j.sum() + table.input_j.sum()
    scalars[k.MIDDLE_S] = table.load_s[middle].sum()
    scalars[k.FLAGS] = sum(bit for bit, holds in flags.items() if holds)
    layers = np.stack([table.load_s, table.load_j, table.input_floor_s, table.input_row_s, table.input_j])
    alone = np.append(0.0, table.alone_s(np.arange(1, longest + 1)))
    step_s = np.vstack([table.step_s, table.step_s[middle].sum(0)])
    return Machine(scalars, layers, step_s, table.step_j.sum(0), alone)


@dataclass(frozen=True)
class Systems:
    """State of E systems: see the table at the head of ``layout``; E leads every shape."""

    f: FloatArray  # (E, N_F)
    i: Int64Array  # (E, N_I)
    lanes: npt.NDArray[np.int32]  # (E, 3, 64 W)
    rf: FloatArray  # (E, 4, R + PADDING)
    ri: npt.NDArray[np.int32]  # (E, 3, R + PADDING)
    links: npt.NDArray[np.int32]  # (E, R + PADDING + L+1)
    bits: npt.NDArray[np.uint64]  # (E, W)
    hist: Int64Array  # (E, B+1)
    levels: Int64Array  # shared
    bins: npt.NDArray[np.int8]  # (L+1,) shared: eight times the bin of each length, where its counter begins in a word

    @classmethod
    def empty(
        cls, systems: int, lanes: int, requests: int, max_length: int, mix_edges: npt.ArrayLike | None = None
    ) -> Systems:
        """Room for ``systems`` systems of ``lanes`` lanes and traces of up to ``requests`` requests of ``max_length``.

        ``mix_edges``, shape (7,), are the upper ends of the first seven bins of queue lengths; None: one bin.
        """
        levels = k.tree_levels(max_length + 1)
        lane_words = (lanes + 63) // 64
        words = int(levels[-1]) + lane_words + (requests + 63) // 64
        edges = np.full(k.MIX_BINS - 1, max_length) if mix_edges is None else np.asarray(mix_edges)
        f, i, lanes_, bits, rf, ri, links, hist = _together(
            ((systems, k.N_F), np.float64),
            ((systems, k.N_I), np.int64),
            ((systems, 3, 64 * lane_words), np.int32),
            ((systems, words), np.uint64),
            ((systems, 4, requests + PADDING), np.float64),
            ((systems, 3, requests + PADDING), np.int32),
            ((systems, requests + PADDING + max_length + 1), np.int32),
            ((systems, lanes + 1), np.int64),
        )
        return cls(
            f=f,
            i=i,
            lanes=lanes_,
            rf=rf,
            ri=ri,
            links=links,
            bits=bits,
            hist=hist,
            levels=levels,
            bins=(8 * np.searchsorted(np.sort(edges), np.arange(max_length + 1), side="left")).astype(np.int8),
        )

    @property
    def capacity(self) -> int:
        """The most requests a trace may have."""
        return int(self.rf.shape[2]) - PADDING

    def system(self, e: int) -> tuple[Any, ...]:
        """The slices of system ``e`` in the kernel's order: f, i, lanes, rf, ri, links, bits, levels, hist."""
        return (
            self.f[e],
            self.i[e],
            self.lanes[e],
            self.rf[e],
            self.ri[e],
            self.links[e],
            self.bits[e],
            self.levels,
            self.hist[e],
        )

    @property
    def max_length(self) -> int:
        """The longest sequence there is room for."""
        return int(self.links.shape[1] - self.ri.shape[2]) - 1

    def in_lanes(self, e: int) -> npt.NDArray[np.int32]:
        """A copy of what is in the lanes of system ``e``, shape (3, B)."""
        return self.lanes[e, :, : self.hist.shape[1] - 1].copy()

    def begin(self, e: int, trace: RequestTrace, machine: Machine) -> None:
        """Start system ``e`` on ``trace``."""
        n = trace.requests
        self.rf[e, k.ARRIVAL, :n] = trace.arrival_s
        self.rf[e, k.DEADLINE, :n] = trace.deadline_s
        self.ri[e, k.LENGTH, :n] = trace.length
        entry.begin(n, *self.system(e), machine.layers, machine.machine, self.bins)


class Scratch(NamedTuple):
    """What a thread needs besides the systems; after a round it holds the round's course."""

    scratch: npt.NDArray[np.int32]  # (kernel.scratch_size,)
    marks: npt.NDArray[np.uint64]  # ((T+2) W,), all 0 between rounds
    times: FloatArray  # (T+2,)
    passes: FloatArray  # (2, n) start and end of each pass

    @classmethod
    def of(cls, lanes: int, table: CostTable, requests: int) -> Scratch:
        """Scratch for systems of ``lanes`` lanes and up to ``requests`` requests on ``table``."""
        steps = table.max_time_steps + 2
        return cls(
            np.zeros(k.scratch_size(lanes, table.max_time_steps, requests), np.int32),
            np.zeros(steps * ((lanes + 63) // 64), np.uint64),
            np.zeros(steps),
            np.zeros((2, table.n_layers)),
        )

    def active(self, i: Int64Array) -> npt.NDArray[np.int32]:
        """Lanes paid for at each step of the last round, a_1..a_S; ``i`` are the system's counters."""
        return self.scratch[1 : 1 + int(i[k.LAST_S])].copy()

    def done(self, i: Int64Array, table: CostTable) -> npt.NDArray[np.int32]:
        """Requests that the last round, on ``table``, completed."""
        return self.scratch[table.max_time_steps + 2 :][: int(i[k.LAST_DONE])].copy()


def check_clock(table: CostTable, last_arrival_s: float, hold_s: float = np.inf) -> None:
    """Refuse times so far apart that float64 cannot add the short ones to the long ones.

    A step, and a hold, must be at least `TICKS` units in the last place of a clock at the last arrival.

    Raises:
        ValueError: they are not; the message names the field, its value and the range.
    """
    step_s = table.step_s[:, 1:].sum(0)  # a > 0 busy lanes, all layers
    least = float(min(step_s[step_s > 0.0], default=np.inf))
    tick_s = TICKS * float(np.spacing(last_arrival_s))
    if least < tick_s:
        high = least / (TICKS * np.finfo(np.float64).eps)
        raise fail(
            "arrival_s", last_arrival_s, f"at most {high:.3g} s on {table.name!r}, whose steps take {least:.3g} s"
        )
    if hold_s < tick_s:
        raise fail(
            "hold_s", hold_s, f"at least {tick_s:.3g} s to move a clock at the last arrival, {last_arrival_s:g} s"
        )


def check_fits(table: CostTable, longest: int) -> None:
    """Refuse a workload whose longest sequence a whole-sequence network cannot run in one round."""
    if table.whole_sequences and longest > table.max_time_steps:
        raise ValueError(
            f"length must be an integer in 1..{table.max_time_steps} on {table.name!r}, which runs whole sequences "
            f"and fits that many time-steps on chip with {table.lanes} lanes, got {longest}; use fewer lanes"
        )
