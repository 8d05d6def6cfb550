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
        reused: (L, U, R) neuron outputs that were memoized ones; meaningless where a lane is idle.
        eight: (L, U, R) neurons whose lane asks for 8 bits; all False where there is no precision to choose.
    """

    logits: Tensor
    label: Tensor
    schedule: Schedule
    group: int
    reused: Tensor  # (L, U, R)
    eight: Tensor  # (L, U, R)

    def by_sequence(self, rows: Tensor) -> npt.NDArray[np.bool_]:
        """``reused`` or ``eight`` as (S, T, R): False from a sequence's end on."""
        sequence, step = self.schedule.sequence, self.schedule.step
        ordered = np.zeros((len(self.label), int(step.max()) + 1, rows.shape[2]), np.bool_)
        busy = self.schedule.busy
        ordered[sequence[busy], step[busy]] = rows.numpy()[busy]
        return ordered

    @property
    def accuracy(self) -> float:
        """Share of the sequences classified rightly."""
        return float((self.logits.argmax(dim=1) == self.label).double().mean())

    @property
    def reuse(self) -> float:
        """Share of the rows that are skipped, over the units in which all lanes of a group are busy; NaN without any."""
        return float(self._rows()[0].double().mean())

    @property
    def low_share(self) -> float:
        """Share of the rows that run at 4 bits, among those of the same units that are not skipped; NaN without any."""
        skipped, eight = self._rows()
        return float((~eight)[~skipped].double().mean())

    def _rows(self) -> tuple[Tensor, Tensor]:
        """Skipped, and at 8 bits: (full units, R) each, group after group."""
        full = torch.from_numpy(self.schedule.busy).view(-1, self.group, self.reused.shape[1]).all(dim=1)
        shape = (-1, self.group, *self.reused.shape[1:])
        skipped = self.reused.view(shape).all(dim=1)
        eight = (self.eight & ~self.reused).view(shape).any(dim=1)
        return skipped[full], eight[full]


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
    busy = torch.from_numpy(plan.busy)
    sequence, step = torch.from_numpy(plan.sequence)[busy], torch.from_numpy(plan.step)[busy]
    if len(torch.unique(sequence * split.steps.shape[1] + step)) != int(split.length.sum()):
        raise ValueError("schedule must run every step of every sequence once")
    like = network.head.weight
    features = torch.as_tensor(np.array(split.steps)).to(like.dtype)
    x = like.new_zeros(*plan.sequence.shape, features.shape[2])
    x[busy] = features[sequence, step]
    low, high = (float(features.min()), float(features.max())) if input_range is None else input_range

    reused, eight = [], []
    with one_thread(), torch.inference_mode():
        for weights in network.layers:
            layer = _Layer(weights, memoization, precision, plan, group, (low, high))
            x, hits, bits = layer.run(x)
            reused.append(hits)
            eight.append(bits)
            low, high = -1.0, 1.0  # what a layer puts out lies between
        outputs = like.new_zeros(split.sequences, split.steps.shape[1], x.shape[2])
        outputs[sequence, step] = x[busy]
        logits = network.readout(outputs, torch.as_tensor(np.array(split.length)))
    label = torch.as_tensor(np.array(split.label))
    return Evaluation(logits, label, plan, group, torch.cat(reused, dim=2), torch.cat(eight, dim=2))


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
        input_range: tuple[float, float],
    ):
        self.weights, self.memoization, self.precision, self.group = weights, memoization, precision, group
        self.busy, self.start = torch.from_numpy(schedule.busy), torch.from_numpy(schedule.start)
        self.arithmetic = [_Arithmetic(weights.forward, weights.recurrent, _same, _same)]
        if precision is not None:
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

    def run(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs (L, U, H), and rows reused and asked for in 8 bits, (L, U, R) each, from inputs (L, U, I)."""
        weights, (lanes, units, _) = self.weights, x.shape
        rows, hidden = weights.gates * weights.hidden, weights.hidden
        h = c = x.new_zeros(lanes, hidden)
        outputs = x.new_zeros(lanes, units, hidden)
        reused = torch.zeros(lanes, units, rows, dtype=torch.bool)
        eight = torch.zeros_like(reused)
        detector = None if self.precision is None else PeakDetector(self.precision, lanes, hidden, x)
        memory = None
        if self.memoization is not None:
            memory = NeuronMemory(self.memoization, lanes, weights.parts, rows, x)
            signs, binary_x = binarize(weights.recurrent), binarize(x) @ binarize(weights.forward).T
        # The input halves do not wait for one another: all units at once.
        input_dots = [way.inputs(x) @ way.forward.T for way in self.arithmetic]
        for t in range(units):
            start = self.start[:, t]
            h, c = (torch.where(start[:, None], 0.0, state) for state in (h, c))
            dots = [self._dots(way, done[:, t], h) for way, done in zip(self.arithmetic, input_dots, strict=True)]
            if memory is not None:
                wanted = memory.propose(binary_x[:, t] + binarize(h) @ signs.T, start)
                reused[:, t] = self._all_agree(wanted, t)
            if detector is not None:
                detector.begin(start)
                eight[:, t] = detector.needs_eight.repeat(1, weights.gates)  # all gates of a neuron alike
                dots = [torch.where(self._any_asks(eight[:, t] & ~reused[:, t], t)[:, None], *dots)]
            settled = dots[0] if memory is None else memory.settle(reused[:, t], dots[0])
            h, c = weights.advance(settled, h, c)
            outputs[:, t] = h
            if detector is not None:
                detector.observe(c)
        return outputs, reused, eight

    def _dots(self, way: _Arithmetic, input_dots: Tensor, h: Tensor) -> Tensor:
        """(L, P, R) of one unit."""
        own = way.state(h) @ way.recurrent.T
        return torch.stack([input_dots, own], dim=1) if self.weights.parts == 2 else (input_dots + own)[:, None]

    def _all_agree(self, wanted: Tensor, unit: int) -> Tensor:
        """(L, R) what is wanted by all busy lanes of the group, whom idle ones do not hold up."""
        if self.group == 1:
            return wanted
        idle = ~self.busy[:, unit, None]
        agreed = (wanted | idle).view(-1, self.group, wanted.shape[1]).all(dim=1)
        return agreed.repeat_interleave(self.group, dim=0)

    def _any_asks(self, asked: Tensor, unit: int) -> Tensor:
        """(L, R) what is asked for by some busy lane of the group."""
        if self.group == 1:
            return asked
        some = (asked & self.busy[:, unit, None]).view(-1, self.group, asked.shape[1]).any(dim=1)
        return some.repeat_interleave(self.group, dim=0)


def _same(values: Tensor) -> Tensor:
    return values
