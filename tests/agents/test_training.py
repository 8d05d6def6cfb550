"""Training: what it keeps, what it reports, and that it is the same every time."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

pytest.importorskip("sb3_contrib")

import torch

import ebatch_agents.sweep
import ebatch_env
from ebatch_agents import SB3Policy, load_zip, train
from ebatch_agents.algorithms import ALGORITHMS
from ebatch_agents.runs import LANES_PER_SEED, MAX_SEED
from ebatch_agents.speed import free_vec_env
from ebatch_agents.training import make_model, make_run
from ebatch_env.cli import app
from ebatch_env.scoring.policy import make_policy
from ebatch_env.scoring.runner import play
from ebatch_env.scoring.seeds import SEEDS_PER_USE, VALIDATION_SEED
from tests.agents.conftest import CHANGES, STEPS, TOY

SMALL: dict[str, Any] = {"steps": 64, "changes": {"n_envs": 2, "n_steps": 16, "batch_size": 32}, "episodes": 2}


@pytest.mark.parametrize("algo", list(ALGORITHMS))
def test_every_algorithm_trains_and_keeps_its_models(algo: str, trained: Callable[[str], Any]) -> None:
    found = trained(algo)
    rollout = CHANGES[algo]["n_envs"] * CHANGES[algo].get("n_steps", 4)
    assert STEPS[algo] <= found.model.num_timesteps < STEPS[algo] + rollout
    names = {"run.json", "checkpoint.pt", "evaluations.json", "progress.json", f"{algo}-best.zip", f"{algo}-last.zip"}
    assert {path.name for path in found.folder.path.iterdir()} - {"lock"} == names
    assert found.folder.path.name == f"{algo}-Toy-v0-seed1"
    assert found.evaluations[0].decisions == 0
    assert found.evaluations[-1].decisions == found.model.num_timesteps
    system = ebatch_env.make_system(TOY)
    seeds = range(VALIDATION_SEED, VALIDATION_SEED + 4)
    for path, evaluation in ((found.folder.best, found.best), (found.folder.last, found.evaluations[-1])):
        policy = make_policy(path, system, TOY, {"trust": True})
        assert tuple(metrics.cost for metrics in play(system, policy, seeds)) == evaluation.costs
    told = json.loads(found.folder.progress.read_text())
    assert told == {"decisions": found.model.num_timesteps, "of": STEPS[algo], "best": found.best.cost}
    assert [e["cost"] for e in json.loads(found.folder.evaluations.read_text())] == [e.cost for e in found.evaluations]


@pytest.mark.parametrize("algo", ["ppo", "maskable_ppo", "a2c"])
def test_a_little_training_already_helps(algo: str, trained: Callable[[str], Any]) -> None:
    found = trained(algo)
    assert found.best.cost < 0.7 * found.evaluations[0].cost


def test_the_same_settings_give_the_same_model() -> None:
    first, second = (train(TOY, "ppo", seed=3, **SMALL) for _ in range(2))
    for a, b in zip(first.model.policy.parameters(), second.model.policy.parameters(), strict=True):
        assert torch.equal(a, b)
    assert first.evaluations == second.evaluations
    other = train(TOY, "ppo", seed=4, **SMALL)
    assert not torch.equal(next(iter(first.model.policy.parameters())), next(iter(other.model.policy.parameters())))


def test_files_and_evaluations_change_nothing(tmp_path: Path) -> None:
    bare = train(TOY, "ppo", **{**SMALL, "evaluations": 0})
    full = train(TOY, "ppo", out=tmp_path, tensorboard=True, measure_speed=True, **{**SMALL, "evaluations": 4})
    for a, b in zip(bare.model.policy.parameters(), full.model.policy.parameters(), strict=True):
        assert torch.equal(a, b)
    assert bare.evaluations == ()
    assert bare.best is None
    assert bare.folder is None
    assert len(full.evaluations) == 3  # two rollouts, and the start


def test_seeds_of_trainings_do_not_overlap_each_other_nor_other_uses() -> None:
    first = [make_run(TOY, seed=seed).first_episode for seed in (0, 1, MAX_SEED)]
    assert first[1] - first[0] == LANES_PER_SEED
    assert first[2] + LANES_PER_SEED <= SEEDS_PER_USE
    run = make_run(TOY, "ppo", seed=2, changes={"n_envs": 2})
    _, env = make_model(run)
    observation = env.reset()
    rngs = [np.random.default_rng(run.first_episode + lane) for lane in range(2)]
    expected = [env.system.sample_trace(rng).arrival_s for rng in rngs]
    found = env.dynamics.systems.rf[:, 0, :16]
    assert np.array_equal(found, np.stack(expected))  # and not SB3's own, which begin at the model's seed
    assert observation.shape == (2, env.system.observations.size)


def test_tensorboard_gets_the_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = train(TOY, "ppo", out=tmp_path, tensorboard=True, **{**SMALL, "steps": 128, "evaluations": 2})
    assert found.folder is not None
    events = EventAccumulator(str(found.folder.path / "tensorboard"))
    events.Reload()
    assert {"evaluation/cost", "rollout/ep_rew_mean", "train/value_loss"} <= set(events.Tags()["scalars"])
    assert events.Scalars("evaluation/cost")[0].value == pytest.approx(found.evaluations[0].cost, rel=1e-6)


def test_the_speed_stands_beside_that_on_a_free_environment(tmp_path: Path) -> None:
    found = train(TOY, "a2c", out=tmp_path, measure_speed=True, steps=64, changes={"n_envs": 2}, evaluations=0)
    assert found.speed is not None
    assert found.speed.ours > 0
    assert found.speed.ratio == pytest.approx(found.speed.ours / found.speed.free)
    line = f"speed: {found.speed.ours:,.0f} decisions/s, {found.speed.free:,.0f} on a free environment, ratio"
    assert line in found.summary()
    assert {path.name for path in tmp_path.iterdir()} == {"a2c-Toy-v0-seed0"}


def test_a_free_environment_does_nothing_but_end_episodes() -> None:
    env = free_vec_env(ebatch_env.make_sb3(TOY, 4, seed=0), length=3)
    first = env.reset()
    ends = []
    for _ in range(6):
        observation, reward, dones, _ = env.step(np.zeros((4, 5), np.int64))
        assert np.array_equal(observation, first)
        assert not reward.any()
        ends.append(dones)
    assert np.array_equal(np.sum(ends, axis=0), [2, 2, 2, 2])
    assert not free_vec_env(ebatch_env.make_sb3(TOY, 1)).step_wait()[2].any()


def test_settings_of_the_environment_reach_it_and_the_command_says_so() -> None:
    found = train(
        TOY, "dqn", keywords={"load": 0.5}, steps=8, changes={"n_envs": 2, "learning_starts": 4}, evaluations=0
    )
    system = found.model.get_env().system
    assert system.load == (0.5, 0.5)
    assert system.actions.flat
    command = (
        "ebatch train --env ebatch/Toy-v0 --algo dqn --seed 0 --steps 8 --param n_envs=2 --param learning_starts=4"
    )
    assert found.run.command == f"{command} --set load=0.5 --evaluations 0"


def test_the_command_of_a_training_with_a_file_of_its_own_does_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the file leaves out is the library's default then, not that of the package's file."""
    file = tmp_path / "my own.yml"
    file.write_text("default: {n_timesteps: 64, n_envs: 2, n_steps: 16, batch_size: 8, env_kwargs: {load: 0.5}}\n")
    run = make_run(TOY, "ppo", config=file, changes={"batch_size": 32, "horizon": 7.0}, keywords={"hold": 0.5})
    assert "gae_lambda" not in run.hyperparameters
    words = shlex.split(run.command)
    assert words[:2] == ["ebatch", "train"]
    assert f"--config '{file}'" in run.command
    assert "n_steps" not in run.command
    given: dict[str, Any] = {}

    def caught(env: str, algo: str, seeds: range, **keywords: Any) -> list[Any]:
        names = ("steps", "keywords", "config", "changes", "evaluations", "episodes", "threads")
        given.update({name: keywords[name] for name in names}, env_id=env, algo=algo, seed=seeds[0])
        return []

    monkeypatch.setattr(ebatch_agents.sweep, "train_seeds", caught)
    assert CliRunner().invoke(app, words[1:]).exit_code == 0
    assert make_run(**given) == run


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"env_id": "ebatch/Nothing-v0"}, "env must be one of"),
        ({"algo": "sac"}, "algo must be one of"),
        ({"steps": 0}, "steps must be an integer >= 1, got 0"),
        ({"seed": -1}, f"seed must be an integer in 0..{MAX_SEED}, got -1"),
        ({"seed": MAX_SEED + 1}, "seed must be"),
        ({"evaluations": -1}, "evaluations must be an integer >= 0"),
        ({"episodes": 0}, "episodes must be an integer in 1..1000000"),
        ({"threads": 0}, "threads must be an integer >= 1"),
        ({"checkpoint_s": -1}, "checkpoint_s must be a finite number"),
        ({"changes": {"gamma": 0.9}}, "gamma must be left out with horizon 20.0, or horizon None, got 0.9"),
        ({"keywords": {"load": -1}}, "load must be"),
    ],
)
def test_bad_input_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(**{"env_id": TOY, "algo": "ppo", "steps": 1, **settings})


