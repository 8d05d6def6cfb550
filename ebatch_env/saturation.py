"""What a machine can do at most: the yardstick for ``load``, for deadlines and for the reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ebatch_env.costs import CostTable
from ebatch_env.errors import FloatArray
from ebatch_env.simulator import entry
from ebatch_env.simulator import kernel as k
from ebatch_env.simulator.state import Scratch, Systems, check_fits, pack_machine
from ebatch_env.trace import RequestTrace

REQUESTS_PER_LANE = 48  # enough for the start-up to weigh under 1 %


class Quantiles(Protocol):
    """A length distribution, as far as this module needs it."""

    def quantile(self, p: npt.ArrayLike, /) -> FloatArray:
        """Lengths at probabilities ``p``."""
        ...


@dataclass(frozen=True)
class Saturation:
    """The best constant plan on an endless queue, all lanes in use.

    Attributes:
        throughput_rps: requests per second: load 1.0.
        energy_per_request_j: energy per request at that plan, static power included.
        latency_s: lanes / throughput: how long a sequence is in a lane, on average (Little's law).
        time_steps: that plan's T; ``joins``: whether it lets sequences join.
    """

    throughput_rps: float
    energy_per_request_j: float
    latency_s: float
    time_steps: int
    joins: bool


def powers_of_two(limit: int) -> list[int]:
    """1, 2, 4, ... up to ``limit``."""
    return [1 << n for n in range(limit.bit_length())]


def saturation(table: CostTable, lanes: int, lengths: Quantiles) -> Saturation:
    """Simulate constant plans (every power of two up to the machine's limit, joins on and off) on a full queue.

    The lengths are a stratified sample of the distribution in a fixed order, so the result is a pure function of the
    arguments. Throughput counts lane-steps rather than completions, so that sequences still in lanes when the queue
    runs dry are not lost.
    """
    n = REQUESTS_PER_LANE * lanes
    length = np.asarray(lengths.quantile((np.arange(n) + 0.5) / n)).round().astype(np.int32)
    length = np.random.default_rng(0).permutation(np.maximum(length, 1))
    check_fits(table, int(length.max()))
    trace = RequestTrace(arrival_s=np.zeros(n), length=length)
    machine = pack_machine(table, hold_s=1.0, longest=int(length.max()), ordered=False, record=False)
    systems = Systems.empty(1, lanes, n, int(length.max()))
    scratch = Scratch.of(lanes, table, n)
    shared = (machine.layers, machine.step_s, machine.step_j, machine.alone, machine.machine, systems.bins)
    can_join = table.notifies and not table.whole_sequences
    best: Saturation | None = None
    for time_steps in [k.LONGEST] if table.whole_sequences else [*powers_of_two(table.max_time_steps), k.LONGEST]:
        for joins in (False, True) if can_join else (False,):
            systems.begin(0, trace, machine)
            plan = np.array([time_steps, k.NO_LIMIT, joins, k.FIRST_COME, 0], np.int64)
            entry.repeat(plan, True, *systems.system(0), *shared, *scratch)
            served = float(systems.i[0, k.USEFUL_STEPS]) / float(length.mean())
            elapsed_s, energy_j = float(systems.f[0, k.CLOCK]), float(systems.f[0, k.ENERGY])
            if elapsed_s <= 0.0:
                raise ValueError(f"step_s must let time pass: {table.name!r} served {n} requests in {elapsed_s} s")
            if best is None or served / elapsed_s > best.throughput_rps:
                rate = served / elapsed_s
                best = Saturation(rate, energy_j / served, lanes / rate, time_steps, joins)
    assert best is not None
    return best
