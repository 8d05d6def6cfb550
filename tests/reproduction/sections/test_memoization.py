"""Section `memoization`: held errors of what needs no training, and what the measurement must show whatever its seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra 'approximation'")

from ebatch_env.machines.approximation import MemoizationEffect
from ebatch_env.machines.savings import PUBLISHED_MEMOIZATION
from ebatch_env.reproduction.approximate_serving import LANES, on_lanes
from ebatch_env.reproduction.report import Options, Row, Section
from ebatch_env.reproduction.sections.memoization import run
from ebatch_env.reproduction.sections.memoization.alone import measured_savings, published_savings

pytestmark = pytest.mark.slow

ERRORS = {  # of the rows that come from published reuse alone
    "IMDB with the published reuse, 36.2%: energy saved": 0.377,
    "DeepSpeech2 with the published reuse, 16.4%: energy saved": 0.025,
    "EESEN with the published reuse, 30.5%: energy saved": 0.049,
    "MNMT with the published reuse, 19.0%: energy saved": -0.261,
    "published reuse, mean of four networks: energy saved": 0.092,
    "published reuse, scaled to its printed mean of 24.2%: speed-up": -0.018,
    "published reuse, scaled to its printed mean of 24.2%: energy saved": 0.175,
}


@pytest.fixture(scope="module")
def section(own_cache: Path) -> Section:
    told: list[float] = []
    found = run(Options(quick=True), lambda share, what: told.append(share))
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert any(own_cache.rglob("*.pt"))
    return found


def rows(section: Section) -> dict[str, Row]:
    return {row.what: row for row in section.rows}


def table(section: Section, name: str) -> list[dict[str, object]]:
    (found,) = (one for one in section.tables if one.name == name)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


@pytest.mark.parametrize("what", ERRORS)
def test_errors_are_held(section: Section, what: str) -> None:
    assert rows(section)[what].error == pytest.approx(ERRORS[what], abs=0.002)


def test_measured_reuse(section: Section) -> None:
    (measured,) = (row for what, row in rows(section).items() if what.startswith("neuron evaluations reused"))
    assert 25 < measured.measured < 65
    assert rows(section)["test accuracy lost at those thresholds, mean"].measured < 8


def test_measured_effect_follows_from_measured_reuse(section: Section) -> None:
    (reuse,) = (row.measured / 100 for what, row in rows(section).items() if what.startswith("neuron evaluations"))
    speed = np.mean([one.speed_up for one in measured_savings(reuse).values()])
    assert rows(section)["E-PUR with our mean reuse: speed-up"].measured == pytest.approx(speed)


def test_published_savings_are_of_the_published_reuse() -> None:
    for one in PUBLISHED_MEMOIZATION:
        assert published_savings()[one.network].computations_avoided == pytest.approx(one.share)


def test_throttling_lets_more_be_reused(section: Section) -> None:
    """On speech, at the same loss: the point of the scheme."""
    shares = {
        row["loss allowed"]: float(str(row["reuse, %"]).removesuffix(" (1 seed)"))
        for row in table(section, "thresholds")
        if row["network"] == "vowels-lstm"
    }
    assert shares["1% on training"] > shares["1% on training, no throttling"] + 5
    assert shares["0% on training"] <= shares["1% on training"] <= shares["2% on training"]


def test_batches_lose_it(section: Section) -> None:
    (chart,) = (one for one in section.charts if one.name == "fillings")
    curves = {series.label: dict(zip(series.x, series.y, strict=True)) for series in chart.series}
    staggered = curves["staggered"]
    assert staggered[1] > 0.5
    assert staggered[8] < 0.12
    assert staggered[32] < 0.001
    assert all(a >= b for a, b in zip(list(staggered.values()), list(staggered.values())[1:], strict=False))
    for lanes in (4, 8, 16):
        assert curves["staggered, starts apart"][lanes] > staggered[lanes]
        assert curves["aligned, one class"][lanes] > curves["aligned, random"][lanes] > staggered[lanes]
        assert curves["staggered, lanes evaluate together"][lanes] > 1.5 * staggered[lanes]


def test_what_the_machine_is_told(section: Section) -> None:
    for row in table(section, "batched-e-pur"):
        if row["rule"] == "if lanes were independent":
            lanes = int(str(row["busy lanes"]))
            assert lanes in LANES
            first = next(r for r in table(section, "batched-e-pur") if r["rule"] == row["rule"])
            reuse = float(str(first["rows skipped, %"])) / 100
            assert float(str(row["rows skipped, %"])) == pytest.approx(100 * reuse**lanes)
            effect = on_lanes({"memoization": MemoizationEffect(reuse)}, lanes)
            assert row["speed-up, x"] == pytest.approx(effect.speed_up)


def test_memoization_never_slows_a_full_machine(section: Section) -> None:
    for row in table(section, "serving"):
        assert float(str(row["throughput, x"])) > 0.97
    assert {row["policy"] for row in table(section, "serving")} == {"ebatch", "cellular"}


def test_a_single_seed_is_told(section: Section) -> None:
    (measured,) = (row for what, row in rows(section).items() if what.startswith("neuron evaluations reused"))
    assert (measured.seeds, measured.interval) == (1, None)
    assert "1 seed instead of 3" in section.quick


def test_energy_falls_with_rows_then_rises_because_multiplications_do(section: Section) -> None:
    parts = table(section, "energy-parts-batched")
    batched = [row for row in parts if row["steps a round"] == 8]
    saved = [float(str(row["energy saved, %"])) for row in batched]
    least = saved.index(min(saved))  # first it falls with the rows that are skipped
    assert 0 < least < 4
    assert saved[least:] == sorted(saved[least:])
    assert f"falling with the rows to {saved[least]:.0f} % with {batched[least]['busy lanes']}, and" in section.summary
    share, points = zip(
        *(map(float, str(row["multiplications: % of all, saved points"]).split(", ")) for row in batched), strict=True
    )
    assert list(share) == sorted(share)
    assert points[-1] > 0.6 * saved[-1] > 5 * points[0]
    alone, replicated = (float(str(row["energy saved, %"])) for row in parts[:2])
    assert alone > replicated > 1.5 * saved[0]  # rounds of 100 steps, on which DRAM weighs little


def test_text(section: Section) -> None:
    assert "nan" not in section.summary
    assert "0, intervals" in section.seeds
