"""What a scoreboard holds, how it was chosen, and that it is taken up again."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("sb3_contrib")
pytest.importorskip("pyarrow")

import ebatch_env
from ebatch_agents.algorithms import ALGORITHMS, algorithm_for
from ebatch_agents.card import Card
from ebatch_agents.scoreboard.board import read
from ebatch_agents.scoreboard.build import build
from ebatch_agents.scoreboard.entrants import baselines, best_tuned, candidates, rivals
from ebatch_agents.scoreboard.settings import Settings
from ebatch_agents.scoreboard.transfer import cases
from ebatch_baselines.padded import Padded
from ebatch_env.cli import app
from ebatch_env.scenarios import SCENARIOS
from ebatch_env.scoring.jobs import build_system, system_keywords
from ebatch_env.scoring.policy import make_policy
from ebatch_env.scoring.runner import evaluate, play
from ebatch_env.scoring.seeds import EVALUATION_SEED, VALIDATION_SEED
from ebatch_env.workloads import MMPP
from tests.agents.conftest import TOY
from tests.agents.scoreboard.conftest import SMALL


def test_records_are_those_of_evaluate(built: Path) -> None:
    board = read(built)
    values = board.values["scenarios"][TOY]
    labels = ["maskable_ppo-seed0", "maskable_ppo-seed1", *(entrant["label"] for entrant in values["baselines"])]
    records = board.records[TOY, ""]
    assert list(dict.fromkeys(record.policy for record in records)) == labels
    assert {"random", "serial"}.isdisjoint(labels)
    assert [record for record in records if record.policy == "ebatch"] == evaluate(TOY, ["ebatch"], SMALL["episodes"])
    far = [record for record in board.records[TOY, "load-0.5"] if record.policy == "ebatch"]
    assert far == evaluate(TOY, ["ebatch"], SMALL["transfer_episodes"], overrides={"load": 0.5})
    assert {record.seed for record in board.records[TOY, "validation"]} == {VALIDATION_SEED + n for n in range(5)}


def test_figures_pool_the_seeds_and_compare_on_the_same_episodes(built: Path) -> None:
    board = read(built)
    values = board.values["scenarios"][TOY]
    mine = values["cases"][""]["policies"]["maskable_ppo"]
    costs = {
        label: np.array([record.cost for record in board.records[TOY, ""] if record.policy == label])
        for label in ("maskable_ppo-seed0", "maskable_ppo-seed1", "ebatch")
    }
    ours = np.stack([costs["maskable_ppo-seed0"], costs["maskable_ppo-seed1"]])
    against = mine["against"]["ebatch"]
    assert against["relative"]["value"] == pytest.approx(ours.mean() / costs["ebatch"].mean() - 1)
    wins = (ours < costs["ebatch"]) + 0.5 * (ours == costs["ebatch"])
    assert against["probability"]["value"] == pytest.approx(wins.mean())
    assert against["relative"]["low"] <= against["relative"]["value"] <= against["relative"]["high"]
    assert mine["metrics"]["cost"]["mean"] == pytest.approx(ours.mean())
    assert set(mine["seeds"]) == {"maskable_ppo-seed0", "maskable_ppo-seed1"}
    assert "ebatch" not in values["cases"][""]["policies"]["ebatch"]["against"]


def test_the_agent_is_chosen_on_the_validation_episodes(built: Path) -> None:
    values = read(built).values["scenarios"][TOY]
    kept = {agent["label"]: min(float(cost) for _, cost in agent["evaluations"]) for agent in values["agents"]}
    assert values["shipped"]["label"] == min(kept, key=lambda label: kept[label])
    for agent in values["agents"]:
        card = Card.read(built / "agents" / agent["weights"].replace(".safetensors", ".json"))
        assert (card.sha256, card.training["seed"]) == (agent["sha256"], agent["seed"])
        assert card.same_actions["different"] == card.same_actions["explained"]
        policy = make_policy(built / "agents" / agent["weights"], ebatch_env.make_system(TOY))
        seeds = range(VALIDATION_SEED, VALIDATION_SEED + SMALL["validation_episodes"])
        again = np.mean([metrics.cost for metrics in play(ebatch_env.make_system(TOY), policy, seeds)])
        assert again == pytest.approx(agent["validation_cost"], rel=1e-6)


def test_the_best_tuned_baseline_is_chosen_on_validation_episodes(built: Path) -> None:
    """Of all that were tuned; the line in the learning curves is on the agents' validation episodes."""
    board = read(built)
    values = board.values["scenarios"][TOY]
    tuned = [entrant["label"] for entrant in values["baselines"] if entrant["tuned"] is not None]
    assert len(tuned) > 5
    played = {
        label: [metrics.cost for metrics in play(system, make_policy(label, system, TOY), seeds)]
        for system in [ebatch_env.make_system(TOY)]
        for seeds in [range(VALIDATION_SEED, VALIDATION_SEED + SMALL["rival_episodes"])]
        for label in tuned
    }
    assert values["choice"]["episodes"] == SMALL["rival_episodes"]
    assert values["choice"]["costs"] == pytest.approx({label: np.mean(costs) for label, costs in played.items()})
    best = min(tuned, key=lambda label: (values["choice"]["costs"][label], label))
    assert values["rivals"] == list(dict.fromkeys(["ebatch", best]))
    few = SMALL["validation_episodes"]
    assert values["validation"] == pytest.approx({label: np.mean(played[label][:few]) for label in values["rivals"]})
    assert f"cost on {SMALL['rival_episodes']} *validation* episodes" in (built / "report.md").read_text()


