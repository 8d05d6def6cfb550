"""Stable-Baselines3 agents for the environments of ``ebatch_env``: training, export, and acting as a policy among others.

What only acts (`ebatch_agents.weights`, `ebatch_agents.card`) needs no torch, so names here are imported when used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ebatch_env.errors import needs_extra

if TYPE_CHECKING:
    from ebatch_agents.algorithms import ALGORITHMS, hyperparameters
    from ebatch_agents.policy import SB3Policy, load_zip
    from ebatch_agents.training import Trained, train

_PLACES = {
    "ALGORITHMS": "algorithms",
    "SB3Policy": "policy",
    "Trained": "training",
    "hyperparameters": "algorithms",
    "load_zip": "policy",
    "train": "training",
}

__all__ = ["ALGORITHMS", "SB3Policy", "Trained", "hyperparameters", "load_zip", "train"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needs_extra("ebatch_agents", "sb3"):
        return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
