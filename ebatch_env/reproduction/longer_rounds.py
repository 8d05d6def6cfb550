"""What longer rounds give on a saturated machine, from its cost table alone: the yardstick of the sensitivity charts."""

from __future__ import annotations

from typing import NamedTuple

from ebatch_env.costs import CostTable


class Gain(NamedTuple):
    """Rounds of T steps against rounds of one step, all lanes busy; above 1 means that T is better."""

    throughput: float
    energy: float


def longer_rounds(table: CostTable, time_steps: int) -> Gain:
    """Gain of rounds of ``time_steps`` (cut to the machine's limit) over rounds of one step, with all lanes busy.

    Sequences without end, so nothing is padded and nobody arrives: this is what the weights alone account for.
    """
    steps, lanes = min(time_steps, table.max_time_steps), table.lanes
    return Gain(
        throughput=float(steps * table.round_s(1, lanes) / table.round_s(steps, lanes)),
        energy=float(steps * table.round_j(1, lanes) / table.round_j(steps, lanes)),
    )
