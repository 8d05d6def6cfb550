"""A trained SB3 model as a policy for `ebatch evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from ebatch_env.environment.system import System
from ebatch_env.errors import fail


class SB3Policy:
    """Acts with an SB3 model, masking what the system rules out where the model can.

    Args:
        model: the model; its spaces must be the system's.
        system: what it acts on.

    Raises:
        ValueError: the model was trained with other observations or actions.
    """

    def __init__(self, model: BaseAlgorithm, system: System) -> None:
        for name, trained, wanted in (
            ("observation space", model.observation_space, system.observations.space),
            ("action space", model.action_space, system.actions.space),
        ):
            if trained != wanted:
                raise fail(f"the model's {name}", trained, f"the system's, {wanted}")
        self.model = model
        # What is always illegal on this system; the one mask that moves (nothing left to wait for) ends the same way.
        self._mask = system.actions.mask().astype(bool) if type(model).__name__ == "MaskablePPO" else None

    def predict(
        self,
        observation: npt.NDArray[np.float32],
        state: Any = None,
        episode_start: npt.NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[npt.NDArray[np.int64], Any]:
        """Actions of the model; see `ebatch_env.scoring.policy.Policy`."""
        keywords: dict[str, Any] = {}
        if self._mask is not None:
            batch = observation.shape[:-1]
            keywords["action_masks"] = np.tile(self._mask, (*batch, 1))
        action, state = self.model.predict(observation, state, episode_start, deterministic, **keywords)
        return np.asarray(action, dtype=np.int64), state


def load_zip(path: str | Path, system: System, *, trust: bool = False) -> SB3Policy:
    """Load an SB3 ``.zip`` (PPO, MaskablePPO or DQN, as its name says) as a policy.

    Args:
        path: the file; ``train`` names it ``<algo>-....zip``.
        system: what it will act on.
        trust: must be True: an SB3 zip holds pickles, and loading one runs whatever code it carries.

    Raises:
        ValueError: not trusted, not an SB3 zip, or trained for another observation or action space.
    """
    if trust is not True:
        how = "on the command line FILE,trust=true"
        raise fail("trust", trust, f"True ({how}) to load {path}: an SB3 zip can run any code when it is loaded")
    from sb3_contrib import MaskablePPO

    algorithms: dict[str, Any] = {"ppo": PPO, "maskable_ppo": MaskablePPO, "dqn": DQN}
    algo = Path(path).name.split("-")[0]
    if algo not in algorithms:
        raise fail("the file's name", Path(path).name, f"<algo>-... with algo one of {', '.join(algorithms)}")
    try:
        model = algorithms[algo].load(path, device="cpu")
    except Exception as error:
        raise ValueError(f"{path} is not an SB3 model that {algo} can load: {error}") from error
    return SB3Policy(model, system)
