"""`ebatch verify` passes what is right and catches every tampering."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("pyarrow")
pytest.importorskip("sb3_contrib")
import pyarrow as pa
from pyarrow import parquet

from ebatch_agents import library
from ebatch_agents.scoreboard.board import checksum
from ebatch_agents.scoreboard.verify import check
from ebatch_env.cli import app
from tests.agents.conftest import TOY

Copy = Callable[..., Path]


def change_json(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "scoreboard.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def change_record(
    folder: Path, case: str, policy: str, episode: int, column: str, change: Callable[[Any], Any]
) -> None:
    """Change one cell, and the file's checksum with it."""
    path = folder / "episodes.parquet"
    table = parquet.read_table(path)
    rows = table.to_pylist()
    (row,) = [r for r in rows if (r["case"], r["policy"], r["episode"]) == (case, policy, episode)]
    row[column] = change(row[column])
    parquet.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)
    change_json(folder, lambda values: values["files"].update({"episodes.parquet": checksum(path)}))


def test_what_was_built_stands(built: Path, trace: Path) -> None:
    found = check(built, sample=None, trace=trace)
    assert found.mismatches == ()
    assert found.notes == ()
    assert found.episodes == parquet.read_metadata(built / "episodes.parquet").num_rows
    assert found.weights == 3  # two seeds, and the shipped copy


