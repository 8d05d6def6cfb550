"""A Gymnasium environment for learned batching of recurrent networks on accelerators.

Importing this package registers the ``ebatch/...`` ids with Gymnasium.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ebatch_env.costs import CostTable, EnergyPart
from ebatch_env.environment.fleet import AnySystem, Fleet, build_system
from ebatch_env.environment.rewards import Objective
from ebatch_env.environment.system import System
from ebatch_env.errors import needs_extra
from ebatch_env.machines import Accelerator
from ebatch_env.networks import Layer, Network
from ebatch_env.scenarios import SCENARIOS, register_all, scenario
from ebatch_env.simulator import EpisodeLog, Order, RoundPlan, Simulator
from ebatch_env.trace import RequestTrace

if TYPE_CHECKING:
    from ebatch_env.environment.sb3 import EBatchVecEnv

__version__ = "0.1.0"

__all__ = [
    "SCENARIOS",
    "Accelerator",
    "CostTable",
    "EnergyPart",
    "EpisodeLog",
    "Fleet",
    "Layer",
    "Network",
    "Objective",
    "Order",
    "RequestTrace",
    "RoundPlan",
    "Simulator",
    "System",
    "make_sb3",
    "make_system",
]

register_all()


def make_system(env_id: str, **keywords: Any) -> AnySystem:
    """The `System` behind an id, or `Fleet` if it has several machines, with its keywords overridden by ``keywords``."""
    return build_system(**{**scenario(env_id).keywords, **keywords})


def make_sb3(env_id: str, n_envs: int = 1, *, seed: int | None = None, **keywords: Any) -> EBatchVecEnv:
    """A registered environment as a Stable-Baselines3 `VecEnv`. Keywords as in `EBatchVecEnv`.

    Raises:
        ValueError: an unknown id or keyword, or one outside its range.
        ModuleNotFoundError: Stable-Baselines3, the extra ``sb3``, is not installed.
    """
    with needs_extra("make_sb3", "sb3"):
        from ebatch_env.environment.sb3 import EBatchVecEnv

    return EBatchVecEnv(n_envs, seed=seed, **{**scenario(env_id).keywords, **keywords})
