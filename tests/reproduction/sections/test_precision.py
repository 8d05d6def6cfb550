"""Section `precision`: held errors, the bound on published pairs, and what the measurement must show."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra 'approximation'")

from ebatch_env.machines.savings import PUBLISHED_PRECISION
from ebatch_env.reproduction import trained_networks as nets
from ebatch_env.reproduction.approximate_serving import LANES
from ebatch_env.reproduction.report import Options, Row, Section
from ebatch_env.reproduction.sections.precision import run
from ebatch_env.reproduction.sections.precision.alone import ideal_speed_up, savings, share_needed
from ebatch_env.reproduction.sections.precision.measured import Outcome, measure, run_with, settings, variations

ERRORS = {  # of the rows that come from published shares alone
    "IMDB with the published 100%: speed-up": -0.011,
    "IMDB with the published 100%: energy saved": 0.241,
    "ShowTell with the published 52%: speed-up": 0.031,
    "ShowTell with the published 52%: energy saved": 0.611,
    "EESEN with the published 70%: speed-up": -0.057,
    "EESEN with the published 70%: energy saved": -0.047,
    "MNMT with the published 44%: speed-up": -0.089,
    "MNMT with the published 44%: energy saved": 0.044,
    "published shares, mean of four networks: speed-up": -0.018,
    "published shares, mean of four networks: energy saved": 0.247,
    "published mean share of 57%: speed-up": -0.046,
    "published mean share of 57%: energy saved": 0.272,
}


@pytest.fixture(scope="module")
def section(own_cache: Path) -> Section:
    return run(Options(quick=True), lambda share, what: None)


def rows(section: Section) -> dict[str, Row]:
    return {row.what: row for row in section.rows}


def test_two_published_pairs_break_the_bound() -> None:
    broken = [one.network for one in PUBLISHED_PRECISION if (one.speed_up or 0) > ideal_speed_up(one.share)]
    assert broken == ["EESEN", "MNMT"]
    assert ideal_speed_up(0.70) == pytest.approx(1.538, abs=5e-4)
    assert ideal_speed_up(0.44) == pytest.approx(1.282, abs=5e-4)
    for one in PUBLISHED_PRECISION:
        assert ideal_speed_up(share_needed(one.speed_up or 1)) == pytest.approx(one.speed_up)
        assert savings()[one.network].speed_up <= ideal_speed_up(one.share) + 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("what", ERRORS)
def test_errors_are_held(section: Section, what: str) -> None:
    assert rows(section)[what].error == pytest.approx(ERRORS[what], abs=0.002)


@pytest.mark.slow
def test_measured(section: Section) -> None:
    (share,) = (row for what, row in rows(section).items() if what.startswith("neuron evaluations at 4 bits"))
    assert 60 < share.measured < 90
    assert rows(section)["the same if inputs keep 8 bits"].measured < 2
    assert "nan" not in section.summary
    assert {row.what for row in section.rows} >= set(ERRORS)


@pytest.mark.slow
def test_batches_lose_it(section: Section) -> None:
    (chart,) = (one for one in section.charts if one.name == "lanes")
    for series in chart.series:
        shares = dict(zip(series.x, series.y, strict=True))
        assert shares[1] > 0.6
        assert shares[1] > shares[2] > shares[4] > shares[8] > shares[16]
        assert shares[32] < 0.02


@pytest.mark.slow
def test_one_lane_of_a_queue_is_the_scheme_alone(own_cache: Path) -> None:
    name, seed = "vowels-lstm", 0
    found = measure(name, seed)
    alone = Outcome.of(run_with(name, seed, settings(name)))
    assert alone.accuracy == found.dynamic.accuracy
    assert alone.low_share == pytest.approx(found.dynamic.low_share)
    assert found.eight.low_share == 0.0
    assert found.four.low_share == found.four_weights.low_share == 1.0
    assert found.both.reuse > 0.3
    assert [outcome.low_share for outcome in found.lanes] == sorted((o.low_share for o in found.lanes), reverse=True)
    assert len(found.lanes) == len(found.both_lanes) == len(LANES)


def test_settings() -> None:
    long = settings("motion-lstm")
    assert (long.stable_steps, long.peak_steps, long.profile_steps) == (8, 8, 8)  # 5 % of 150, to an even half
    assert long.margin == 0.1
    short = settings("vowels-gru")
    assert (short.stable_steps, short.peak_steps, short.profile_steps) == (1, 1, 2)
    changed = variations(long)
    assert changed.pop("as it is") == long
    assert long not in changed.values()
    assert len(set(changed.values())) == len(changed)


def test_intervals() -> None:
    mean, span = nets.mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert span == pytest.approx((2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5), abs=1e-3)  # t of 2 degrees of freedom
    assert nets.with_interval([50.0, 60.0], 0, 100) == "55 (0..100)"
    assert nets.with_interval([50.0]) == "50.0 (1 seed)"
    assert nets.mean_curve([[0.5, 0.0], [0.5, 0.0]]) == ([0.5, 0.0], [0.5, 0.0], [0.5, 0.0])
    assert nets.over_networks({"a": [1.0, 3.0], "b": [3.0, 5.0]}, float) == [2.0, 4.0]
