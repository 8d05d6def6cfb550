"""The section `e-batch`, on a quick run: its errors, and that its parts fit together."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ebatch_env.costs import CostTable
from ebatch_env.machines import resolve_machine
from ebatch_env.networks import network
from ebatch_env.reproduction.report import Options, Row, Section, Table
from ebatch_env.reproduction.sections import headline
from ebatch_env.reproduction.sections.headline import cases, episodes, sensitivity
from ebatch_env.simulator.plan import RoundPlan

# Relative errors of the headline as measured, and how far they may move.
ERRORS = {
    ("epur", "throughput"): 0.12,
    ("epur", "energy"): -0.11,
    ("tpu", "throughput"): -0.225,  # outside the aim: the section says why
    ("tpu", "energy"): 0.035,
}
DRIFT = 0.02


@pytest.fixture(scope="module")
def shares() -> list[float]:
    return []


@pytest.fixture(scope="module")
def section(shares: list[float]) -> Section:
    return headline.run(Options(quick=True), lambda share, doing: shares.append(share))


@pytest.fixture(scope="module")
def headline_rows(section: Section) -> dict[tuple[str, str], Row]:
    pairs = [(machine, quantity) for machine in cases.MACHINES for quantity in ("throughput", "energy")]
    return dict(zip(pairs, section.rows, strict=False))


def table(section: Section, name: str) -> list[dict[str, str | float | None]]:
    (found,) = [table for table in section.tables if table.name == name]
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]


def over(section: Section, machine: str, quantity: str, rival: str) -> dict[str, float]:
    rows = table(section, f"saturated-{quantity}")
    label, column = cases.MACHINES[machine], f"over {rival}"
    return {str(row["network"]): float(row[column]) for row in rows if row["machine"] == label and row[column]}  # type: ignore[arg-type]


@pytest.mark.parametrize("pair", ERRORS)
def test_headline(headline_rows: dict[tuple[str, str], Row], pair: tuple[str, str]) -> None:
    row = headline_rows[pair]
    assert row.reference == cases.PUBLISHED[pair]
    assert row.checked == "read"
    assert row.aim == 0.15
    assert row.error == pytest.approx(ERRORS[pair], abs=DRIFT)
    assert row.met == (pair != ("tpu", "throughput"))
    assert row.interval is not None
    assert row.interval[0] <= row.measured <= row.interval[1]


def test_only_the_first_four_rows_have_an_aim(section: Section) -> None:
    assert [row.aim is not None for row in section.rows[:5]] == [True] * 4 + [False]
    assert not any(row.aim for row in section.rows[4:])
    assert len({row.what for row in section.rows}) == len(section.rows)
    assert len({row.figure for row in section.rows}) == 4  # however often they are compared with


def test_a_deeper_queue_leaves_less_over_buckets_and_the_rest_alone(section: Section) -> None:
    rows = table(section, "depth")
    for label in cases.MACHINES.values():
        shallow, deep = (row for row in rows if row["machine"] == label and row["gain in"] == "throughput")
        assert (shallow["requests a lane"], deep["requests a lane"]) == (16, 48)
        assert 1.0 < float(deep["over buckets"]) < 0.9 * float(shallow["over buckets"])  # type: ignore[arg-type]
        for rival in cases.RIVALS[:3]:
            ratio = float(deep[f"over {rival.key}"]) / float(shallow[f"over {rival.key}"])  # type: ignore[arg-type]
            assert ratio == pytest.approx(1.0, abs=0.01)
    (row,) = [row for row in section.rows if row.what == "E-PUR: throughput, E-BATCH over buckets"]
    assert row.note.startswith("padding, batches of similar length; 16 requests a lane")
    assert "16 requests a lane wait" in section.quick


def test_who_is_left_out_and_why(section: Section) -> None:
    out = cases.left_out()
    assert set(out) == set(cases.CASES) - set(cases.headline_networks())
    assert "both ends" in out["EESEN"]
    assert out["IMDB"] == out["LDLRNN"] == "all weights stay on chip on the E-PUR, so that hopping costs nothing there"
    assert "IMDB and LDLRNN: all weights stay on chip" in section.summary
    (row,) = [r for r in section.rows if r.what.startswith("E-PUR: energy") and "networks" in r.what]
    assert f"E-PUR energy {row.measured:.2f}x ({100 * (row.error or 0):+.1f} %)" in section.summary


def test_only_hopping_at_every_step_comes_near_the_published_energy(section: Section) -> None:
    gains = {
        rival.key: np.exp(np.mean(np.log([over(section, "epur", "energy", rival.key)[n] for n in names])))
        for names in [cases.headline_networks()]
        for rival in cases.RIVALS
    }
    assert gains["cells-5"] > gains["cells-1"] > 2.8
    assert max(gains["layers-5"], gains["padded"], gains["buckets"]) < 1.6


def test_networks_of_the_headline() -> None:
    assert cases.headline_networks() == ("DeepSpeech2", "MNMT", "BYSDNE", "GMAT", "RLDRADSPR")
    assert set(cases.CASES) - set(cases.headline_networks()) == {"IMDB", "LDLRNN", "EESEN"}


def test_nothing_to_gain_where_weights_stay(section: Section) -> None:
    gains = over(section, "epur", "energy", "cells-1")
    assert gains["IMDB"] == pytest.approx(1.0, abs=0.02)
    assert gains["LDLRNN"] == pytest.approx(1.0, abs=0.02)


def test_a_network_read_from_both_ends_runs_whole_sequences(section: Section) -> None:
    rows = [row for row in table(section, "saturated-energy") if row["network"] == "EESEN"]
    for row in rows:
        assert row["over cells-5"] is row["over layers-5"] is row["best fixed T"] is None
        assert float(row["over padded"]) >= 1.0  # type: ignore[arg-type]
        assert float(row["largest T"]) >= 700  # type: ignore[arg-type]


@pytest.mark.parametrize("machine", ["epur", "tpu"])
@pytest.mark.parametrize("name", ["MNMT", "RLDRADSPR", "IMDB"])
def test_stacked_cells_cost_what_rounds_of_one_step_cost(machine: str, name: str) -> None:
    system = episodes.full_queue(machine, name, 8, 64)
    once = RoundPlan(time_steps=1, joins=False)
    (plain,) = episodes.play_plan(system, system.table, once, (0,), dry=True)
    (cells,) = episodes.play_plan(system, cases.stacked_cells(system.table), once, (0,), dry=True)
    for field in ("throughput_rps", "energy_j", "occupancy", "time_steps"):
        assert getattr(cells, field) == pytest.approx(getattr(plain, field), rel=1e-9), field


def test_stacked_cells_by_hand() -> None:
    toy = CostTable(
        step_s=[[0, 1, 1], [0, 2, 3]], step_j=[[0, 1, 2], [0, 1, 2]], load_s=[4, 5], load_j=[6, 7], static_w=1.0
    )
    cells = cases.stacked_cells(toy)
    assert cells.step_s.tolist() == [[0, 12, 13]]
    assert cells.step_j.tolist() == [[0, 15, 17]]
    assert cells.static_w == 1.0
    assert not cells.load_s.any()
    assert not cells.load_j.any()


def test_five_cells_submitted_leave_lanes_idle_until_the_next_batch() -> None:
    assert cases.CELLS.plan is not None
    system = episodes.full_queue("epur", "BYSDNE", 4, 16)
    (outcome,) = episodes.play_plan(system, system.table, cases.CELLS.plan, (0,), dry=True)
    assert (outcome.time_steps, outcome.occupancy) == (5.0, 1.0)  # 30 steps are six submissions
    mixed = episodes.full_queue("epur", "MNMT", 4, 256)
    (outcome,) = episodes.play_plan(mixed, mixed.table, cases.CELLS.plan, (0,), dry=True)
    # A sequence ends anywhere in a submission, so two of its steps on average find the lane empty.
    mean = mixed.mean_length
    assert outcome.occupancy == pytest.approx(mean / (mean + 2.0), rel=0.02)


def test_lanes_and_loads_are_the_same_for_every_scheme() -> None:
    with_hardware = episodes.under_load("tpu", "MNMT", 8, 64, 0.5)
    bare = episodes.under_load("tpu", "MNMT", 8, 64, 0.5, notifies=False)
    rng = np.random.default_rng
    a, b = with_hardware.sample_trace(rng(3)), bare.sample_trace(rng(3))
    assert np.allclose(a.arrival_s, b.arrival_s, rtol=1e-12)
    assert (a.length == b.length).all()
    assert not bare.table.notifies


def test_a_policy_by_name_and_its_plan_agree() -> None:
    system = episodes.full_queue("epur", "MNMT", 8, 128)
    seeds = (5, 6)
    by_name = episodes.play_policy(system, "ebatch-fixed", {"time_steps": 8}, seeds, dry=True)
    by_plan = episodes.play_plan(system, system.table, RoundPlan(time_steps=8), seeds, dry=True)
    for one, other in zip(by_name, by_plan, strict=True):
        assert one.throughput_rps == pytest.approx(other.throughput_rps, rel=1e-12)
        assert one.energy_j == pytest.approx(other.energy_j, rel=1e-12)


@pytest.mark.parametrize("machine", ["epur", "tpu"])
def test_no_gain_beyond_the_bound(section: Section, machine: str) -> None:
    label = cases.MACHINES[machine]
    rows = [row for row in table(section, "saturated-throughput") if row["machine"] == label and row["bound"]]
    assert len(rows) == 7
    for row in rows:
        # Rounds of one step can be a little less full than all lanes busy, in the last of them.
        assert float(row["over cells-1"]) <= float(row["bound"]) * 1.02, row  # type: ignore[arg-type]


def test_mechanisms(section: Section) -> None:
    rows = table(section, "mechanisms")
    for label in cases.MACHINES.values():
        full, no_joins, no_notice, neither = (row for row in rows if row["machine"] == label)
        assert full["padding, %"] == no_joins["padding, %"] == 0.0
        assert float(no_notice["padding, %"]) > 5.0  # type: ignore[arg-type]
        assert float(no_joins["lanes idle, %"]) > 5.0  # type: ignore[arg-type]
        speeds = [float(row["throughput, own T"]) for row in (full, no_joins, neither)]  # type: ignore[arg-type]
        assert speeds == sorted(speeds, reverse=True)
        energies = [float(row["energy"]) for row in (full, no_joins, no_notice, neither)]  # type: ignore[arg-type]
        assert energies == sorted(energies)


def test_energy_falls_with_time_steps(section: Section) -> None:
    (chart,) = [chart for chart in section.charts if chart.name == "energy-epur"]
    for series in chart.series:
        assert list(series.y) == sorted(series.y, reverse=True), series.label
        assert series.y[0] == 1.0
        assert series.y[-1] < 0.4


def test_over_load(section: Section) -> None:
    rows = table(section, "loads")
    assert len(rows) == 6
    for label in cases.MACHINES.values():
        low, _, high = (row for row in rows if row["machine"] == label)
        assert float(low["throughput"]) < 1.15 < 1.4 < float(high["throughput"])  # type: ignore[arg-type]
        assert float(high["latency p99"]) > 2.0  # type: ignore[arg-type]


def test_the_knee_lies_between_the_ends(section: Section) -> None:
    for row in table(section, "knee"):
        assert 1 < float(row["T at the knee"]) < 48  # type: ignore[arg-type]
        assert float(row["cost at run time"]) == pytest.approx(float(row["cost there"]), rel=0.06)  # type: ignore[arg-type]


def test_sensitivity(section: Section, headline_rows: dict[tuple[str, str], Row]) -> None:
    rows = table(section, "sensitivity")
    assert len(rows) == len(sensitivity.variations())
    assert all(np.isfinite(float(row["throughput"])) and np.isfinite(float(row["energy"])) for row in rows)  # type: ignore[arg-type]
    for machine, label in cases.MACHINES.items():
        (base,) = [row for row in rows if row["machine"] == label and row["constant"] == sensitivity.BASE]
        for quantity in ("throughput", "energy"):
            measured = headline_rows[machine, quantity].measured
            assert float(base[quantity]) == pytest.approx(measured, rel=0.03)  # type: ignore[arg-type]
    dram = {row["value"]: float(row["energy"]) for row in rows if row["constant"] == "LPDDR4 pJ/bit"}  # type: ignore[arg-type]
    assert dram["8"] < dram["14"]


@pytest.mark.parametrize("number", range(len(sensitivity.variations())))
def test_a_variation_changes_its_machine(number: int) -> None:
    chosen = sensitivity.variations()[number]
    changed = resolve_machine({"name": chosen.machine, **chosen.fields})
    same = dataclasses.asdict(changed) == dataclasses.asdict(resolve_machine(chosen.machine))  # type: ignore[call-overload]
    assert same == (not chosen.fields)
    assert chosen.fields or chosen.lanes != cases.LANES or not chosen.what


def test_the_summary_tells_measured_figures(section: Section, headline_rows: dict[tuple[str, str], Row]) -> None:
    for (machine, quantity), row in headline_rows.items():
        assert f"{row.measured:.2f}x" in section.summary
        assert row.error is not None
        assert f"{cases.MACHINES[machine]} {quantity} ({100 * row.error:+.1f} %)" in section.summary


def test_a_missed_aim_is_explained(section: Section) -> None:
    rows = table(section, "sensitivity")
    (without,) = [row for row in rows if row["constant"] == "element-wise work"]
    (few,) = [row for row in rows if (row["machine"], row["constant"], row["value"]) == ("TPU", "lanes", "8")]
    for row in (without, few):
        assert float(row["throughput / published"]) > 0.85  # type: ignore[arg-type]
        assert row["throughput within the aim"] == row["energy within the aim"] == "yes"
    assert f"Outside it: TPU throughput ({100 * (section.rows[2].error or 0):+.1f} %)" in section.summary
    assert f"within the aim with element-wise work = none ({without['throughput']:.2f}x" in section.summary
    assert f"lanes = 8 ({few['throughput']:.2f}x" in section.summary
    assert "TPU with lanes = 8" in section.summary
    swings = section.summary.partition("What moves each figure most")[2]
    assert "replicas = 8" in swings
    assert "GB/s = 24" in swings


def test_seeds_are_told_and_progress_ends(section: Section, shares: list[float]) -> None:
    assert "1000000..1000003" in section.seeds
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_names_are_unique(section: Section) -> None:
    for parts in (section.tables, section.charts):
        names = [part.name for part in parts]
        assert len(set(names)) == len(names)
    assert all(isinstance(found, Table) for found in section.tables)


def test_the_work_can_be_shared(section: Section) -> None:
    job = sensitivity.SensitivityJob(0, 4)
    alone = headline.run_jobs([job, job], 1, lambda share, doing: None)
    shared = headline.run_jobs([job, job], 2, lambda share, doing: None)
    assert alone == shared


def test_networks_and_machines_exist() -> None:
    for name, case in cases.CASES.items():
        assert network(name).name == name == case.network
        assert case.source
