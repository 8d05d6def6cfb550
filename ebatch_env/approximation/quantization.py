"""Linear quantisation in 8 bits, and in 4 of the same bits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

LEVELS = 256


@dataclass(frozen=True)
class LinearQuantizer:
    """8-bit indices on a line, whose upper half is the 4-bit index.

    Index k stands for ``low + step * k``. In 4 bits the step is 16 times as large; the nearest level is the high nibble
    of the 8-bit index, plus 1 if its low nibble is 8 or more: the offset bit (after Silfa et al., arXiv 1911.04244; that
    it rounds to the nearest level is our reading). So one memory serves both: 4-bit words are a part of the 8-bit ones.

    Attributes:
        low: value of index 0.
        step: between neighbouring 8-bit indices, > 0; both may be tensors that broadcast against what is quantised.
    """

    low: Tensor
    step: Tensor

    @classmethod
    def of_range(cls, low: Tensor, high: Tensor) -> LinearQuantizer:
        """Indices 0..255 from ``low`` to ``high``; where these are equal every value becomes ``low``."""
        span = high - low
        return cls(low, torch.where(span > 0, span, torch.ones_like(span)) / (LEVELS - 1))

    @classmethod
    def of_rows(cls, weights: Tensor, groups: int) -> LinearQuantizer:
        """One range for each of ``groups`` equal blocks of rows of a (R, I) matrix: E-PUR keeps the gates apart."""
        blocks = weights.reshape(groups, -1)
        low, high = (
            end.repeat_interleave(weights.shape[0] // groups)[:, None] for end in (blocks.amin(1), blocks.amax(1))
        )
        return cls.of_range(low, high)

    def index8(self, values: Tensor) -> Tensor:
        """Nearest 8-bit indices, in the values' own type; beyond the range its ends."""
        return torch.round((values - self.low) / self.step).clamp(0, LEVELS - 1)

    def eight(self, values: Tensor) -> Tensor:
        """``values`` as 8 bits hold them."""
        return self.low + self.step * self.index8(values)

    def four(self, values: Tensor) -> Tensor:
        """``values`` as the 4-bit part holds them."""
        index = self.index8(values)
        nibble = torch.floor(index / 16)
        offset = (index - 16 * nibble >= 8).to(values.dtype)
        return self.low + (16 * self.step) * (nibble + offset)
