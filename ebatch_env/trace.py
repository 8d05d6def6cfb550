"""`RequestTrace`: one episode's work. The simulator draws no random numbers; all chance is in here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ebatch_env.errors import LARGEST, FloatArray, IntArray, check_array

MAX_LENGTH = 1 << 24


@dataclass(frozen=True, eq=False)
class RequestTrace:
    """Requests in order of arrival.

    Attributes:
        arrival_s: shape (R,), seconds from the start of the episode, sorted, in [0, 1e12].
        length: shape (R,) int32, sequence length in time-steps, >= 1.
        deadline_s: shape (R,), absolute seconds, later than the arrival; ``inf`` (the default) for none.

    Raises:
        ValueError: empty, unsorted, NaN, or out of range; the message names field, value and place.

    >>> RequestTrace(arrival_s=[0.0, 2.5], length=[3, 1]).requests
    2
    """

    arrival_s: FloatArray
    length: IntArray
    deadline_s: FloatArray = None  # type: ignore[assignment]  # None: no deadlines

    def __post_init__(self) -> None:
        """Check and freeze the arrays."""
        arrival = check_array("arrival_s", self.arrival_s, shape=(None,), high=LARGEST)
        if arrival.size == 0:
            raise ValueError("arrival_s must hold at least one request, got an empty trace")
        back = np.flatnonzero(np.diff(arrival) < 0)
        if back.size:
            i = int(back[0]) + 1
            raise ValueError(f"arrival_s must be sorted, got {arrival[i]} after {arrival[i - 1]} at index {i}")
        steps = check_array("length", self.length, shape=(arrival.size,), low=1)
        wrong = (steps != np.floor(steps)) | (steps > MAX_LENGTH)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise ValueError(f"length must be an integer in 1..{MAX_LENGTH}, got {steps[i]} at index {i}")
        length = steps.astype(np.int32)
        given: object = self.deadline_s
        if given is None:
            deadline = np.full(arrival.size, np.inf)
        else:
            deadline = np.array(given, dtype=np.float64)
            if deadline.shape != arrival.shape:
                raise ValueError(f"deadline_s must have shape {arrival.shape}, got shape {deadline.shape}")
            wrong = ~(deadline > arrival)  # catches NaN too
            if wrong.any():
                i = int(np.argmax(wrong))
                raise ValueError(
                    f"deadline_s must be later than arrival_s {arrival[i]}, got {deadline[i]} at index {i}"
                )
        for array in (length, deadline):
            array.setflags(write=False)
        object.__setattr__(self, "arrival_s", arrival)
        object.__setattr__(self, "length", length)
        object.__setattr__(self, "deadline_s", deadline)

    @classmethod
    def trusted(cls, arrival_s: FloatArray, length: IntArray, deadline_s: FloatArray) -> RequestTrace:
        """A trace over arrays known to be right, unchecked and not copied: for the workload generators' hot path."""
        trace = cls.__new__(cls)
        object.__setattr__(trace, "arrival_s", arrival_s)
        object.__setattr__(trace, "length", length)
        object.__setattr__(trace, "deadline_s", deadline_s)
        return trace

    @property
    def requests(self) -> int:
        """Number of requests R."""
        return int(self.arrival_s.size)

    @property
    def has_deadlines(self) -> bool:
        """Whether any request carries a deadline."""
        return bool(np.isfinite(self.deadline_s).any())
