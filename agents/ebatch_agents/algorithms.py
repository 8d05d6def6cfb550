"""The algorithms that `train` knows, and their hyperparameters per environment."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ebatch_env.errors import check_integer, check_number, fail, needs_extra


@dataclass(frozen=True)
class Algorithm:
    """One of the algorithms of Stable-Baselines3 or sb3-contrib.

    Attributes:
        name: what `train` calls it; ``<name>.yml`` has its hyperparameters.
        place: ``module:Class``.
        policy: SB3's name of the policy's class.
        replays: it learns from a replay buffer; otherwise from the last rollout.
        flat: it takes one `Discrete` index only, so the environment's actions are flat.
        masked: it rules out illegal actions itself.
    """

    name: str
    place: str
    policy: str = "MlpPolicy"
    replays: bool = False
    flat: bool = False
    masked: bool = False

    def load(self) -> Any:
        """The class.

        Raises:
            ModuleNotFoundError: the extra ``sb3`` is not installed.
        """
        module, _, name = self.place.partition(":")
        with needs_extra(f"algorithm {self.name!r}", "sb3"):
            return getattr(importlib.import_module(module), name)


# A recurrent policy with masks is in neither library: RecurrentPPO learns without them. That does no harm but to speed of
# learning, as a level that the machine rules out has the nearest legal effect.
ALGORITHMS: Mapping[str, Algorithm] = MappingProxyType(
    {
        algorithm.name: algorithm
        for algorithm in (
            Algorithm("ppo", "stable_baselines3:PPO"),
            Algorithm("maskable_ppo", "sb3_contrib:MaskablePPO", masked=True),
            Algorithm("recurrent_ppo", "sb3_contrib:RecurrentPPO", policy="MlpLstmPolicy"),
            Algorithm("a2c", "stable_baselines3:A2C"),
            Algorithm("dqn", "stable_baselines3:DQN", replays=True, flat=True),
            Algorithm("qrdqn", "sb3_contrib:QRDQN", replays=True, flat=True),
        )
    }
)


def algorithm(name: str) -> Algorithm:
    """The algorithm called ``name``.

    Raises:
        ValueError: there is none; the message lists them.
    """
    if name not in ALGORITHMS:
        raise fail("algo", name, f"one of {', '.join(ALGORITHMS)}")
    return ALGORITHMS[name]


def algorithm_for(env_id: str) -> str:
    """The algorithm that the scoreboard's agents are trained with on an id: see ``hyperparameters/algorithms.yml``.

    Raises:
        ValueError: the file names one that there is not.
    """
    with needs_extra("hyperparameters", "sb3"):
        import yaml

    file = resources.files("ebatch_agents").joinpath("hyperparameters", "algorithms.yml")
    table = yaml.safe_load(file.read_text(encoding="utf-8"))
    return algorithm(table.get(env_id, table["default"])).name


@dataclass(frozen=True)
class Hyperparameters:
    """How to train on an environment.

    Attributes:
        n_envs: environments side by side.
        n_timesteps: decisions to train for.
        horizon: time constant of the discount in reference latencies (`TimedVecEnv`); None: gamma per decision.
        teacher: the tuned policy that is imitated before the training (`imitation.imitate`); None: none.
        keywords: those of the algorithm's class.
        env_kwargs: those of the environment.
    """

    n_envs: int
    n_timesteps: int
    horizon: float | None
    teacher: str | None
    keywords: Mapping[str, Any]
    env_kwargs: Mapping[str, Any]


def hyperparameters(
    algo: str, env_id: str, config: str | Path | None = None, changes: Mapping[str, Any] | None = None
) -> Hyperparameters:
    """The hyperparameters for an id, from a file in rl-zoo3's format.

    The file maps ids, and ``default`` for all others, to rl-zoo3's keys. Two keys of the file are ours, and rl-zoo3 does
    not look at them: ``horizons`` and ``teachers`` map ids and ``default`` to the horizon and to the policy to imitate
    first. A number written ``lin_0.001`` falls linearly to 0.

    Args:
        algo: one of `ALGORITHMS`.
        env_id: the id.
        config: the file; None: the one that comes with this package.
        changes: entries to change, ``horizon`` and ``teacher`` among them.

    Raises:
        ValueError: the file is not of that format, an unknown key, or a value out of range.
        OSError: the file cannot be read.
    """
    entry, ours, source = _entry(algo, env_id, config)
    changes = dict(changes or {})
    horizon = changes.pop("horizon", ours["horizons"])
    teacher = changes.pop("teacher", ours["teachers"])
    if teacher is not None and not isinstance(teacher, str):
        raise fail("teacher", teacher, "the name of a policy, or None")
    if horizon is not None:
        horizon = check_number("horizon", horizon, low=0.0, low_open=True)
    values = {**entry, **changes}
    n_envs = check_integer("n_envs", _whole(values.pop("n_envs", 1)), low=1, high=4096)
    n_timesteps = check_integer("n_timesteps", _whole(values.pop("n_timesteps", None)), low=1)
    env_kwargs = values.pop("env_kwargs", {})
    wanted = algorithm(algo)
    if values.pop("policy", wanted.policy) != wanted.policy:
        raise fail(f"policy in {source}", entry["policy"], repr(wanted.policy))
    known = set(inspect.signature(wanted.load().__init__).parameters)
    known -= {"self", "policy", "env", "seed", "device", "verbose", "tensorboard_log", "_init_setup_model"}
    for name, value in values.items():
        if name not in known:
            raise fail(f"hyperparameter of {algo} in {source}", name, f"one of {', '.join(sorted(known))}")
        if name in ("n_steps", "batch_size", "n_epochs"):
            values[name] = check_integer(name, _whole(value), low=1)
        if name in ("policy_kwargs", "replay_buffer_kwargs") and not isinstance(value, Mapping):
            raise fail(f"{name} in {source}", value, "a mapping (rl-zoo3's strings of code are not run)")
    return Hyperparameters(n_envs, n_timesteps, horizon, teacher, values, dict(env_kwargs))


def _entry(algo: str, env_id: str, config: str | Path | None) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The id's entry, its values of the keys that are ours, and what to call the file."""
    with needs_extra("hyperparameters", "sb3"):
        import yaml

    algorithm(algo)
    file = (
        resources.files("ebatch_agents").joinpath("hyperparameters", f"{algo}.yml") if config is None else Path(config)
    )
    source = f"{algo}.yml" if config is None else str(config)
    try:
        table = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise fail("config", source, f"a YAML file ({' '.join(str(error).split())})") from None
    entry = table.get(env_id, table.get("default")) if isinstance(table, dict) else None
    if not isinstance(entry, dict):
        raise fail("config", source, f"a YAML file with a mapping for {env_id!r} or 'default'")
    ours = {}
    for key, what in (("horizons", "reference latencies"), ("teachers", "names of policies")):
        values = table.get(key, {})
        if not isinstance(values, dict):
            raise fail(f"{key} in {source}", values, f"a mapping of ids or 'default' to {what}")
        ours[key] = values.get(env_id, values.get("default"))
    return dict(entry), ours, source


