"""What must hold whatever the network and the data."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ebatch_env.approximation import DynamicPrecision, FuzzyMemoization, LinearQuantizer, evaluate
from ebatch_env.approximation.memoization import NeuronMemory, binarize
from ebatch_env.approximation.precision import PeakDetector
from ebatch_env.approximation.schedules import aligned, compact, queue_in_lanes
from tests.approximation.conftest import make_small

few = settings(max_examples=20, deadline=None)
cells = st.sampled_from(["lstm", "gru"])
seeds = st.integers(0, 1000)


def torch_logits(small) -> torch.Tensor:
    split = small.split
    return small.network(torch.tensor(split.steps).double(), torch.tensor(split.length))


@few
@given(cells, seeds)
def test_exact_is_torchs_own(cell: str, seed: int) -> None:
    small = make_small(cell, seed)
    run = evaluate(small.network, small.split)
    torch.testing.assert_close(run.logits, torch_logits(small))
    assert run.reuse == 0.0


@few
@given(cells, seeds, st.floats(-10, -1e-9), st.booleans())
def test_below_zero_nothing_changes(cell: str, seed: int, threshold: float, throttling: bool) -> None:
    small = make_small(cell, seed)
    run = evaluate(small.network, small.split, memoization=FuzzyMemoization(threshold, throttling))
    assert run.reuse == 0.0
    torch.testing.assert_close(run.logits, torch_logits(small))


@few
@given(cells, seeds)
def test_at_zero_only_what_has_not_moved(cell: str, seed: int) -> None:
    """A one-layer network's binary outputs, recomputed: a neuron is reused if and only if its own stayed since."""
    small = make_small(cell, seed, layers=1)
    run = evaluate(small.network, small.split, memoization=FuzzyMemoization(0.0))
    throttled = run.by_sequence(run.reused)
    plain = evaluate(small.network, small.split, memoization=FuzzyMemoization(0.0, throttling=False))
    np.testing.assert_array_equal(throttled, plain.by_sequence(plain.reused))
    assert not throttled[:, 0].any()


@few
@given(cells, seeds, st.floats(0, 50), st.booleans())
def test_no_reuse_across_starts(cell: str, seed: int, threshold: float, throttling: bool) -> None:
    """However sequences follow one another in lanes, each is treated as if it were alone."""
    small = make_small(cell, seed)
    scheme, bits = FuzzyMemoization(threshold, throttling), DynamicPrecision(2, 2, 2)
    length = small.split.length
    schedules = [
        compact(length),
        aligned([np.arange(len(length))], length),
        queue_in_lanes(length, np.arange(len(length))[::-1], 1),
        queue_in_lanes(length, np.random.default_rng(seed).permutation(len(length)), 3, delay=[0, 3, 1]),
    ]
    runs = [evaluate(small.network, small.split, memoization=scheme, precision=bits, schedule=s) for s in schedules]
    for run in runs:
        assert not run.by_sequence(run.reused)[:, 0].any()
        assert not run.by_sequence(run.eight)[:, 0].any()  # a sequence starts in PROFILING, at 4 bits
        np.testing.assert_array_equal(run.by_sequence(run.reused), runs[0].by_sequence(runs[0].reused))
        np.testing.assert_array_equal(run.by_sequence(run.eight), runs[0].by_sequence(runs[0].eight))
        torch.testing.assert_close(run.logits, runs[0].logits)


@few
@given(seeds, st.lists(st.floats(0, 3), min_size=2, max_size=4))
def test_reuse_grows_with_the_threshold(seed: int, thresholds: list[float]) -> None:
    """Of given binary outputs, and without throttling, where a hit does not depend on what was hit before.

    (Of a whole network it need not: reuse changes the later inputs. Nor with throttling.) Neurons are held at one y_bm.
    """
    rng = torch.Generator().manual_seed(seed)
    binary = torch.randint(-8, 9, (2, 40), generator=rng).double()
    hits = []
    for threshold in sorted(thresholds):
        memory = NeuronMemory(FuzzyMemoization(threshold, throttling=False), 2, 1, 40, binary)
        start = torch.ones(2, dtype=torch.bool)
        memory.settle(memory.propose(torch.full_like(binary, 4.0), start), torch.zeros(2, 1, 40).double())
        hits.append(memory.propose(binary, ~start))
    for fewer, more in pairwise(hits):
        assert (more | ~fewer).all()


