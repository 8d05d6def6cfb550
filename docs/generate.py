"""Rewrite the generated parts of the docs.

python docs/generate.py                       docs/observations.md
python docs/generate.py --demo results/demo   also the README's table and picture, from what `make demo` wrote
python docs/generate.py --command             also docs/cli.md's samples, by running the command
python docs/generate.py --bench bench.json    also docs/speed.md's table, from `ebatch bench --json`
python docs/generate.py --reproduction results/reproduction    also docs/reproduction.md, from what `make reproduce` wrote
python docs/generate.py --headroom results/headroom    also docs/headroom.md, from what `make headroom` wrote and docs/headroom/notes.md
python docs/generate.py --scoreboard results/scoreboard    also docs/scoreboard.md, the record that `ebatch verify` checks, and
    the agents that the package ships, from what `ebatch scoreboard` wrote; what is written by hand stays in docs/scoreboard/notes.md
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import ebatch_env
from ebatch_env.scoring.statistics import ALL
from ebatch_env.scoring.tables import COLUMNS as RESULTS
from ebatch_env.scoring.tables import MARK, scale_of, significant

HERE = Path(__file__).parent
TRAINED = HERE.parent / "agents" / "ebatch_agents" / "trained"

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

Where an environment has several machines (`ebatch/Machines-v0`), that constant part shows which one the episode is played on:
`layout.machine_of(observation)` is its number. Every row is written, and read back, with the scales of its own machine.

The table for `{env_id}` (python docs/generate.py writes it; a test compares):

{table}
"""


COLUMNS = (
    "cost",
    "energy_per_request_j",
    "latency_p50_s",
    "latency_p99_s",
    "throughput_rps",
    "padding",
    "slo_miss",
)
SAMPLE = "evaluate --env ebatch/EPUR-Translation-v0 --policy ebatch --policy cellular --policy padded --out results"
TUNED = ("ebatch/EPUR-Translation-v0", "ebatch-fixed")  # the entry shown in cli.md


def replace(page: Path, name: str, text: str) -> None:
    """Put ``text`` between the marks ``<!-- name -->`` and ``<!-- /name -->`` of a page."""
    before, mark, rest = page.read_text().partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition(f"<!-- /{name} -->")
    assert mark, f"{page} has no mark {name}"
    assert end, f"{page} has no end mark {name}"
    page.write_text(before + mark + text + end + after)


