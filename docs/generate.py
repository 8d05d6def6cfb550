"""Rewrite the generated parts of the docs.

python docs/generate.py                       docs/observations.md
python docs/generate.py --demo results/demo   also the README's table and picture, from what `make demo` wrote
python docs/generate.py --bench bench.json    also docs/speed.md's table, from `ebatch bench --json`
python docs/generate.py --reproduction results/reproduction    also docs/reproduction.md, from what `make reproduce` wrote
"""

import argparse
import json
import re
import shutil
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


COLUMNS = ("policy", "cost", "energy/request", "latency p50", "latency p99", "throughput", "SLO miss")


def replace(page: Path, name: str, text: str) -> None:
    """Put ``text`` between the marks ``<!-- name -->`` and ``<!-- /name -->`` of a page."""
    before, mark, rest = page.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    assert mark, f"{page} has no mark {name}"
    assert end, f"{page} has no end mark {name}"
    page.write_text(before + mark + text + end + after)


def demo(folder: Path) -> None:
    """The columns `COLUMNS` of the demo's tables, interquartile means only, and its picture."""
    out = ""
    for section in re.split(r"^### ", (folder / "table.md").read_text(), flags=re.MULTILINE)[1:]:
        title, *lines = section.splitlines()
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
        if not title.startswith("ebatch/"):
            continue
        keep = [n for n, head in enumerate(rows[0]) if head.split(",")[0] in COLUMNS]
        out += f"**`{title}`**\n\n"
        for place, row in enumerate(rows):
            cells = [row[n] if n < 2 or place < 2 else row[n].split(" (")[0] for n in keep]
            out += "| " + " | ".join(cells) + " |\n"
        out += "\n"
    replace(HERE.parent / "README.md", "demo", out)
    shutil.copy(folder / "energy_latency.png", HERE / "images" / "demo.png")


def bench(path: Path) -> None:
    """The table of `ebatch bench`."""
    report = json.loads(path.read_text())
    out = "| what | ours | yardstick | ratio | aim |\n|---|---|---|---|---|\n"
    for row in report["rows"]:
        ours, other = (
            f"{row[key]:,.2f} {row['unit']}" if row[key] < 100 else f"{row[key]:,.0f} {row['unit']}"
            for key in ("ours", "yardstick")
        )
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        out += f"| {row['what']} | {ours} | {other} | {ratio} | {row['aim'] or ''} |\n"
    replace(HERE / "speed.md", "bench", out)


def reproduction(folder: Path) -> None:
    """The page and the charts of `ebatch reproduce --out`."""
    images = HERE / "images" / "reproduction"
    shutil.rmtree(images, ignore_errors=True)
    shutil.copytree(folder / "charts", images)
    text = (folder / "report.md").read_text()
    (HERE / "reproduction.md").write_text(text.replace("](charts/", "](images/reproduction/"))


def main() -> None:
    """Write what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, metavar="FOLDER")
    parser.add_argument("--bench", type=Path, metavar="FILE")
    parser.add_argument("--reproduction", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    from ebatch_env.environment.compiled import N_STATE

    env_id = "ebatch/EPUR-Translation-v0"
    table = ebatch_env.make_system(env_id).observations.markdown()
    text = OBSERVATIONS.format(state=N_STATE, env_id=env_id, table=table)
    (HERE / "observations.md").write_text(text)
    if options.demo is not None:
        demo(options.demo)
    if options.bench is not None:
        bench(options.bench)
    if options.reproduction is not None:
        reproduction(options.reproduction)


if __name__ == "__main__":
    main()
