"""Approximate evaluation on E-PUR: what neuron-level memoization and dynamic precision save, alone and in batches.

Both schemes spare parts of a dot product: fuzzy memoization skips the evaluation of a gate neuron whose output it
predicts to be the old one (Silfa et al., MICRO 2019; long version arXiv 2202.06563); dynamic precision evaluates it
with 4-bit instead of 8-bit weights while its cell state is stable (Silfa et al., HiPC 2020; arXiv 1911.04244). How
often they can is a matter of network and data and comes in from outside, as shares; what that is worth on the machine
is worked out here. Terms: a *row* is one gate neuron's weights, read once per step and broadcast to all busy lanes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy.typing as npt

from ebatch_env.errors import FloatArray

Points = Sequence[Sequence[float]]  # [[lanes, share], ...]


@dataclass(frozen=True)
class MemoizationEffect:
    """How often neuron evaluations are reused, and the hardware that decides it.

    [R] read in the paper, [D] derived, [A] assumed.

    Attributes:
        reuse: share of neuron evaluations a lane skips, 0..1: what a sequence alone shows.
        lanes_reuse: share of rows that *all* of ``a`` busy lanes skip, as points ``[[a, share], ...]`` with ``a`` rising
            from 1 or 2 and shares falling from ``reuse``; None: lanes hit independently, ``reuse ** a``. In between, the
            logarithm is interpolated, which is exact for independent lanes; beyond the last point ``(A, s)`` groups of
            ``A`` lanes are taken to be independent, ``s ** (a / A)``, the least there can be if lanes hit together at all.
        predictor_cycles: binary dot product and comparison of one neuron: 5 [R]. The predictor runs ahead of the
            dot-product unit, so it shows only where it is the slower of the two.
        predictor_bits: width of the binary dot product: 2048 [R]; longer rows take turns.
        value_bytes: an entry of the memoization buffer, three per neuron (output, binary output, accumulated change): 2 [R].
        buffer_bytes: memoization buffer per unit and replica: 8 KiB [R; one per replica A].

    Raises:
        ValueError: a field outside its range.
    """

    reuse: float
    lanes_reuse: Points | None = None
    predictor_cycles: int = 5
    predictor_bits: int = 2048
    value_bytes: int = 2
    buffer_bytes: float = 8 * 1024.0

    def rows_skipped(self, lanes: npt.ArrayLike) -> FloatArray:
        """Share of rows that all of ``lanes`` busy lanes skip (any shape); 0 for 0 lanes."""
        raise NotImplementedError


@dataclass(frozen=True)
class PrecisionEffect:
    """How often rows are evaluated with 4-bit weights, on units that take time in proportion to bits.

    With it on, E-PUR's weights and inputs have 8 bits. With memoization on as well, the shares are of the rows that
    are evaluated.

    Attributes:
        low_share: share of neuron evaluations of a lane that need 4 bits only, 0..1.
        lanes_low_share: share of rows that none of ``a`` busy lanes needs in 8 bits, as points; see
            `MemoizationEffect.lanes_reuse`.
        low_bits, high_bits: 4 and 8 [R].

    Raises:
        ValueError: a field outside its range.
    """

    low_share: float
    lanes_low_share: Points | None = None
    low_bits: int = 4
    high_bits: int = 8

    def rows_low(self, lanes: npt.ArrayLike) -> FloatArray:
        """Share of rows that ``lanes`` busy lanes evaluate with few bits (any shape); 0 for 0 lanes."""
        raise NotImplementedError
