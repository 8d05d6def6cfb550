"""A trained network run step by step with approximations, all lanes at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ebatch_env.approximation.data import Split
from ebatch_env.approximation.memoization import FuzzyMemoization, NeuronMemory, binarize
from ebatch_env.approximation.networks import LayerWeights, RecurrentClassifier
from ebatch_env.approximation.precision import DynamicPrecision, PeakDetector
from ebatch_env.approximation.quantization import LinearQuantizer
from ebatch_env.approximation.schedules import Schedule, compact
from ebatch_env.approximation.training import one_thread
from ebatch_env.errors import fail


@dataclass(frozen=True)
class Evaluation:
    """What a run decided and what came out.

    Rows are the gate neurons of all layers, R of them. A row is skipped if all lanes of its group reuse, and runs at 4
    bits if none of those that do not asks for 8.

    Attributes:
        logits: (S, K) by sequence.
        label: (S,).
        schedule: which lane ran what, and when.
        group: lanes that share rows.
        reused: (L, U, R) neuron outputs that were memoized ones; False where a lane is idle.
        eight: (L, U, R) neurons whose lane asks for 8 bits; False where it is idle, or there is no precision to choose.
    """

    logits: Tensor
    label: Tensor
    schedule: Schedule
    group: int
    reused: Tensor  # (L, U, R)
    eight: Tensor  # (L, U, R)

    def by_sequence(self, rows: Tensor) -> npt.NDArray[np.bool_]:
        """``reused`` or ``eight`` as (S, T, R): False from a sequence's end on."""
        sequence, step, busy = self.schedule.sequence, self.schedule.step, self.schedule.busy
        ordered = np.zeros((len(self.label), int(step.max()) + 1, rows.shape[2]), np.bool_)
        ordered[sequence[busy], step[busy]] = rows.numpy()[busy]
        return ordered

    @property
    def accuracy(self) -> float:
        """Share of the sequences classified rightly."""
        return float((self.logits.argmax(dim=1) == self.label).double().mean())

    @property
    def reuse(self) -> float:
        """Share of the rows that are skipped, over the units in which all lanes of a group are busy; NaN without any."""
        full, skipped = self._skipped()
        return _share(int(skipped.count_nonzero()), int(full.count_nonzero()) * skipped.shape[2])

    @property
    def low_share(self) -> float:
        """Share of the rows that run at 4 bits, among those of the same units that are not skipped; NaN without any."""
        full, skipped = self._skipped()
        asked = self.eight & ~self.reused
        if self.group > 1:
            asked = asked.unflatten(0, (-1, self.group)).any(dim=1) & full[..., None]
        evaluated = int(full.count_nonzero()) * skipped.shape[2] - int(skipped.count_nonzero())
        return _share(evaluated - int(asked.count_nonzero()), evaluated)

    def _skipped(self) -> tuple[Tensor, Tensor]:
        """Units with all lanes busy, (L / group, U), and the rows skipped in them, (L / group, U, R)."""
        busy = torch.from_numpy(self.schedule.busy)
        if self.group == 1:
            return busy, self.reused
        full = busy.unflatten(0, (-1, self.group)).all(dim=1)
        return full, self.reused.unflatten(0, (-1, self.group)).all(dim=1) & full[..., None]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def evaluate(
    network: RecurrentClassifier,
    split: Split,
    *,
    memoization: FuzzyMemoization | None = None,
    precision: DynamicPrecision | None = None,
    input_range: tuple[float, float] | None = None,
    schedule: Schedule | None = None,
    group: int = 1,
) -> Evaluation:
    """Run ``split`` through ``network``.

    With ``group`` > 1 lanes 0..group-1 share every weight row that is read, and so do the next ones: a neuron is reused
    only if all busy lanes of the group would reuse it; once one lane needs it, all evaluate it and memoize the result
    afresh, which costs them no weight read. It runs at 8 bits for all as soon as one asks for it.

    Args:
        network: trained; computed in its own floating-point type.
        split: the sequences.
        memoization: None: every neuron is evaluated.
        precision: None: no quantisation at all.
        input_range: least and largest feature, for the quantisation of layer 0's input: of the training part, with
            precision; None: the range found in ``split``.
        schedule: which lane runs what; every sequence must be run once and in full. None: `compact`.
        group: lanes that share rows; it divides the lanes.

    Raises:
        ValueError: lanes that ``group`` does not divide, or a schedule that leaves out a step.
    """
    plan = compact(split.length) if schedule is None else schedule
    if group < 1 or plan.lanes % group:
        raise fail("group", group, f"a divisor of the {plan.lanes} lanes")
    like, layers = network.head.weight, network.layers
    sequences, longest, _ = split.steps.shape
    features = torch.from_numpy(np.array(split.steps)).to(like.dtype).flatten(0, 1)  # (S * T, F)
    places = torch.from_numpy(np.flatnonzero(plan.busy.T))  # of (U, L), flat: a unit's lanes lie together
    steps = torch.from_numpy((plan.sequence * longest + plan.step).T[plan.busy.T])  # what runs there, of (S * T), flat
    total = int(split.length.sum())
    if len(steps) != total or int(torch.bincount(steps, minlength=1).count_nonzero()) != total:
        raise ValueError("schedule must run every step of every sequence once")
    units, lanes = plan.sequence.T.shape
    x = like.new_zeros(units * lanes, features.shape[1]).index_copy_(0, places, features[steps]).view(units, lanes, -1)
    if precision is not None and input_range is None:
        input_range = float(features.min()), float(features.max())

    rows = [layer.gates * layer.hidden for layer in layers]
    nothing = torch.zeros(1, dtype=torch.bool).expand(units, lanes, sum(rows))
    reused, eight = (nothing if scheme is None else nothing.clone() for scheme in (memoization, precision))
    with one_thread(), torch.inference_mode():
        for weights, hits, bits in zip(layers, reused.split(rows, dim=2), eight.split(rows, dim=2), strict=True):
            x = _Layer(weights, memoization, precision, plan, group, input_range).run(x, hits, bits)
            input_range = -1.0, 1.0  # what a layer puts out lies between
        outputs = like.new_zeros(sequences * longest, x.shape[2]).index_copy_(0, steps, x.flatten(0, 1)[places])
        logits = network.readout(outputs.view(sequences, longest, -1), torch.as_tensor(np.array(split.length)))
    label = torch.as_tensor(np.array(split.label))
    return Evaluation(logits, label, plan, group, reused.transpose(0, 1), eight.transpose(0, 1))


