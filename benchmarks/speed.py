"""How fast it is, beside yardsticks taken in the same run: `ebatch bench [--json] [--quick]`.

Machines are shared and noisy, so every figure is the best of several interleaved repeats, and what counts is the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np

import ebatch_env

ENV_ID = "ebatch/EPUR-Translation-v0"  # 64 lanes, load 0.8
WORK: dict[str, Any] = {"workload": "translation-bursty"}  # the usual bursts
SEED = 0
ROLLOUT = 32 * 1024  # decisions that PPO learns from at a time


def vector_steps(env: Any, actions: np.ndarray, steps: int) -> Callable[[], float]:
    """A function that steps ``env`` and returns environment steps per second."""

    def run() -> float:
        start = time.perf_counter()
        for n in range(steps):
            env.step(actions[n % len(actions)])
        return steps * env.num_envs / (time.perf_counter() - start)

    return run


def legal_actions(env: Any, batches: int, rng: np.random.Generator) -> np.ndarray:
    """Masked random actions, (batches, E, C), drawn beforehand."""
    codec = env.unwrapped.system.actions
    lanes = getattr(env, "num_envs", 1)
    columns = [rng.choice(np.flatnonzero(codec.legal[c]), size=(batches, lanes)) for c in codec.controls]
    return np.stack(columns, axis=-1)


def native(n: int, steps: int) -> Callable[[], float]:
    """Our vector environment as ``make_vec`` makes it; like CartPole it restarts lanes in the step after their last."""
    env = gym.make_vec(ENV_ID, num_envs=n, **WORK)
    env.reset(seed=SEED)
    run = vector_steps(env, legal_actions(env, 64, np.random.default_rng(SEED)), steps)
    run()
    return run


def cartpole(n: int, steps: int) -> Callable[[], float]:
    """Gymnasium's own native vector CartPole."""
    env = gym.make_vec("CartPole-v1", num_envs=n, vectorization_mode="vector_entry_point")
    env.reset(seed=SEED)
    return vector_steps(env, np.random.default_rng(SEED).integers(0, 2, (64, n)), steps)


def single(env_id: str, steps: int) -> Callable[[], float]:
    """One environment's raw class, resets included."""
    keywords = {"episode_metrics": False, **WORK} if env_id == ENV_ID else {}
    env: Any = gym.make(env_id, **keywords).unwrapped
    env.reset(seed=SEED)
    if env_id == ENV_ID:
        rows = legal_actions(env, 512, np.random.default_rng(SEED))[:, 0]
        actions: list[Any] = list(rows)
    else:
        actions = np.random.default_rng(SEED).integers(0, 2, 512).tolist()

    def run() -> float:
        start = time.perf_counter()
        for n in range(steps):
            _, _, terminated, truncated, _ = env.step(actions[n % 512])
            if terminated or truncated:
                env.reset()
        return steps / (time.perf_counter() - start)

    run()
    return run


def ppo(free: bool) -> Callable[[], float]:
    """SB3's PPO end to end, on our VecEnv or on one that costs nothing."""
    import torch
    from stable_baselines3 import PPO

    from ebatch_agents.speed import free_vec_env

    torch.set_num_threads(2)
    env: Any = ebatch_env.make_sb3(ENV_ID, 1024, seed=SEED, **WORK)
    if free:
        env = free_vec_env(env)
    model = PPO("MlpPolicy", env, n_steps=32, batch_size=8192, n_epochs=4, device="cpu", seed=SEED)
    model.learn(ROLLOUT)

    def run() -> float:
        start = time.perf_counter()
        model.learn(ROLLOUT, reset_num_timesteps=False)
        return ROLLOUT / (time.perf_counter() - start)

    return run


def replay(requests: int) -> float:
    """Seconds to replay a trace of ``requests`` requests through `Simulator`."""
    system = ebatch_env.make_system(ENV_ID, workload="translation", requests=requests)
    trace = system.sample_trace(np.random.default_rng(SEED))
    simulator = ebatch_env.Simulator(system.table, system.lanes, trace, hold_s=system.hold_s)
    plan = ebatch_env.RoundPlan()
    start = time.perf_counter()
    log = simulator.run(lambda view: plan)
    assert log.served == requests
    return time.perf_counter() - start


def start_up() -> float:
    """Seconds from a new interpreter to the first step, compiled code being cached."""
    code = f"import gymnasium, ebatch_env; e = gymnasium.make('{ENV_ID}'); e.reset(seed=0); e.step(e.action_space.sample())"
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def ratio(
    name: str, unit: str, ours: Callable[[], float], theirs: Callable[[], float], aim: float, repeats: int
) -> dict[str, Any]:
    """Best of ``repeats`` interleaved runs of both."""
    mine, other = 0.0, 0.0
    for _ in range(repeats):
        mine, other = max(mine, ours()), max(other, theirs())
    return {"what": name, "unit": unit, "ours": mine, "yardstick": other, "ratio": mine / other, "aim": aim}


def main(arguments: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="ebatch bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON and nothing else")
    parser.add_argument("--quick", action="store_true", help="a few seconds, and rougher")
    options = parser.parse_args(arguments)
    # A quiet moment is rarer for two threads than for one: what they share is measured briefly and often.
    part, often, repeats, rollouts = (10, 4, 2, 4) if options.quick else (1, 30, 9, 60)
    rows = [
        ratio("1024 environments / CartPole", "steps/s", native(1024, 600 // part), cartpole(1024, 2000 // part), 0.25, often),
        ratio("64 environments / CartPole", "steps/s", native(64, 6000 // part), cartpole(64, 6000 // part), 1.0, often),
        ratio("one environment / CartPole", "steps/s", single(ENV_ID, 20000 // part), single("CartPole-v1", 20000 // part), 0.5, repeats),
        ratio("PPO / PPO on a free environment", "steps/s", ppo(False), ppo(True), 0.9, rollouts),
    ]  # fmt: skip
    requests = 1_000_000 // part
    # The first time there is code to load, and memory to be had from the system.
    small, large = (min(replay(n) for _ in range(3)) for n in (requests // 10, requests))
    rows.append(
        {"what": f"replay of {requests:,} requests / a tenth of them, per request", "unit": "s", "ours": large, "yardstick": small * 10, "ratio": large / (small * 10), "aim": 1.0}
    )  # fmt: skip
    rows.append(
        {
            "what": "start to first step, compiled",
            "unit": "s",
            "ours": start_up(),
            "yardstick": 3.0,
            "ratio": None,
            "aim": None,
        }
    )
    report = {"seed": SEED, "env": ENV_ID, "cores": os.cpu_count(), "python": platform.python_version(), "rows": rows}
    if options.json:
        print(json.dumps(report, indent=2))
        return 0
    print(f"{ENV_ID}, masked random actions, seed {SEED}, {report['cores']} cores, Python {report['python']}")
    for row in rows:
        share = (
            ""
            if row["ratio"] is None
            else f"  ratio {row['ratio']:.2f}" + (f" (aim {row['aim']})" if row["aim"] else "")
        )
        print(f"{row['what']:<64} {row['ours']:>14,.2f} {row['unit']:<8} yardstick {row['yardstick']:>14,.2f}{share}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
