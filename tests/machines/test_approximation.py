"""Memoization and dynamic precision on E-PUR: shares by lanes, cycles, reads and energies by hand, bad values."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ebatch_env  # noqa: F401  # registers the environments
from ebatch_env.machines import EPUR, resolve_machine
from ebatch_env.machines.approximation import MemoizationEffect, PrecisionEffect
from ebatch_env.networks import NETWORKS, Network

SHAPE = Network.stack("n", "lstm", 1, 320)  # 40 cycles a neuron, 640 weights a row
HALF = MemoizationEffect(reuse=0.5)


def step_cycles(machine: EPUR, network: Network = SHAPE, lanes: int = 1) -> float:
    return float(machine.cost_table(network, lanes).step_s[0, lanes]) * machine.frequency_hz


def test_independent_lanes() -> None:
    np.testing.assert_allclose(HALF.rows_skipped([0, 1, 2, 10]), [0, 0.5, 0.25, 0.5**10])
    np.testing.assert_allclose(MemoizationEffect(reuse=1.0).rows_skipped([0, 1, 500]), [0, 1, 1])
    np.testing.assert_allclose(MemoizationEffect(reuse=0.0).rows_skipped([0, 1, 500]), 0)


def test_points_are_met_and_interpolated_in_the_logarithm() -> None:
    effect = MemoizationEffect(reuse=0.4, lanes_reuse=[[2, 0.3], [8, 0.05]])
    np.testing.assert_allclose(effect.rows_skipped([1, 2, 8]), [0.4, 0.3, 0.05])
    assert float(effect.rows_skipped(5)) == pytest.approx((0.3 * 0.05) ** 0.5)
    assert float(effect.rows_skipped(16)) == pytest.approx(0.05**2)  # two independent sets of 8
    # A curve of independent lanes given as points is the default.
    given_points = MemoizationEffect(reuse=0.5, lanes_reuse=[[1, 0.5], [16, 0.5**16]])
    np.testing.assert_allclose(given_points.rows_skipped(np.arange(40)), HALF.rows_skipped(np.arange(40)))


def test_a_share_that_ends_at_zero() -> None:
    effect = MemoizationEffect(reuse=0.4, lanes_reuse=[[2, 0.3], [8, 0.0]])
    np.testing.assert_allclose(effect.rows_skipped([2, 8, 9]), [0.3, 0, 0])
    assert float(effect.rows_skipped(5)) < 1e-100


def test_a_hit_saves_a_neurons_cycles_and_the_predictor_bounds_it() -> None:
    full = step_cycles(EPUR(replicas=1))
    assert full == 320 * 40 + 34
    assert step_cycles(EPUR(replicas=1, memoization=HALF)) == pytest.approx(320 * 20 + 5 + 34)
    often = MemoizationEffect(reuse=0.95)  # 2 cycles of dot product a neuron, 5 of prediction
    assert step_cycles(EPUR(replicas=1, memoization=often)) == pytest.approx(320 * 5 + 5 + 34)
    narrow = replace(often, predictor_bits=320)  # 640 bits: two turns
    assert step_cycles(EPUR(replicas=1, memoization=narrow)) == pytest.approx(320 * 10 + 5 + 34)


def test_lanes_must_hit_together_group_by_group() -> None:
    machine = EPUR(replicas=2, memoization=HALF)
    for lanes, cycles in ((1, 40 * 0.5), (2, 40 * 0.75), (3, 40 * (0.75 + 0.5)), (5, 40 * (2 * 0.75 + 0.5))):
        assert step_cycles(machine, lanes=lanes) == pytest.approx(320 * cycles + 5 + 34)
    # The row is read unless all of them hit, whatever their group.
    buffer = machine.cost_table(SHAPE, 5).parts["weight_buffer"].step_j[0]
    full = EPUR(replicas=2).cost_table(SHAPE, 5).parts["weight_buffer"].step_j[0, 1]
    share = [(1 + 15 * (1 - 0.5**lanes)) / 16 for lanes in range(1, 6)]  # the sign, and 15 bits unless skipped
    np.testing.assert_allclose(buffer, [0, *(full * value for value in share)])
    # A lane that hits multiplies nothing, whatever the others do.
    macs = machine.cost_table(SHAPE, 5).parts["macs"].step_j[0]
    np.testing.assert_allclose(macs, 0.5 * EPUR(replicas=2).cost_table(SHAPE, 5).parts["macs"].step_j[0])


def test_predictor_energy_by_hand() -> None:
    effect = MemoizationEffect(reuse=0.25, value_bytes=4)
    machine = EPUR(memoization=effect)
    part = machine.cost_table(SHAPE, 3).parts["predictor"].step_j[0]
    mac, small = machine.costs.mac_fp16_pj, machine.costs.small_pj_per_byte
    neuron = (640 * 2 * 0.03 / 8 / 1.5 + 4) * mac + (3 + 0.25 + 0.75 * 3) * 4 * small
    np.testing.assert_allclose(part, np.arange(4) * 4 * 320 * neuron * 1e-12)


def test_buffers_leak() -> None:
    more = EPUR(replicas=8, memoization=HALF).static_w - EPUR(replicas=8).static_w
    assert more == pytest.approx(EPUR().costs.leakage_w_per_mib * 4 * 8 * 8 / 1024)


def test_low_precision_halves_the_time_and_reads_five_bits_of_nine() -> None:
    exact = EPUR(replicas=1, precision=PrecisionEffect(low_share=0.0))
    low = EPUR(replicas=1, precision=PrecisionEffect(low_share=1.0))
    assert step_cycles(exact) == step_cycles(EPUR(replicas=1))
    assert step_cycles(low) == pytest.approx(320 * 20 + 34)
    before, after = (machine.cost_table(SHAPE, 1).parts for machine in (exact, low))
    assert after["macs"].step_j[0, 1] == pytest.approx(before["macs"].step_j[0, 1] / 2)
    assert after["weight_buffer"].step_j[0, 1] == pytest.approx(before["weight_buffer"].step_j[0, 1] * 5 / 8)
    weights = SHAPE.weights * exact.costs.weight_pj_per_byte * 1e-12
    assert before["weight_buffer"].step_j[0, 1] == pytest.approx(weights)  # a byte each
    assert low.weight_bytes == 9 / 8
    assert low.activation_bytes == 1.0


def test_weights_of_eight_bits_leave_room_and_load_faster() -> None:
    mnmt = NETWORKS["MNMT"]
    plain, byte = EPUR(), EPUR(precision=PrecisionEffect(low_share=0.0, offset_bits=0))
    assert byte.cost_table(mnmt, 4).max_time_steps == 2 * plain.cost_table(mnmt, 4).max_time_steps
    dram = [machine.cost_table(mnmt, 1).parts["dram"].load_j[0] for machine in (plain, byte)]
    assert dram[0] == pytest.approx(2 * dram[1])


def test_a_group_runs_at_the_highest_precision_of_its_lanes() -> None:
    effect = PrecisionEffect(low_share=0.5, lanes_low_share=[[1, 0.5], [2, 0.4], [4, 0.1]])
    machine = EPUR(replicas=2, precision=effect)
    assert step_cycles(machine, lanes=2) == pytest.approx(320 * 40 * (1 - 0.4 / 2) + 34)
    assert step_cycles(machine, lanes=3) == pytest.approx(320 * 40 * (2 - 0.4 / 2 - 0.5 / 2) + 34)
    macs = machine.cost_table(SHAPE, 4).parts["macs"].step_j[0]
    per_lane = SHAPE.weights * machine.costs.mac_int8_pj * 1e-12
    assert macs[4] == pytest.approx(4 * per_lane * (1 - 0.4 / 2))
    buffer = machine.cost_table(SHAPE, 4).parts["weight_buffer"].step_j[0]
    assert buffer[4] == pytest.approx(SHAPE.weights * machine.costs.weight_pj_per_byte * (0.1 * 5 + 0.9 * 8) / 8e12)


def test_both_together() -> None:
    # Shares of low precision are of the rows that are evaluated, so that they multiply.
    machine = EPUR(replicas=1, memoization=HALF, precision=PrecisionEffect(low_share=0.6))
    assert step_cycles(machine) == pytest.approx(320 * 40 * 0.5 * 0.7 + 5 + 34)
    buffer = machine.cost_table(SHAPE, 1).parts["weight_buffer"].step_j[0, 1]
    bits = 1 + 0.5 * (0.6 * 5 + 0.4 * 8 - 1)
    assert buffer == pytest.approx(SHAPE.weights * machine.costs.weight_pj_per_byte * bits / 8e12)
    macs = machine.cost_table(SHAPE, 1).parts["macs"].step_j[0, 1]
    assert macs == pytest.approx(SHAPE.weights * machine.costs.mac_int8_pj * 0.5 * 0.7e-12)


@given(
    reuse=st.floats(0, 1),
    low=st.floats(0, 1),
    replicas=st.integers(1, 9),
    lanes=st.integers(1, 20),
)
def test_more_of_it_never_costs_more_and_off_is_none(reuse: float, low: float, replicas: int, lanes: int) -> None:
    plain = EPUR(replicas=replicas, precision=PrecisionEffect(low_share=0.0))
    some = replace(plain, precision=PrecisionEffect(low_share=low))
    both = replace(some, memoization=MemoizationEffect(reuse=reuse, predictor_cycles=0))
    tables = [machine.cost_table(SHAPE, lanes) for machine in (plain, some, both)]  # parts are checked to add up
    for before, after in pairwise(tables):
        assert (after.step_s <= before.step_s * (1 + 1e-12)).all()
        for part in ("macs", "weight_buffer"):
            assert (after.parts[part].step_j <= before.parts[part].step_j * (1 + 1e-12)).all()
    nothing = EPUR(replicas=replicas, memoization=MemoizationEffect(reuse=0.0, predictor_cycles=0))
    np.testing.assert_allclose(
        nothing.cost_table(SHAPE, lanes).step_s, EPUR(replicas=replicas).cost_table(SHAPE, lanes).step_s
    )


def test_plain_json_switches_it_on_in_an_environment() -> None:
    spec = json.loads('{"name": "epur", "memoization": {"reuse": 0.3, "lanes_reuse": [[1, 0.3], [32, 0.01]]}}')
    machine = resolve_machine(spec)
    assert isinstance(machine, EPUR)
    assert machine.memoization == MemoizationEffect(0.3, ((1.0, 0.3), (32.0, 0.01)))
    again = resolve_machine(json.loads(json.dumps(asdict(machine))))
    assert again == machine
    assert hash(again) == hash(machine)
    env = gym.make("ebatch/EPUR-Translation-v0", accelerator=spec)
    plain = gym.make("ebatch/EPUR-Translation-v0")
    try:
        assert env.reset(seed=0)[0].shape == plain.reset(seed=0)[0].shape
        assert gym.envs.registration.EnvSpec.from_json(env.spec.to_json()).kwargs["accelerator"] == spec
        tables = [each.unwrapped.system.table for each in (env, plain)]
        assert (tables[0].step_s[:, 1] < tables[1].step_s[:, 1]).all()
        assert "predictor" in tables[0].parts
    finally:
        env.close()
        plain.close()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"reuse": 1.1}, r"reuse must be a finite number in \[0, 1\], got 1.1"),
        ({"reuse": 0.5, "lanes_reuse": [[1, 0.4]]}, r"lanes_reuse must be .* falling from reuse \(0.5\), got"),
        ({"reuse": 0.5, "lanes_reuse": [[2, 0.6]]}, "lanes_reuse must be"),
        ({"reuse": 0.5, "lanes_reuse": [[4, 0.1], [2, 0.2]]}, "lanes rising"),
        ({"reuse": 0.5, "lanes_reuse": [[2, 0.1], [4, 0.2]]}, "shares falling"),
        ({"reuse": 0.5, "lanes_reuse": [[0, 0.1]]}, "lanes_reuse must be"),
        ({"reuse": 0.5, "lanes_reuse": [0.5, 0.1]}, "lanes_reuse must be"),
        ({"reuse": 0.5, "lanes_reuse": []}, "lanes_reuse must be"),
        ({"reuse": 0.5, "lanes_reuse": [[2, float("nan")]]}, "lanes_reuse must be"),
        ({"reuse": 0.5, "lanes_reuse": "often"}, "lanes_reuse must be"),
        ({"reuse": 0.5, "predictor_cycles": -1}, r"predictor_cycles must be an integer in 0..65536, got -1"),
        ({"reuse": 0.5, "predictor_bits": 0}, "predictor_bits must be"),
        ({"reuse": 0.5, "value_bytes": 2.0}, "value_bytes must be"),
        ({"reuse": 0.5, "buffer_bytes": -1.0}, "buffer_bytes must be"),
    ],
)
def test_bad_memoization(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MemoizationEffect(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"low_share": -0.1}, r"low_share must be a finite number in \[0, 1\], got -0.1"),
        ({"low_share": 0.5, "lanes_low_share": [[2, 0.7]]}, r"lanes_low_share must be .* falling from low_share"),
        ({"low_share": 0.5, "low_bits": 9}, r"low_bits must be an integer in 1..8, got 9"),
        ({"low_share": 0.5, "high_bits": 12}, "high_bits must be 8 or 16, got 12"),
        ({"low_share": 0.5, "offset_bits": -1}, "offset_bits must be"),
    ],
)
def test_bad_precision(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PrecisionEffect(**fields)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("memoization", 0.3),
        ("memoization", {"low_share": 0.3}),
        ("memoization", {"reuse": 0.3, "speed": 2}),
        ("precision", {"reuse": 0.3}),
        ("precision", "low"),
    ],
)
def test_bad_effects(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{field} must be None, a .* or a mapping with"):
        EPUR(**{field: value})  # type: ignore[arg-type]


def test_a_layer_must_fit_the_memoization_buffer() -> None:
    EPUR(memoization=HALF).cost_table(Network.stack("n", "lstm", 1, 1365), 1)
    with pytest.raises(
        ValueError, match=r"hidden_size must be at most 1365 in 'n' for the memoization buffer, got 1366"
    ):
        EPUR(memoization=HALF).cost_table(Network.stack("n", "lstm", 1, 1366), 1)


@pytest.mark.parametrize("effect", [{"memoization": HALF}, {"precision": PrecisionEffect(low_share=0.5)}])
def test_not_with_mwl(effect: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be None on a machine with mwl, got"):
        EPUR.with_mwl(**effect)


def test_loads_are_covered_by_the_step_of_a_full_batch() -> None:
    """One lane skips most rows and 32 skip none: the loads of 32 stay as hidden as without memoization."""
    curve = [[1, 0.7], [8, 0.05], [32, 0.0]]
    exact, memoized = (
        EPUR(memoization=effect).cost_table(NETWORKS["MNMT"], 32)
        for effect in (None, {"reuse": 0.7, "lanes_reuse": curve})
    )
    np.testing.assert_allclose(memoized.load_s, exact.load_s, rtol=0.01)
    assert memoized.round_s(1, 32) == pytest.approx(exact.round_s(1, 32), rel=0.001)
    alone = EPUR(memoization={"reuse": 0.7}).cost_table(NETWORKS["MNMT"], 1)
    assert (alone.load_s > exact.load_s).all()  # a short step hides less
