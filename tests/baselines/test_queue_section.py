"""The section ``queue`` of `ebatch reproduce`."""

from __future__ import annotations

import numpy as np
import pytest

from ebatch_baselines.optimum import batch_queue_value, greedy_rule
from ebatch_baselines.queue_section import QUEUES, greedy_and_bound, inoue_bound_s, read_rule, run, structure
from ebatch_env.reproduction.report import Options, Section


@pytest.fixture(scope="module")
def section() -> Section:
    told = []
    found = run(Options(quick=True, processes=2), lambda share, doing: told.append(share))
    assert told == sorted(told)
    assert told[-1] == 1.0
    return found


def test_simulation_agrees_with_the_exact_solution(section: Section) -> None:
    rows = [row for row in section.rows if row.what.endswith("simulated")]
    assert len(rows) == 3 * len(QUEUES)
    for row in rows:
        assert row.met, row
        assert (row.kind, row.checked) == ("exact", "own")
        assert row.interval is not None
        assert row.interval[0] < row.measured < row.interval[1]
        assert 0.0 < row.interval[1] - row.interval[0] < 0.1 * row.measured
    held = [row.interval[0] <= row.reference <= row.interval[1] for row in rows]  # type: ignore[index, operator]
    assert np.mean(held) > 0.6


def test_published_structure_on_the_published_curve_only(section: Section) -> None:
    shares = {row.what.partition(":")[0]: row for row in section.rows if "control limit" in row.what}
    assert all(row.reference is None for row in shares.values())  # no share is in print
    assert [shares[curve].measured for curve in ("affine", "knee", "stairs")] == [1.0, 1.0, 1.0]
    assert shares["doubling"].measured == 0.0
    assert "not on `doubling`" in section.summary
    assert "The threshold never falls" in section.summary


def test_bounds_are_no_published_figures(section: Section) -> None:
    bounds = [row for row in section.rows if row.kind == "bound"]
    assert len(bounds) == 4
    assert not [row for row in section.rows if row.kind == "published" and row.reference is not None]
    assert "the aim is 2.0% instead of 0.5%" in section.quick


def test_tables_and_charts_are_complete(section: Section) -> None:
    (table,) = section.tables
    assert {(row[0], row[1]) for row in table.rows} >= set(QUEUES)
    for row in table.rows:
        optimum, greedy, capped = (float(cell) for cell in row[6:9])  # type: ignore[arg-type]
        assert optimum <= capped * (1 + 1e-9)
        assert capped <= greedy * (1 + 1e-9)
    assert section.charts[0].name == "actions"
    assert len(section.charts) == 5
    times = section.charts[1]
    assert any(series.low is not None for series in times.series)


def test_control_limit_of_the_knee_rises_with_load() -> None:
    low, high = structure("knee", 0.3), structure("knee", 0.8)
    assert (low.threshold, high.threshold) == (2, 5)
    assert high.gaps == ()
    assert high.monotone
    assert max(high.batches) == 8


def test_doubling_waits_above_its_threshold() -> None:
    found = structure("doubling", 0.7)
    assert (found.threshold, found.gaps) == (4, (6, 7))
    assert not found.monotone


def test_read_rule_ignores_the_cut_off_end() -> None:
    assert read_rule(np.array([0, 1, 2, 2, 0, 0, 0, 0])) == (1, (), (0, 1, 2, 2))


@pytest.mark.parametrize("load", [0.1, 0.5, 0.9])
def test_greedy_stays_below_the_published_bound(load: float) -> None:
    exact, bound = greedy_and_bound(load)
    assert 0.9 * bound < exact <= bound


def test_the_bound_is_exact_without_load_and_close_under_load() -> None:
    assert inoue_bound_s(1e-9, 0.3, 1.0) == pytest.approx(1.3)
    # A fixed service time: greedy batches of any size, whose mean time is 3/2 of it under heavy load.
    tau = np.append(0.0, np.full(200, 1.0))
    exact = batch_queue_value(tau, 20.0, greedy_rule(200, 1, 400))
    assert exact == pytest.approx(1.5, rel=1e-3)
    assert inoue_bound_s(20.0, 0.0, 1.0) == pytest.approx(1.5)