@dataclass(frozen=True)
class _Arithmetic:
    """One way to compute dot products: both weight matrices and, to be quantised likewise, both kinds of inputs."""

    forward: Tensor  # (R, I)
    recurrent: Tensor  # (R, H)
    inputs: Callable[[Tensor], Tensor]
    state: Callable[[Tensor], Tensor]


class _Layer:
    """One layer over all lanes (L) and units (U)."""

    def __init__(
        self,
        weights: LayerWeights,
        memoization: FuzzyMemoization | None,
        precision: DynamicPrecision | None,
        schedule: Schedule,
        group: int,
        input_range: tuple[float, float] | None,
    ):
        self.weights, self.memoization, self.precision, self.group = weights, memoization, precision, group
        self.busy, self.start = torch.from_numpy(schedule.busy.T), torch.from_numpy(schedule.start.T)  # (U, L)
        self.arithmetic = [_Arithmetic(weights.forward, weights.recurrent, _same, _same)]
        if precision is not None and input_range is not None:
            like = weights.forward
            w = LinearQuantizer.of_rows(weights.forward, weights.gates)
            u = LinearQuantizer.of_rows(weights.recurrent, weights.gates)
            x = LinearQuantizer.of_range(*(like.new_tensor(end) for end in input_range))
            h = LinearQuantizer.of_range(like.new_tensor(-1.0), like.new_tensor(1.0))
            low = (x.four, h.four) if precision.low_inputs else (x.eight, h.eight)
            self.arithmetic = [
                _Arithmetic(w.eight(weights.forward), u.eight(weights.recurrent), x.eight, h.eight),
                _Arithmetic(w.four(weights.forward), u.four(weights.recurrent), *low),
            ]

    def run(self, x: Tensor, reused: Tensor, eight: Tensor) -> Tensor:
        """Outputs (U, L, H) from inputs (U, L, I); rows reused and asked for in 8 bits are filled in, (U, L, R) each."""
        weights, (units, lanes, _) = self.weights, x.shape
        h = c = x.new_zeros(lanes, weights.hidden)
        outputs = x.new_zeros(units, lanes, weights.hidden)
        detector = None if self.precision is None else PeakDetector(self.precision, lanes, weights.hidden, x)
        memory = None
        if self.memoization is not None:
            memory = NeuronMemory(self.memoization, lanes, weights.parts, reused.shape[2], x)
            signs, binary_x = binarize(weights.recurrent), binarize(x) @ binarize(weights.forward).T
        # The input halves do not wait for one another: all units at once.
        input_dots = [way.inputs(x) @ way.forward.T for way in self.arithmetic]
        for t in range(units):
            start, busy = self.start[t], self.busy[t, :, None]
            h, c = h.masked_fill(start[:, None], 0.0), c.masked_fill(start[:, None], 0.0)
            dots = [self._dots(way, done[t], h) for way, done in zip(self.arithmetic, input_dots, strict=True)]
            reuse = None
            if memory is not None:
                reuse = self._all_agree(memory.propose(binary_x[t] + binarize(h) @ signs.T, start), busy)
                reused[t] = reuse
            if detector is not None:
                detector.begin(start)
                asked = detector.needs_eight.repeat(1, weights.gates) & busy  # all gates of a neuron alike
                eight[t] = asked
                asked = asked if reuse is None else asked & ~reuse
                dots = [torch.where(self._any_asks(asked)[:, None], dots[0], dots[1])]
            settled = dots[0] if memory is None or reuse is None else memory.settle(reuse, dots[0])
            h, c = weights.advance(settled, h, c)
            outputs[t] = h
            if detector is not None:
                detector.observe(c)
        return outputs

    def _dots(self, way: _Arithmetic, input_dots: Tensor, h: Tensor) -> Tensor:
        """(L, P, R) of one unit."""
        own = way.state(h) @ way.recurrent.T
        return torch.stack([input_dots, own], dim=1) if self.weights.parts == 2 else (input_dots + own)[:, None]

    def _all_agree(self, wanted: Tensor, busy: Tensor) -> Tensor:
        """(L, R) what is wanted by all busy lanes of the group; idle ones neither object nor reuse."""
        if self.group > 1:
            agreed = (wanted | ~busy).unflatten(0, (-1, self.group)).all(dim=1)
            wanted = agreed.repeat_interleave(self.group, dim=0)
        return wanted & busy

    def _any_asks(self, asked: Tensor) -> Tensor:
        """(L, R) what is asked for by some lane of the group."""
        if self.group > 1:
            asked = asked.unflatten(0, (-1, self.group)).any(dim=1).repeat_interleave(self.group, dim=0)
        return asked


def _same(values: Tensor) -> Tensor:
    return values
