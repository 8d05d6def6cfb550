"""Training with Stable-Baselines3 on the native VecEnv."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from stable_baselines3.common.base_class import BaseAlgorithm

import ebatch_env
from ebatch_env.errors import check_integer, fail
from ebatch_env.scenarios import scenario
from ebatch_env.scoring.seeds import TRAINING_SEED

ALGORITHMS = ("ppo", "maskable_ppo", "dqn")


def hyperparameters(algo: str, env_id: str) -> dict[str, Any]:
    """The hyperparameters for an id: those under ``default`` in ``hyperparameters/<algo>.yml``, then the id's own.

    ``n_envs`` and ``n_timesteps`` are among them; the rest are the algorithm's keywords.
    """
    if algo not in ALGORITHMS:
        raise fail("algo", algo, f"one of {', '.join(ALGORITHMS)}")
    text = resources.files("ebatch_agents").joinpath("hyperparameters", f"{algo}.yml").read_text("utf-8")
    table: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return {**table["default"], **table.get(env_id, {})}


def train(
    env_id: str,
    algo: str = "maskable_ppo",
    *,
    steps: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = False,
    **keywords: Any,
) -> BaseAlgorithm:
    """Train an agent on a registered id.

    Args:
        env_id: the id.
        algo: ``ppo``, ``maskable_ppo`` or ``dqn`` (which gets flat actions).
        steps: decisions to train for; None: the hyperparameters' ``n_timesteps``.
        seed: of the weights and, added to ``TRAINING_SEED``, of the episodes, which evaluation never sees.
        out: folder for ``<algo>-<id>-seed<seed>.zip``; None: the model is only returned.
        progress: show SB3's progress bar.
        keywords: override keywords of the environment.

    Returns:
        The trained model.
    """
    check_integer("seed", seed, low=0, high=999)
    settings = hyperparameters(algo, env_id)
    total = check_integer("steps", settings.pop("n_timesteps") if steps is None else steps, low=1)
    settings.pop("n_timesteps", None)
    n_envs = settings.pop("n_envs")
    if algo == "dqn":
        keywords["flat_actions"] = True
    env = ebatch_env.make_sb3(scenario(env_id).id, n_envs, seed=TRAINING_SEED + 1000 * seed, **keywords)
    make: Any
    if algo == "maskable_ppo":
        from sb3_contrib import MaskablePPO as make
    elif algo == "ppo":
        from stable_baselines3 import PPO as make
    else:
        from stable_baselines3 import DQN as make
    model: BaseAlgorithm = make("MlpPolicy", env, seed=seed, device="cpu", **settings)
    model.learn(total, progress_bar=progress)
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"{algo}-{env_id.split('/')[-1]}-seed{seed}.zip"
        part = target.with_name(target.stem + ".part.zip")
        model.save(part)
        part.replace(target)
    env.close()
    return model
