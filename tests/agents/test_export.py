"""Exported policies: the same actions as the model, to the last index, and a card that tells the truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sb3_contrib")
pytest.importorskip("safetensors")

import torch
from torch import nn

import ebatch_env
from ebatch_agents import SB3Policy, train
from ebatch_agents.algorithms import ALGORITHMS
from ebatch_agents.card import Card
from ebatch_agents.export import Comparison, compare, export, observations_of
from ebatch_agents.weights import load
from ebatch_env.scoring.policy import make_policy
from ebatch_env.scoring.runner import play
from ebatch_env.scoring.seeds import EVALUATION_SEED
from ebatch_env.scoring.statistics import interquartile_mean
from tests.agents.conftest import CHANGES, STEPS, TOY

SYSTEM = ebatch_env.make_system(TOY)


@pytest.mark.parametrize("algo", list(ALGORITHMS))
def test_same_actions_to_the_last_index_on_ten_thousand_observations(algo: str, tmp_path: Path) -> None:
    """With weights scattered at random, so that what is best differs from observation to observation."""
    model = train(TOY, algo, steps=1, changes=CHANGES[algo], evaluations=0).model
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    policy = load(export(model, tmp_path, env_id=TOY, algo=algo, episodes=0), SYSTEM)
    original = SB3Policy(model, SYSTEM)
    states: list[Any] = [None, None]
    rows = observations_of(SYSTEM, original, 10_000)
    assert rows.shape == (100, 100, SYSTEM.observations.size)
    seen = []
    for n, row in enumerate(rows):  # an LSTM remembers from row to row, and forgets where an episode begins
        start = np.arange(100) % 7 == n % 7
        theirs, states[0] = original.predict(row, states[0], start, deterministic=True)
        ours, states[1] = policy.predict(row, states[1], start, deterministic=True)
        assert np.array_equal(theirs, ours)
        seen.append(ours)
    assert len(np.unique(np.concatenate(seen), axis=0)) > 5
    found = policy.card.same_actions
    assert (found["observations"], found["different"]) == (10_000, 0)
    assert 0.0 <= found["least_gap"] < 0.1


@pytest.mark.parametrize("algo", ["ppo", "recurrent_ppo", "dqn"])
def test_they_play_the_same_episodes(algo: str, trained: Callable[[str], Any], exported: Callable[[str], Path]) -> None:
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + 4)
    theirs = play(SYSTEM, SB3Policy(trained(algo).model, SYSTEM), seeds)
    assert play(SYSTEM, make_policy(exported(algo), SYSTEM, TOY), seeds) == theirs
    card = Card.read(exported(algo).with_suffix(".json"))
    assert card.scores["metrics"]["cost"]["iqm"] == pytest.approx(float(interquartile_mean([m.cost for m in theirs])))
    assert (card.scores["episodes"], card.scores["seed"]) == (4, EVALUATION_SEED)


@pytest.mark.parametrize("algo", list(ALGORITHMS))
def test_the_card_says_where_the_policy_comes_from(
    algo: str, trained: Callable[[str], Any], exported: Callable[[str], Path]
) -> None:
    path = exported(algo)
    assert {file.name for file in path.parent.iterdir()} == {f"{algo}@Toy.safetensors", f"{algo}@Toy.json"}
    card = Card.read(path.with_suffix(".json"))
    found = trained(algo)
    assert (card.algorithm, card.env, card.masked) == (algo, TOY, algo == "maskable_ppo")
    assert (card.training["seed"], card.training["steps"]) == (1, STEPS[algo])
    assert card.training["decisions"] == found.model.num_timesteps
    assert card.training["command"] == found.run.command
    assert card.versions["torch"].startswith("2.")
    assert card.architecture.lstm == ((16, 16) if algo == "recurrent_ppo" else ())
    assert card.architecture.outputs == ((216,) if ALGORITHMS[algo].flat else (6, 3, 2, 3, 2))
    assert card.same_actions["different"] == 0


def test_one_observation_flat_systems_and_draws(exported: Callable[[str], Path]) -> None:
    flat_system = ebatch_env.make_system(TOY, flat_actions=True)
    rows = np.random.default_rng(1).uniform(0, 1, (400, SYSTEM.observations.size)).astype(np.float32)
    for algo in ("ppo", "maskable_ppo", "dqn", "recurrent_ppo"):
        policy, flat = load(exported(algo), SYSTEM), load(exported(algo), flat_system)
        actions, _ = policy.predict(rows)
        one, _ = policy.predict(rows[3])
        assert np.array_equal(one, actions[3])
        flattened, _ = flat.predict(rows)
        assert flattened.shape == (400,)
        plans, same = SYSTEM.actions.decode(actions), flat_system.actions.decode(flattened)
        assert np.array_equal(plans.time_steps, same.time_steps)
        assert np.array_equal(plans.shed, same.shed)
        drawn, _ = policy.predict(rows, deterministic=False)
        assert (drawn >= 0).all()
        assert (drawn < SYSTEM.actions.limits()).all()
        assert (algo == "dqn") == np.array_equal(drawn, actions)
        if algo == "maskable_ppo":
            assert not drawn[:, 4].any()


def test_draws_follow_the_policys_own_distribution(
    trained: Callable[[str], Any], exported: Callable[[str], Path]
) -> None:
    row = np.full(SYSTEM.observations.size, 0.3, np.float32)
    distribution = trained("ppo").model.policy.get_distribution(trained("ppo").model.policy.obs_to_tensor(row)[0])
    expected = distribution.distribution[0].probs.detach().numpy()[0]
    drawn, _ = load(exported("ppo"), SYSTEM, seed=4).predict(np.tile(row, (20_000, 1)), deterministic=False)
    shares = np.bincount(drawn[:, 0], minlength=6) / 20_000
    assert np.allclose(shares, expected, atol=4 * np.sqrt(0.25 / 20_000))


def test_a_model_in_memory_can_be_exported(tmp_path: Path, trained: Callable[[str], Any]) -> None:
    path = export(trained("a2c").model, tmp_path, env_id=TOY, algo="a2c", name="mine", episodes=0)
    assert path.name == "mine.safetensors"
    card = Card.read(path.with_suffix(".json"))
    assert card.scores == {}
    load(path, SYSTEM)
    with pytest.raises(ValueError, match=r"env_id and algo must be given where there is no run.json"):
        export(trained("a2c").model, tmp_path)
    with pytest.raises(ValueError, match="name must be the name of a file"):
        export(trained("a2c").model, tmp_path, env_id=TOY, algo="a2c", name="../mine")


def test_a_zip_needs_trust_and_its_run(tmp_path: Path, trained: Callable[[str], Any]) -> None:
    folder = trained("a2c").folder
    with pytest.raises(ValueError, match="trust must be True"):
        export(folder.best, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    lonely = tmp_path / folder.best.name
    lonely.write_bytes(folder.best.read_bytes())
    with pytest.raises(ValueError, match=r"env_id and algo must be given where there is no run.json"):
        export(lonely, tmp_path / "out", trust=True)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="run.json must be as `ebatch train` writes it"):
        export(lonely, tmp_path / "out", trust=True)


def test_networks_that_numpy_does_not_have_are_refused(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"n_envs": 2, "n_steps": 4, "policy_kwargs": {"activation_fn": nn.ELU}}
    model = train(TOY, "a2c", steps=8, changes=changes, evaluations=0).model
    with pytest.raises(ValueError, match=r"activation must be Tanh or ReLU, got \['ELU'\]"):
        export(model, tmp_path, env_id=TOY, algo="a2c", episodes=0)


def test_another_network_depth_and_no_hidden_layer(tmp_path: Path) -> None:
    for net_arch in ([], [8, 8, 8]):
        changes: dict[str, Any] = {"n_envs": 2, "n_steps": 4, "policy_kwargs": {"net_arch": net_arch}}
        model = train(TOY, "a2c", steps=8, changes=changes, evaluations=0).model
        path = export(model, tmp_path, env_id=TOY, algo="a2c", episodes=0)
        assert Card.read(path.with_suffix(".json")).architecture.hidden == tuple(net_arch)


def test_an_export_that_acts_otherwise_is_refused(
    tmp_path: Path, trained: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import ebatch_agents.export as module

    real = module.convert

    def wrong(model: Any) -> Any:
        shape, weights = real(model)
        return shape, {**weights, "head.bias": 100.0 * np.arange(weights["head.bias"].size, dtype=np.float32)}

    monkeypatch.setattr(module, "convert", wrong)
    with pytest.raises(ValueError, match="the exported policy must act as the model does, got Comparison"):
        export(trained("a2c").model, tmp_path, env_id=TOY, algo="a2c", episodes=0)
    assert list(tmp_path.iterdir()) == []


def test_differences_are_counted_and_explained(trained: Callable[[str], Any], exported: Callable[[str], Path]) -> None:
    policy = load(exported("ppo"), SYSTEM)
    head = policy.network._transposed["head.bias"]
    head[0] += 100.0  # the first level of T, always
    found = compare(trained("ppo").model, policy, SYSTEM, 1000)
    assert isinstance(found, Comparison)
    assert found.different > found.explained
    text = json.dumps(found.__dict__)
    assert "different" in text