def demo(folder: Path) -> None:
    """README's tables, interquartile means and the cost's interval, and the demo's picture."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for entry in json.loads((folder / "statistics.json").read_text())["aggregates"]:
        label = f"`{entry['policy']}`{' ' + MARK if entry['truncated'] else ''}"
        found[entry["env"], label, entry["metric"]] = entry
    out = ""
    for env in dict.fromkeys(env for env, _, _ in found if env != ALL):
        labels = list(dict.fromkeys(label for e, label, _ in found if e == env))
        labels.sort(key=lambda label: (MARK in label, found[env, label, "cost"]["iqm"]))
        heads, columns = ["policy"], [labels]
        for column in (column for column in RESULTS if column.metric in COLUMNS):
            entries = [found[env, label, column.metric] for label in labels]
            factor, unit = scale_of([entry["iqm"] for entry in entries], column.unit)
            heads.append(f"{column.heading}, {unit}" if unit else column.heading)
            columns.append([cell(entry, factor, interval=column.metric == "cost") for entry in entries])
        out += f"**`{env}`**\n\n| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|\n"
        out += "".join("| " + " | ".join(row) + " |\n" for row in zip(*columns, strict=True)) + "\n"
    replace(HERE.parent / "README.md", "demo", out)
    shutil.copy(folder / "energy_latency.png", HERE / "images" / "demo.png")


def cell(entry: dict[str, Any], factor: float, *, interval: bool) -> str:
    """An interquartile mean as text, with its interval if asked for."""
    value, low, high = (
        significant(math.nan if entry[name] is None else entry[name] * factor) for name in ("iqm", "low", "high")
    )
    return f"{value} ({low}..{high})" if interval else value


def command() -> None:
    """The samples in cli.md: what the command prints now, and an entry of the shipped knobs."""
    with tempfile.TemporaryDirectory() as folder:
        shown = subprocess.run(
            [sys.executable, "-m", "ebatch_env.cli", *SAMPLE.split()],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    lines = "\n".join(line.rstrip() for line in shown.strip().splitlines())
    replace(HERE / "cli.md", "sample", f"```\nebatch {SAMPLE}\n```\n\n```\n{lines}\n```\n")
    env, policy = TUNED
    stored = HERE.parent / "baselines" / "ebatch_baselines" / "tuned" / f"{env.removeprefix('ebatch/')}.json"
    entry = {policy: json.loads(stored.read_text())[policy]}
    replace(HERE / "cli.md", "tuned", f"```json\n{json.dumps(entry, indent=2)}\n```\n")


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


def headroom(folder: Path, docs: Path = HERE) -> None:
    """The page, the picture and the figures of `ebatch headroom`, with the notes written by hand."""
    from ebatch_baselines.headroom.page import CHART, REPORT
    from ebatch_baselines.headroom.study import FIGURES
    from ebatch_env.scoring.tables import with_notes

    record = docs / "headroom"
    notes = record / "notes.md"
    page = with_notes((folder / REPORT).read_text(), notes.read_text() if notes.is_file() else "")
    for place in (record, docs / "images"):
        place.mkdir(exist_ok=True)
    shutil.copyfile(folder / CHART, docs / "images" / CHART)
    shutil.copyfile(folder / FIGURES, record / FIGURES)
    (docs / "headroom.md").write_text(page.replace(f"]({CHART})", f"](images/{CHART})"))


def scoreboard(folder: Path, docs: Path = HERE, trained: Path = TRAINED) -> None:
    """The page, the pictures and the record of `ebatch scoreboard`, and the chosen agents in the place of the shipped ones."""
    from ebatch_agents.scoreboard.board import RECORDS, SUMMARY
    from ebatch_agents.scoreboard.page import CHARTS, REPORT
    from ebatch_env.scoring.tables import with_notes

    images, record = docs / "images" / "scoreboard", docs / "scoreboard"
    notes = record / "notes.md"
    page = with_notes((folder / REPORT).read_text(), notes.read_text() if notes.is_file() else "")
    shutil.rmtree(images, ignore_errors=True)
    shutil.copytree(folder / CHARTS, images)
    (docs / "scoreboard.md").write_text(page.replace(f"]({CHARTS}/", "](images/scoreboard/"))
    record.mkdir(exist_ok=True)
    for name in (SUMMARY, RECORDS):
        shutil.copyfile(folder / name, record / name)
    trained.mkdir(exist_ok=True)
    for card in (folder / "shipped").glob("*.json"):
        for old in trained.glob(
            f"*@{card.stem.partition('@')[2]}.*"
        ):  # another algorithm's agent for the same scenario
            old.unlink()
        for file in (card, card.with_suffix(".safetensors")):
            shutil.copyfile(file, trained / file.name)


def main() -> None:
    """Write what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, metavar="FOLDER")
    parser.add_argument("--command", action="store_true")
    parser.add_argument("--bench", type=Path, metavar="FILE")
    parser.add_argument("--reproduction", type=Path, metavar="FOLDER")
    parser.add_argument("--headroom", type=Path, metavar="FOLDER")
    parser.add_argument("--scoreboard", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    from ebatch_env.environment.observing import N_STATE

    env_id = "ebatch/EPUR-Translation-v0"
    table = ebatch_env.make_system(env_id).observations.markdown()
    text = OBSERVATIONS.format(state=N_STATE, env_id=env_id, table=table)
    (HERE / "observations.md").write_text(text)
    if options.demo is not None:
        demo(options.demo)
    if options.command:
        command()
    if options.bench is not None:
        bench(options.bench)
    if options.reproduction is not None:
        reproduction(options.reproduction)
    if options.headroom is not None:
        headroom(options.headroom)
    if options.scoreboard is not None:
        scoreboard(options.scoreboard)


if __name__ == "__main__":
    main()