def _whole(value: Any) -> Any:
    """YAML reads 5e5 as a string and 5.0e+5 as a float; rl-zoo3's files have both."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    return int(value) if isinstance(value, float) and value.is_integer() else value


class Falling:
    """A hyperparameter that falls linearly from ``start`` to 0 over the training, as rl-zoo3's ``lin_<start>``."""

    def __init__(self, start: float) -> None:
        self.start = start

    def __call__(self, remaining: float) -> float:
        """The value with a share ``remaining`` of the training to go."""
        return remaining * self.start


def with_schedules(keywords: Mapping[str, Any]) -> dict[str, Any]:
    """``keywords`` as SB3 takes them: ``lin_<start>`` becomes a schedule, a list of ``train_freq`` a tuple.

    Raises:
        ValueError: what stands behind ``lin_`` is not a number.
    """
    values = dict(keywords)
    for name, value in keywords.items():
        if isinstance(value, str) and value.startswith("lin_"):
            try:
                values[name] = Falling(float(value.removeprefix("lin_")))
            except ValueError:
                raise fail(name, value, "lin_ and a number") from None
        elif isinstance(value, str) and name in ("learning_rate", "clip_range", "gamma", "ent_coef"):
            values[name] = check_number(name, _number(value))
        elif name == "train_freq" and isinstance(value, list):
            values[name] = tuple(value)
        elif isinstance(value, Mapping):
            values[name] = dict(value)  # SB3 may change it
    return values


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
