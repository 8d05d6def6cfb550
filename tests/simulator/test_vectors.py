"""What is done with sixty-four lanes at once, against NumPy's own way."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from ebatch_env.simulator import vectors
from ebatch_env.simulator.bits import COMPILED
from ebatch_env.trace import MAX_LENGTH

WORDS = 3  # of lanes, so that a place other than the first one counts
SIZE = WORDS * vectors.WORD


@njit(**COMPILED)
def among(row, place, least, most):
    return vectors.among(row, place, least, most)


@njit(**COMPILED)
def advance(request_of, left_of, total_of, place, steps):
    vectors.advance(request_of, left_of, total_of, place, steps)


@njit(**COMPILED)
def survey(request_of, left_of, total_of, place):
    return vectors.survey(request_of, left_of, total_of, place)


@njit(**COMPILED)
def doublings(row, place):
    return vectors.doublings(row, place)


@st.composite
def rows_of_lanes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Requests, steps left and lengths in the lanes, as the kernel keeps them: free lanes, short sequences, long ones."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    longest = draw(st.sampled_from([1, 2, 20, 1000, MAX_LENGTH]))
    total = rng.integers(1, longest + 1, SIZE, dtype=np.int32)
    left = rng.integers(1, total + 1, dtype=np.int32)
    request = rng.choice(2**31 - 1, SIZE, replace=False).astype(np.int32)
    free = rng.random(SIZE) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    total[free], left[free], request[free] = 0, 0, -1
    return request, left, total


places = st.sampled_from(range(0, SIZE, vectors.WORD))


@given(rows_of_lanes(), places, st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_among(rows: tuple[np.ndarray, ...], place: int, one: int, other: int) -> None:
    least, most = sorted((one, other))
    for row in rows:
        lanes = row[place : place + vectors.WORD]
        expected = sum(1 << n for n in np.flatnonzero((lanes >= least) & (lanes <= most)).tolist())
        assert among(row, place, least, most) == expected
        edge = int(lanes.max())  # both ends count
        if edge >= 0:
            assert among(row, place, edge, edge) == sum(1 << n for n in np.flatnonzero(lanes == edge).tolist())


@given(rows_of_lanes(), places, st.one_of(st.integers(1, 30), st.just(MAX_LENGTH)))
def test_advance(rows: tuple[np.ndarray, ...], place: int, steps: int) -> None:
    request, left, total = (row.copy() for row in rows)
    here = np.zeros(SIZE, bool)
    here[place : place + vectors.WORD] = True
    over = here & (left <= steps)
    request[over], total[over] = -1, 0
    left[here] = np.maximum(left[here] - steps, 0)
    advance(*rows, place, steps)
    for row, expected in zip(rows, (request, left, total), strict=True):
        np.testing.assert_array_equal(row, expected)


@given(rows_of_lanes(), places)
def test_survey(rows: tuple[np.ndarray, ...], place: int) -> None:
    request, left, total = (row[place : place + vectors.WORD].astype(np.int64) for row in rows)
    busy, huge = request >= 0, 2**32 - 1
    done = total - left
    least, first = (int(numbers[busy].min()) if busy.any() else huge for numbers in (left - 1, request))
    expected = (left.sum(), left.max(), least, done.sum(), done.max(), first)
    assert survey(*rows, place) == tuple(int(number) for number in expected)


@pytest.mark.parametrize("edge", [0, 1])
@given(rows_of_lanes(), places)
def test_doublings(edge: int, rows: tuple[np.ndarray, ...], place: int) -> None:
    left = rows[1]
    left[left > 1] = (1 << (left[left > 1] % 12)) + edge  # powers of two, and one more
    for half, word in enumerate(doublings(left, place)):
        first = place + half * vectors.WORD // 2
        lanes = left[first : first + vectors.WORD // 2]
        for b in range(vectors.COUNTERS):
            assert (word >> 6 * b) & 0x3F == ((lanes > 0) & (lanes <= 1 << b)).sum()
