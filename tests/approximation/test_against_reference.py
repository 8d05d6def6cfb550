"""Both schemes equal the slow reference, decision by decision, alone, together and in lane groups."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

from ebatch_env.approximation import DynamicPrecision, FuzzyMemoization, evaluate
from ebatch_env.approximation.schedules import aligned, compact, queue_in_lanes
from tests.approximation import reference
from tests.approximation.conftest import make_small

MEMOIZATION = {
    "none": None,
    "throttled": FuzzyMemoization(0.7),
    "plain": FuzzyMemoization(0.4, throttling=False),
    "zero": FuzzyMemoization(0.0),
    "never": FuzzyMemoization(-0.5),
}
PRECISION = {
    "none": None,
    "dynamic": DynamicPrecision(2, 2, 2),
    "long profile": DynamicPrecision(3, 1, 4, margin=0.0, low_inputs=False),
    "single value": DynamicPrecision(1, 2, 1, margin=0.5),
    "four": DynamicPrecision(1, 1, 1, fixed_bits=4),
    "eight": DynamicPrecision(1, 1, 1, fixed_bits=8),
}


def compare(cell: str, seed: int, memoization, precision, group: int = 1, schedule=None) -> None:
    small = make_small(cell, seed)
    network, split = small.network, small.split
    plan = compact(split.length) if schedule is None else schedule(split.length)
    span = (-3.0, 4.0)
    found = evaluate(
        network, split, memoization=memoization, precision=precision, input_range=span, schedule=plan, group=group
    )
    busy, start = plan.busy, plan.start
    x = [
        [split.steps[s, t].tolist() if on else [0.0] * 3 for s, t, on in zip(*lane, strict=True)]
        for lane in zip(plan.sequence, plan.step, busy, strict=True)
    ]
    outputs, first = None, 0
    for layer in network.layers:
        outputs, reused, eight = reference.run_layer(
            cell,
            *(t.tolist() for t in (layer.forward, layer.recurrent, layer.forward_bias, layer.recurrent_bias)),
            x,
            start,
            busy,
            group,
            None if memoization is None else memoization.threshold,
            memoization is not None and memoization.throttling,
            None if precision is None else asdict(precision),
            span,
        )
        rows = slice(first, first + layer.gates * layer.hidden)
        first = rows.stop
        np.testing.assert_array_equal(found.reused.numpy()[busy][:, rows], np.array(reused)[busy])
        np.testing.assert_array_equal(found.eight.numpy()[busy][:, rows], np.array(eight)[busy])
        x = [[[0.0] * layer.hidden if h is None else h for h in lane] for lane in outputs]
        span = (-1.0, 1.0)
    logits = np.zeros((split.sequences, 2))
    head, bias = network.head.weight.numpy(), network.head.bias.numpy()
    for s in range(split.sequences):
        states = np.array([x[lane][unit] for lane, unit in np.argwhere(plan.sequence == s)])
        states = states[np.argsort(plan.step[plan.sequence == s])]
        logits[s] = head @ (states[-1] if network.readout_of == "last" else states.mean(axis=0)) + bias
    np.testing.assert_allclose(found.logits.numpy(), logits, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("precision", PRECISION)
@pytest.mark.parametrize("memoization", MEMOIZATION)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_alone_and_together(cell: str, memoization: str, precision: str) -> None:
    compare(cell, 1, MEMOIZATION[memoization], PRECISION[precision])


@pytest.mark.parametrize("seed", range(2, 6))
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_other_networks(cell: str, seed: int) -> None:
    compare(cell, seed, FuzzyMemoization(0.5), DynamicPrecision(2, 2, 2))


@pytest.mark.parametrize("group", [2, 4])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_lane_groups(cell: str, group: int) -> None:
    """Lanes of a group evaluate together: staggered, with idle lanes at the ends."""
    queue = lambda length: queue_in_lanes(length, np.arange(len(length)), 4, delay=[0, 2, 1, 5])
    compare(cell, 2, FuzzyMemoization(1.5), DynamicPrecision(2, 2, 2), group, queue)
    compare(cell, 3, FuzzyMemoization(1.5), None, group, lambda length: aligned(np.arange(8).reshape(2, 4), length))
