"""Schedulers to beat: E-BATCH and its rivals, as policies for ``ebatch_env``.

Each module holds one family; ``docs/baselines.md`` lists them. All of them derive from `Baseline`.
"""

from ebatch_baselines.base import Baseline
from ebatch_baselines.view import View

__all__ = ["Baseline", "View"]