@few
@given(cells, seeds, st.integers(1, 3))
def test_groups_reuse_less_and_ask_more(cell: str, seed: int, doublings: int) -> None:
    """Copies of one sequence in a group decide as one: their rows are those of the sequence by itself."""
    small = make_small(cell, seed, sequences=1)
    copies = 1 << doublings
    split = small.split.take(np.zeros(copies, np.int64))
    plan = aligned([np.arange(copies)], split.length)
    how = {"memoization": FuzzyMemoization(0.8), "precision": DynamicPrecision(2, 2, 2)}
    alone, grouped = (evaluate(small.network, split, schedule=plan, group=g, **how) for g in (1, copies))
    assert alone.reuse == pytest.approx(grouped.reuse)
    assert alone.low_share == pytest.approx(grouped.low_share)


@pytest.mark.parametrize(
    ("before", "after", "threshold", "hit"),
    [
        (4, 4, 0.0, True),
        (4, 2, 1.0, True),  # |(2 - 4) / 2| = 1
        (4, 2, 0.99, False),
        (2, 4, 0.5, True),  # relative to the new value
        (0, 0, 0.0, True),  # nothing changed
        (2, 0, 1e9, False),  # an infinite change
        (0, 2, 1.0, True),
        (-3, 3, 2.0, True),
        (-3, 3, 1.9, False),
    ],
)
def test_relative_change_by_hand(before: int, after: int, threshold: float, hit: bool) -> None:
    memory = NeuronMemory(FuzzyMemoization(threshold), 1, 1, 1, torch.zeros(1))
    first, then = (torch.tensor([[float(value)]]) for value in (before, after))
    assert not memory.propose(first, torch.tensor([True])).item()
    assert memory.settle(torch.tensor([[False]]), torch.tensor([[[7.0]]])).item() == 7.0
    assert memory.propose(then, torch.tensor([False])).item() is hit
    assert memory.settle(torch.tensor([[hit]]), torch.tensor([[[9.0]]])).item() == (7.0 if hit else 9.0)


def test_throttling_by_hand() -> None:
    """Changes of 1/2 each: with a threshold of 1 two are let pass, and the third is not."""
    memory = NeuronMemory(FuzzyMemoization(1.0), 1, 1, 1, torch.zeros(1))
    hits = []
    for unit, y_b in enumerate([1.0, 2.0, 2.0, 2.0, 2.0]):
        hits.append(memory.propose(torch.tensor([[y_b]]), torch.tensor([unit == 0])).item())
        memory.settle(torch.tensor([[hits[-1]]]), torch.zeros(1, 1, 1))
    assert hits == [False, True, True, False, True]


def test_state_machine_by_hand() -> None:
    """Two steps of profiling on [0, 1], b = 0.1: limits -0.1 and 1.1."""
    detector = PeakDetector(DynamicPrecision(3, 2, 2), 1, 1, torch.zeros(1))
    detector.begin(torch.tensor([True]))
    bits = []
    #        profile   stable  peak     back  peak      anew: profile at 5..6, r = 1
    values = [0.0, 1.0, 1.09, 1.2, 1.3, 5.0, 6.0, 5.5, 5.5, 5.5, 9.0]
    for value in values:
        bits.append(8 if detector.needs_eight.item() else 4)
        detector.observe(torch.tensor([[value]]))
    # 1.2 at index 3 is outside: index 4 in 8 bits, 1.3 still outside: index 5 in 8 bits, 5.0 outside: two steps over.
    # Profiling takes 6.0 and 5.5, stable 5.5, 5.5, and 9.0 is outside [5.45, 6.05].
    assert bits == [4, 4, 4, 4, 8, 8, 4, 4, 4, 4, 4]
    assert detector.needs_eight.item()


