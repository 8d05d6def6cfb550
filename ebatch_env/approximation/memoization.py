"""Neuron-level fuzzy memoization (Silfa et al., MICRO 2019; long version arXiv 2202.06563).

Per gate neuron and sequence: the signs of weights and inputs give a binary dot product y_b. Against the one at the last
evaluation, y_bm, it has changed by eps = |(y_b - y_bm) / y_b|. With throttling the changes since then add up in delta;
without, delta = eps. If delta <= theta the memoized output stands in; else the neuron is evaluated, output and y_b are
memoized, and delta is 0 again. A sequence's first step is always evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ebatch_env.errors import check_number, fail


@dataclass(frozen=True)
class FuzzyMemoization:
    """The scheme's settings.

    Attributes:
        threshold: theta, finite. Below 0 nothing is ever reused; at 0 what is reused has a y_b that never moved.
        throttling: whether changes add up.

    Raises:
        ValueError: an infinite threshold, or no truth value.
    """

    threshold: float
    throttling: bool = True

    def __post_init__(self) -> None:
        """Check both."""
        object.__setattr__(self, "threshold", check_number("threshold", self.threshold))
        if not isinstance(self.throttling, bool):
            raise fail("throttling", self.throttling, "True or False")


def binarize(values: Tensor) -> Tensor:
    """Signs as +1 and -1; 0 counts as positive, so that every value is one bit."""
    return torch.where(values >= 0, 1.0, -1.0).to(values.dtype)


class NeuronMemory:
    """What the memoization buffer holds, for R gate neurons of S lanes at a time.

    Args:
        scheme: the settings.
        lanes: S.
        parts: P, see `LayerWeights.parts`: dot products memoized together.
        rows: R.
        like: a tensor of the type to compute in.
    """

    def __init__(self, scheme: FuzzyMemoization, lanes: int, parts: int, rows: int, like: Tensor):
        self.scheme = scheme
        self.output = like.new_zeros(lanes, parts, rows)  # y_m
        self.binary = like.new_zeros(lanes, rows)  # y_bm
        self.change = like.new_zeros(lanes, rows)  # delta

    def propose(self, binary: Tensor, start: Tensor) -> Tensor:
        """Whether each neuron's memoized output would do: (S, R).

        Where y_b is 0 the relative change has no value of its own: it is taken as 0 if y_bm is 0 too, since then nothing
        changed, and else as infinite, its limit, so that the neuron is evaluated.

        Args:
            binary: (S, R) y_b of this step.
            start: (S,) lanes whose sequence starts here.
        """
        moved = (binary - self.binary).abs()
        eps = torch.where(moved == 0, 0.0, moved / binary.abs())
        self.change = self.change + eps if self.scheme.throttling else eps
        self._new_binary = binary
        return (self.change <= self.scheme.threshold) & ~start[:, None]

    def settle(self, reuse: Tensor, dots: Tensor) -> Tensor:
        """Take the memoized dot products where ``reuse`` (S, R), and memoize ``dots`` (S, P, R) elsewhere."""
        self.output = torch.where(reuse[:, None], self.output, dots)
        self.binary = torch.where(reuse, self.binary, self._new_binary)
        self.change = torch.where(reuse, self.change, 0.0)
        return self.output
