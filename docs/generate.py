"""Rewrite the generated parts of the docs: python docs/generate.py."""

from pathlib import Path

import ebatch_env

HERE = Path(__file__).parent

OBSERVATIONS = """# Observations

A flat float32 `Box`. Every index has a name, a unit and a scale; `env.unwrapped.system.observations` holds this table
for the environment at hand and reads fields back in their units:

```python
import gymnasium as gym
import ebatch_env

env = gym.make("ebatch/EPUR-Translation-v0")
observation, info = env.reset(seed=0)
layout = env.unwrapped.system.observations
print(layout.read(observation, "queue_length"), layout.read(observation, "oldest_wait"))
```

Forms: `share` and `flag` are written as they are; `squash` writes x as x / (scale + x), so 0 stays 0, one scale becomes
0.5, and everything fits in [0, 1); `signed` does the same with a sign. Scales are the scenario's own references (lanes,
mean length, reference latency), so one policy can serve machines of any speed. With hidden lengths
(`lengths_known=False`) every field that would give a length away is 0. The first {state} fields change from decision to
decision; the rest describe the machine and the objective and are constant.

The table for `{env_id}` (python docs/generate.py writes it; a test compares):

{table}
"""


def main() -> None:
    """Write docs/observations.md."""
    from ebatch_env.environment.compiled import N_STATE

    env_id = "ebatch/EPUR-Translation-v0"
    table = ebatch_env.make_system(env_id).observations.markdown()
    text = OBSERVATIONS.format(state=N_STATE, env_id=env_id, table=table)
    (HERE / "observations.md").write_text(text)


if __name__ == "__main__":
    main()
