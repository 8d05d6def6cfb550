"""Discounting by time: what the environment tells, and what the buffers make of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sb3_contrib")

import torch

import ebatch_env
from ebatch_agents.algorithms import ALGORITHMS
from ebatch_agents.discount import TimedVecEnv, discount_by_time
from ebatch_env.scenarios import scenario
from ebatch_env.simulator import kernel as k

TOY = "ebatch/Toy-v0"


def timed(n_envs: int = 3, horizon: float = 2.0, **keywords: Any) -> TimedVecEnv:
    return TimedVecEnv(n_envs, horizon=horizon, seed=5, **{**scenario(TOY).keywords, **keywords})


def test_the_discount_is_of_the_time_that_passed_and_rewards_are_scaled() -> None:
    env, plain = timed(), ebatch_env.make_sb3(TOY, 3, seed=5)
    rng = np.random.default_rng(0)
    assert np.array_equal(env.reset(), plain.reset())
    ended = 0
    for _ in range(60):
        before = env.dynamics.systems.f[:, k.CLOCK].copy()
        actions = np.stack([env.action_space.sample() for _ in range(3)]) * 0 + rng.integers(0, 2, (3, 5))
        observation, reward, dones, infos = env.step(actions)
        expected = plain.step(actions)
        assert np.array_equal(observation, expected[0])
        assert np.allclose(reward, expected[1] * 16 / (2 * 2.0), rtol=1e-6)  # 16 requests, 2 lanes, horizon 2
        assert np.array_equal(dones, expected[2])
        passed = env.dynamics.systems.f[:, k.CLOCK] - before
        latency = env.system.saturation.latency_s
        assert np.allclose(env.discount[~dones], np.exp(-passed / (2.0 * latency))[~dones], rtol=1e-12)
        assert (env.discount <= 1.0).all()
        assert (env.discount[dones] == 1.0).all()
        for e in np.flatnonzero(dones):
            ended += 1
            assert infos[e]["episode"]["r"] == pytest.approx(expected[3][e]["episode"]["r"])
    assert ended > 3


def slow_advantages(rewards: Any, values: Any, last: Any, dones: Any, discounts: Any, lam: float) -> np.ndarray:
    """Sums of discounted temporal differences, written out: A_t = sum_k (prod lam * d) * delta."""
    steps, n = rewards.shape
    following = np.vstack([values[1:], last])
    out = np.zeros((steps, n))
    for e in range(n):
        for t in range(steps):
            weight = 1.0
            for s in range(t, steps):
                more = 0.0 if dones[s, e] else 1.0
                out[t, e] += weight * (rewards[s, e] + discounts[s, e] * more * following[s, e] - values[s, e])
                weight *= lam * discounts[s, e] * more
    return out


@pytest.mark.parametrize("algo", ["ppo", "a2c", "maskable_ppo", "recurrent_ppo"])
def test_advantages_use_each_decisions_own_discount(algo: str) -> None:
    env = timed()
    chosen = ALGORITHMS[algo]
    model = chosen.load()(chosen.policy, env, n_steps=40, gamma=1.0, gae_lambda=0.9, seed=0, device="cpu")
    discount_by_time(model, env)
    discounts, dones = [], []
    real = env.step_wait

    def step_wait() -> Any:
        result = real()
        discounts.append(env.discount.copy())
        dones.append(result[2])
        return result

    env.step_wait = step_wait  # type: ignore[method-assign]
    buffer = model.rollout_buffer
    lasts: list[Any] = []
    compute = buffer.compute_returns_and_advantage

    def keep(last_values: torch.Tensor, dones: np.ndarray) -> None:
        lasts.append(last_values.numpy().flatten())
        compute(last_values, dones)

    buffer.compute_returns_and_advantage = keep
    model.train = lambda: None
    model.learn(1)
    ends = np.array(dones)
    assert ends.any()
    expected = slow_advantages(buffer.rewards, buffer.values, lasts[0], ends, np.array(discounts), 0.9)
    assert np.allclose(buffer.advantages, expected, atol=1e-5)
    assert np.allclose(buffer.returns, expected + buffer.values, atol=1e-5)
    assert len({round(float(d), 6) for d in np.array(discounts)[~ends]}) > 3  # times do differ


@pytest.mark.parametrize("algo", ["ppo", "maskable_ppo"])
def test_equal_discounts_are_sb3s_gamma(algo: str) -> None:
    def advantages(gamma: float, ours: bool) -> np.ndarray:
        env = timed()
        model = ALGORITHMS[algo].load()("MlpPolicy", env, n_steps=40, gamma=gamma, seed=0, device="cpu")
        if ours:
            discount_by_time(model, env)
            env._per_second[:] = 0.0
            real = env.step_wait

            def step_wait() -> Any:
                result = real()
                env.discount = np.full(3, 0.95)
                return result

            env.step_wait = step_wait  # type: ignore[method-assign]
        model.train = lambda: None
        model.learn(1)
        return np.array(model.rollout_buffer.advantages)

    assert np.allclose(advantages(1.0, True), advantages(0.95, False), atol=1e-6)


@pytest.mark.parametrize("algo", ["dqn", "qrdqn"])
def test_replayed_transitions_bring_their_discount(algo: str) -> None:
    env = timed(flat_actions=True)
    model = ALGORITHMS[algo].load()(
        "MlpPolicy", env, buffer_size=90, learning_starts=10_000, gamma=1.0, seed=0, device="cpu"
    )
    discount_by_time(model, env)
    seen: dict[tuple[bytes, int], list[float]] = {}
    real = env.step_wait

    def step_wait() -> Any:
        before, actions = model._last_obs, env._actions
        result = real()
        for e in range(3):
            seen.setdefault((before[e].tobytes(), int(actions[e, 0])), []).append(float(env.discount[e]))
        return result

    env.step_wait = step_wait  # type: ignore[method-assign]
    model.learn(150)  # more than the buffer holds
    sample = model.replay_buffer.sample(64)
    assert sample.discounts.shape == (64, 1)
    assert len(seen) > 100
    for n, row in enumerate(sample.observations.numpy()):
        discounts = seen[row.tobytes(), int(sample.actions[n, 0])]
        assert np.abs(np.array(discounts) - float(sample.discounts[n, 0])).min() < 1e-6


@pytest.mark.parametrize("horizon", [0.0, -1.0, float("nan"), "long"])
def test_bad_horizons_are_refused(horizon: Any) -> None:
    with pytest.raises(ValueError, match="horizon must be a finite number"):
        timed(horizon=horizon)