def test_the_shipped_card_has_the_scores_of_its_seed(built: Path) -> None:
    values = read(built).values["scenarios"][TOY]
    card = Card.read(built / "shipped" / "maskable_ppo@Toy.json")
    card.check_file(built / "shipped" / card.weights)
    seeds = values["cases"][""]["policies"]["maskable_ppo"]["seeds"]
    assert card.scores["metrics"]["cost"]["iqm"] == pytest.approx(seeds[values["shipped"]["label"]])
    assert (card.scores["episodes"], card.scores["seed"]) == (SMALL["episodes"], EVALUATION_SEED)


def test_best_tuned_and_rivals() -> None:
    assert best_tuned({"a": 2.0, "c": 1.0, "d": math.inf}) == "c"
    assert best_tuned({"b": 1.0, "a": 1.0}) == "a"
    assert best_tuned({}) is None
    found = baselines("ebatch/Queue-v0", ebatch_env.make_system("ebatch/Queue-v0"))
    assert {"greedy", "cap", "optimal-queue"} <= {entrant.label for entrant in found}
    tuned = {entrant.label for entrant in candidates(found)}
    assert "cap" in tuned
    assert "optimal-queue" not in tuned  # it has nothing to tune, and is no rival
    overfitted = min(candidates(found), key=lambda entrant: entrant.tuned["cost"]).label  # type: ignore[index]
    costs = {label: 1.0 + (label == overfitted) for label in tuned}
    assert rivals(found, costs)[-1] != overfitted
    assert rivals([], {}) == []


def test_rivals_are_chosen_on_the_agents_episodes_and_more() -> None:
    assert Settings((TOY,)).rival_episodes == 64
    with pytest.raises(ValueError, match=r"rival_episodes must be an integer in 16\.\.\d+, got 15"):
        Settings((TOY,), rival_episodes=15)


def test_a_rerun_takes_up_what_is_there(built: Path, trace: Path) -> None:
    """No training and no episode is repeated, and the outcome is the same."""
    before = {name: (built / name).read_bytes() for name in ("scoreboard.json", "episodes.parquet")}
    parts = sorted((path, path.stat().st_mtime_ns) for path in (built / "parts").rglob("*.json"))
    told: list[float] = []
    build(
        Settings((TOY,), trace=trace, **SMALL),
        built,
        command="ebatch scoreboard ...",
        progress=lambda share, doing: told.append(share),
    )
    assert {name: (built / name).read_bytes() for name in before} == before
    assert sorted((path, path.stat().st_mtime_ns) for path in (built / "parts").rglob("*.json")) == parts
    assert told
    assert told == sorted(told)
    assert 0.0 <= told[0] <= told[-1] <= 1.0


def test_every_scenario_has_an_algorithm() -> None:
    assert {algorithm_for(env_id) for env_id in SCENARIOS} <= set(ALGORITHMS)


# Off the training distribution -------------------------------------------------------------------------------------


def test_knobs_are_told_on_several_machines_as_well() -> None:
    env_id = "ebatch/Machines-v0"
    found = {entrant.label: entrant for entrant in baselines(env_id, build_system(system_keywords(env_id)))}
    assert found["padded"].knobs == Padded.tuned_knobs(env_id)
    assert (found["cap"].knobs["wait_for"], found["cap"].tuned) == (1, None)