def test_on_a_clone_the_shipped_agents_do(copied: Copy, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the record alone, and the chosen agents in the package; what cannot be checked is told."""
    folder = copied()
    monkeypatch.setattr(library, "FOLDER", str(folder / "none"))
    refused = CliRunner().invoke(app, ["verify", str(folder), "--sample", "0"])
    assert refused.exit_code == 1
    assert "are nowhere to be found" in refused.stderr
    monkeypatch.setattr(library, "FOLDER", str(built / "shipped"))
    result = CliRunner().invoke(app, ["verify", str(folder), "--sample", "1"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "are not here: their records are not played again" in result.stdout
    assert f"{TOY}, trace: not played again: --trace must be day.csv as it was then" in result.stdout
    assert f"{folder} stands: " in result.stdout


@pytest.mark.parametrize(
    ("column", "case", "policy", "figure"),
    [
        ("cost", "", "maskable_ppo-seed1", "maskable_ppo.metrics.cost.mean is "),
        ("latency_p50_s", "", "greedy", "greedy.metrics.latency_p50_s.mean is "),
        ("decisions", "", "greedy", "greedy.decisions is "),
        ("cost", "load-0.5", "ebatch", "ebatch.metrics.cost.mean is "),
        ("cost", "validation", "ebatch", "ebatch is "),
    ],
)
def test_a_changed_record_is_caught(column: str, case: str, policy: str, figure: str, copied: Copy) -> None:
    """By the figures that no longer follow from the records."""
    folder = copied("shipped")
    change_record(folder, case, policy, 1, column, lambda value: value * 2)
    lines = check(folder, sample=0).mismatches
    place = f"{TOY}{f', {case}' if case else ''}: "
    assert any(line.startswith(place + figure) for line in lines), lines


def test_a_record_changed_by_one_bit_is_caught_when_it_is_played_again(copied: Copy) -> None:
    """Too little to show in the figures."""
    folder = copied("shipped")
    change_record(folder, "", "ebatch", 2, "energy_j", lambda value: value * (1 + 2**-52))
    assert check(folder, sample=0).mismatches == ()
    (line,) = check(folder, sample=None).mismatches
    assert line.startswith(f"{TOY}: ebatch, episode 2: energy_j is ")
    assert line.endswith("played again")


def test_a_record_swapped_behind_the_checksum_is_caught(copied: Copy, built: Path) -> None:
    folder = copied("shipped")
    table = parquet.read_table(folder / "episodes.parquet")
    parquet.write_table(table, folder / "episodes.parquet", compression="none")  # the same rows, other bytes
    (line,) = check(folder, sample=0).mismatches
    assert line.startswith("checksum of episodes.parquet is ")


def test_records_of_strangers_and_changed_maps_are_caught(copied: Copy) -> None:
    folder = copied("shipped")
    change_record(folder, "load-0.5", "ebatch", 1, "episode", lambda value: 0)
    for episode in range(4):
        change_record(folder, "", "greedy", episode, "policy", lambda value: "grredy")
    change_json(folder, lambda values: _shipped(values)["learned"]["policies"]["ebatch"]["levels"]["joins"].reverse())
    lines = check(folder, sample=None).mismatches
    assert f"{TOY}, load-0.5: not every policy has a record of episode 0, or one has two" in lines
    assert f"{TOY}: grredy has records and is neither agent nor baseline" in lines
    assert any(line.startswith(f"{TOY}: learned: policies.ebatch.levels.joins[0] is ") for line in lines), lines


def _shipped(values: dict[str, Any]) -> dict[str, Any]:
    scenario: dict[str, Any] = values["scenarios"][TOY]
    return scenario


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda v: v["cases"][""]["policies"]["maskable_ppo"]["metrics"]["cost"].update(iqm=0.5),
            f"{TOY}: maskable_ppo.metrics.cost.iqm is 0.5 in the files and ",
        ),
        (
            lambda v: v["cases"]["load-0.5"]["policies"]["maskable_ppo"]["against"]["ebatch"]["probability"].update(
                low=0.9
            ),
            f"{TOY}, load-0.5: maskable_ppo.against.ebatch.probability.low is 0.9 in the files and ",
        ),
        (lambda v: v["validation"].update(ebatch=0.1), f"{TOY}, validation: ebatch is 0.1 in the files and "),
        (lambda v: v.update(rivals=["ebatch", "greedy"]), f"{TOY}: rivals"),
        (
            lambda v: v["choice"]["costs"].update(ebatch=0.1),
            f"{TOY}, validation: choice.costs.ebatch is 0.1 in the files and ",
        ),
        (
            lambda v: v["choice"]["costs"].pop("ebatch"),
            f"{TOY}, validation: choice.costs.ebatch is 'nothing' in the files",
        ),
        (lambda v: v["choice"].update(episodes=64), f"{TOY}, validation: choice.episodes is 64 in the files and 5 "),
        (
            lambda v: v["scenario"]["parts"].update(load="0" * 16),
            f"{TOY}: scenario: parts.load is '0000000000000000' in ",
        ),
        (lambda v: v["baselines"][0].update(knobs={}), f"{TOY}: baseline "),
        (lambda v: v["agents"][0].update(sha256="0" * 64), f"{TOY}: maskable_ppo-seed0: sha256 is '000"),
        (lambda v: v["agents"][1].update(kept_at=1), f"{TOY}: maskable_ppo-seed1: decisions is 1 in the files and "),
        (lambda v: v["cases"].pop("bursts"), f"{TOY}, bursts has records and no figures"),
    ],
)
def test_a_changed_figure_is_caught(change: Callable[[dict[str, Any]], Any], line: str, copied: Copy) -> None:
    folder = copied("shipped", "agents")
    change_json(folder, lambda values: change(_shipped(values)))
    found = check(folder, sample=0)
    assert any(text.startswith(line) for text in found.mismatches), found.mismatches


def test_the_choice_of_the_agent_is_checked(copied: Copy) -> None:
    """Not the seed that happens to do best on the evaluation, but that of the least validation cost."""
    folder = copied("shipped", "agents")

    def other(values: dict[str, Any]) -> None:
        scenario = _shipped(values)
        labels = [agent["label"] for agent in scenario["agents"]]
        labels.remove(scenario["shipped"]["label"])
        scenario["shipped"]["label"] = labels[0]

    change_json(folder, other)
    assert any(f"{TOY}: agent to ship is " in line for line in check(folder, sample=0).mismatches)


def test_changed_weights_are_caught(copied: Copy) -> None:
    folder = copied("shipped")
    (path,) = (folder / "shipped").glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    result = CliRunner().invoke(app, ["verify", str(folder), "--sample", "0"])
    assert result.exit_code == 1
    assert "the file is damaged or another" in result.stderr
    assert "stands" not in result.stdout


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda s: s["metrics"]["cost"].update(iqm=0.5), "scores.metrics.cost.iqm is "),
        (lambda s: s["metrics"]["slo_miss"].update(high=0.5), "scores.metrics.slo_miss.high is "),
        (lambda s: s.update(episodes=64), "scores.episodes is 4 by the records and 64 on the card "),
        (lambda s: s.update(seed=0), "scores.seed is 1000000 by the records and 0 on the card "),
        (lambda s: s.clear(), "scores.episodes is 4 by the records and 'nothing' on the card "),
    ],
)
def test_changed_scores_on_a_shipped_card_are_caught(
    change: Callable[[dict[str, Any]], Any], line: str, copied: Copy
) -> None:
    folder = copied("shipped")
    (path,) = (folder / "shipped").glob("*.json")
    card = json.loads(path.read_text())
    change(card["scores"])
    path.write_text(json.dumps(card))
    label = _shipped(json.loads((folder / "scoreboard.json").read_text()))["shipped"]["label"]
    (found,) = check(folder, sample=0).mismatches
    assert found.startswith(f"{TOY}: {label}: {line}")
    assert found.endswith(f"on the card {path.name}")


def test_weights_swapped_together_with_their_card_are_caught(copied: Copy) -> None:
    """A right file of another seed."""
    folder = copied("agents")
    shutil.copyfile(folder / "agents" / "maskable_ppo@Toy-seed0.safetensors", folder / "agents" / "spare")
    for suffix in (".safetensors", ".json"):
        one, two = (folder / "agents" / f"maskable_ppo@Toy-seed{seed}{suffix}" for seed in (0, 1))
        text = one.read_bytes()
        one.write_bytes(two.read_bytes().replace(b"seed1.safetensors", b"seed0.safetensors"))
        two.write_bytes(text.replace(b"seed0.safetensors", b"seed1.safetensors"))
    found = check(folder, sample=0)
    assert sum("sha256 is" in line for line in found.mismatches) == 2, found.mismatches


def test_other_versions_are_told(copied: Copy) -> None:
    folder = copied("shipped")
    change_json(folder, lambda values: values["versions"].update(numpy="1.0"))
    (line,) = check(folder, sample=0).mismatches
    assert line.startswith("version of numpy is 1.0 in the files and ")
    found = check(folder, sample=0, other_versions=True)
    assert found.mismatches == ()
    assert any(note.startswith("version of numpy is 1.0") for note in found.notes)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99}'])
def test_what_is_no_scoreboard_is_told(content: str, tmp_path: Path) -> None:
    (tmp_path / "scoreboard.json").write_text(content)
    result = CliRunner().invoke(app, ["verify", str(tmp_path)])
    assert result.exit_code == 2
    assert "scoreboard must be" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_missing_or_damaged_record_is_told(copied: Copy, tmp_path: Path) -> None:
    folder = copied()
    (folder / "episodes.parquet").write_bytes(b"PAR1 but not really PAR1")
    result = CliRunner().invoke(app, ["verify", str(folder)])
    assert result.exit_code == 2
    assert "records must be the Parquet file of a scoreboard" in result.stderr
    (folder / "episodes.parquet").unlink()
    assert CliRunner().invoke(app, ["verify", str(folder)]).exit_code == 2
    assert CliRunner().invoke(app, ["verify", str(tmp_path / "nowhere")]).exit_code == 2
