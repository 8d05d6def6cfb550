"""Dynamic precision (Silfa et al., HiPC 2020; arXiv 1911.04244): 4 bits while a cell-state element is quiet, 8 in a peak.

Every element of the cell state c has a state of its own, the same for all gates of its neuron:

=============  ======  ==============================================================================================
state          bits    what happens after each step
=============  ======  ==============================================================================================
`PROFILING`    4       minimum and maximum of c are tracked; after ``profile_steps`` -> `STABLE`
`STABLE`       4       c outside [min - b * r, max + b * r], r = max - min -> `IN_A_PEAK`; else after ``stable_steps``
                       -> `PROFILING`, from scratch
`IN_A_PEAK`    8       c inside again -> `STABLE`, counted from 0; else after ``peak_steps`` -> `PROFILING`
=============  ======  ==============================================================================================

The state after step t decides the bits of step t + 1; a sequence starts in `PROFILING`. The paper gives b = 0.1 and 5 %
of the time-steps for ``stable_steps`` and ``peak_steps``. Ours are: ``profile_steps``, of which we know no published
value (as long as ``stable_steps``, but at least 2, since a single value has no range); that counters start again at 0
with every change of state; and the limits themselves, which the paper prints differently from its own prose.

A GRU has no cell state beside its output h. That h is carried over through the update gate as c is through the forget
gate, so h stands for c.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ebatch_env.errors import check_integer, check_number, fail

PROFILING, STABLE, IN_A_PEAK = 0, 1, 2


@dataclass(frozen=True)
class DynamicPrecision:
    """The scheme's settings.

    Attributes:
        stable_steps: N, >= 1.
        peak_steps: M, >= 1.
        profile_steps: >= 1.
        margin: b, >= 0.
        low_inputs: whether inputs are cut to 4 bits together with the weights, or stay at 8.
        fixed_bits: 4 or 8: that many always, and no state machine; None: dynamic.

    Raises:
        ValueError: a field outside its range.
    """

    stable_steps: int
    peak_steps: int
    profile_steps: int
    margin: float = 0.1
    low_inputs: bool = True
    fixed_bits: int | None = None

    def __post_init__(self) -> None:
        """Check every field."""
        for name in ("stable_steps", "peak_steps", "profile_steps"):
            check_integer(name, getattr(self, name), low=1)
        object.__setattr__(self, "margin", check_number("margin", self.margin, low=0.0))
        if self.fixed_bits not in (None, 4, 8):
            raise fail("fixed_bits", self.fixed_bits, "4, 8 or None")

    @classmethod
    def for_length(cls, steps: float, share: float = 0.05, **fields: float | bool | int | None) -> DynamicPrecision:
        """N and M as a ``share`` of a sequence's ``steps``, at least 1; profiling as long, at least 2.

        >>> DynamicPrecision.for_length(150)
        DynamicPrecision(stable_steps=8, peak_steps=8, profile_steps=8, margin=0.1, low_inputs=True, fixed_bits=None)
        """
        check_number("steps", steps, low=0.0, low_open=True)
        check_number("share", share, low=0.0, high=1.0, low_open=True)
        n = max(1, round(share * steps))
        return cls(**{"stable_steps": n, "peak_steps": n, "profile_steps": max(2, n), **fields})  # type: ignore[arg-type]


class PeakDetector:
    """The state machines of H elements of S lanes.

    Args:
        scheme: the settings.
        lanes: S.
        elements: H.
        like: a tensor of the type to compute in.
    """

    def __init__(self, scheme: DynamicPrecision, lanes: int, elements: int, like: Tensor):
        self.scheme = scheme
        self.state = torch.zeros(lanes, elements, dtype=torch.int8)
        self.count = torch.zeros(lanes, elements, dtype=torch.int32)  # steps spent in this state
        self.low = like.new_full((lanes, elements), torch.inf)
        self.high = like.new_full((lanes, elements), -torch.inf)

    def begin(self, start: Tensor) -> None:
        """Forget everything of the lanes ``start`` (S,), where a new sequence starts."""
        again = start[:, None]
        self._profile_anew(again)
        self.state = torch.where(again, PROFILING, self.state).to(torch.int8)
        self.count = torch.where(again, 0, self.count)

    @property
    def needs_eight(self) -> Tensor:
        """(S, H) whether the step to come asks for 8 bits."""
        if self.scheme.fixed_bits is not None:
            return torch.full(self.state.shape, self.scheme.fixed_bits == 8)
        return self.state == IN_A_PEAK

    def observe(self, c: Tensor) -> None:
        """Look at the cell state (S, H) that a step ended with."""
        scheme, state = self.scheme, self.state
        profiling, stable, peak = state == PROFILING, state == STABLE, state == IN_A_PEAK
        self.low = torch.where(profiling, torch.minimum(self.low, c), self.low)
        self.high = torch.where(profiling, torch.maximum(self.high, c), self.high)
        slack = scheme.margin * (self.high - self.low)
        outside = (c < self.low - slack) | (c > self.high + slack)
        count = self.count + 1

        profiled = profiling & (count >= scheme.profile_steps)
        into_peak, out_of_peak = stable & outside, peak & ~outside
        anew = (stable & ~outside & (count >= scheme.stable_steps)) | (peak & outside & (count >= scheme.peak_steps))

        state = torch.where(profiled | out_of_peak, STABLE, state)
        state = torch.where(into_peak, IN_A_PEAK, state)
        self.state = torch.where(anew, PROFILING, state).to(torch.int8)
        self.count = torch.where(profiled | out_of_peak | into_peak | anew, 0, count).to(torch.int32)
        self._profile_anew(anew)

    def _profile_anew(self, where: Tensor) -> None:
        self.low = self.low.masked_fill(where, torch.inf)
        self.high = self.high.masked_fill(where, -torch.inf)
