"""The command that this package adds to `ebatch`: ``headroom``. ``docs/cli.md`` shows it at work."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer


def headroom(
    env: Annotated[
        list[str] | None,
        typer.Option("--env", metavar="ID", help="An environment's id; repeat for more. Default: all."),
    ] = None,
    candidates: Annotated[
        int | None,
        typer.Option(help="Candidates of the search; 0: score the shipped weights. [default: 2000]"),
    ] = None,
    episodes: Annotated[int | None, typer.Option(help="Evaluation episodes of every policy. [default: 64]")] = None,
    processes: Annotated[int, typer.Option(help="Processes to work with; the results do not depend on it.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Little of everything, for a look.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print headroom.json to standard output, and nothing else.")
    ] = False,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the files; a rerun continues it.")] = Path(
        "results/headroom"
    ),
    tuned: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the weights found, as of `ebatch tune`. [default: DIR/tuned]"),
    ] = None,
) -> None:
    """Show how far tuned E-BATCH is from what is possible: other rules, a search, agents, a bound."""
    from ebatch_baselines.headroom.page import write_page
    from ebatch_baselines.headroom.study import QUICK, Settings, study
    from ebatch_env.cli import share_done
    from ebatch_env.scenarios import SCENARIOS
    from ebatch_env.scoring.files import json_text

    given = {"candidates": candidates, "episodes": episodes}
    chosen = {name: value for name, value in given.items() if value is not None}
    settings = Settings(tuple(env or SCENARIOS), **{**(QUICK if quick else {}), **chosen})
    command = "ebatch " + shlex.join(sys.argv[1:])
    with share_done() as progress:
        values = study(settings, out, tuned=tuned, processes=processes, command=command, progress=progress)
        shown = write_page(values, out)
    if as_json:
        typer.echo(json_text(values), nl=False)
        return
    typer.echo(shown)
    typer.echo(f"Files are in {out}")
