"""The commands ``scoreboard`` and ``verify``. ``docs/agents.md`` shows them at work."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ebatch_env.errors import needs_extra


def scoreboard(
    env: Annotated[list[str], typer.Option("--env", metavar="ID", help="An environment's id; repeat for more.")],
    algo: Annotated[
        str | None, typer.Option(metavar="NAME", help="What to train with. [default: as chosen for each id]")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="Agents per environment, with seeds 0, 1, ... [default: 5]")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Decisions to train for. [default: the hyperparameters' n_timesteps]")
    ] = None,
    episodes: Annotated[int | None, typer.Option(help="Evaluation episodes of every policy. [default: 64]")] = None,
    transfer_episodes: Annotated[
        int | None,
        typer.Option(help="Episodes of each condition off the training distribution; 0: none. [default: 16]"),
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A CSV of requests, one more such condition.")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option("--param", metavar="KEY=VALUE", help="A hyperparameter, the value in JSON; repeat for more."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Little of everything, for a look.")] = False,
    processes: Annotated[int, typer.Option(help="Trainings or blocks of episodes at a time; changes no result.")] = 1,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the files; a rerun continues it.")] = Path(
        "results/scoreboard"
    ),
) -> None:
    """Train agents, score them beside all tuned baselines on the same fresh episodes, and write the page."""
    with needs_extra("training", "sb3"):
        import stable_baselines3  # noqa: F401

        from ebatch_agents.scoreboard.build import build
    from ebatch_agents.scoreboard.page import write_page
    from ebatch_agents.scoreboard.settings import QUICK, Settings
    from ebatch_env.cli import share_done
    from ebatch_env.scoring.jobs import parse_setting

    given = {
        "algo": algo,
        "seeds": seeds,
        "steps": steps,
        "episodes": episodes,
        "transfer_episodes": transfer_episodes,
        "trace": trace,
        "changes": dict(parse_setting(setting, "--param") for setting in param or []),
    }
    chosen = {name: value for name, value in given.items() if value is not None}
    settings = Settings(tuple(env), **{**(QUICK if quick else {}), **chosen})  # type: ignore[arg-type]
    command = "ebatch " + shlex.join(sys.argv[1:])
    with share_done() as progress:
        board = build(settings, out, command=command, quick=quick, processes=processes, progress=progress)
        typer.echo(write_page(board, out), nl=False)
    typer.echo(f"Files are in {out}")


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A scoreboard, as `ebatch scoreboard` wrote it.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Play every episode again, not a sample; so too agents that are not shipped.")
    ] = False,
    sample: Annotated[int, typer.Option(help="Episodes of each policy and condition to play again.")] = 2,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The CSV of requests that was played, to play it again.")
    ] = None,
    other_versions: Annotated[
        bool, typer.Option("--other-versions", help="Take no offence at other versions of libraries.")
    ] = False,
    processes: Annotated[int, typer.Option(help="Processes to play in.")] = 1,
) -> None:
    """Check a scoreboard: figures against records, records against episodes played again, weights against checksums."""
    from ebatch_agents.scoreboard.verify import check
    from ebatch_env.cli import share_done

    with share_done() as progress:
        found = check(
            folder,
            sample=None if everything else sample,
            trace=trace,
            other_versions=other_versions,
            processes=processes,
            progress=progress,
        )
    for line in found.notes:
        typer.echo(line)
    for line in found.mismatches:
        typer.echo(f"ebatch verify: {line}", err=True)
    if found.mismatches:
        raise typer.Exit(1)
    typer.echo(f"{folder} stands: {found.summary}")
