"""Savings of the approximations on the published networks, held against what is printed."""

from __future__ import annotations

from statistics import fmean

import pytest

from ebatch_env.machines import EPUR
from ebatch_env.machines.approximation import MemoizationEffect, PrecisionEffect
from ebatch_env.machines.savings import (
    MEMOIZATION_MEAN,
    PRECISION_MEAN_EARLY,
    PUBLISHED_MEMOIZATION,
    PUBLISHED_PRECISION,
    saving,
)
from ebatch_env.networks import NETWORKS, Network


def test_memoization_of_the_published_reuse() -> None:
    found = [saving(one.network, memoization={"reuse": one.share}) for one in PUBLISHED_MEMOIZATION]
    assert fmean(each.speed_up for each in found) == pytest.approx(MEMOIZATION_MEAN.speed_up, rel=0.01)
    # Mean energy lies between the two versions' 18.5 and 21 % at the `circuit` end and above them with leakage.
    assert [round(each.energy_saved, 3) for each in found] == [0.344, 0.144, 0.265, 0.164]
    for one, each in zip(PUBLISHED_MEMOIZATION, found, strict=True):
        assert each.computations_avoided == pytest.approx(one.share)
        assert each.weight_reads_saved < one.share * 15 / 16 + 1e-9  # signs are always read


def test_precision_of_the_published_shares() -> None:
    found = [saving(one.network, precision={"low_share": one.share}) for one in PUBLISHED_PRECISION]
    assert fmean(each.speed_up for each in found) == pytest.approx(PRECISION_MEAN_EARLY.speed_up, rel=0.02)
    for one, each in zip(PUBLISHED_PRECISION, found, strict=True):
        assert each.speed_up < 1 / (1 - one.share / 2)  # the ideal: EESEN's and MNMT's published speed-ups exceed it
        assert each.computations_avoided == pytest.approx(one.share / 2)
    assert [round(each.speed_up, 2) for each in found] == [1.97, 1.35, 1.54, 1.28]


def test_published_speed_ups_beyond_the_ideal() -> None:
    ideal = {one.network: 1 / (1 - one.share / 2) for one in PUBLISHED_PRECISION}
    beyond = {
        one.network for one in PUBLISHED_PRECISION if one.speed_up is not None and one.speed_up > ideal[one.network]
    }
    assert beyond == {"EESEN", "MNMT"}


def test_a_saving_by_hand() -> None:
    network = Network.stack("n", "lstm", 1, 320)  # resident
    found = saving(network, memoization=MemoizationEffect(reuse=0.5, predictor_cycles=0), steps=10)
    assert found.speed_up == pytest.approx((320 * 40 + 34) / (320 * 20 + 34))
    assert found.computations_avoided == pytest.approx(0.5)
    assert found.weight_reads_saved == pytest.approx(0.5 * 15 / 16)
    before, after = (sum(part[place] for part in found.parts.values()) for place in (0, 1))
    assert found.energy_saved == pytest.approx(1 - after / before)
    assert found.parts["predictor"][0] == 0.0 < found.parts["predictor"][1]
    table = EPUR(replicas=1).cost_table(network, 1)
    assert before == pytest.approx(float(table.round_j(10, 1)))


def test_batches_save_less() -> None:
    machine = EPUR()
    by_lanes = [saving("MNMT", memoization={"reuse": 0.3}, machine=machine, lanes=n, steps=16) for n in (1, 4, 32)]
    assert [each.weight_reads_saved for each in by_lanes] == sorted(
        (each.weight_reads_saved for each in by_lanes), reverse=True
    )
    assert by_lanes[-1].weight_reads_saved < 1e-9
    assert all(each.computations_avoided == pytest.approx(0.3) for each in by_lanes)  # each lane for itself


def test_both_schemes_compare_with_eight_bits() -> None:
    both = saving("EESEN", memoization={"reuse": 0.3}, precision=PrecisionEffect(low_share=0.5))
    alone = saving("EESEN", precision=PrecisionEffect(low_share=0.5))
    assert both.speed_up > 1.3 * alone.speed_up
    assert both.energy_saved > alone.energy_saved


def test_bad_steps() -> None:
    with pytest.raises(ValueError, match="steps must be an integer in 1"):
        saving("MNMT", steps=0)


def test_published_networks_are_known() -> None:
    assert {one.network for one in (*PUBLISHED_MEMOIZATION, *PUBLISHED_PRECISION)} <= set(NETWORKS)
