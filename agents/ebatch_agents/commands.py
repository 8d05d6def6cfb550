"""The commands that this package adds to `ebatch`: ``train`` and ``export``. ``docs/agents.md`` shows them at work."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ebatch_env.errors import check_integer, needs_extra


def train(
    env: Annotated[str, typer.Option("--env", metavar="ID", help="The environment's id.")],
    algo: Annotated[
        str, typer.Option(help="ppo, maskable_ppo, recurrent_ppo, a2c, dqn or qrdqn.", metavar="NAME")
    ] = "maskable_ppo",
    seeds: Annotated[int, typer.Option(help="How many agents to train, with seeds one after another.")] = 1,
    seed: Annotated[int, typer.Option(help="The first seed.")] = 0,
    steps: Annotated[
        int | None, typer.Option(help="Decisions to train for. [default: the hyperparameters' n_timesteps]")
    ] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for one folder per agent.")] = Path("runs"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoints in DIR.")] = False,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Hyperparameters in rl-zoo3's format. [default: the package's]")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="KEY=VALUE", help="A hyperparameter, the value in JSON; repeat for more."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A keyword of the environment, the value in JSON; repeat for more."
        ),
    ] = None,
    evaluations: Annotated[int, typer.Option(help="How often to evaluate each agent, besides at the start.")] = 20,
    episodes: Annotated[int, typer.Option(help="Validation episodes of an evaluation.")] = 16,
    threads: Annotated[int, typer.Option(help="Threads of torch per agent.")] = 1,
    processes: Annotated[int, typer.Option(help="Agents to train at a time; the results do not depend on it.")] = 1,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="[ADDRESS]", help="Train on a Ray cluster, as with `ebatch evaluate --ray`."),
    ] = None,
    checkpoint_seconds: Annotated[
        float | None,
        typer.Option(help="Least time between checkpoints; 0: at every rollout. [default: 3 % of the time at most]"),
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard's logs.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON to standard output, and nothing else.")] = False,
) -> None:
    """Train agents with Stable-Baselines3, one per seed."""
    with needs_extra("training", "sb3"):
        import stable_baselines3  # noqa: F401

        from ebatch_agents.sweep import train_seeds
    from ebatch_env.cli import share_done
    from ebatch_env.scoring.files import json_text

    check_integer("seeds", seeds, low=1)
    with share_done() as progress:
        outcomes = train_seeds(
            env,
            algo,
            range(seed, seed + seeds),
            out=out,
            processes=processes,
            ray=ray,
            resume=resume,
            progress=progress,
            steps=steps,
            keywords=_pairs(settings, "--set"),
            config=config,
            changes=_pairs(param, "--param"),
            evaluations=evaluations,
            episodes=episodes,
            threads=threads,
            tensorboard=tensorboard,
            checkpoint_s=checkpoint_seconds,
            measure_speed=True,
        )
    if as_json:
        typer.echo(json_text([{**asdict(outcome), "folder": str(outcome.folder)} for outcome in outcomes]), nl=False)
        return
    for outcome in outcomes:
        typer.echo(outcome.summary)


def export(
    source: Annotated[Path, typer.Argument(metavar="ZIP", help="A model that `ebatch train` or SB3 saved.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the weights and their card.")] = Path("exported"),
    trust: Annotated[
        bool, typer.Option("--trust", help="Load the zip, which can run any code when it is loaded.")
    ] = False,
    env: Annotated[
        str | None,
        typer.Option("--env", metavar="ID", help="What it was trained on. [default: as run.json beside it says]"),
    ] = None,
    algo: Annotated[
        str | None, typer.Option(metavar="NAME", help="What trained it. [default: as the zip's name]")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the files. [default: <algo>@<id>]")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A keyword of the environment it was trained with."),
    ] = None,
    episodes: Annotated[int, typer.Option(help="Evaluation episodes to score it on; 0: none.")] = 32,
) -> None:
    """Write a trained policy as weights that cannot run code, with a card."""
    from ebatch_agents.policy import check_trust

    source.stat()  # a file that is not there needs no trust
    check_trust(source, trust)
    with needs_extra("export", "sb3"):
        from ebatch_agents.export import export as write
    keywords = _pairs(settings, "--set") if settings else None
    path = write(source, out, env_id=env, algo=algo, trust=trust, name=name, episodes=episodes, keywords=keywords)
    typer.echo(f"{path}\n{path.with_suffix('.json')}")


def _pairs(settings: list[str] | None, what: str) -> dict[str, Any]:
    from ebatch_env.scoring.jobs import parse_setting

    return dict(parse_setting(setting, what) for setting in settings or [])
