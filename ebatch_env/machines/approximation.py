"""Approximate evaluation on E-PUR: what neuron-level memoization and dynamic precision save, alone and in batches.

Both schemes spare parts of a dot product: fuzzy memoization skips the evaluation of a gate neuron whose output it
predicts to be the old one (Silfa et al., MICRO 2019; long version arXiv 2202.06563); dynamic precision evaluates it
with 4-bit instead of 8-bit weights while its cell state is stable (Silfa et al., HiPC 2020; arXiv 1911.04244). How
often they can is a matter of network and data and comes in from outside, as shares; what that is worth on the machine
is worked out here. Terms: a *row* is one gate neuron's weights, read once per step and broadcast to all busy lanes; a
*group* is as many lanes as there are replicated dot-product units, which work on a row at the same time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ebatch_env.errors import FloatArray, check_integer, check_number, fail

Points = Sequence[Sequence[float]]  # [[lanes, share], ...]
MOST_LANES = 1 << 20
NO_SHARE = 1e-300  # a share of 0 has no logarithm


@dataclass(frozen=True)
class MemoizationEffect:
    """How often neuron evaluations are reused, and the hardware that decides it.

    [R] read in the paper, [A] assumed.

    Attributes:
        reuse: share of neuron evaluations a lane skips, 0..1: what a sequence alone shows.
        lanes_reuse: share of rows that *all* of ``a`` busy lanes skip, as points ``[[a, share], ...]`` with ``a``
            rising and shares falling from ``reuse``; None: lanes hit independently, ``reuse ** a``. In between, the
            logarithm is interpolated, which is exact for independent lanes; beyond the last point ``(A, s)`` sets of
            ``A`` lanes are taken to be independent, ``s ** (a / A)``: the least there is if hits go together at all.
        predictor_cycles: binary dot product and decision of one neuron: 5 [R]. The predictor runs ahead of the
            dot-product unit and shows only where it is the slower of the two: a hit saves all of a neuron's cycles [R].
        predictor_bits: width of the binary dot product: 2048 [R]; a longer row takes several turns.
        value_bytes: each of a neuron's three entries in the buffer (output, binary output, accumulated change): 2 [R].
        buffer_bytes: memoization buffer per unit and replica: 8 KiB [R; one per replica A]. It holds one layer: 1365
            neurons a gate.

    Raises:
        ValueError: a field outside its range; the message names field, value and range.

    >>> MemoizationEffect(reuse=0.5).rows_skipped([0, 1, 2]).tolist()
    [0.0, 0.5, 0.25]
    """

    reuse: float
    lanes_reuse: Points | None = None
    predictor_cycles: int = 5
    predictor_bits: int = 2048
    value_bytes: int = 2
    buffer_bytes: float = 8 * 1024.0

    def __post_init__(self) -> None:
        """Check every field."""
        object.__setattr__(self, "reuse", check_number("reuse", self.reuse, low=0.0, high=1.0))
        object.__setattr__(self, "lanes_reuse", _points("lanes_reuse", self.lanes_reuse, "reuse", self.reuse))
        for name, low, high in (
            ("predictor_cycles", 0, 1 << 16),
            ("predictor_bits", 1, 1 << 20),
            ("value_bytes", 1, 8),
        ):
            object.__setattr__(self, name, check_integer(name, getattr(self, name), low=low, high=high))
        object.__setattr__(self, "buffer_bytes", check_number("buffer_bytes", self.buffer_bytes, low=0.0))

    @property
    def most_neurons(self) -> int:
        """Neurons of a gate that the buffer holds."""
        return int(self.buffer_bytes // (3 * self.value_bytes))

    def rows_skipped(self, lanes: npt.ArrayLike) -> FloatArray:
        """Share of rows that all of ``lanes`` busy lanes skip (any shape); 0 for 0 lanes."""
        return _share(lanes, self.reuse, self.lanes_reuse)


@dataclass(frozen=True)
class PrecisionEffect:
    """How often rows are evaluated with few bits, on dot-product units that take time in proportion to bits.

    With it on, E-PUR's weights and activations have ``high_bits`` bits, whatever its ``word_bytes``. With memoization
    on as well, the shares are of the rows that are evaluated.

    Attributes:
        low_share: share of a lane's neuron evaluations that need ``low_bits`` only, 0..1.
        lanes_low_share: share of rows that none of ``a`` busy lanes needs in ``high_bits``, as points; see
            `MemoizationEffect.lanes_reuse`. A group runs at the highest precision any of its lanes needs.
        low_bits: 4 [R].
        high_bits: 8 [R].
        offset_bits: stored beside a weight and read with its ``low_bits``: 1 [R]. The 4-bit value is the high nibble of
            the 8-bit one plus this bit.

    Raises:
        ValueError: a field outside its range; the message names field, value and range.
    """

    low_share: float
    lanes_low_share: Points | None = None
    low_bits: int = 4
    high_bits: int = 8
    offset_bits: int = 1

    def __post_init__(self) -> None:
        """Check every field."""
        share = check_number("low_share", self.low_share, low=0.0, high=1.0)
        object.__setattr__(self, "low_share", share)
        points = _points("lanes_low_share", self.lanes_low_share, "low_share", share)
        object.__setattr__(self, "lanes_low_share", points)
        if self.high_bits not in (8, 16) or isinstance(self.high_bits, (bool, float)):
            raise fail("high_bits", self.high_bits, "8 or 16")
        object.__setattr__(self, "low_bits", check_integer("low_bits", self.low_bits, low=1, high=self.high_bits))
        object.__setattr__(self, "offset_bits", check_integer("offset_bits", self.offset_bits, low=0, high=8))

    def rows_low(self, lanes: npt.ArrayLike) -> FloatArray:
        """Share of rows that ``lanes`` busy lanes all evaluate with few bits (any shape); 0 for 0 lanes."""
        return _share(lanes, self.low_share, self.lanes_low_share)


_Effect = TypeVar("_Effect", MemoizationEffect, PrecisionEffect)


def resolve_effect(field: str, kind: type[_Effect], spec: Any) -> _Effect | None:
    """An effect from a mapping of its fields or from itself; None stays None.

    Raises:
        ValueError: anything else, an unknown field, or a value out of range.
    """
    if spec is None or isinstance(spec, kind):
        return spec
    known = [item.name for item in fields(kind)]
    if isinstance(spec, Mapping) and known[0] in spec and set(spec) <= set(known):
        return kind(**spec)
    raise fail(
        field, spec, f"None, a {kind.__name__} or a mapping with {known[0]!r} and at most " + ", ".join(known[1:])
    )


def _points(field: str, points: Any, single: str, share: float) -> tuple[tuple[float, float], ...] | None:
    """Checked points of a curve that starts with ``share`` at one lane."""
    if points is None:
        return None
    expected = (
        f"None or points [lanes, share], lanes rising within 1..{MOST_LANES}, shares falling from {single} ({share:g})"
    )
    try:
        pairs = np.array(points, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise fail(field, points, expected) from error
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not len(pairs) or not np.isfinite(pairs).all():
        raise fail(field, points, expected)
    lanes, shares = pairs.T
    rising = lanes[0] >= 1 and lanes[-1] <= MOST_LANES and (np.diff(lanes) > 0).all()
    # A point at one lane is the single share itself; rounding apart.
    tolerance = 1e-9
    falling = shares[-1] >= 0 and (np.diff(shares) <= tolerance).all() and shares[0] <= share + tolerance
    if not rising or not falling or (lanes[0] == 1 and abs(shares[0] - share) > tolerance):
        raise fail(field, points, expected)
    return tuple((float(a), float(b)) for a, b in pairs)


def _share(lanes: npt.ArrayLike, single: float, points: Points | None) -> FloatArray:
    """Share at each number of lanes: the logarithm interpolated, (0, log 1) and one lane's share included."""
    count = np.asarray(lanes, dtype=np.float64)
    curve = [(1.0, single), *((a, share) for a, share in points or () if a > 1)]
    at = np.array([a for a, _ in curve])
    logs = np.log(np.maximum([share for _, share in curve], NO_SHARE))
    inside = np.interp(count, at, logs)
    share = np.exp(np.where(count > at[-1], logs[-1] * count / at[-1], inside))
    return np.asarray(np.where((count > 0) & (share > 2 * NO_SHARE), share, 0.0), dtype=np.float64)
