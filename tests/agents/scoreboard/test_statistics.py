"""Statistics over seeds and episodes, beside what is known of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ebatch_agents.scoreboard import statistics
from ebatch_agents.scoreboard.statistics import iqm, probability, relative
from ebatch_env.scoring.statistics import improvement, iqm_interval


def test_one_row_is_the_usual_bootstrap_over_episodes() -> None:
    values = np.random.default_rng(0).lognormal(size=40)
    assert iqm(values[None])[1:] == iqm_interval(values)
    assert iqm(values[None])[0] == pytest.approx(stats.trim_mean(values, 0.25))
    rival = values * np.random.default_rng(1).lognormal(0.05, 0.1, 40)
    found = probability(values[None], rival)
    assert found[0] == improvement(values, rival)[0]
    assert found[1:] == pytest.approx(improvement(values, rival)[1:], abs=0.026)  # a step is 1 / 40


def test_the_chance_in_training_widens_the_interval() -> None:
    """Seeds that differ by a constant: the interval over both is wider than over their episodes alone."""
    rng = np.random.default_rng(2)
    episodes = rng.normal(10.0, 0.1, 64)
    seeds = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    costs = episodes + seeds[:, None]
    center, low, high = iqm(costs)
    assert center == pytest.approx(10.0, abs=0.1)
    assert high - low > 0.8  # the mean of five such seeds has a standard error of 0.3
    alone = iqm(costs.mean(axis=0)[None])
    assert alone[2] - alone[1] < 0.1
    change = relative(costs, episodes)
    assert change[0] == pytest.approx(0.0, abs=1e-12)
    student = 2 * stats.t.ppf(0.975, 4) * seeds.std(ddof=1) / np.sqrt(5) / 10.0
    assert change[2] - change[1] == pytest.approx(student, rel=0.15)


@pytest.mark.parametrize("spread", [0.3, 0.02])
def test_the_interval_covers_as_often_as_it_says(spread: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five seeds that differ much or hardly, beside a rival on the same 24 episodes; unexpanded it would cover 85 % of the time."""
    monkeypatch.setattr(statistics, "RESAMPLES", 2000)
    monkeypatch.setattr(statistics, "FEWER", 1000)
    rng = np.random.default_rng(3)
    covered, runs = 0, 120
    for _ in range(runs):
        common = rng.normal(5.0, 0.5, 24)
        costs = common + rng.normal(0, spread, (5, 1)) + rng.normal(0, 0.1, (5, 24))
        rival = common + rng.normal(0, 0.1, 24)
        _, low, high = relative(costs, rival)
        covered += low <= 0.0 <= high
    assert covered / runs >= 0.9  # 95 % less two and a half standard errors


def test_relative_is_paired() -> None:
    """What both have in common, the episodes, cancels."""
    rival = np.random.default_rng(4).lognormal(0.0, 1.0, 32)
    found = relative(0.9 * np.stack([rival, rival]), rival)
    assert found == pytest.approx((-0.1, -0.1, -0.1))


def test_probability_is_that_of_agarwal_et_al() -> None:
    """Episodes are tasks, seeds are runs: the mean over tasks of the share of pairs that win, ties half."""
    costs = np.array([[1.0, 2.0, 3.0], [1.0, 4.0, 5.0]])
    rival = np.array([2.0, 2.0, 4.0])
    by_task = [np.mean([(x < y) + 0.5 * (x == y) for x in column]) for column, y in zip(costs.T, rival, strict=True)]
    found = probability(costs, rival)
    assert found[0] == pytest.approx(np.mean(by_task))
    assert found[1] < found[0] < found[2]


def test_truncated_episodes_lose_and_leave_no_difference_to_tell() -> None:
    costs = np.array([[1.0, np.inf, np.inf]])
    rival = np.array([2.0, 2.0, np.inf])
    assert probability(costs, rival)[0] == pytest.approx((1.0 + 0.0 + 0.5) / 3)
    assert np.isnan(relative(costs, rival)).all()
    assert np.isnan(relative(np.ones((1, 3)), rival)).all()


def test_too_little_has_no_interval_and_nan_is_left_out() -> None:
    assert iqm(np.array([[3.0]]))[0] == 3.0
    for found in (
        iqm(np.array([[3.0]])),
        relative(np.ones((1, 1)), np.ones(1)),
        probability(np.ones((1, 1)), np.ones(1)),
    ):
        assert np.isnan(found[1:]).all()
    values = np.array([[1.0, np.nan, 3.0, np.nan], [1.0, 1.0, 3.0, 3.0]])
    assert iqm(values)[0] == pytest.approx(stats.trim_mean([1.0, 3.0, 1.0, 1.0, 3.0, 3.0], 0.25))
    assert np.isnan(iqm(np.full((1, 3), np.nan))).all()
