"""Actions: which parts of a `RoundPlan` an agent chooses, in which steps, and which choices are legal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt

from ebatch_env.costs import CostTable
from ebatch_env.errors import check_integer, fail
from ebatch_env.saturation import powers_of_two
from ebatch_env.simulator import kernel as k
from ebatch_env.simulator.plan import Order, RoundPlan
from ebatch_env.simulator.state import Int64Array

CONTROLS = ("time_steps", "admit", "joins", "order", "shed")
MaskArray = npt.NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Plans:
    """Plans of E systems in the kernel's codes: each array has shape (E,), int64.

    ``time_steps`` 0 is "to the end of the longest busy lane"; ``admit`` -1 is "no limit"; see `RoundPlan`.
    """

    time_steps: Int64Array
    admit: Int64Array
    joins: Int64Array
    order: Int64Array
    shed: Int64Array

    @classmethod
    def of(
        cls,
        systems: int,
        *,
        time_steps: npt.ArrayLike = k.LONGEST,
        admit: npt.ArrayLike = k.NO_LIMIT,
        joins: npt.ArrayLike = 1,
        order: npt.ArrayLike = Order.FIRST_COME,
        shed: npt.ArrayLike = 0,
    ) -> Plans:
        """Broadcast each value to shape (``systems``,)."""
        values = (time_steps, admit, joins, order, shed)
        return cls(*(np.broadcast_to(np.asarray(v, dtype=np.int64), (systems,)) for v in values))


def _steps_that_run(levels: Int64Array, table: CostTable) -> npt.NDArray[np.bool_]:
    """Which levels of T a machine runs as they are."""
    return np.asarray((levels <= table.max_time_steps) & ((levels == k.LONGEST) | (not table.whole_sequences)))


@dataclass(frozen=True, eq=False)
class ActionCodec:
    """Between actions (indices) and plans.

    Attributes:
        levels: per control, the values an index stands for, in the kernel's codes.
        controls: the controls an action chooses, in the order of its columns; the others stay at their only level.
        flat: one Discrete index instead of a MultiDiscrete row.
        legal: per control, bool mask over its levels: False where the machine or the workload rules a level out.
        lanes: lanes B.
    """

    levels: Mapping[str, Int64Array]
    controls: tuple[str, ...]
    flat: bool
    legal: Mapping[str, npt.NDArray[np.bool_]]
    lanes: int

    @classmethod
    def build(
        cls,
        table: CostTable,
        lanes: int,
        *,
        controls: Sequence[str] = CONTROLS,
        time_step_levels: Sequence[int | None] | None = None,
        admit_levels: Sequence[int | None] | None = None,
        plan: RoundPlan | None = None,
        flat: bool = False,
        lengths_known: bool = True,
        has_deadlines: bool = True,
    ) -> ActionCodec:
        """Work out levels and legality.

        Args:
            table: the machine.
            lanes: lanes B.
            controls: a subset of `CONTROLS`, kept in that order.
            time_step_levels: values of T, None: to the end of the longest busy lane. Default: the powers of two up to
                the machine's limit, then None.
            admit_levels: values of the admission, None: no limit. Default: 0, the powers of two below B, None.
            plan: what the controls not chosen are set to.
            flat: a Discrete action.
            lengths_known: without it only first come, first served is legal.
            has_deadlines: without deadlines shedding is not legal.

        Raises:
            ValueError: an unknown control, an empty or repeated level, a level out of range.
        """
        chosen = cls._listed("controls", controls)
        unknown = [name for name in chosen if name not in CONTROLS]
        if unknown or not chosen or len(set(chosen)) != len(chosen):
            raise fail("controls", chosen, f"a selection of {CONTROLS} without repeats")
        fixed = plan or RoundPlan()
        steps = (
            [*powers_of_two(table.max_time_steps), None]
            if time_step_levels is None
            else cls._listed("time_step_levels", time_step_levels)
        )
        admits = (
            [0, *powers_of_two(lanes - 1), None] if admit_levels is None else cls._listed("admit_levels", admit_levels)
        )
        all_levels = {
            "time_steps": cls._codes("time_step_levels", steps, low=1, none=k.LONGEST),
            "admit": cls._codes("admit_levels", admits, low=0, none=k.NO_LIMIT),
            "joins": np.array([0, 1], np.int64),
            "order": np.array([int(o) for o in Order], np.int64),
            "shed": np.array([0, 1], np.int64),
        }
        only = {
            "time_steps": k.LONGEST if fixed.time_steps is None else fixed.time_steps,
            "admit": k.NO_LIMIT if fixed.admit is None else fixed.admit,
            "joins": int(fixed.joins),
            "order": int(fixed.order),
            "shed": int(fixed.shed),
        }
        levels = {c: all_levels[c] if c in chosen else np.array([only[c]], np.int64) for c in CONTROLS}
        rules = {
            "time_steps": _steps_that_run(levels["time_steps"], table),
            "admit": levels["admit"] <= lanes,
            "joins": (levels["joins"] == 0) | (table.notifies and not table.whole_sequences),
            "order": (levels["order"] == Order.FIRST_COME) | lengths_known,
            "shed": (levels["shed"] == 0) | has_deadlines,
        }
        for name in chosen:
            if not rules[name].any():
                raise fail(f"levels of {name}", levels[name].tolist(), "such that the machine allows at least one")
        legal = {c: rules[c] if c in chosen else np.ones(1, bool) for c in CONTROLS}
        return cls(levels, tuple(c for c in CONTROLS if c in chosen), bool(flat), legal, lanes)

    def with_time_steps(self, levels: Int64Array, table: CostTable) -> ActionCodec:
        """The same with other levels of T, where T is chosen, of which those are legal that ``table`` can run."""
        if "time_steps" not in self.controls:
            return self
        legal = {**self.legal, "time_steps": _steps_that_run(levels, table)}
        return replace(self, levels={**self.levels, "time_steps": levels}, legal=legal)

    @staticmethod
    def _listed(field: str, values: Any) -> tuple[Any, ...]:
        if isinstance(values, str) or not isinstance(values, (Sequence, np.ndarray)):
            raise fail(field, values, "a list")
        return tuple(values)

    @staticmethod
    def _codes(field: str, values: Sequence[int | None], *, low: int, none: int) -> Int64Array:
        if not values or len(set(values)) != len(values):
            raise fail(field, values, "a list of at least one value without repeats")
        codes = [none if v is None else check_integer(field, v, low=low, high=1 << 30) for v in values]
        return np.array(codes, np.int64)

    @property
    def sizes(self) -> Int64Array:
        """Number of levels of all five controls, shape (5,)."""
        return np.array([self.levels[c].size for c in CONTROLS], np.int64)

    @property
    def space(self) -> gym.spaces.MultiDiscrete | gym.spaces.Discrete:
        """The action space of one environment."""
        if self.flat:
            return gym.spaces.Discrete(int(self.sizes.prod()))
        return gym.spaces.MultiDiscrete([self.levels[c].size for c in self.controls])

    @property
    def columns(self) -> int:
        """Columns C of a batch of actions (E, C) as the kernel takes them."""
        return 1 if self.flat else len(self.controls)

    def check_actions(self, actions: Any, n: int) -> npt.NDArray[np.int64]:
        """The actions of ``n`` systems as the kernel takes them: int64 (n, C), C-contiguous; the kernel checks the range.

        What is of that form already is handed back as it is. The form of a single environment, (C,), will do for one
        system, and (n,) for one column.

        Raises:
            ValueError: another shape, or anything but integers.
        """
        field, columns = "action" if n == 1 else "actions", self.columns
        if type(actions) is np.ndarray and actions.dtype == np.int64 and actions.shape == (n, columns):
            return actions if actions.flags.c_contiguous else np.ascontiguousarray(actions)
        try:
            found = np.asarray(actions)
        except ValueError as error:  # rows of unequal lengths
            raise fail(field, actions, f"an integer array of shape ({n}, {columns})") from error
        shapes = [(n, columns), *([(columns,)] if n == 1 else []), *([(n,)] if columns == 1 else [])]
        shapes += [()] if n == 1 and columns == 1 else []
        if found.dtype.kind not in "iu" or found.shape not in shapes:
            what = f"{found.dtype} of shape {found.shape}" if found.size > 16 else actions
            raise fail(field, what, "an integer array of shape " + " or ".join(map(str, shapes)))
        return np.ascontiguousarray(found, dtype=np.int64).reshape(n, columns)

    def addressing(self) -> Int64Array:
        """Where each control's index stands in an action row: shape (4, 5): column, stride, size, chosen.

        index = row[column] if the control is chosen, else 0; in a flat action, which counts the last control fastest, it
        is (row[0] // stride) % size, and ``chosen`` is -1 throughout.
        """
        address = np.ones((4, len(CONTROLS)), np.int64)
        address[0], address[2] = 0, self.sizes
        if self.flat:
            address[1] = np.append(np.cumprod(self.sizes[:0:-1])[::-1], 1)
            address[3] = -1
        else:
            address[0] = [self.controls.index(c) if c in self.controls else 0 for c in CONTROLS]
            address[3] = [c in self.controls for c in CONTROLS]
        return address

    def limits(self) -> Int64Array:
        """Values of each column must be in 0..limit-1; shape (C,)."""
        return np.atleast_1d(np.asarray(self.space.n if self.flat else self.space.nvec, dtype=np.int64))  # type: ignore[union-attr]

    def level_table(self) -> Int64Array:
        """The codes, padded to one array of shape (5, most levels)."""
        table = np.zeros((len(CONTROLS), int(self.sizes.max())), np.int64)
        for row, name in enumerate(CONTROLS):
            table[row, : self.levels[name].size] = self.levels[name]
        return table

    def mask(self, *, hold: bool = True) -> MaskArray:
        """Which indices are legal, shape (M,): the controls' masks one behind the other, or the flat action's.

        Without ``hold`` admitting none is illegal: nothing is busy and nothing more will arrive.
        """
        legal = dict(self.legal)
        admits = legal["admit"] & (self.levels["admit"] != 0)
        if not hold and "admit" in self.controls and admits.any():
            legal["admit"] = admits
        if not self.flat:
            return np.concatenate([legal[c] for c in self.controls]).astype(np.int8)
        product = np.ones(1, bool)
        for name in CONTROLS:
            product = (product[:, None] & legal[name]).ravel()
        return product.astype(np.int8)

    def split_mask(self, mask: MaskArray) -> MaskArray | tuple[MaskArray, ...]:
        """A mask row in the form Gymnasium's ``space.sample(mask=...)`` takes."""
        if self.flat:
            return mask
        ends = self._ends
        return tuple(mask[low:high] for low, high in zip((0, *ends), ends, strict=False))

    @cached_property
    def _ends(self) -> tuple[int, ...]:
        return tuple(np.cumsum([self.levels[c].size for c in self.controls]).tolist())

    def encode(self, plans: Plans) -> npt.NDArray[np.int64]:
        """Actions that come closest to ``plans``: shape (E, C), or (E,) when flat.

        Each value becomes the nearest legal level that does not exceed it (the smallest legal one if all do); "no
        limit" and "longest" count as larger than any number, and to admit as many as there are lanes, or more, is no
        limit. A control that is not chosen cannot be encoded and is
        left at its only level.
        """
        index = [self._nearest(name, np.asarray(getattr(plans, name))) for name in CONTROLS]
        if self.flat:
            return np.asarray(np.ravel_multi_index(index, tuple(self.sizes)), dtype=np.int64)
        return np.stack([index[CONTROLS.index(c)] for c in self.controls], axis=-1)

    def _nearest(self, name: str, values: Int64Array) -> Int64Array:
        allowed = np.flatnonzero(self.legal[name])
        levels, wanted = self.levels[name][allowed], values
        if name in ("time_steps", "admit"):
            unlimited = k.LONGEST if name == "time_steps" else k.NO_LIMIT
            if name == "admit":
                wanted = np.where(wanted >= self.lanes, k.NO_LIMIT, wanted)
            levels = np.where(levels == unlimited, 1 << 40, levels)
            wanted = np.where(wanted == unlimited, 1 << 40, wanted)
        rank = np.argsort(levels, kind="stable")
        place = np.searchsorted(levels[rank], wanted, side="right") - 1
        return np.asarray(allowed[rank[np.maximum(place, 0)]], dtype=np.int64)

    def decode(self, actions: npt.ArrayLike) -> Plans:
        """Plans of a batch of actions: (E, C), or (E,) when flat.

        Raises:
            ValueError: an index out of range.
        """
        rows = np.asarray(actions, dtype=np.int64).reshape(-1, self.columns)
        wrong = (rows < 0) | (rows >= self.limits())
        if wrong.any():
            row, column = (int(x) for x in np.argwhere(wrong)[0])
            raise self.out_of_range(rows[row], column)
        column, stride, size, chosen = self.addressing()
        index = (rows // stride) % size if self.flat else rows[:, column] * chosen
        return Plans(*(self.levels[c][index[:, n]] for n, c in enumerate(CONTROLS)))

    def out_of_range(self, row: Int64Array, column: int) -> ValueError:
        """The error for an action row whose value in ``column`` is not an index."""
        name = "action" if self.flat else f"action[{column}] ({self.controls[column]})"
        return fail(name, int(row[column]), f"an integer in 0..{int(self.limits()[column]) - 1}")
