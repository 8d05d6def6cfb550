"""The page says what the figures are, and keeps what is written by hand."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("pyarrow")
pytest.importorskip("sb3_contrib")

from ebatch_agents import library
from ebatch_agents.scoreboard.board import Board, read
from ebatch_agents.scoreboard.charts import draw, sorted_policies
from ebatch_agents.scoreboard.page import write_page
from ebatch_agents.scoreboard.verify import check
from ebatch_env.scoring.tables import significant, with_notes
from tests.agents.conftest import TOY

ROOT = Path(__file__).parents[3]


@pytest.fixture
def generate() -> ModuleType:
    """``docs/generate.py``."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_show_the_figures_cheapest_first(built: Path) -> None:
    page = (built / "report.md").read_text()
    values = read(built).values["scenarios"][TOY]
    policies = values["cases"][""]["policies"]
    table = page[page.index("| policy | cost |") : page.index("Shipped: seed")]
    rows = {re.findall("`([^`]+)`", line)[0]: line for line in table.splitlines()[2:] if line}
    assert list(rows) == sorted_policies(policies)
    for name, row in rows.items():
        cost = policies[name]["metrics"]["cost"]
        assert f"| {significant(cost['iqm'])} ({significant(cost['low'])}..{significant(cost['high'])}) |" in row
        if name != "ebatch":
            change = 100 * policies[name]["against"]["ebatch"]["relative"]["value"]
            assert f"| {round(change, 1) + 0.0:+.1f} (" in row
    assert rows["maskable_ppo"].startswith("| **`maskable_ppo`** |")
    assert "768 per seed" in rows["maskable_ppo"]
    assert "episodes |" in rows["ebatch"] or re.search(r"[\d,]+ \|$", rows["ebatch"])  # its budget
    for case in values["cases"].values():
        assert f"| {case['title']} | {case['episodes']} |" in page
    assert "ebatch train --env ebatch/Toy-v0 --algo maskable_ppo --seed 0 --steps 768" in page


def test_pictures_are_drawn_and_linked(built: Path) -> None:
    page = (built / "report.md").read_text()
    links = re.findall(r"\]\((charts/[^)]+)\)", page)
    assert [link.removeprefix("charts/Toy-v0-") for link in links] == [
        "cost.png",
        "energy-latency.png",
        "learning.png",
        "learned.png",
        "transfer.png",
    ]
    for link in links:
        assert (built / link).stat().st_size > 5000


def test_truncated_policies_are_marked_and_last(built: Path, tmp_path: Path) -> None:
    board = read(built)
    values = json.loads(json.dumps(board.values))
    policies = values["scenarios"][TOY]["cases"][""]["policies"]
    best = sorted_policies(policies)[0]
    policies[best]["truncated"] = 1
    for rival in policies[best]["against"].values():
        rival["relative"] = {"value": None, "low": None, "high": None}
    assert sorted_policies(policies)[-1] == best
    for agent in values["scenarios"][TOY]["agents"]:
        agent["evaluations"][0][1] = "inf"  # truncated at first
    tables = write_page(Board(values, board.records), tmp_path)
    row = tables.strip().splitlines()[-1]
    assert row.startswith(f"| `{best}` \\* |")
    assert "| - |" in row


def test_without_rivals_and_elsewhere_there_is_still_a_page(built: Path, tmp_path: Path) -> None:
    """As for an environment where nothing was tuned."""
    values = json.loads(json.dumps(read(built).values))
    scenario = values["scenarios"][TOY]
    scenario.update(rivals=[], validation={}, cases={"": scenario["cases"][""]})
    scenario["learned"]["policies"].pop("ebatch")
    for policy in scenario["cases"][""]["policies"].values():
        policy["against"] = {}
        policy["metrics"]["cost"]["low"] = None
    assert len(draw(TOY, scenario, tmp_path)) == 4
    tables = write_page(Board(values, {}), tmp_path)
    assert "| policy | cost | energy/request" in tables


def test_notes_go_under_their_scenarios() -> None:
    page = "# A\n<!-- notes ebatch/X-v0 -->\nb\n<!-- notes ebatch/Y-v0 -->\n"
    notes = "# Words\n\nWritten by hand, `## ` and all.\n\n## ebatch/Y-v0\n\nIt waits.\n\nAnd more.\n"
    assert with_notes(page, notes) == "# A\n<!-- notes ebatch/X-v0 -->\nb\nIt waits.\n\nAnd more.\n"
    assert with_notes(page, "") == page
    with pytest.raises(ValueError, match="notes must be on scenarios of the page, got 'ebatch/Z-v0'"):
        with_notes(page, "## ebatch/Z-v0\nIt is not there.")


def test_publishing(built: Path, generate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page, pictures, record and agents; notes survive, an older agent does not, and `ebatch verify` works on the outcome."""
    docs, trained = tmp_path / "docs", tmp_path / "trained"
    (docs / "scoreboard").mkdir(parents=True)
    (docs / "images").mkdir()
    (docs / "scoreboard" / "notes.md").write_text(f"# Words\n\n## {TOY}\n\nIt runs eight steps.\n")
    trained.mkdir()
    for name in ("ppo@Toy.json", "ppo@Toy.safetensors", "ppo@ToyTwo.json"):
        (trained / name).write_text("older")
    for _ in range(2):
        generate.scoreboard(built, docs, trained)
    page = (docs / "scoreboard.md").read_text()
    assert page.count("It runs eight steps.") == 1
    assert page.index(f"## `{TOY}`") < page.index("It runs eight steps.") < page.index("| policy |")
    for target in re.findall(r"\]\((images/[^)]+)\)", page):
        assert (docs / target).is_file()
    assert {path.name for path in (docs / "scoreboard").iterdir()} == {
        "notes.md",
        "scoreboard.json",
        "episodes.parquet",
    }
    names = {"maskable_ppo@Toy.json", "maskable_ppo@Toy.safetensors", "ppo@ToyTwo.json"}
    assert {path.name for path in trained.iterdir()} == names
    (trained / "ppo@ToyTwo.json").unlink()
    monkeypatch.setattr(library, "FOLDER", str(trained))
    assert list(library.shipped()) == ["maskable_ppo@Toy"]
    found = check(docs / "scoreboard", sample=1)
    assert found.mismatches == ()
    assert found.weights == 1


@pytest.mark.slow
def test_the_published_scoreboard_stands() -> None:
    """What is in the docs follows from its own record, is of these scenarios, and its agents are the shipped ones."""
    folder = ROOT / "docs" / "scoreboard"
    if not (folder / "scoreboard.json").exists():
        assert not (ROOT / "docs" / "scoreboard.md").exists()
        pytest.skip("no scoreboard is published yet")
    assert check(folder, sample=0, other_versions=True).mismatches == ()
    assert not json.loads((folder / "scoreboard.json").read_text())["quick"]
