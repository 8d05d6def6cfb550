"""From an SB3 model to files that cannot run code: weights as safetensors, and a card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

from ebatch_agents.acting import LegalActions
from ebatch_agents.algorithms import algorithm
from ebatch_agents.card import Card, scores_of, short_id
from ebatch_agents.network import Architecture, NumpyNetwork, gaps
from ebatch_agents.policy import SB3Policy, load_model
from ebatch_agents.runs import versions
from ebatch_agents.weights import NumpyPolicy
from ebatch_env.compatibility import Interface, ScenarioVersion
from ebatch_env.environment.dynamics import Dynamics
from ebatch_env.environment.fleet import AnySystem
from ebatch_env.errors import fail, needs_extra
from ebatch_env.scoring.files import make_folder, whole_file
from ebatch_env.scoring.jobs import build_system, system_keywords
from ebatch_env.scoring.records import EpisodeRecord
from ebatch_env.scoring.runner import play
from ebatch_env.scoring.seeds import EVALUATION_SEED, VALIDATION_SEED

COMPARED = 10_000  # observations on which the exported policy is compared with the model
LANES = 100  # half of them played, 100 side by side; the others drawn at random
EPISODES = 32
_ACTIVATIONS = {nn.Tanh: "tanh", nn.ReLU: "relu"}
ROUNDING = 1e-5  # of the values' size: far above what sums in another order change


@dataclass(frozen=True)
class Comparison:
    """How the exported policy's actions compare with the model's.

    Attributes:
        observations: how many were compared, half of them from episodes that the model plays.
        different: of those, how many have another index in any control.
        explained: of those again, how many by rounding: the best and second best value of a control are closer than
            `ROUNDING` times the largest value.
        least_gap: the smallest such distance of all.
    """

    observations: int
    different: int
    explained: int
    least_gap: float


def convert(model: BaseAlgorithm) -> tuple[Architecture, dict[str, npt.NDArray[np.float32]]]:
    """The part of a model that acts: its form and its weights.

    Raises:
        ValueError: the model has parts that `NumpyNetwork` does not have.
    """
    policy: Any = model.policy
    if policy.features_extractor_class is not FlattenExtractor:
        raise fail("features_extractor_class", policy.features_extractor_class, "FlattenExtractor")
    weights: dict[str, npt.NDArray[np.float32]] = {}
    lstm: tuple[int, ...] = ()
    quantiles = 1
    if hasattr(policy, "action_net"):
        head, trunk = "logits", policy.mlp_extractor.policy_net
        layers = [*_linear(trunk), policy.action_net]
        if hasattr(policy, "lstm_actor"):
            lstm = (policy.lstm_actor.hidden_size,) * policy.lstm_actor.num_layers
            for name, tensor in policy.lstm_actor.state_dict().items():
                kind, _, layer = name.rpartition("_l")  # weight_ih_l0
                weights[f"lstm.{int(layer)}.{kind}"] = _array(tensor)
        space = model.action_space
        outputs = tuple(int(n) for n in space.nvec) if hasattr(space, "nvec") else (int(space.n),)  # type: ignore[attr-defined]
    else:
        trunk = policy.q_net.q_net if hasattr(policy, "q_net") else policy.quantile_net.quantile_net
        head = "values" if hasattr(policy, "q_net") else "quantiles"
        quantiles = int(getattr(policy, "n_quantiles", 1))
        layers = _linear(trunk)
        outputs = (int(model.action_space.n),)  # type: ignore[attr-defined]
    for n, layer in enumerate(layers):
        name = "head" if n == len(layers) - 1 else f"hidden.{n}"
        weights |= {f"{name}.weight": _array(layer.weight), f"{name}.bias": _array(layer.bias)}
    hidden = tuple(int(layer.out_features) for layer in layers[:-1])
    inputs = int(np.prod(model.observation_space.shape or ()))
    shape = Architecture(inputs, lstm, hidden, _activation(trunk), head, outputs, quantiles)
    return shape, weights


def _linear(trunk: Any) -> list[Any]:
    return [layer for layer in trunk if isinstance(layer, nn.Linear)]


def _activation(trunk: Any) -> str:
    """The one activation between the layers.

    Raises:
        ValueError: there are others than `NumpyNetwork` has, or other layers.
    """
    found = {type(layer) for layer in trunk if not isinstance(layer, nn.Linear)}
    if len(found) > 1 or not found <= set(_ACTIVATIONS):
        raise fail("activation", sorted(kind.__name__ for kind in found), "Tanh or ReLU")
    return _ACTIVATIONS[found.pop()] if found else "tanh"


def _array(tensor: Any) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)


def observations_of(system: AnySystem, policy: Any, count: int, seed: int = VALIDATION_SEED) -> npt.NDArray[np.float32]:
    """Observations to compare policies on, (count / `LANES`, `LANES`, D): the first half of the rows as ``policy`` plays
    episodes, the others drawn evenly from the observation space."""
    steps = count // LANES
    dynamics = Dynamics(system, LANES, threads=1)
    rngs = [np.random.default_rng(seed + e) for e in range(LANES)]
    dynamics.restart(range(LANES), rngs)
    rows, state, start = [], None, np.ones(LANES, np.bool_)
    for _ in range(steps // 2):
        rows.append(dynamics.observation.copy())
        actions, state = policy.predict(dynamics.observation, state, start, deterministic=True)
        dynamics.step(np.ascontiguousarray(actions, np.int64).reshape(LANES, system.actions.columns))
        start = dynamics.terminated | dynamics.truncated
        if start.any():
            dynamics.restart(np.flatnonzero(start), rngs)
    space = system.observations.space
    shape = (steps - len(rows), LANES, system.observations.size)
    drawn = np.random.default_rng(seed).uniform(space.low, space.high, shape).astype(np.float32)
    return np.concatenate([np.stack(rows), drawn]) if rows else drawn


def compare(model: BaseAlgorithm, exported: NumpyPolicy, system: AnySystem, count: int = COMPARED) -> Comparison:
    """Compare actions of model and export, states of an LSTM going along, on `observations_of`."""
    original = SB3Policy(model, system)
    network, shape = exported.network, exported.network.architecture
    legal = LegalActions(system, flat=len(shape.outputs) == 1) if exported.card.masked else None
    different, explained, least = 0, 0, float("inf")
    states: list[Any] = [None, None]
    rows = observations_of(system, original, count)
    for row in rows:
        before = states[1]
        theirs, states[0] = original.predict(row, states[0], deterministic=True)
        ours, states[1] = exported.predict(row, states[1], deterministic=True)
        values, _ = network.outputs(row, network.start(len(row)) if before is None else before)
        gap = gaps(values, shape.outputs, None if legal is None else legal(row)).min(axis=1)
        other = (theirs.reshape(len(row), -1) != ours.reshape(len(row), -1)).any(axis=1)
        different += int(other.sum())
        explained += int((other & (gap <= ROUNDING * np.abs(values).max(axis=1))).sum())
        least = min(least, float(gap.min()))
    return Comparison(rows.shape[0] * rows.shape[1], different, explained, least)


def export(
    source: str | Path | BaseAlgorithm,
    out: str | Path,
    *,
    env_id: str | None = None,
    algo: str | None = None,
    trust: bool = False,
    name: str | None = None,
    episodes: int = EPISODES,
    keywords: Mapping[str, Any] | None = None,
) -> Path:
    """Write a trained policy as ``<name>.safetensors`` with its card ``<name>.json``.

    Args:
        source: an SB3 zip, or the model itself. Beside a zip that `train` wrote lies what the card needs to know.
        out: folder for the two files.
        env_id: the id it was trained on; None: as ``run.json`` beside the zip says.
        algo: the algorithm; None: as the zip's name says.
        trust: must be True for a zip, see `load_model`.
        name: None: ``<algo>@<id without "ebatch/" and version>``.
        episodes: evaluation episodes to score it on, from `EVALUATION_SEED` on; 0: none.
        keywords: of the environment it was trained with, in the place of the scenario's; None: as ``run.json`` says.

    Returns:
        The path of the weights.

    Raises:
        ValueError: the model cannot be exported, or its actions differ from the exported policy's.
        OSError: files cannot be read or written.
    """
    training: dict[str, Any] = {}
    libraries = versions()
    if isinstance(source, (str, Path)):
        training, libraries = _beside(Path(source))
        algo = algo or Path(source).name.split("-")[0]
        model = load_model(source, trust=trust)
    else:
        model = source
    env_id = env_id or training.get("env")
    if env_id is None or algo is None:
        raise fail("env_id and algo", (env_id, algo), "given where there is no run.json beside the model")
    chosen = algorithm(algo)
    if keywords is None:
        keywords = training.get("keywords", {})
    system = build_system(system_keywords(env_id, keywords))
    SB3Policy(model, system)  # the spaces fit
    shape, weights = convert(model)
    stem = name or f"{algo}@{short_id(env_id)}"
    if Path(stem).name != stem:
        raise fail("name", stem, "the name of a file")
    folder = make_folder(Path(out))
    with needs_extra("export", "agents"):
        from safetensors.numpy import save
    content = save(weights)
    card = Card(
        algorithm=algo,
        scenario=ScenarioVersion.of(env_id),
        interface=Interface.of(system),
        architecture=shape,
        masked=chosen.masked,
        weights=f"{stem}.safetensors",
        sha256=hashlib.sha256(content).hexdigest(),
        training={**training, "keywords": dict(keywords), "decisions": int(model.num_timesteps)},
        versions=libraries,
    )
    policy = NumpyPolicy(card, NumpyNetwork(shape, weights), system)
    found = compare(model, policy, system)
    if found.different > found.explained:
        raise ValueError(f"the exported policy must act as the model does, got {found}")
    scores = _scores(system, policy, env_id, stem, episodes) if episodes else {}
    card = Card(**{**card.__dict__, "same_actions": asdict(found), "scores": scores})
    path = folder / card.weights
    with whole_file(path) as part:
        part.write_bytes(content)
    card.write(path.with_suffix(".json"))
    return path


def _beside(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What ``run.json`` says of the training: settings with the command; and the versions of the libraries."""
    file = path.with_name("run.json")
    if not file.is_file():
        return {}, versions()
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {**found["settings"], "command": found["command"]}, found["versions"]
    except (ValueError, KeyError, TypeError) as error:
        raise fail("run.json", str(file), f"as `ebatch train` writes it ({error})") from None


def _scores(system: AnySystem, policy: NumpyPolicy, env_id: str, name: str, episodes: int) -> dict[str, Any]:
    seeds = range(EVALUATION_SEED, EVALUATION_SEED + episodes)
    played = play(system, policy, seeds)
    records = [
        EpisodeRecord.of(env_id, name, e, seed, m) for e, (seed, m) in enumerate(zip(seeds, played, strict=True))
    ]
    return scores_of(records)
