"""Sequence lengths: discrete distributions over whole time-steps, sampled by one table look-up per request."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from numba import njit

from ebatch_env.errors import FloatArray, IntArray, check_array, check_integer, check_number, fail
from ebatch_env.trace import MAX_LENGTH

TWO_53 = float(1 << 53)  # a uniform number times this is whole
MAX_TABULATED = 1 << 20  # steps; kinds that tabulate every length up to the longest stop here (12 MB)


@runtime_checkable
class Lengths(Protocol):
    """A distribution of sequence lengths, in time-steps; all of it is a pure function of the arguments."""

    @property
    def mean(self) -> float:
        """Exact mean of what `sample` draws from."""
        ...

    @property
    def max_length(self) -> int:
        """The longest length that can be drawn."""
        ...

    def sample(self, rng: np.random.Generator, n: int, /) -> IntArray:
        """Draw ``n`` independent lengths: shape (n,) int32, each in 1..max_length."""
        ...

    def quantile(self, p: npt.ArrayLike, /) -> FloatArray:
        """The smallest length whose cumulative probability reaches ``p``; shape of ``p``, whole numbers as floats."""
        ...


@njit(nogil=True, forceinline=True)
def look_up(chance: Any, values: IntArray, steps: Any, guide: IntArray) -> Any:
    """Invert a cumulative distribution at ``chance`` / 2**53, a uint64; the arrays are those of `Discrete.tables`."""
    # The guide's cell: an unsigned index is not checked for its sign.
    k = np.uint64(guide[((chance >> np.uint64(37)) * np.uint64(guide.size)) >> np.uint64(16)])
    k += np.uint64(steps[k] <= chance)  # hardly ever more than one further: spares a branch that would often be wrong
    while steps[k] <= chance:
        k += np.uint64(1)
    return values[k]


@njit(cache=True, nogil=True)
def _look_up_all(uniform: FloatArray, values: IntArray, steps: Any, guide: IntArray) -> IntArray:
    out = np.empty(uniform.size, np.int32)
    for i in range(uniform.size):
        out[i] = look_up(np.uint64(uniform[i] * TWO_53), values, steps, guide)
    return out


class Discrete:
    """Sampling and quantiles of any distribution over whole numbers, by inversion with a guide table.

    One uniform number, a multiple of 2**-53 as generators make them, makes one length. Nothing but whole numbers is
    compared, so equal draws give equal lengths on every machine.
    """

    def _law(self) -> tuple[IntArray, FloatArray]:
        """Lengths in increasing order and their cumulative probabilities, up to a common factor; both (v,)."""
        raise NotImplementedError

    @cached_property
    def distribution(self) -> tuple[IntArray, FloatArray]:
        """Values (v,) int32 in increasing order, cumulative distribution (v,) with last entry 1."""
        values, cdf = self._law()
        return values.astype(np.int32), cdf / cdf[-1]

    @cached_property
    def tables(self) -> tuple[IntArray, npt.NDArray[np.uint64], IntArray]:
        """Values (v,), the multiple of 2**-53 from which on each is passed by (v,), guide (a power of two up to 2**16,)."""
        values, cdf = self.distribution
        cells = 1 << min(16, (8 * values.size).bit_length())  # most cells hold no step of the cdf: branches predicted
        guide = np.searchsorted(cdf, np.arange(cells) / cells, side="right").astype(np.int32)
        return values, np.ceil(cdf * TWO_53).astype(np.uint64), guide

    def sample(self, rng: np.random.Generator, n: int) -> IntArray:
        """Draw ``n`` lengths from ``n`` uniform numbers: shape (n,) int32."""
        lengths: IntArray = _look_up_all(rng.random(n), *self.tables)
        return lengths

    def quantile(self, p: npt.ArrayLike) -> FloatArray:
        """The smallest length whose cumulative probability reaches ``p`` (each in [0, 1]); shape of ``p``.

        Raises:
            ValueError: a probability outside [0, 1].
        """
        chance = np.asarray(p, dtype=np.float64)
        if not bool(np.all((chance >= 0.0) & (chance <= 1.0))):
            raise fail("p", p, "probabilities in [0, 1]")
        values, cdf = self.distribution
        return np.asarray(values[np.searchsorted(cdf, chance)], dtype=np.float64)


@dataclass(frozen=True)
class Fixed(Discrete):
    """Every sequence has ``length`` steps (1..2**24).

    >>> Fixed(25).mean
    25.0
    """

    length: int
    kind: str = field(default="fixed", init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the field."""
        object.__setattr__(self, "length", check_integer("length", self.length, low=1, high=MAX_LENGTH))

    @property
    def mean(self) -> float:
        """That length."""
        return float(self.length)

    @property
    def max_length(self) -> int:
        """That length."""
        return self.length

    def _law(self) -> tuple[IntArray, FloatArray]:
        return np.array([self.length], np.int32), np.ones(1)

    def sample(self, rng: np.random.Generator, n: int) -> IntArray:
        """``n`` times the length; draws nothing: shape (n,) int32."""
        return np.full(n, self.length, np.int32)


