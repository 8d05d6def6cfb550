"""Sets as bits against Python's own: the trees over three levels, and counting."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from ebatch_env.simulator import bits as b
from ebatch_env.simulator.layout import tree_levels

MEMBERS = 64 * 64 + 100  # three levels


@njit(**b.COMPILED)
def step(bits, levels, action, p):  # type: ignore[no-untyped-def]
    """Add or remove ``p``, or find its neighbours."""
    if action == 0:
        b.tree_add(bits, levels, p)
    elif action == 1:
        b.tree_remove(bits, levels, p, True)
    elif action == 2:
        b.tree_remove(bits, levels, p, False)
    return b.tree_next(bits, levels, p), b.tree_previous(bits, levels, p - 1)


@njit(**b.COMPILED)
def fill_and_count(bits, section, first, end, low, high):  # type: ignore[no-untyped-def]
    b.fill_range(bits, section, first, end)
    return b.count_range(bits, section, low, high)


@njit(**b.COMPILED)
def copy(row, first, target):  # type: ignore[no-untyped-def]
    b.copy_from(row, first, target)


@pytest.mark.parametrize("spread", [1, 64, 1000], ids=lambda spread: f"every {spread}")
def test_trees_find_what_sorted_sets_find(spread: int) -> None:
    levels = tree_levels(MEMBERS)
    assert levels.size == 4
    rng = np.random.default_rng(spread)
    bits, members = np.zeros(levels[-1], np.uint64), set[int]()
    for _ in range(3000):
        p = int(rng.integers(MEMBERS // spread)) * spread
        action = (1 if rng.random() < 0.6 else 2) if p in members else (0 if rng.random() < 0.5 else 3)
        found = step(bits, levels, action, p)
        members = members | {p} if action == 0 else members - {p} if action == 1 else members
        above, below = [q for q in members if q >= p], [q for q in members if q < p]
        assert found == (min(above, default=-1), max(below, default=-1))
    for p in sorted(members):
        step(bits, levels, 1, p)
    assert not bits.any()


def test_ranges_are_filled_and_counted() -> None:
    rng = np.random.default_rng(0)
    for _ in range(500):
        bits = np.zeros(6, np.uint64)
        first, low = rng.integers(0, 255, 2).tolist()
        end, high = int(rng.integers(first + 1, 257)), int(rng.integers(low + 1, 257))
        assert fill_and_count(bits, 1, first, end, low, high) == len(set(range(first, end)) & set(range(low, high)))
        places = np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little"))
        np.testing.assert_array_equal(places, np.arange(64 + first, 64 + end))


@pytest.mark.parametrize("kind", [np.float32, np.int8])
def test_rows_are_copied_from_a_place_on(kind: type) -> None:
    row, target = np.arange(1, 72).astype(kind), np.zeros(71, kind)
    copy(row, 43, target)
    np.testing.assert_array_equal(target, np.where(np.arange(71) < 43, 0, row))
