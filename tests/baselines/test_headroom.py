"""The study: figures that follow from the episodes, files, the page and its notes."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from ebatch_baselines.headroom import study as module
from ebatch_baselines.headroom.page import CHART, REPORT, write_page
from ebatch_baselines.headroom.study import FIGURES, Settings, bounds_of, entrants, figures, study
from ebatch_env.cli import app
from ebatch_env.scenarios import SCENARIOS
from ebatch_env.scoring import policy as policies
from ebatch_env.scoring.policy import StoredPolicy
from ebatch_env.scoring.records import EpisodeRecord
from ebatch_env.scoring.runner import evaluate
from ebatch_env.scoring.seeds import EVALUATION_SEED
from ebatch_env.scoring.tables import with_notes

TOY, QUEUE = "ebatch/Toy-v0", "ebatch/Queue-v0"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("headroom")


@pytest.fixture(scope="module")
def values(folder: Path) -> dict[str, Any]:
    told: list[float] = []
    found = study(Settings((TOY,), 20, 6, 2), folder, command="ebatch headroom", progress=lambda s, _: told.append(s))
    assert told == sorted(told)
    assert told[-1] == 1.0
    return found


@pytest.fixture(scope="module")
def record() -> EpisodeRecord:
    return evaluate(TOY, ["serial"], 1)[0]


def records(template: EpisodeRecord, **costs: list[float]) -> list[EpisodeRecord]:
    """Records with these costs by policy and episode; infinite: truncated."""
    return [
        dataclasses.replace(
            template,
            policy=policy.replace("_", "-"),
            episode=n,
            cost=cost if np.isfinite(cost) else 0.0,
            truncated=not np.isfinite(cost),
        )
        for policy, mine in costs.items()
        for n, cost in enumerate(mine)
    ]


def test_figures_by_hand(record: EpisodeRecord) -> None:
    found = figures(
        records(record, ebatch=[1.0, 3.0], constant=[0.9, 2.9], cap=[0.8, 2.4], linear=[0.1, np.inf], ppo=[0.9, 2.4]),
        np.array([0.5, 1.5]),
        {"ebatch": "heuristic", "constant": "heuristic", "cap": "heuristic", "linear": "search", "ppo": "agent"},
    )
    assert list(found["policies"]) == ["cap", "ppo", "constant", "ebatch", "linear"]
    names = [found[key] for key in ("best", "best_constant", "best_heuristic", "best_search", "best_agent", "optimum")]
    assert names == ["cap", "constant", "cap", None, "ppo", None]
    assert found["policies"]["cap"]["relative"] == pytest.approx({"value": -0.2, "low": -0.2, "high": -0.2})
    assert found["policies"]["ppo"]["relative"] == pytest.approx({"value": -0.175, "low": -0.2, "high": -0.1})
    assert found["bound"]["relative"] == pytest.approx({"value": -0.5, "low": -0.5, "high": -0.5})
    assert found["policies"]["linear"]["truncated"] == 1
    assert np.isnan(found["policies"]["linear"]["relative"]["value"])
    assert (found["room"], found["room_sure"]) == (True, True)


@pytest.mark.parametrize(
    ("costs", "room", "sure"), [([0.7, 3.0], False, False), ([0.4, 3.0], True, False), ([0.5, 2.0], True, True)]
)
def test_room_is_a_tenth(record: EpisodeRecord, costs: list[float], room: bool, sure: bool) -> None:
    kinds = {"ebatch": "heuristic", "linear": "search"}
    found = figures(records(record, ebatch=[1.0, 3.0], linear=costs), np.array([0.1, 0.1]), kinds)
    assert (found["room"], found["room_sure"]) == (room, sure)


def test_the_yardstick_is_needed(record: EpisodeRecord) -> None:
    with pytest.raises(ValueError, match="policies must be with 'ebatch'"):
        figures(records(record, cap=[1.0, 2.0]), np.zeros(2), {"cap": "heuristic"})


def test_the_study_scores_what_the_search_found(values: dict[str, Any], folder: Path) -> None:
    found = values["scenarios"][TOY]
    entry = json.loads((folder / "tuned" / "Toy-v0.json").read_text())["linear"]
    assert {key: entry[key] for key in found["search"]} == found["search"]
    assert found["search"]["trials"] == 20
    setting = ",".join(f"{name}={value!r}" for name, value in entry["knobs"].items())
    costs = [row.cost for row in evaluate(TOY, [f"linear,{setting}"], 6, EVALUATION_SEED)]
    assert found["policies"]["linear"]["cost"]["mean"] == pytest.approx(np.mean(costs), rel=1e-12)
    ebatch = [row.cost for row in evaluate(TOY, ["ebatch"], 6, EVALUATION_SEED)]
    assert found["policies"]["ebatch"]["cost"]["mean"] == pytest.approx(np.mean(ebatch), rel=1e-12)
    assert set(found["policies"]) > {"constant", "linear", "serial", "cap"}
    assert "optimal-queue" in found["skipped"]
    assert "random" not in found["policies"]
    shipped = json.loads(resources.files("ebatch_baselines").joinpath("tuned", "Toy-v0.json").read_text())
    with_knobs = {name for name, policy in found["policies"].items() if policy["kind"] == "heuristic"}
    assert set(found["untuned"]) == with_knobs - shipped.keys()
    lowest = min(policy["cost"]["mean"] for policy in found["policies"].values())
    assert 0 < found["bound"]["cost"]["mean"] < lowest


def test_the_figures_do_not_depend_on_interruptions(
    values: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (folder / FIGURES).read_text()
    monkeypatch.setattr("ebatch_baselines.search.costs_of", None)  # all of it is kept
    monkeypatch.setattr(module, "_block_bounds", None)
    assert study(Settings((TOY,), 20, 6, 2), folder, command="ebatch headroom")["scenarios"] == values["scenarios"]
    assert (folder / FIGURES).read_text() == before


def test_bounds_that_are_kept_are_those_worked_out_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = bounds_of(TOY, 5)
    assert (bounds_of(TOY, 3, 1, tmp_path) == expected[:3]).all()
    (path,) = (tmp_path / "bounds").iterdir()
    assert len(json.loads(path.read_text())) == 3
    real, seen = module._block_bounds, []
    monkeypatch.setattr(module, "_block_bounds", lambda block: seen.append(block.seeds) or real(block))
    assert (bounds_of(TOY, 5, 1, tmp_path) == expected).all()
    assert seen == [(EVALUATION_SEED + 3, EVALUATION_SEED + 4)]
    path.write_text("{")
    assert (bounds_of(TOY, 5, 1, tmp_path) == expected).all()


def test_the_page_has_every_policy_and_takes_notes(values: dict[str, Any], tmp_path: Path) -> None:
    found = {**values["scenarios"][TOY], "untuned": []}
    values = {**values, "scenarios": {TOY: found}}
    shown = write_page(values, tmp_path)
    page = (tmp_path / REPORT).read_text()
    for label, policy in found["policies"].items():
        row = f"| `{label}` | {policy['kind']} |"
        assert row in page
        assert row in shown
    assert f"| bound |  | {found['bound']['cost']['iqm']:.2f} (" in page
    assert "not tuned" not in page
    found = {**found, "untuned": ["ebatch"]}
    shown = write_page({**values, "scenarios": {TOY: found}}, tmp_path)
    assert "`ebatch` is not tuned here" in shown
    assert "| `ebatch` | heuristic, not tuned |" in shown
    assert (tmp_path / CHART).read_bytes().startswith(b"\x89PNG")
    noted = with_notes(page, f"# Title\n\n## {TOY}\n\nToo small to matter.\n")
    assert noted == page.replace(f"<!-- notes {TOY} -->", "Too small to matter.")
    with pytest.raises(ValueError, match="notes must be on scenarios of the page, got 'ebatch/None-v0'"):
        with_notes(page, "## ebatch/None-v0\n\nx")


def test_the_page_is_the_same_from_the_file(values: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    assert write_page(json.loads((folder / FIGURES).read_text()), tmp_path) == write_page(values, tmp_path)


def test_the_docs_are_made_of_the_files_and_the_notes(folder: Path, values: dict[str, Any], tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("generate", Path(__file__).parents[2] / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    write_page(values, folder)
    (tmp_path / "headroom").mkdir()
    (tmp_path / "headroom" / "notes.md").write_text(f"# Notes\n\n## {TOY}\n\nBy hand.\n")
    generate.headroom(folder, tmp_path)
    page = (tmp_path / "headroom.md").read_text()
    assert "\nBy hand.\n" in page
    assert f"](images/{CHART})" in page
    assert (tmp_path / "images" / CHART).is_file()
    assert json.loads((tmp_path / "headroom" / FIGURES).read_text())["scenarios"].keys() == {TOY}


def test_agents_are_those_of_the_scenario(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = {
        "maskable_ppo@Toy-v0": StoredPolicy(Path("a"), "", TOY, "maskable_ppo"),
        "ppo@Queue-v0": StoredPolicy(Path("b"), "", QUEUE, "ppo"),
        "mine": StoredPolicy(Path("c"), ""),
    }
    monkeypatch.setattr(policies, "stored_policies", lambda: stored)
    monkeypatch.setattr(module, "stored_policies", lambda: stored)
    chosen = entrants(TOY, None)
    agents = {label: spec.spec for label, (spec, kind) in chosen.items() if kind == "agent"}
    assert agents == {"maskable_ppo": "maskable_ppo@Toy-v0"}
    assert entrants(QUEUE, None)["optimal-queue"][1] == "optimum"


def test_bad_settings_are_named() -> None:
    with pytest.raises(ValueError, match="candidates must be an integer"):
        Settings((TOY,), candidates=-1)
    with pytest.raises(ValueError, match="env must be given once only"):
        Settings((TOY, TOY))
    with pytest.raises(ValueError, match="env must be one of"):
        Settings(("ebatch/None-v0",))
    with pytest.raises(ValueError, match="env must be given at least once"):
        Settings(())


def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[Settings] = []
    real = module.study

    def small(settings: Settings, *args: Any, **kwargs: Any) -> Any:
        seen.append(settings)
        return real(Settings((TOY,), 0, 2, 1), *args, **kwargs)

    monkeypatch.setattr(module, "study", small)
    done = CliRunner().invoke(app, ["headroom", "--quick", "--out", str(tmp_path), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["scenarios"][TOY]["search"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["bounds", CHART, FIGURES, "parts", REPORT])
    done = CliRunner().invoke(app, ["headroom", "--env", QUEUE, "--candidates", "7", "--out", str(tmp_path)])
    assert "Room: " in done.stdout
    assert seen == [Settings(tuple(SCENARIOS), **module.QUICK), Settings((QUEUE,), 7)]
