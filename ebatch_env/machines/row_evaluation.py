"""The dot products of one step on E-PUR, approximations included: cycles, bits read, operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ebatch_env.errors import FloatArray
from ebatch_env.machines.approximation import MemoizationEffect, PrecisionEffect


@dataclass(frozen=True)
class RowEvaluation:
    """What is left of a step's dot products with memoization, dynamic precision, both or neither.

    Attributes:
        replicas: dot-product units per computation unit: lanes in a group.
        word_bits: of weights and activations without dynamic precision.
        memoization, precision: None: off.
    """

    replicas: int
    word_bits: int
    memoization: MemoizationEffect | None = None
    precision: PrecisionEffect | None = None

    @property
    def bits(self) -> int:
        """Width of an evaluation in full, and of an activation."""
        return self.word_bits if self.precision is None else self.precision.high_bits

    @property
    def stored_bits(self) -> int:
        """Bits of memory a weight takes."""
        return self.bits + (0 if self.precision is None else self.precision.offset_bits)

    def row_cycles(self, full: FloatArray, row_bits: FloatArray, lanes: FloatArray) -> FloatArray:
        """Cycles of a neuron, averaged over neurons, (n, B+1): its groups take turns.

        Args:
            full: (n, 1), cycles of a dot product at full width.
            row_bits: (n, 1), weights in a row: the predictor compares one bit of each.
            lanes: (B+1,), busy lanes.
        """

        def group(size: FloatArray) -> FloatArray:
            dot = np.asarray(full * self._rows_evaluated(size) * self._work(size), dtype=np.float64)
            if self.memoization is None:
                return dot
            predictor = np.ceil(row_bits / self.memoization.predictor_bits) * self.memoization.predictor_cycles
            return np.asarray(np.maximum(dot, predictor), dtype=np.float64)

        return self._over_groups(group, lanes)

    @property
    def fill_cycles(self) -> int:
        """Cycles of a step before the first decision: nothing runs ahead of it."""
        return 0 if self.memoization is None else self.memoization.predictor_cycles

    def bits_read(self, lanes: FloatArray) -> FloatArray:
        """Bits read of each weight, averaged, (B+1,): with memoization signs always and the rest if evaluated."""
        needed = np.full_like(lanes, self.bits)
        if self.precision is not None:
            low = self.precision.rows_low(lanes)
            needed = low * (self.precision.low_bits + self.precision.offset_bits) + (1.0 - low) * self.bits
        if self.memoization is None:
            return np.asarray(needed, dtype=np.float64)
        return np.asarray(1.0 + (needed - 1.0) * self._rows_evaluated(lanes), dtype=np.float64)

    def lane_macs(self, lanes: FloatArray) -> FloatArray:
        """Multiply-accumulates at full width per weight, (B+1,): who hits sits out, a group has one precision."""
        hit = 0.0 if self.memoization is None else self.memoization.reuse
        return self._over_groups(lambda size: size * (1.0 - hit) * self._work(size), lanes)

    def lane_operands(self, lanes: FloatArray) -> FloatArray:
        """Inputs read per weight, (B+1,): none by a lane that hits."""
        return lanes if self.memoization is None else lanes * (1.0 - self.memoization.reuse)

    def predictor_pj(self, row_bits: FloatArray, op_pj: float, small_pj_per_byte: float) -> FloatArray:
        """Picojoules to predict one neuron of one lane, (n, 1).

        A bit of the binary dot product counts as two one-bit additions (the XNOR and its share of the popcount), each
        an eighth of an 8-bit addition of 0.03 pJ where an FP16 multiply-accumulate takes 1.5 (45 nm; Horowitz, ISSCC
        2014); difference, quotient, sum and comparison as one multiply-accumulate each. Three entries of the buffer are
        read; a hit writes one back, a miss all three.

        Args:
            row_bits: (n, 1), weights in a row.
            op_pj: an FP16 multiply-accumulate.
            small_pj_per_byte: the buffer, read or write.
        """
        if self.memoization is None:
            return np.zeros_like(row_bits)
        entries = 3.0 + self.memoization.reuse + 3.0 * (1.0 - self.memoization.reuse)
        operations = row_bits * 2 * (0.03 / 8) / 1.5 + 4.0
        buffer_pj = entries * self.memoization.value_bytes * small_pj_per_byte
        return np.asarray(operations * op_pj + buffer_pj, dtype=np.float64)

    def _rows_evaluated(self, lanes: FloatArray) -> FloatArray:
        """Share of rows that at least one of the lanes evaluates; 1 for 0 lanes."""
        return np.ones_like(lanes) if self.memoization is None else 1.0 - self.memoization.rows_skipped(lanes)

    def _work(self, lanes: FloatArray) -> FloatArray:
        """Time and operations of an evaluated row, averaged, as a share of those in full: they go with the bits."""
        if self.precision is None:
            return np.ones_like(lanes)
        spared = (self.bits - self.precision.low_bits) / self.bits
        return np.asarray(1.0 - spared * self.precision.rows_low(lanes), dtype=np.float64)

    def _over_groups(self, group: Callable[[FloatArray], FloatArray], lanes: FloatArray) -> FloatArray:
        """Sum of ``group(size)`` over the full groups and the rest that ``lanes`` make."""
        full, rest = np.divmod(lanes, self.replicas)
        return np.asarray(full * group(np.full_like(lanes, self.replicas)) + (rest > 0) * group(rest), dtype=np.float64)
