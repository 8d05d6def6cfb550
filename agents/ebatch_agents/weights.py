"""A trained policy from a file that cannot run code: safetensors weights and a JSON card, acting in numpy.

`ebatch evaluate --policy FILE.safetensors` (or the card, `FILE.json`) comes here; neither torch nor SB3 is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ebatch_agents.acting import LegalActions, to_rows
from ebatch_agents.card import Card
from ebatch_agents.network import NumpyNetwork, State, choose
from ebatch_env.environment.fleet import AnySystem
from ebatch_env.errors import fail, needs_extra


class NumpyPolicy:
    """Acts with a `NumpyNetwork`; see `ebatch_env.scoring.policy.Policy`.

    Args:
        card: what is known about the policy.
        network: its network.
        system: what it acts on.
        transfer: allow a system with other scales, machine or objective; see `Interface.check`.
        seed: of the draws where actions are not deterministic.

    Raises:
        ValueError: the policy was trained for another system, or the network is not of the card's interface.
    """

    def __init__(
        self, card: Card, network: NumpyNetwork, system: AnySystem, *, transfer: bool = False, seed: int = 0
    ) -> None:
        card.interface.check(system, transfer=transfer)
        if not transfer:
            card.scenario.check()
        shape, codec = network.architecture, system.actions
        sizes = tuple(int(codec.levels[name].size) for name in codec.controls)
        flat = len(shape.outputs) == 1
        wanted = (int(np.prod(sizes)),) if flat else sizes
        if shape.inputs != system.observations.size or shape.outputs != wanted:
            found = f"{shape.inputs} inputs and outputs {shape.outputs}"
            raise fail("architecture", found, f"{system.observations.size} inputs and outputs {wanted}")
        self.card = card
        self.network = network
        self.digest = card.sha256  # tells evaluations of different weights apart
        self._system = system
        self._rng = np.random.default_rng(seed)
        self._mask = LegalActions(system, flat=flat) if card.masked else None

    def predict(
        self,
        observation: npt.NDArray[np.float32],
        state: Any = None,
        episode_start: npt.NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[npt.NDArray[np.int64], Any]:
        """Actions for observations (E, D) or (D,)."""
        rows = np.asarray(observation, dtype=np.float32)
        single = rows.ndim == 1
        rows = np.atleast_2d(rows)
        if rows.ndim != 2 or rows.shape[1] != self.network.architecture.inputs:
            expected = f"of shape (E, {self.network.architecture.inputs}) or ({self.network.architecture.inputs},)"
            raise fail("observation", f"shape {np.shape(observation)}", expected)
        values, state = self.network.outputs(rows, self._recall(state, episode_start, len(rows)))
        rng = None if deterministic or self.network.architecture.head != "logits" else self._rng
        mask = None if self._mask is None else self._mask(rows)
        chosen = choose(values, self.network.architecture.outputs, mask, rng)
        actions = to_rows(chosen, self._system.actions)
        return actions[0] if single else actions, state

    def _recall(self, state: Any, episode_start: npt.NDArray[np.bool_] | None, rows: int) -> State | None:
        """The LSTM's state to go on from, 0 where an episode begins."""
        new = self.network.start(rows)
        if new is None or state is None:
            return new
        hidden, cell = (np.asarray(part, dtype=np.float32) for part in state)
        if hidden.shape != new[0].shape or cell.shape != new[0].shape:
            raise fail("state", f"shapes {hidden.shape}, {cell.shape}", f"what the last call returned, {new[0].shape}")
        if episode_start is not None:
            keep = 1.0 - np.atleast_1d(episode_start).astype(np.float32)[:, None]
            hidden, cell = hidden * keep, cell * keep
        return hidden, cell


def load(path: str | Path, system: AnySystem, *, transfer: bool = False, seed: int = 0) -> NumpyPolicy:
    """Load ``FILE.safetensors``, or its card ``FILE.json``, as a policy.

    Args:
        path: either file; the other must lie beside it.
        system: what it will act on.
        transfer: allow a system with other scales, machine or objective, and a later version of the scenario.
        seed: of the draws where actions are not deterministic.

    Raises:
        ValueError: a damaged or mismatched file, naming what differs.
        OSError: a file cannot be read.
        ModuleNotFoundError: the extra ``agents`` is not installed.
    """
    if not isinstance(transfer, (bool, np.bool_)):
        raise fail("transfer", transfer, "True or False")
    card_path = Path(path).with_suffix(".json")
    if not card_path.is_file():
        raise fail("policy", str(path), f"a file with its card {card_path.name} beside it")
    card = Card.read(card_path)
    if Path(path).suffix != ".json" and card.weights != Path(path).name:
        raise fail("policy", Path(path).name, f"the file that its card is for, {card.weights}")
    network = NumpyNetwork(card.architecture, read_tensors(card, card_path.with_name(card.weights)))
    return NumpyPolicy(card, network, system, transfer=bool(transfer), seed=seed)


def read_tensors(card: Card, path: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The tensors of a weights' file.

    Raises:
        ValueError: it is not the card's, or not in the safetensors format.
        OSError: it cannot be read.
    """
    with needs_extra("a safetensors file", "agents"):
        from safetensors import SafetensorError
        from safetensors.numpy import load as load_tensors
    try:
        return load_tensors(card.check_file(path))
    except (SafetensorError, KeyError, TypeError) as error:  # KeyError: a type that numpy does not have
        raise fail("policy", str(path), f"a safetensors file that numpy can read ({error})") from None
