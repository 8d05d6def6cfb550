"""`CostTable`: all that the simulator knows of a machine running a network.

A machine description (``ebatch_env.machines``) turns a network and a number of lanes into a table; a toy machine is
a table written by hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ebatch_env.errors import LARGEST, FloatArray, check_array, check_integer, check_number, fail


@dataclass(frozen=True, eq=False)
class EnergyPart:
    """One component's share (for example ``dram``) of a table's energies, in joules; shapes as in `CostTable`."""

    load_j: FloatArray  # (n,)
    input_j: FloatArray  # (n,)
    step_j: FloatArray  # (n, B+1)


@dataclass(frozen=True, eq=False)
class CostTable:
    """Times (s) and energies (J) of every layer ``l = 0..n-1`` for ``a = 0..B`` busy lanes; all in [0, 1e12].

    Attributes:
        step_s: shape (n, B+1), one time-step with ``a`` busy lanes; entry 0 is 0.
        step_j: shape (n, B+1), its energy; entry 0 is 0.
        load_s: shape (n,), time to bring the layer's weights on chip, once per pass; 0 where they stay resident.
        load_j: shape (n,), its energy.
        input_floor_s: shape (n,), least time of the input GEMM of a pass; 0 where the step includes the input part.
        input_row_s: shape (n,), time per row of it: the GEMM takes ``max(floor, rows * row)``.
        input_j: shape (n,), its fixed energy (weights brought in); energy per row belongs in ``step_j``.
        static_w: power drawn always, busy or idle (W).
        prefetch: the weights of the next pass load while this pass computes.
        notifies: the machine tells the runtime when each sequence ends: joins are possible and nothing is padded.
        max_time_steps: the largest T whose intermediate results fit on chip.
        whole_sequences: the network looks both ways along a sequence, so a round must run every sequence to its end.
        parts: energy by component; the parts add up to ``load_j``, ``input_j`` and ``step_j``. Static power is the
            component ``static`` and is not listed here. Empty: one part named ``machine`` holds everything.
        name: shown in tables and pictures.

    Raises:
        ValueError: a field has the wrong shape or a value outside its range; the message names all three.

    >>> table = CostTable(step_s=[[0, 1, 1]], step_j=[[0, 1.5, 2.0]], load_s=[2], load_j=[5])
    >>> table.n_layers, table.lanes, float(table.round_s(time_steps=4, busy=2))
    (1, 2, 6.0)
    """

    step_s: FloatArray
    step_j: FloatArray
    load_s: FloatArray = None  # type: ignore[assignment]  # None: zeros
    load_j: FloatArray = None  # type: ignore[assignment]
    input_floor_s: FloatArray = None  # type: ignore[assignment]
    input_row_s: FloatArray = None  # type: ignore[assignment]
    input_j: FloatArray = None  # type: ignore[assignment]
    static_w: float = 0.0
    prefetch: bool = False
    notifies: bool = True
    max_time_steps: int = 4096
    whole_sequences: bool = False
    parts: Mapping[str, EnergyPart] = field(default_factory=dict)
    name: str = "machine"

    def __post_init__(self) -> None:
        """Check every field and freeze the arrays."""
        step_s = check_array("step_s", self.step_s, shape=(None, None), high=LARGEST)
        n, width = step_s.shape
        if n < 1 or width < 2:
            raise ValueError(f"step_s must have shape (n >= 1, B + 1 >= 2), got shape {step_s.shape}")
        object.__setattr__(self, "step_s", step_s)
        object.__setattr__(self, "step_j", check_array("step_j", self.step_j, shape=(n, width), high=LARGEST))
        for name in ("step_s", "step_j"):
            if getattr(self, name)[:, 0].any():
                raise ValueError(f"{name}[:, 0] must be 0 (no busy lane), got {getattr(self, name)[:, 0]}")
        for name in ("load_s", "load_j", "input_floor_s", "input_row_s", "input_j"):
            given = getattr(self, name)
            value = np.zeros(n) if given is None else given
            object.__setattr__(self, name, check_array(name, value, shape=(n,), high=LARGEST))
        object.__setattr__(self, "static_w", check_number("static_w", self.static_w, low=0.0, high=LARGEST))
        for name in ("prefetch", "notifies", "whole_sequences"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise fail(name, getattr(self, name), "True or False")
            object.__setattr__(self, name, bool(getattr(self, name)))
        limit = check_integer("max_time_steps", self.max_time_steps, low=1, high=1 << 20)
        object.__setattr__(self, "max_time_steps", limit)
        self._check_parts()

    def _check_parts(self) -> None:
        parts = dict(self.parts) or {"machine": EnergyPart(self.load_j, self.input_j, self.step_j)}
        for name in ("load_j", "input_j", "step_j"):
            whole = getattr(self, name)
            total = sum(np.asarray(getattr(part, name), dtype=np.float64) for part in parts.values())
            if np.shape(total) != whole.shape or not np.allclose(total, whole, rtol=1e-9, atol=1e-300):
                raise ValueError(f"the parts' {name} must add up to {name} (shape {whole.shape}), got {total!r}")
        if "static" in parts:
            raise fail("parts", "static", "without a part named 'static': that one is static_w times the elapsed time")
        object.__setattr__(self, "parts", parts)

    @property
    def n_layers(self) -> int:
        """Number of layers n."""
        return int(self.step_s.shape[0])

    @property
    def lanes(self) -> int:
        """The largest number of busy lanes B the table covers."""
        return int(self.step_s.shape[1]) - 1

    @property
    def has_input_gemm(self) -> bool:
        """Whether layer 0 runs its input part as one GEMM ahead of the steps, so that joins cost extra."""
        return bool(self.input_floor_s[0] > 0 or self.input_row_s[0] > 0 or self.input_j[0] > 0)

    def _pass_s(self, time_steps: npt.ArrayLike, busy: npt.ArrayLike) -> FloatArray:
        """Compute time of every layer's pass, weights apart, shape (..., n)."""
        steps, lanes = np.broadcast_arrays(np.asarray(time_steps), np.asarray(busy))
        rows = (steps * lanes)[..., None]
        gemm = np.maximum(self.input_floor_s, rows * self.input_row_s) * (rows > 0)
        return np.asarray(gemm + steps[..., None] * np.moveaxis(self.step_s[:, lanes], 0, -1), dtype=np.float64)

    def round_s(self, time_steps: npt.ArrayLike, busy: npt.ArrayLike) -> FloatArray:
        """Seconds from one round's start to the next when rounds of ``time_steps`` with ``busy`` lanes follow on.

        ``time_steps`` and ``busy`` (integers) broadcast; the result has their shape. With prefetch it is the steady
        state: each load overlaps the pass before it and only what sticks out is paid.
        """
        compute = self._pass_s(time_steps, busy)
        if not self.prefetch:
            return np.asarray((compute + self.load_s).sum(-1), dtype=np.float64)
        # Load l runs beside pass l-1 (the last pass of the round before, for l = 0) and starts with it.
        before = np.roll(compute, 1, axis=-1)
        return np.asarray(np.maximum(before, self.load_s).sum(-1), dtype=np.float64)

    def round_j(self, time_steps: npt.ArrayLike, busy: npt.ArrayLike) -> FloatArray:
        """Joules of such a round, static power included; arguments as `round_s`."""
        steps, lanes = np.broadcast_arrays(np.asarray(time_steps), np.asarray(busy))
        fixed = float(self.load_j.sum() + self.input_j.sum())
        static = self.static_w * self.round_s(steps, lanes)
        return np.asarray(fixed + steps * self.step_j.sum(0)[lanes] + static, dtype=np.float64)

    def alone_s(self, length: npt.ArrayLike) -> FloatArray:
        """Seconds a sequence of ``length`` steps needs on an idle machine whose first weights are ready.

        It runs alone, in rounds as long as the machine allows (on a machine with an input GEMM shorter ones may finish
        sooner; shedding does not look for them). Shedding compares this with the time left; it is the kernel's own
        table, so both agree to the last digit. ``length`` is an integer array >= 1.
        """
        first, later, full_s, full_again_s = self.alone_tables()
        lengths = np.asarray(length, dtype=np.int64)
        whole, rest = np.divmod(lengths - 1, self.max_time_steps)
        alone = np.where(whole == 0, first[rest + 1], full_s + (whole - 1) * full_again_s + later[rest + 1])
        return np.asarray(alone, dtype=np.float64)

    def alone_tables(self) -> tuple[FloatArray, FloatArray, float, float]:
        """What `alone_s` is made of: a first and a later round of 1..T steps, shape (T+1,), and the full ones."""
        steps = np.arange(self.max_time_steps + 1)
        compute = self._pass_s(steps, 1)  # (T+1, n)
        if not self.prefetch:
            total = (compute + self.load_s).sum(-1)
            return total, total, float(total[-1]), float(total[-1])
        # The first round finds layer 0's weights on chip; a later one waits for what its predecessor did not hide.
        inner = np.maximum(compute[:, :-1], self.load_s[1:]).sum(-1) + compute[:, -1]
        exposed = max(0.0, float(self.load_s[0] - compute[-1, -1]))
        return inner, inner + exposed, float(inner[-1]), float(inner[-1] + exposed)