def test_conditions_change_what_they_say() -> None:
    env_id = "ebatch/TPU-Translation-v0"
    system = ebatch_env.make_system(env_id)
    found = {case.name: ebatch_env.make_system(env_id, **case.overrides) for case in cases(env_id)}
    assert [found[f"load-{load}"].load for load in ("0.4", "0.6", "1", "1.2")] == [(x, x) for x in (0.4, 0.6, 1.0, 1.2)]
    usual, stronger = system.workload.arrivals, found["bursts"].workload.arrivals  # type: ignore[attr-defined]
    assert isinstance(stronger, MMPP)
    assert stronger.rates[1] > 1.2 * usual.rates[1]
    assert (stronger.sojourn, stronger.burst_share) == (2 * usual.sojourn, usual.burst_share)
    assert found["bursts"].workload.lengths == system.workload.lengths  # type: ignore[attr-defined]
    assert system.lengths_known
    assert not found["lengths"].lengths_known
    networks = [other for name, other in found.items() if name.startswith("network-")]
    assert len(networks) == 2
    for other in networks:
        assert other.network.name != system.network.name
        assert np.array_equal(other.actions.levels["time_steps"], system.actions.levels["time_steps"])
        assert [field.name for field in other.observations.fields] == [
            field.name for field in system.observations.fields
        ]
    json.dumps([dict(case.overrides) for case in cases(env_id)])  # plain values


@pytest.mark.parametrize(
    ("env_id", "title"),
    [
        ("ebatch/TPU-Translation-v0", "burst ratio x2 (10 -> 20), sojourn x2 (32 -> 64)"),
        ("ebatch/EPUR-Translation-v0", "burst ratio x2 (20 -> 40), sojourn x2 (64 -> 128)"),
        ("ebatch/V100-Shift-v0", "mmpp arrivals, not poisson: burst ratio 10, sojourn 32"),
    ],
)
def test_the_title_says_what_is_changed_about_the_bursts(env_id: str, title: str) -> None:
    (case,) = [case for case in cases(env_id) if case.name == "bursts"]
    assert case.title == title
    arrivals = ebatch_env.make_system(env_id, **case.overrides).workload.arrivals  # type: ignore[attr-defined]
    for name, value in (("burst ratio", arrivals.burst_ratio), ("sojourn", arrivals.sojourn)):
        assert re.search(rf"{name} (x2 \(\d+ -> )?{value:g}\b", title)


@pytest.mark.parametrize("env_id", sorted(SCENARIOS))
def test_conditions_can_be_built_everywhere(env_id: str) -> None:
    found = cases(env_id)
    assert len({case.name for case in found}) == len(found) >= 4
    for case in found:
        ebatch_env.make_system(env_id, **case.overrides)


def test_an_agent_acts_elsewhere_only_if_told_to(built: Path) -> None:
    path = built / "shipped" / "maskable_ppo@Toy.safetensors"
    arguments = ["evaluate", "--env", TOY, "--set", "network=ShowTell", "--episodes", "1", "--json", "--policy"]
    refused = CliRunner().invoke(app, [*arguments, str(path)])
    assert refused.exit_code == 2
    assert "transfer=true runs the policy all the same" in refused.stderr
    (record,) = json.loads(CliRunner().invoke(app, [*arguments, f"{path},transfer=true"]).stdout)
    assert record["policy"] == f"{path},transfer=true"
    records = read(built).records[TOY, "network-ShowTell"]
    label = read(built).values["scenarios"][TOY]["shipped"]["label"]
    assert record["cost"] == next(found.cost for found in records if found.policy == label)


def test_the_trace_is_played_at_the_scenarios_load(built: Path) -> None:
    board = read(built)
    case = board.values["scenarios"][TOY]["cases"]["trace"]
    assert (case["title"], case["trace"]["name"]) == ("requests of day.csv", "day.csv")
    assert case["overrides"]["load"] == 0.4
    assert case["policies"]["maskable_ppo"]["against"]["ebatch"]["probability"]["value"] >= 0
    assert {record.requests for record in board.records[TOY, "trace"]} == {16}


# The command ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "ebatch/Nothing-v0"], "env must be one of"),
        (["--env", TOY, "--env", TOY], "env must be given at least once, and each once only"),
        (["--env", TOY, "--seeds", "0"], "seeds must be an integer >= 1"),
        (["--env", TOY, "--episodes", "1"], "episodes must be an integer in 2.."),
        (["--env", TOY, "--transfer-episodes", "-1"], "transfer_episodes must be an integer in 0.."),
        (["--env", TOY, "--algo", "sac"], "algo must be one of"),
        (["--env", TOY, "--trace", "nowhere.csv"], "nowhere.csv: No such file"),
        (["--env", TOY, "--param", "gama=1", "--quick"], "hyperparameter of maskable_ppo"),
        (["--env", TOY, "--param", "gama"], "--param must be of the form key=value"),
    ],
)
def test_bad_input_ends_with_status_2_and_a_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["scoreboard", *arguments, "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.rglob("*.zip"))
