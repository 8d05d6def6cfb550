"""Stable-Baselines3 agents for the environments of ``ebatch_env``: training, and acting as a policy among others."""

from ebatch_env.errors import needs_extra

with needs_extra("ebatch_agents", "sb3"):
    from ebatch_agents.policy import SB3Policy, load_zip
    from ebatch_agents.train import hyperparameters, train

__all__ = ["SB3Policy", "hyperparameters", "load_zip", "train"]
