"""Approximate recurrent networks: fuzzy memoization and dynamic precision, on trained networks and real data.

The schemes run here; what they are worth on E-PUR is `ebatch_env.machines.approximation`. Needs the extra
``approximation`` (torch, and the packages that hold the data); nothing else in `ebatch_env` imports this package.
"""

import importlib.util

if importlib.util.find_spec("torch") is None:
    raise ModuleNotFoundError(
        "ebatch_env.approximation needs torch: pip install 'ebatch-env[approximation]'", name="torch"
    )

from ebatch_env.approximation.data import DATA, SequenceData, Split, load
from ebatch_env.approximation.evaluation import Evaluation, evaluate
from ebatch_env.approximation.lanes import as_points, shared_by_lanes
from ebatch_env.approximation.memoization import FuzzyMemoization
from ebatch_env.approximation.networks import RecurrentClassifier
from ebatch_env.approximation.precision import DynamicPrecision
from ebatch_env.approximation.quantization import LinearQuantizer
from ebatch_env.approximation.schedules import Schedule
from ebatch_env.approximation.thresholds import largest, sweep
from ebatch_env.approximation.training import RECIPES, Recipe, train, trained

__all__ = [
    "DATA",
    "RECIPES",
    "DynamicPrecision",
    "Evaluation",
    "FuzzyMemoization",
    "LinearQuantizer",
    "Recipe",
    "RecurrentClassifier",
    "Schedule",
    "SequenceData",
    "Split",
    "as_points",
    "evaluate",
    "largest",
    "load",
    "shared_by_lanes",
    "sweep",
    "train",
    "trained",
]
