"""The environment: actions, observations, rewards, and its single, vector and Stable-Baselines3 forms."""
