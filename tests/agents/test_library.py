"""Agents that have a name of their own: listed, found, and scored under it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("sb3_contrib")
pytest.importorskip("safetensors")

import ebatch_env
from ebatch_agents import library
from ebatch_env.cli import app
from ebatch_env.scoring.policy import make_policy, policy_names, stored_policies
from tests.agents.conftest import TOY

NAME = "ppo@Toy"


@pytest.fixture
def shipped(exported: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for the package's own."""
    for file in exported("ppo").parent.iterdir():
        shutil.copy(file, tmp_path / file.name)
    monkeypatch.setattr(library, "FOLDER", str(tmp_path))
    return tmp_path


def test_shipped_agents_are_policies_by_name(shipped: Path) -> None:
    assert stored_policies()[NAME].path == shipped / f"{NAME}.safetensors"
    assert policy_names()[NAME].startswith("ppo trained on ebatch/Toy-v0: cost ")
    policy = make_policy(NAME, ebatch_env.make_system(TOY), TOY)
    assert policy.card.env == TOY  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="controls must be"):
        make_policy(NAME, ebatch_env.make_system("ebatch/Queue-v0"))


def test_the_command_lists_and_scores_them(shipped: Path) -> None:
    listed = json.loads(CliRunner().invoke(app, ["list", "--json"]).stdout)["policies"]
    assert "trained on ebatch/Toy-v0" in listed[NAME]
    arguments = ["evaluate", "--env", TOY, "--policy", NAME, "--policy", "greedy", "--episodes", "2", "--json"]
    records = json.loads(CliRunner().invoke(app, arguments).stdout)
    assert [record["policy"] for record in records] == [NAME, NAME, "greedy", "greedy"]
    refused = CliRunner().invoke(app, ["evaluate", "--env", TOY, "--set", "lanes=3", "--policy", NAME])
    assert refused.exit_code == 2
    assert refused.stderr.startswith("ebatch: levels of admit must be [0, 1, -1], as trained")
    tuned = CliRunner().invoke(app, ["tune", "--env", TOY, "--policy", NAME, "--out", str(shipped / "tuned")])
    assert tuned.exit_code == 2  # there is nothing to tune in it


def test_without_names_those_that_fit_are_scored(shipped: Path) -> None:
    arguments = ["evaluate", "--episodes", "1", "--json", "--env"]
    for env_id, expected in ((TOY, True), ("ebatch/Queue-v0", False)):
        records = json.loads(CliRunner().invoke(app, [*arguments, env_id, "--set", "requests=8"]).stdout)
        assert (NAME in {record["policy"] for record in records}) is expected


def test_what_is_no_card_is_told(shipped: Path) -> None:
    (shipped / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"card must be a card of format 1.*other\.json"):
        library.shipped()


def test_every_agent_of_the_package_acts_on_its_environment() -> None:
    for name, stored in library.shipped().items():
        card = library.Card.read(stored.path.with_suffix(".json"))
        make_policy(name, ebatch_env.make_system(card.env), card.env)
