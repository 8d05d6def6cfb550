"""The simulator: plans in, an episode log out; `kernel` is the hot path that the environments share."""

from ebatch_env.simulator.front import Policy, Simulator, SystemView
from ebatch_env.simulator.log import EpisodeLog, PassRecord, RoundRecord
from ebatch_env.simulator.plan import Order, RoundPlan

__all__ = ["EpisodeLog", "Order", "PassRecord", "Policy", "RoundPlan", "RoundRecord", "Simulator", "SystemView"]