def test_without_a_horizon_gamma_counts() -> None:
    model, env = make_model(make_run(TOY, "ppo", changes={"gamma": 0.9, "horizon": None, "n_envs": 2}))
    assert model.gamma == 0.9
    assert type(env).__name__ == "EBatchVecEnv"


# Acting -----------------------------------------------------------------------------------------------------------


def test_zips_need_trust_and_a_known_algorithm(tmp_path: Path) -> None:
    system = ebatch_env.make_system(TOY)
    path = tmp_path / "ppo-x.zip"
    path.write_bytes(b"not a zip")
    with pytest.raises(ValueError, match="trust must be True"):
        load_zip(path, system)
    with pytest.raises(ValueError, match="is not an SB3 model"):
        load_zip(path, system, trust=True)
    other = tmp_path / "sac-x.zip"
    other.write_bytes(b"")
    with pytest.raises(ValueError, match="one of ppo, maskable_ppo"):
        load_zip(other, system, trust=True)


def test_a_model_of_other_spaces_is_refused(trained: Callable[[str], Any]) -> None:
    model = trained("ppo").model
    with pytest.raises(ValueError, match="the model's action space must be the system's"):
        SB3Policy(model, ebatch_env.make_system("ebatch/Queue-v0"))
    flat = trained("dqn").model
    with pytest.raises(ValueError, match="the model's action space must be the system's"):
        SB3Policy(flat, ebatch_env.make_system("ebatch/Queue-v0"))


@pytest.mark.parametrize("algo", ["ppo", "maskable_ppo", "dqn"])
def test_flat_or_not_the_actions_mean_the_same(algo: str, trained: Callable[[str], Any]) -> None:
    model = trained(algo).model
    rows = np.random.default_rng(0).uniform(0, 1, (50, model.observation_space.shape[0])).astype(np.float32)
    plans = []
    for flat in (True, False):
        system = ebatch_env.make_system(TOY, flat_actions=flat)
        actions, _ = SB3Policy(model, system).predict(rows)
        assert actions.shape == ((50,) if flat else (50, 5))
        one, _ = SB3Policy(model, system).predict(rows[0])
        assert np.array_equal(one, actions[0])
        plans.append(system.actions.decode(actions))
    for name in ("time_steps", "admit", "joins", "order", "shed"):
        assert np.array_equal(getattr(plans[0], name), getattr(plans[1], name))
    if algo == "maskable_ppo":
        assert not plans[0].shed.any()  # the toy has no deadlines, so shedding is masked
