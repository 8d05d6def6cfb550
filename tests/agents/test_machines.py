"""One trained policy on several machines: masks and discounts of the machine at hand, export, exact resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sb3_contrib")
pytest.importorskip("safetensors")

import torch

import ebatch_env
from ebatch_agents import checkpoint, train
from ebatch_agents.discount import TimedVecEnv
from ebatch_agents.export import export
from ebatch_agents.policy import SB3Policy
from ebatch_agents.weights import load
from ebatch_env.scenarios import scenario
from ebatch_env.scoring.policy import make_policy
from ebatch_env.scoring.runner import play
from ebatch_env.simulator import kernel as k
from tests.agents.conftest import CHANGES

ID = "ebatch/Machines-v0"
FLEET = ebatch_env.make_system(ID, requests=24, max_decisions=200)
LEVELS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, None]  # E-PUR's end at 16, TPU's at 32
CHANGED = {**CHANGES["maskable_ppo"], "n_envs": 6, "n_epochs": 1, "teacher": None}


@pytest.fixture(scope="module")
def model() -> Any:
    """A masked policy with weights scattered at random that would like nothing better than T = 32."""
    found = train(ID, "maskable_ppo", steps=1, changes=CHANGED, evaluations=0).model
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in found.policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        found.policy.action_net.bias[5] += 5.0
    return found


def test_each_row_is_masked_as_on_its_machine(model: Any, tmp_path: Path) -> None:
    exported = export(model, tmp_path, env_id=ID, algo="maskable_ppo", episodes=0)
    policies = SB3Policy(model, FLEET), load(exported, FLEET), make_policy(exported, FLEET, ID)
    rows = np.random.default_rng(0).uniform(0, 1, (200, FLEET.observations.size)).astype(np.float32)
    for e, row in enumerate(rows):
        row[43:] = FLEET.machines[e % 3].constants[43:]
    acted = [policy.predict(rows, deterministic=True)[0] for policy in policies]
    assert np.array_equal(acted[0], acted[1])
    assert np.array_equal(acted[0], acted[2])
    assert not (acted[0][::3, 0] == 5).any()
    assert (acted[0][1::3, 0] == 5).any()
    assert (acted[0][2::3, 0] == 5).any()
    seeds = range(3)
    assert play(FLEET, policies[0], seeds) == play(FLEET, policies[1], seeds)
    alone = ebatch_env.make_system(ID, requests=24, accelerator="epur", time_step_levels=LEVELS)
    assert np.array_equal(load(exported, alone).predict(rows[::3])[0], acted[0][::3])
    with pytest.raises(ValueError, match="transfer=true"):
        load(
            exported, ebatch_env.make_system(ID, accelerator=["epur", "tpu-baseline", "v100"], time_step_levels=LEVELS)
        )


def test_time_is_discounted_in_latencies_of_the_machine() -> None:
    env = TimedVecEnv(6, horizon=3.0, seed=1, **{**scenario(ID).keywords, "requests": 24})
    env.reset()
    rng, seen = np.random.default_rng(0), set()
    for _ in range(40):
        before, on = env.dynamics.systems.f[:, k.CLOCK].copy(), env.dynamics.on.copy()
        _, _, dones, _ = env.step(rng.integers(0, env.action_space.nvec, (6, 5)))
        latency = np.array([env.system.machines[machine].saturation.latency_s for machine in on])
        expected = np.exp(-(env.dynamics.systems.f[:, k.CLOCK] - before) / (3.0 * latency))
        assert np.allclose(env.discount[~dones], expected[~dones], rtol=1e-12)
        assert (env.discount[dones] == 1.0).all()
        seen |= set(on.tolist())
    assert seen == {0, 1, 2}


def test_a_checkpoint_knows_which_machines_the_episodes_are_on(model: Any, tmp_path: Path) -> None:
    envs = [ebatch_env.make_sb3(ID, 6, seed=seed, requests=24) for seed in (4, 90)]
    for env in envs:
        env.reset()
    assert not np.array_equal(envs[0].dynamics.on, envs[1].dynamics.on)
    model._last_obs, model._last_episode_starts = envs[0].dynamics.observation, np.zeros(6, bool)
    checkpoint.save(tmp_path / "checkpoint", model, envs[0], {})
    checkpoint.restore(checkpoint.read(tmp_path / "checkpoint"), model, envs[1])
    rng = np.random.default_rng(0)
    for _ in range(60):
        actions = rng.integers(0, envs[0].action_space.nvec, (6, 5))
        one, other = (env.step(actions) for env in envs)
        for left, right in zip(one[:3], other[:3], strict=True):
            assert np.array_equal(left, right)
        assert np.array_equal(envs[0].dynamics.on, envs[1].dynamics.on)
