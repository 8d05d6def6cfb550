"""Filling lanes, and what lanes share."""

from __future__ import annotations

import numpy as np
import pytest

from ebatch_env.approximation import Schedule, as_points, evaluate, largest, shared_by_lanes, sweep
from ebatch_env.approximation.memoization import FuzzyMemoization
from ebatch_env.approximation.schedules import (
    IDLE,
    aligned,
    class_groups,
    compact,
    queue_in_lanes,
    random_groups,
    similar_groups,
    staggered,
)
from ebatch_env.approximation.thresholds import NEVER, Point
from tests.approximation.conftest import make_small


def naive(spared: np.ndarray, schedule: Schedule, starts_agree: bool) -> np.ndarray:
    shares = []
    for lanes in range(1, schedule.lanes + 1):
        found = []
        for unit in range(schedule.sequence.shape[1]):
            places = [(schedule.sequence[lane, unit], schedule.step[lane, unit]) for lane in range(lanes)]
            if any(s == IDLE for s, _ in places):
                continue
            if starts_agree:
                places = [(s, t) for s, t in places if t > 0]
                if not places:
                    continue
            found += [all(spared[s, t, row] for s, t in places) for row in range(spared.shape[2])]
        shares.append(np.mean(found) if found else np.nan)
    return np.array(shares)


@pytest.mark.parametrize("starts_agree", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_shared_by_lanes(seed: int, starts_agree: bool) -> None:
    rng = np.random.default_rng(seed)
    length = rng.integers(1, 7, 12)
    spared = rng.random((12, 6, 5)) < 0.8
    spared[:, 0] = False
    schedules = [
        staggered(length, 6, 150, rng),
        aligned(random_groups(12, 5, 7, rng), length),
        queue_in_lanes(length, rng.permutation(12), 4, delay=rng.integers(5, size=4)),
    ]
    for schedule in schedules:
        found = shared_by_lanes(spared, schedule, starts_agree=starts_agree)
        np.testing.assert_allclose(found, naive(spared, schedule, starts_agree))
    assert (np.diff(shared_by_lanes(spared, schedules[0])) <= 1e-12).all()  # all lanes always busy


def test_independent_lanes_multiply() -> None:
    """Rows spared by coin: a lanes all spare one with probability p ** a."""
    rng = np.random.default_rng(0)
    spared = rng.random((200, 20, 50)) < 0.7
    curve = shared_by_lanes(spared, staggered(np.full(200, 20), 6, 400, rng))
    np.testing.assert_allclose(curve, 0.7 ** np.arange(1, 7), rtol=0.08)


def test_one_lane_is_the_evaluation() -> None:
    small = make_small("gru", 5)
    run = evaluate(small.network, small.split, memoization=FuzzyMemoization(0.6))
    queue = queue_in_lanes(small.split.length, range(8), 1)
    assert shared_by_lanes(run.by_sequence(run.reused), queue)[0] == pytest.approx(run.reuse)


def covers(schedule: Schedule, length: np.ndarray) -> None:
    """Every step once, each sequence in one lane without a gap."""
    seen = sorted(zip(schedule.sequence[schedule.busy], schedule.step[schedule.busy], strict=True))
    assert seen == [(s, t) for s in range(len(length)) for t in range(length[s])]
    for s in range(len(length)):
        lanes, units = np.nonzero(schedule.sequence == s)
        assert len(set(lanes)) == 1
        assert units.tolist() == list(range(units[0], units[0] + length[s]))
        assert schedule.step[lanes, units].tolist() == list(range(length[s]))


@pytest.mark.parametrize("seed", range(5))
def test_queues(seed: int) -> None:
    rng = np.random.default_rng(seed)
    length = rng.integers(1, 12, 30)
    covers(compact(length), length)
    covers(queue_in_lanes(length, rng.permutation(30), 4, delay=[0, 5, 2, 9]), length)
    covers(aligned(np.arange(30).reshape(5, 6), length), length)
    tight = compact(length)
    assert tight.sequence.size <= length.sum() + tight.lanes * length.max()


def test_queue_by_hand() -> None:
    queue = queue_in_lanes(np.array([3, 1, 2]), [0, 1, 2], 2, delay=[0, 1])
    assert queue.sequence.tolist() == [[0, 0, 0, IDLE], [IDLE, 1, 2, 2]]
    assert queue.step.tolist() == [[0, 1, 2, IDLE], [IDLE, 0, 0, 1]]
    assert queue.start.tolist() == [[True, False, False, False], [False, True, True, False]]


def test_staggered_is_stationary() -> None:
    """A random look finds a first step as often as a long queue has them, at the beginning as later."""
    length = np.array([2, 10])
    schedule = staggered(length, 4000, 12, np.random.default_rng(1))
    assert schedule.busy.all()
    follows = (schedule.step[:, 1:] == schedule.step[:, :-1] + 1) & (
        schedule.sequence[:, 1:] == schedule.sequence[:, :-1]
    )
    ended = schedule.step[:, :-1] + 1 == length[schedule.sequence[:, :-1]]
    assert (follows ^ (ended & (schedule.step[:, 1:] == 0))).all()
    np.testing.assert_allclose(schedule.start.mean(axis=0), 1 / length.mean(), atol=0.02)


def test_groups() -> None:
    rng = np.random.default_rng(2)
    length, label = rng.integers(1, 30, 40), np.repeat([0, 1], 20)
    for group in random_groups(40, 16, 5, rng):
        assert len(set(group)) == 16
    for group in similar_groups(length, 8, 5, rng):
        between = np.flatnonzero((length > length[group].min()) & (length < length[group].max()))
        assert set(between) <= set(group)
    groups = class_groups(label, 20, 4, rng)
    assert [set(label[group]) for group in groups] == [{0}, {1}, {0}, {1}]
    with pytest.raises(ValueError, match="size must be an integer in 1..20, got 21"):
        class_groups(label, 21, 1, rng)


def test_points_never_rise() -> None:
    curve = [0.6, 0.3, 0.35, 0.1, np.nan]
    assert as_points(curve, (1, 2, 3, 4, 5, 6)) == [[1, 0.6], [2, 0.3], [3, 0.3], [4, 0.1]]


def test_largest_threshold() -> None:
    points = [Point(NEVER, 0.99, 0.0), Point(0.0, 0.985, 0.1), Point(0.2, 0.975, 0.3), Point(0.4, 0.98, 0.5)]
    assert largest(points, 0.01).threshold == 0.0  # 0.4 keeps it again, by chance
    assert largest(points, 0.02).threshold == 0.4
    assert largest(points, 0.0).threshold == NEVER
    with pytest.raises(ValueError, match="loss must be a finite number in"):
        largest(points, -0.01)


def test_sweep_stops() -> None:
    small = make_small("lstm", 4)
    points = sweep(small.network, small.split, (0.0, 1.0, 2.0), stop_below=1.1)
    assert [point.threshold for point in points] == [NEVER]
    points = sweep(small.network, small.split, (0.0, 1.0, 2.0))
    assert [point.threshold for point in points] == [NEVER, 0.0, 1.0, 2.0]
    assert points[0].reuse == 0.0 < points[2].reuse
