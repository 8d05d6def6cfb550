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
from ebatch_env.scoring.policy import agents_of, make_policy, policy_names, stored_policies
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
        assert ("ppo" in {record["policy"] for record in records}) is expected


def test_agents_stands_for_those_made_for_the_environment(shipped: Path) -> None:
    """They line up in tables under a label without the id, and there may be none."""
    arguments = ["evaluate", "--policy", "agents", "--policy", "greedy", "--episodes", "1", "--json"]
    arguments += ["--env", TOY, "--env", "ebatch/Queue-v0"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.stderr
    records = json.loads(result.stdout)
    assert [(record["env"], record["policy"]) for record in records] == [
        (TOY, "ppo"),
        (TOY, "greedy"),
        ("ebatch/Queue-v0", "greedy"),
    ]
    alone = ["evaluate", "--policy", "agents", "--episodes", "1", "--env"]
    named = json.loads(CliRunner().invoke(app, [*alone, TOY, "--policy", NAME, "--json"]).stdout)
    assert [record["policy"] for record in named] == ["ppo", NAME]
    assert named[0]["cost"] == named[1]["cost"]
    none = CliRunner().invoke(app, [*alone, "ebatch/Queue-v0"])
    assert none.exit_code == 2
    assert "policy must be such that one at least can act on the environment" in none.stderr


def test_agents_of_one_label_keep_their_names(shipped: Path) -> None:
    card = json.loads((shipped / f"{NAME}.json").read_text())
    shutil.copy(shipped / f"{NAME}.safetensors", shipped / "ppo@Toy@Toy.safetensors")
    (shipped / "ppo@Toy@Toy.json").write_text(json.dumps({**card, "weights": "ppo@Toy@Toy.safetensors"}))
    assert agents_of(TOY) == {NAME: NAME, "ppo@Toy@Toy": "ppo@Toy@Toy"}
    assert agents_of("ebatch/Queue-v0") == {}


def test_what_is_no_card_is_told(shipped: Path) -> None:
    (shipped / "other.json").write_text("{}")
    with pytest.raises(ValueError, match=r"card must be a card of format 1.*other\.json"):
        library.shipped()


def test_every_agent_of_the_package_acts_on_its_environment() -> None:
    for name, stored in library.shipped().items():
        card = library.Card.read(stored.path.with_suffix(".json"))
        make_policy(name, ebatch_env.make_system(card.env), card.env)