def test_stable_elements_are_profiled_anew() -> None:
    detector = PeakDetector(DynamicPrecision(2, 5, 2), 1, 1, torch.zeros(1))
    for value in (0.0, 1.0, 0.5, 0.5):  # profiling, then two stable steps
        detector.observe(torch.tensor([[value]]))
    for value in (7.0, 8.0):  # far away, but the range is being learnt again
        assert not detector.needs_eight.item()
        detector.observe(torch.tensor([[value]]))
    assert not detector.needs_eight.item()
    assert (detector.low.item(), detector.high.item()) == (7.0, 8.0)


@few
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.floats(-3, 0), st.floats(0.1, 3))
def test_quantiser(values: list[float], low: float, width: float) -> None:
    ends = torch.tensor(low, dtype=torch.double), torch.tensor(low + width, dtype=torch.double)
    quantiser, x = LinearQuantizer.of_range(*ends), torch.tensor(values, dtype=torch.double)
    index = quantiser.index8(x)
    assert ((index >= 0) & (index <= 255) & (index == index.round())).all()
    inside = x.clamp(*ends)
    assert ((quantiser.eight(x) - inside).abs() <= quantiser.step / 2 + 1e-12).all()
    # The 4-bit part is the nearest of its own levels to the 8-bit value.
    levels = low + 16 * quantiser.step * torch.arange(17)
    nearest = (quantiser.eight(x)[:, None] - levels).abs().min(dim=1).values
    torch.testing.assert_close((quantiser.four(x) - quantiser.eight(x)).abs(), nearest)


def test_quantiser_of_one_value() -> None:
    quantiser = LinearQuantizer.of_rows(torch.tensor([[2.0, 2.0], [0.0, 1.0]]), 2)
    torch.testing.assert_close(
        quantiser.eight(torch.tensor([[2.0, 2.0], [0.0, 1.0]])), torch.tensor([[2.0, 2.0], [0.0, 1.0]])
    )


def test_signs() -> None:
    assert binarize(torch.tensor([-2.0, -0.0, 0.0, 1e-9])).tolist() == [-1.0, 1.0, 1.0, 1.0]


def test_something_happens() -> None:
    """The runs that the reference is compared with are not all of one kind."""
    small = make_small("lstm", 1)
    run = evaluate(small.network, small.split, memoization=FuzzyMemoization(0.7), precision=DynamicPrecision(2, 2, 2))
    assert 0.05 < run.reuse < 0.8
    assert 0.3 < run.low_share < 0.98


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FuzzyMemoization(float("nan")), "threshold must be a finite number"),
        (lambda: FuzzyMemoization(float("inf")), "threshold must be a finite number"),
        (lambda: FuzzyMemoization(1.0, throttling=1), "throttling must be True or False"),
        (lambda: DynamicPrecision(0, 1, 1), "stable_steps must be an integer >= 1, got 0"),
        (lambda: DynamicPrecision(1, 1, 1, margin=-0.1), "margin must be a finite number in"),
        (lambda: DynamicPrecision(1, 1, 1, fixed_bits=16), "fixed_bits must be 4, 8 or None, got 16"),
        (lambda: DynamicPrecision.for_length(0.0), "steps must be a finite number in"),
    ],
)
def test_bad_settings(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_schedules() -> None:
    small = make_small("lstm", 0)
    length = small.split.length
    with pytest.raises(ValueError, match="group must be a divisor of the 3 lanes, got 2"):
        evaluate(small.network, small.split, schedule=queue_in_lanes(length, range(8), 3), group=2)
    with pytest.raises(ValueError, match="every step of every sequence once"):
        evaluate(small.network, small.split, schedule=queue_in_lanes(length, range(7), 3))
