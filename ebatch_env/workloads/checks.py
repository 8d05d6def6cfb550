"""What a workload must keep to. Whoever writes one is told by name what it broke, before the simulator plays it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ebatch_env.errors import check_array, check_integer, check_number, fail
from ebatch_env.trace import MAX_LENGTH, RequestTrace
from ebatch_env.workloads.lengths import Lengths
from ebatch_env.workloads.workload import Workload, built_in

CELLS = 1024  # probabilities at which a length distribution is looked at


def is_built_in(workload: Any) -> bool:
    """Whether the workload and its parts are this package's own, whose samples need no checks."""
    inner = getattr(workload, "workload", None)  # of a wrapper
    parts = (workload.lengths, workload.arrivals) if isinstance(workload, Workload) else (inner,) if inner else ()
    return all(built_in(part) for part in (workload, *parts))


def check_lengths(lengths: Any) -> Lengths:
    """Return ``lengths`` if it is a length distribution whose mean, longest length and quantiles agree.

    Quantiles never fall, so their averages over the left and the right ends of equal steps of probability bracket the
    mean.

    Raises:
        ValueError: they do not; the message says which and how.
    """
    if isinstance(lengths, type) or not isinstance(lengths, Lengths):
        raise fail("workload.lengths", lengths, "a length distribution (mean, max_length, sample, quantile)")
    longest = check_integer("workload.lengths.max_length", lengths.max_length, low=1, high=MAX_LENGTH)
    # A weighted sum over the weights can round to a little more than the longest length.
    mean = check_number("workload.lengths.mean", lengths.mean, low=1.0 - 1e-9, high=longest * (1.0 + 1e-9))
    chance = np.linspace(0.0, 1.0, CELLS + 1)
    field = "workload.lengths.quantile(p)"
    steps = check_array(field, lengths.quantile(chance), shape=(chance.size,), low=1.0, high=longest)
    for wrong, expected in (
        (steps != np.floor(steps), "a whole number"),
        (np.diff(steps, prepend=steps[0]) < 0.0, "no less than at a smaller p"),
    ):
        if wrong.any():
            i = int(np.argmax(wrong))
            raise fail(field, float(steps[i]), f"{expected} at p = {chance[i]:g}")
    low, high = float(steps[:-1].mean()), float(steps[1:].mean())
    if not low * (1.0 - 1e-9) <= mean <= high * (1.0 + 1e-9):
        raise fail("workload.lengths.mean", mean, f"in [{low:.9g}, {high:.9g}], as the quantiles say")
    return lengths


def checked_trace(trace: Any, requests: int, longest: int) -> RequestTrace:
    """Return what a workload sampled, once it holds as many requests as were asked for and is right throughout.

    Raises:
        ValueError: it is not; the message names field, value and range.
    """
    if not isinstance(trace, RequestTrace):
        raise fail("what the workload samples", trace, "a RequestTrace")
    checked = RequestTrace(trace.arrival_s, trace.length, trace.deadline_s)  # it may have come from `trusted`
    if checked.requests != requests:
        raise fail("requests that the workload samples", checked.requests, f"{requests}, as many as were asked for")
    steps = int(checked.length.max())
    if steps > longest:
        raise fail("trace.length", steps, f"at most the workload's max_length = {longest}")
    return checked
