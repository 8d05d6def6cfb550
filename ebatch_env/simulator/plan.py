"""`RoundPlan`: one decision."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from ebatch_env.errors import check_integer, fail


class Order(IntEnum):
    """Which waiting request a fill takes next; ties go to the earlier arrival."""

    FIRST_COME = 0
    SHORTEST = 1
    SIMILAR = 2  # closest in length to the request that is the oldest when the fill begins


@dataclass(frozen=True)
class RoundPlan:
    """What to do next with the lanes and the queue.

    Attributes:
        time_steps: T, the most time-steps every layer runs before the next decision; None: to the end of the longest
            busy lane. Both are capped by the machine's ``max_time_steps``.
        admit: the most sequences that may enter lanes during the round, joins included; None: no limit. With 0 and
            no busy lane the plan is to hold.
        joins: let requests that arrive during the round enter lanes that are free or fall free.
        order: which waiting request enters first.
        shed: first drop the waiting requests that would miss their deadline even if they started now and alone.
    """

    time_steps: int | None = None
    admit: int | None = None
    joins: bool = True
    order: Order = Order.FIRST_COME
    shed: bool = False

    def __post_init__(self) -> None:
        """Check every field."""
        if self.time_steps is not None:
            check_integer("time_steps", self.time_steps, low=1)
        if self.admit is not None:
            check_integer("admit", self.admit, low=0)
        for name in ("joins", "shed"):
            if not isinstance(getattr(self, name), bool):
                raise fail(name, getattr(self, name), "True or False")
        try:
            object.__setattr__(self, "order", Order(self.order))
        except ValueError:
            raise fail("order", self.order, "one of " + ", ".join(f"{o.value} ({o.name})" for o in Order)) from None
