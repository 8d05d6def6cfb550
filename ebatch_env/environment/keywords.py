"""Checks of an environment's keywords that take more than a line, and the defaults that follow from others."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np

from ebatch_env.costs import CostTable
from ebatch_env.errors import check_number, fail
from ebatch_env.machines import Accelerator
from ebatch_env.networks import Network
from ebatch_env.simulator.plan import RoundPlan

T = TypeVar("T")

HOLDS_PER_REQUEST, MAX_HOLDS = 128, 1_000_000  # see `max_decisions_for`


def resolved(field: str, spec: Any, resolve: Callable[[Any], T]) -> T:
    """``resolve(spec)``; what is no such thing, or cannot be imported, is refused as any other value."""
    try:
        return resolve(spec)
    except (TypeError, ImportError, AttributeError) as error:
        raise ValueError(f"{field}={spec!r}: {error}") from error


def table_of(machine: Accelerator, network: Network, lanes: int) -> CostTable:
    """The machine's `CostTable`, checked; a bidirectional network makes any machine run whole sequences.

    Raises:
        ValueError: not a `CostTable`, of other layers than the network's, or of fewer lanes than asked for.
    """
    table: Any = machine.cost_table(network, lanes)
    whose = f"the cost_table of accelerator {machine.name!r}"
    if not isinstance(table, CostTable):
        raise fail(whose, table, "a CostTable")
    if table.n_layers != len(network.layers):
        raise fail(f"layers of {whose}", table.n_layers, f"{len(network.layers)}, those of network {network.name!r}")
    if table.lanes < lanes:
        raise fail(f"lanes of {whose}", table.lanes, f"at least {lanes}, as many as were asked for")
    # Half of such a network reads a sequence from its end, on whatever machine: no round may stop in the middle.
    return replace(table, whole_sequences=True) if network.bidirectional and not table.whole_sequences else table


def max_decisions_for(requests: int, longest: int, holds: float) -> int:
    """The default of ``max_decisions``: no policy that admits whenever a lane is free can reach it.

    Every round advances one sequence at least by a step, and a decision without a round or a hold sheds one: at most
    ``requests * longest`` of these. Arrivals end at most ``requests`` holds. As for whole ones, `HOLDS_PER_REQUEST` are
    allowed before each request is served (a timeout of 12.8 reference latencies, with holds of 0.1), and twice the
    ``holds`` that fill the mean episode's arrivals, after which holding is over, but no more than `MAX_HOLDS`: a policy
    that never admits has to end.
    """
    return requests * (longest + 1 + HOLDS_PER_REQUEST) + int(min(math.ceil(2.0 * holds), MAX_HOLDS))


def check_load(load: Any) -> tuple[float, float]:
    """Return ``load``, a number or a pair, as a range."""
    pair = (load, load) if isinstance(load, (int, float, np.integer, np.floating)) else load
    if isinstance(pair, str) or not isinstance(pair, (Sequence, np.ndarray)) or len(pair) != 2:
        raise fail("load", load, "a number or a pair (low, high)")
    low = check_number("load", pair[0], low=1e-6, high=1000.0)
    return low, check_number("load", pair[1], low=low, high=1000.0)


def check_plan(plan: Any) -> RoundPlan | None:
    """Return ``plan``, a `RoundPlan`, a mapping of some of its fields or None, as one of the first and the last."""
    if plan is None or isinstance(plan, RoundPlan):
        return plan
    names = [field.name for field in fields(RoundPlan)]
    if not isinstance(plan, Mapping) or set(plan) - set(names):
        raise fail("plan", plan, f"a RoundPlan or a mapping with keys among {', '.join(names)}")
    return RoundPlan(**plan)
