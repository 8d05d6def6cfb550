"""Statistics against values worked out by hand and against scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from ebatch_env.scoring.records import EpisodeRecord
from ebatch_env.scoring.statistics import (
    ALL,
    METRICS,
    Aggregate,
    aggregate,
    improvement,
    improvements,
    interquartile_mean,
    iqm_interval,
    mean_interval,
    relative,
    stratified_interval,
)
from tests.scoring.conftest import make_record


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0], 3.0),
        ([1.0, 2.0], 1.5),
        ([1.0, 2.0, 9.0], 4.0),
        ([100.0, 1.0, 4.0, 2.0], 3.0),
        (range(8), 3.5),
        (range(9), 4.0),
    ],
)
def test_interquartile_mean_by_hand(values: list[float], expected: float) -> None:
    assert interquartile_mean(values) == expected


@pytest.mark.parametrize(("n", "close"), [(2, 0.12), (3, 0.01), (6, 2e-4), (8, 3e-5), (32, 1e-6)])
def test_mean_interval_is_students(n: int, close: float) -> None:
    values = np.random.default_rng(n).normal(3.0, 2.0, n)
    low, high = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    found = mean_interval(values)
    assert found[1] - found[0] == pytest.approx(high - low, rel=close)
    assert sum(found) / 2 == pytest.approx(values.mean())


def test_mean_interval_needs_two_values() -> None:
    assert all(map(math.isnan, mean_interval([1.0])))
    assert mean_interval(np.full(5, 2.0)) == (2.0, 2.0)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 31, 64])
def test_interquartile_mean_is_scipys_trimmed_mean(n: int) -> None:
    values = np.random.default_rng(n).lognormal(size=(3, n))
    np.testing.assert_allclose(interquartile_mean(values), stats.trim_mean(values, 0.25, axis=1), rtol=1e-12)


def test_interval_agrees_with_scipys() -> None:
    values = np.random.default_rng(0).lognormal(size=40)
    theirs = stats.bootstrap(
        (values,), interquartile_mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1)
    ).confidence_interval
    low, high = iqm_interval(values)
    assert (low, high) == pytest.approx((theirs.low, theirs.high), rel=0.02)
    assert iqm_interval(values) == (low, high)


def test_interval_of_equal_values_and_of_too_few() -> None:
    assert iqm_interval(np.full(5, 2.0)) == (2.0, 2.0)
    for n in (0, 1):
        assert all(math.isnan(end) for end in iqm_interval(np.ones(n)))
    assert all(math.isnan(end) for end in stratified_interval([np.ones(1), np.ones(1)]))


def test_interval_covers_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        low, high = iqm_interval(rng.normal(size=32))
        hits += low <= 0.0 <= high
    assert 0.88 < hits / 200 < 0.99


def test_strata_keep_their_shares() -> None:
    low, high = stratified_interval([np.full(8, 1.0), np.full(8, 3.0)])
    assert (low, high) == (2.0, 2.0)  # an unstratified bootstrap would vary
    one = np.random.default_rng(0).normal(size=30)
    assert stratified_interval([one]) == pytest.approx(iqm_interval(one), abs=1e-12)


def test_improvement_is_paired() -> None:
    p, low, high = improvement(np.array([1.0, 2.0, 3.0, 4.0]), np.array([2.0, 2.0, 4.0, 1.0]))
    assert p == 0.625
    assert 0.0 < low < 0.625 < high < 1.0 + 1e-12
    assert improvement(np.array([1.0, 10.0]), np.array([2.0, 11.0])) == (1.0, 1.0, 1.0)
    single = improvement(np.array([1.0]), np.array([2.0]))
    assert single[0] == 1.0
    assert math.isnan(single[1])


def test_a_truncated_episode_never_beats_a_whole_one() -> None:
    kept = [make_record("X", "a", i, 3.0) for i in range(4)]
    cut = [make_record("X", "b", i, 1.0, truncated=i < 3) for i in range(4)]
    both = [make_record("X", "c", i, 9.0, truncated=i < 1) for i in range(4)]
    found = {(i.policy, i.rival): i.probability for i in improvements([*kept, *cut, *both])}
    assert found["b", "a"] == 0.25
    assert found["a", "b"] == 0.75
    assert found["b", "c"] == (0.5 + 0 + 0 + 1) / 4  # both cut off; b cut off twice; c dearer
    counts = {a.policy: a.truncated for a in aggregate([*kept, *cut, *both]) if a.metric == "cost"}
    assert counts == {"a": 0, "b": 3, "c": 1}
    two = [make_record("Y", "b", 0, 1.0, truncated=True), *cut]
    assert [a.truncated for a in aggregate(two) if a.env == ALL] == [4]


def test_aggregates_by_hand(records: list[EpisodeRecord]) -> None:
    found = {(a.env, a.policy, a.metric): a for a in aggregate(records)}
    assert found["X", "a", "cost"].iqm == 3.0
    assert found["X", "a", "cost"].mean == 26.75
    assert found["X", "a", "energy_per_request_j"].iqm == pytest.approx(3e-3)
    # Over all environments: 1 1 | 1 1 2 3 | 4 100 cut by a quarter at both ends.
    assert found[ALL, "a", "cost"].iqm == 1.75
    assert found[ALL, "a", "cost"].episodes == 8
    assert (ALL, "c", "cost") not in found  # it played on one of them only
    assert {metric for env, _, metric in found if env == "X"} == set(METRICS)


def test_metrics_without_a_value_are_left_out_of_the_mean(records: list[EpisodeRecord]) -> None:
    found = {(a.env, a.policy, a.metric): a for a in aggregate(records)}
    assert found["Y", "c", "latency_p99_s"].episodes == 0
    assert math.isnan(found["Y", "c", "latency_p99_s"].iqm)
    assert found["Y", "c", "cost"] == Aggregate(
        "Y", "c", "cost", 1, 7.0, 7.0, *[pytest.approx(math.nan, nan_ok=True)] * 2, truncated=1
    )


def test_improvements_are_by_episode_whatever_the_order(records: list[EpisodeRecord]) -> None:
    kept = [r for r in records if r.policy != "c"]
    for order in (kept, kept[::-1]):
        found = {(i.env, i.policy, i.rival): i.probability for i in improvements(order)}
        assert found == {("X", "a", "b"): 1.0, ("X", "b", "a"): 0.0, ("Y", "a", "b"): 0.625, ("Y", "b", "a"): 0.375}


def test_relative_difference_is_of_means_and_paired() -> None:
    rng = np.random.default_rng(3)
    rival = rng.uniform(1.0, 9.0, 200)
    value, low, high = relative(0.8 * rival, rival)
    assert (value, low, high) == pytest.approx((-0.2, -0.2, -0.2))  # what is common to both cancels
    noisy = rival + rng.normal(0.5, 1.0, 200)
    value, low, high = relative(noisy, rival)
    assert value == pytest.approx(noisy.mean() / rival.mean() - 1)
    found = stats.bootstrap(
        (noisy, rival), lambda a, b, axis: a.mean(axis) / b.mean(axis) - 1, paired=True, method="percentile", rng=1
    ).confidence_interval
    assert (low, high) == pytest.approx(tuple(found), abs=0.1 * (high - low))
    assert np.isnan(relative(np.array([1.0, np.inf]), np.array([1.0, 2.0]))).all()
    assert relative(np.array([3.0]), np.array([2.0]))[0] == 0.5
    assert np.isnan(relative(np.array([3.0]), np.array([2.0]))[1:]).all()
