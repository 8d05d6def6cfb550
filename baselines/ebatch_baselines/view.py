"""`View`: what a scheduler sees, read back from observations into physical units."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt

from ebatch_env.environment.observations import END_BINS, MIX_BINS
from ebatch_env.environment.system import System
from ebatch_env.errors import FloatArray
from ebatch_env.simulator.state import Int64Array

# Steps left of a lane counted in bin n of `lanes_end_*`, (2^(n-1), 2^n]: the middle; the last bin is open above.
_BIN_STEPS = np.array([1.0, *(0.75 * 2.0**n for n in range(1, END_BINS)), 0.75 * 2.0**END_BINS])


class View:
    """E observations in physical units; each property has shape (E,) unless it says otherwise.

    Only the observation goes in, so a scheduler sees what an agent sees. Where lengths are hidden their fields read 0,
    and the properties below fall back on the workload's mean.

    Args:
        system: static knowledge: the machine, the lanes, the reference costs.
        observation: shape (E, D) float32.
        memory: shape (E, M), what the scheduler remembers of each environment; it may write to it.
    """

    def __init__(self, system: System, observation: npt.NDArray[np.float32], memory: FloatArray) -> None:
        self.system = system
        self.observation = observation
        self.memory = memory
        self.size = int(observation.shape[0])

    def read(self, name: str) -> FloatArray:
        """Any field of the observation, in its unit; see ``docs/observations.md``."""
        return self.system.observations.read(self.observation, name)

    @cached_property
    def waiting(self) -> Int64Array:
        """Requests in the queue."""
        return np.rint(self.read("queue_length")).astype(np.int64)

    @cached_property
    def busy(self) -> Int64Array:
        """Busy lanes."""
        return np.rint(self.read("lanes_busy") * self.system.lanes).astype(np.int64)

    @cached_property
    def free(self) -> Int64Array:
        """Free lanes."""
        return self.system.lanes - self.busy

    @cached_property
    def idle(self) -> npt.NDArray[np.bool_]:
        """No lane is busy: the only state in which a plan can hold."""
        return np.equal(self.busy, 0)

    @cached_property
    def oldest_wait(self) -> FloatArray:
        """Seconds that the oldest waiting request has waited."""
        return self.read("oldest_wait")

    @cached_property
    def oldest_slack(self) -> FloatArray:
        """Seconds to its deadline, negative if late; very large without one."""
        return self.read("oldest_slack")

    @cached_property
    def lanes_slack(self) -> FloatArray:
        """Seconds to the earliest deadline in the lanes, negative if late; very large without one."""
        return self.read("lanes_least_slack")

    @cached_property
    def rate(self) -> FloatArray:
        """Arrivals per second over the last few reference latencies; 0 until something is known."""
        return self.read("rate_short")

    @cached_property
    def oldest_length(self) -> FloatArray:
        """Time-steps of the oldest waiting request."""
        return self._known("oldest_length", np.full(self.size, self.system.mean_length))

    @cached_property
    def waiting_length(self) -> FloatArray:
        """Mean time-steps of the waiting requests; the workload's mean if none waits."""
        steps, mean = self.read("queue_steps"), self.system.mean_length
        if not self.system.lengths_known:
            return np.full(self.size, mean)
        return np.asarray(np.where(self.waiting > 0, steps / np.maximum(self.waiting, 1), mean), dtype=np.float64)

    @cached_property
    def mean_left(self) -> FloatArray:
        """Mean time-steps left of the busy lanes, at least 1; 0 with no busy lane.

        Where lengths are hidden: what is left on average of a sequence that has run as long as the lanes' mean.
        """
        residual = self.system.mean_residual
        done = np.rint(self.read("lanes_mean_done")).astype(np.int64)
        guess = residual[np.minimum(done, residual.size - 1)]
        return self._known("lanes_mean_left", np.where(self.busy > 0, guess, 0.0))

    @cached_property
    def most_left(self) -> FloatArray:
        """Most time-steps left in a busy lane; 0 with no busy lane."""
        return self._known("lanes_most_left", self.mean_left)

    @cached_property
    def waiting_by_octile(self) -> FloatArray:
        """Waiting requests by octile of the workload's lengths, shape (E, 8); all 0 where lengths are hidden."""
        first = self.system.observations.index["queue_mix_0"]
        share = self.observation[:, first : first + MIX_BINS].astype(np.float64)
        return np.rint(share * self.waiting[:, None])

    @cached_property
    def oldest_octile(self) -> Int64Array:
        """Octile of the oldest waiting request's length, 0..7."""
        length = np.rint(self.oldest_length)
        return np.searchsorted(self.system.mix_edges, length, side="left").astype(np.int64)

    def lane_steps(self, time_steps: npt.NDArray[np.int64]) -> FloatArray:
        """Time-steps that the busy lanes together can use of rounds of ``time_steps`` (E, K), shape (E, K)."""
        total = (self.busy * self.mean_left)[:, None]
        if not self.system.lengths_known:
            return np.asarray(np.minimum(total, self.busy[:, None] * time_steps), dtype=np.float64)
        first = self.system.observations.index["lanes_end_1"]
        within = self.observation[:, first : first + END_BINS].astype(np.float64) * self.system.lanes
        lanes = np.diff(within, prepend=0.0, append=self.busy[:, None])  # (E, bins + 1)
        used = (lanes[:, None, :] * np.minimum(_BIN_STEPS, time_steps[:, :, None])).sum(axis=-1)
        return np.asarray(np.minimum(total, used), dtype=np.float64)

    def _known(self, name: str, otherwise: FloatArray) -> FloatArray:
        return self.read(name) if self.system.lengths_known else otherwise