@dataclass(frozen=True)
class Uniform(Discrete):
    """Every length in ``low..high``, both included, is equally likely (1 <= low <= high <= 2**20).

    >>> Uniform(1, 9).mean, Uniform(1, 9).quantile([0.0, 0.5, 1.0]).tolist()
    (5.0, [1.0, 5.0, 9.0])
    """

    low: int
    high: int
    kind: str = field(default="uniform", init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the fields."""
        object.__setattr__(self, "low", check_integer("low", self.low, low=1, high=MAX_TABULATED))
        object.__setattr__(self, "high", check_integer("high", self.high, low=self.low, high=MAX_TABULATED))

    @property
    def mean(self) -> float:
        """(low + high) / 2."""
        return (self.low + self.high) / 2

    @property
    def max_length(self) -> int:
        """``high``."""
        return self.high

    def _law(self) -> tuple[IntArray, FloatArray]:
        values = np.arange(self.low, self.high + 1, dtype=np.int32)
        return values, np.arange(1.0, values.size + 1.0)


@dataclass(frozen=True)
class Geometric(Discrete):
    """Geometric lengths on 1..max_length, conditioned on not exceeding it, with exactly the given mean.

    P(k) is proportional to exp(-t k); t is solved for, so truncation does not lower the mean. A geometric law has the
    highest spread a memoryless source can have: its coefficient of variation is near 1.

    Args:
        mean: steps, above 1 and at most max_length / 2 (a little more would be uniform).
        max_length: steps, 3..2**20.

    >>> Geometric(20.0, 200).quantile(0.5).item()
    14.0
    """

    mean: float
    max_length: int
    kind: str = field(default="geometric", init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the fields."""
        longest = check_integer("max_length", self.max_length, low=3, high=MAX_TABULATED)
        mean = check_number("mean", self.mean, low=1.0, low_open=True, high=longest / 2)
        object.__setattr__(self, "max_length", longest)
        object.__setattr__(self, "mean", mean)

    def _law(self) -> tuple[IntArray, FloatArray]:
        """Bisect for t; the mean falls as t grows."""

        def excess(t: float) -> float:
            tail = self.max_length / math.expm1(self.max_length * t) if self.max_length * t < 700.0 else 0.0
            return -1.0 / math.expm1(-t) - tail - self.mean

        low, high = 1e-12, 40.0
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if excess(middle) > 0.0 else (low, middle)
        ratio = np.full(self.max_length, math.exp(-low))
        ratio[0] = 1.0
        return np.arange(1, self.max_length + 1, dtype=np.int32), np.cumsum(np.cumprod(ratio))


@dataclass(frozen=True)
class Table(Discrete):
    """Length ``lengths[i]`` with probability proportional to ``weights[i]``.

    Args:
        lengths: distinct whole numbers in 1..2**24, in any order.
        weights: one per length, finite, >= 0, not all 0, with a sum below 1e300; equal if left out.

    >>> Table((10, 20), (3, 1)).mean
    12.5
    """

    lengths: tuple[int, ...]
    weights: tuple[float, ...] = ()
    kind: str = field(default="table", init=False, repr=False)

    def __post_init__(self) -> None:
        """Check the fields and store them as tuples."""
        if not len(self.lengths):
            raise fail("lengths", self.lengths, "at least one length")
        lengths = tuple(check_integer("lengths", n, low=1, high=MAX_LENGTH) for n in self.lengths)
        if len(set(lengths)) < len(lengths):
            raise fail("lengths", self.lengths, "distinct")
        weights = check_array("weights", self.weights if len(self.weights) else [1.0] * len(lengths), shape=(None,))
        if weights.size != len(lengths):
            raise fail("weights", self.weights, f"one weight per length ({len(lengths)})")
        if not 0.0 < float(weights.sum()) < 1e300:
            raise fail("weights", self.weights, "weights with a sum in (0, 1e300)")
        object.__setattr__(self, "lengths", lengths)
        object.__setattr__(self, "weights", tuple(weights.tolist()))

    @property
    def mean(self) -> float:
        """Weighted mean."""
        products = (n * w for n, w in zip(self.lengths, self.weights, strict=True))
        return math.fsum(products) / math.fsum(self.weights)

    @property
    def max_length(self) -> int:
        """The longest length with a weight above 0."""
        return int(self.distribution[0][-1])

    def _law(self) -> tuple[IntArray, FloatArray]:
        values, weights = np.array(self.lengths, np.int32), np.array(self.weights)
        order = np.argsort(values)
        order = order[weights[order] > 0.0]
        # Scaled first: a running sum of subnormal weights would lose their ratios.
        return values[order], np.cumsum(weights[order] / weights.max())
