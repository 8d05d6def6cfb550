"""Checkpoints of a training, from which it goes on as if nothing had happened.

A checkpoint is taken between rollouts and holds, besides what the caller notes, all that the rest of the training depends
on: the weights, the target network's, the optimiser's state; SB3's counters, its last observations and LSTM states, the
replay buffer; the environments in the middle of their episodes with their random generators; the generators of torch, numpy
and the action space. On the same machine and libraries the training continues with the very same numbers.

It holds tensors and plain values only and is read as such (`torch.load(weights_only=True)`): loading one runs no code.
"""

from __future__ import annotations

import json
import pickle
from collections import deque
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from ebatch_env.environment.sb3 import EBatchVecEnv
from ebatch_env.errors import fail
from ebatch_env.scoring.files import whole_file

FORMAT = 1
_COUNTERS = (
    "num_timesteps",
    "_episode_num",
    "_n_updates",
    "_n_calls",
    "exploration_rate",
    "_current_progress_remaining",
)
_REPLAYED = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts", "discounts")
_SHARED = ("levels", "bins")  # arrays of `Systems` that never change
_OF_ENV = ("_returns", "_lengths", "_clock")  # of the VecEnv, where it has them


def save(path: Path, model: BaseAlgorithm, env: EBatchVecEnv, notes: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: the file.
        model: what learns; between rollouts.
        env: what it learns on.
        notes: anything that fits JSON.

    Raises:
        OSError: the file cannot be written.
    """
    content = {
        "format": FORMAT,
        "notes": json.dumps(notes),
        "model": _model_state(model),
        "env": _env_state(env),
        "random": _random_state(model),
    }
    with whole_file(path) as part:
        torch.save(content, part)


def read(path: Path) -> dict[str, Any]:
    """A checkpoint's content, for `notes_of` and `restore`.

    Raises:
        ValueError: it is no checkpoint, or a damaged one.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        try:
            content = torch.load(file, weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as error:
            raise fail("checkpoint", str(path), f"one that can be read ({_line(error)})") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise fail("checkpoint", str(path), f"a checkpoint of format {FORMAT}")
    return content


def notes_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """What the caller of `save` noted."""
    return dict(json.loads(content["notes"]))


def restore(content: Mapping[str, Any], model: BaseAlgorithm, env: EBatchVecEnv) -> None:
    """Put a new model and its new environments, made with the same settings, where the others were.

    Raises:
        ValueError: the checkpoint is of other networks or environments.
    """
    try:
        _restore_env(content["env"], env)
        _restore_model(content["model"], model)
    except (RuntimeError, KeyError, ValueError) as error:
        raise ValueError(f"the checkpoint must be one of the same settings: {_line(error)}") from error
    _restore_random(content["random"], model)


def _line(error: Exception) -> str:
    """The first line of what an error says, which may be nothing."""
    return (str(error) or type(error).__name__).splitlines()[0]


def _model_state(model: Any) -> dict[str, Any]:
    state = {
        "policy": model.policy.state_dict(),
        "optimizer": model.policy.optimizer.state_dict(),
        "counters": {name: getattr(model, name) for name in _COUNTERS if hasattr(model, name)},
        "episodes": [[float(info["r"]), int(info["l"]), float(info["t"])] for info in model.ep_info_buffer or ()],
        "last_obs": torch.from_numpy(np.ascontiguousarray(model._last_obs)),
        "last_starts": torch.from_numpy(np.asarray(model._last_episode_starts)),
    }
    if getattr(model, "_last_lstm_states", None) is not None:
        state["lstm"] = [list(pair) for pair in model._last_lstm_states]
    buffer = getattr(model, "replay_buffer", None)
    if buffer is not None:
        filled = buffer.buffer_size if buffer.full else buffer.pos
        arrays = {name: torch.from_numpy(getattr(buffer, name)[:filled]) for name in _REPLAYED if hasattr(buffer, name)}
        state["replay"] = {"pos": buffer.pos, "full": buffer.full, "arrays": arrays}
    return state


def _restore_model(state: Mapping[str, Any], model: Any) -> None:
    model.policy.load_state_dict(state["policy"])
    model.policy.optimizer.load_state_dict(state["optimizer"])
    for name, value in state["counters"].items():
        setattr(model, name, value)
    episodes = [dict(zip("rlt", episode, strict=True)) for episode in state["episodes"]]
    model.ep_info_buffer = deque(episodes, maxlen=model._stats_window_size)
    model.ep_success_buffer = deque(maxlen=model._stats_window_size)
    model._last_obs = state["last_obs"].numpy()
    model._last_episode_starts = state["last_starts"].numpy()
    if "lstm" in state:
        model._last_lstm_states = type(model._last_lstm_states)(*(tuple(pair) for pair in state["lstm"]))
    if "replay" in state:
        buffer = model.replay_buffer
        for name, array in state["replay"]["arrays"].items():
            getattr(buffer, name)[: array.shape[0]] = array.numpy()
        buffer.pos, buffer.full = state["replay"]["pos"], state["replay"]["full"]


def _env_arrays(env: Any) -> dict[str, np.ndarray]:
    """Every array that changes from decision to decision, in place."""
    dynamics = env.dynamics
    arrays = {f.name: getattr(dynamics.systems, f.name) for f in fields(dynamics.systems) if f.name not in _SHARED}
    arrays |= {"track": dynamics._track, "observation": dynamics.observation, "mask": dynamics.mask}
    if len(dynamics.system.machines) > 1:
        arrays["on"] = dynamics.on
    return arrays | {name: getattr(env, name) for name in _OF_ENV if hasattr(env, name)}


def _env_state(env: Any) -> dict[str, Any]:
    arrays = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in _env_arrays(env).items()}
    return {"arrays": arrays, "generators": [json.dumps(rng.bit_generator.state) for rng in env._streams]}


def _restore_env(state: Mapping[str, Any], env: Any) -> None:
    arrays, saved = _env_arrays(env), state["arrays"]
    if set(arrays) != set(saved) or len(state["generators"]) != env.num_envs:
        raise ValueError(f"environments with {sorted(arrays)}, got {sorted(saved)}")
    for name, array in arrays.items():
        if array.shape != tuple(saved[name].shape):
            raise ValueError(f"{name} of shape {array.shape}, got {tuple(saved[name].shape)}")
        array[...] = saved[name].numpy()
    for rng, text in zip(env._streams, state["generators"], strict=True):
        rng.bit_generator.state = json.loads(text)
    env._begun = True


def _random_state(model: BaseAlgorithm) -> dict[str, Any]:
    name, keys, place, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002 - SB3 draws from this generator
    return {
        "torch": torch.get_rng_state(),
        "numpy": [name, torch.from_numpy(np.asarray(keys, np.int64)), place, has_gauss, gauss],
        "actions": json.dumps(_actions(model).bit_generator.state),
    }


def _restore_random(state: Mapping[str, Any], model: BaseAlgorithm) -> None:
    torch.set_rng_state(state["torch"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    _actions(model).bit_generator.state = json.loads(state["actions"])


def _actions(model: BaseAlgorithm) -> np.random.Generator:
    """What random exploration draws from."""
    return model.action_space.np_random
