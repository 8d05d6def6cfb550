"""A trained SB3 model as a policy for `ebatch evaluate`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ebatch_agents.acting import LegalActions, to_rows
from ebatch_agents.algorithms import ALGORITHMS
from ebatch_env.environment.fleet import AnySystem
from ebatch_env.errors import fail

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm


class SB3Policy:
    """Acts with an SB3 model, masking what the system rules out where the model can.

    Args:
        model: the model; its observations must be the system's, and its actions, which may be flat or not.
        system: what it acts on.

    Raises:
        ValueError: the model was trained with other observations or actions.
    """

    def __init__(self, model: BaseAlgorithm, system: AnySystem) -> None:
        codec = system.actions
        self.flat = not hasattr(model.action_space, "nvec")
        for name, trained, wanted in (
            ("observation space", model.observation_space, system.observations.space),
            ("action space", model.action_space, replace(codec, flat=self.flat).space),
        ):
            if trained != wanted:
                raise fail(f"the model's {name}", trained, f"the system's, {wanted}")
        self.model = model
        self._codec = codec
        self._mask = LegalActions(system, flat=self.flat) if type(model).__name__ == "MaskablePPO" else None

    def predict(
        self,
        observation: npt.NDArray[np.float32],
        state: Any = None,
        episode_start: npt.NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[npt.NDArray[np.int64], Any]:
        """Actions of the model; see `ebatch_env.scoring.policy.Policy`."""
        rows = np.atleast_2d(observation)
        starts = None if episode_start is None else np.atleast_1d(episode_start)
        keywords = {} if self._mask is None else {"action_masks": self._mask(rows)}
        chosen, state = self.model.predict(rows, state, starts, deterministic, **keywords)
        actions = to_rows(np.asarray(chosen, dtype=np.int64).reshape(len(rows), -1), self._codec)
        return actions if observation.ndim == 2 else actions[0], state


def load_zip(path: str | Path, system: AnySystem, *, trust: bool = False) -> SB3Policy:
    """Load an SB3 ``.zip`` as a policy; see `load_model`."""
    return SB3Policy(load_model(path, trust=trust), system)


def load_model(path: str | Path, *, trust: bool = False) -> BaseAlgorithm:
    """Load an SB3 ``.zip``.

    Args:
        path: the file; its name begins with the algorithm's, as `train` names it: ``<algo>-....zip``.
        trust: must be True: an SB3 zip holds pickles, and loading one runs whatever code it carries.

    Raises:
        ValueError: not trusted, or not an SB3 zip of that algorithm.
        ModuleNotFoundError: the extra ``sb3`` is not installed.
    """
    check_trust(path, trust)
    algo = Path(path).name.split("-")[0]
    if algo not in ALGORITHMS:
        raise fail("the file's name", Path(path).name, f"<algo>-... with algo one of {', '.join(ALGORITHMS)}")
    factory = ALGORITHMS[algo].load()
    try:
        model: BaseAlgorithm = factory.load(path, device="cpu")
    except Exception as error:
        raise ValueError(f"{path} is not an SB3 model that {algo} can load: {error}") from error
    return model


def check_trust(path: str | Path, trust: bool) -> None:
    """Refuse a zip that the user has not said to be trusted.

    Raises:
        ValueError: ``trust`` is not True.
    """
    if trust is not True:
        how = "for `ebatch evaluate` FILE,trust=true, for `ebatch export` --trust"
        raise fail("trust", trust, f"True ({how}) to load {path}: an SB3 zip can run any code when it is loaded")
