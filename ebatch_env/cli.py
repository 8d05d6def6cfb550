"""The ``ebatch`` command: ``list``, ``evaluate``, ``tune``, ``reproduce``, ``bench``, and what other packages add to it.

``docs/cli.md`` shows it at work.
"""

from __future__ import annotations

import contextlib
import importlib
import shlex
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import ebatch_env
from ebatch_env.errors import MissingExtraError, fail

EXTRA = "the extra 'cli': pip install 'ebatch-env[cli]'"
try:
    import typer
    from typer.core import TyperGroup
except ModuleNotFoundError as error:  # the command is all that is in here, so there is nothing to fall back on
    raise SystemExit(f"ebatch: no module {error.name!r}; the command needs {EXTRA}") from None

# What a user can get wrong; anything else is a bug and keeps its traceback.
_USER_ERRORS = (ValueError, OSError)
_OF_THE_EXTRA = {"rich", "pyarrow", "matplotlib", "optuna", "cmaes", "threadpoolctl", "scipy", "pandas", "yaml"}
MANY_KNOBS = 20  # more are not printed one by one
PIPE_WIDTH = 200  # columns of a table that does not go to a terminal


class _Commands(TyperGroup):
    """Turns the library's errors into one line and exit status 2; gives a bare ``--ray`` its default."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        return super().parse_args(ctx, _with_address(args))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (*_USER_ERRORS, ModuleNotFoundError) as error:
            if ctx.params.get("debug"):
                raise
            message = str(error)
            if isinstance(error, ModuleNotFoundError) and not isinstance(error, MissingExtraError):
                if error.name not in _OF_THE_EXTRA:
                    raise
                message = f"no module {error.name!r}; this needs {EXTRA}"
            elif isinstance(error, OSError) and error.strerror:
                message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
            typer.echo("ebatch: " + " ".join(message.split()), err=True)
            raise typer.Exit(2) from None


app = typer.Typer(
    name="ebatch",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Score batching policies for recurrent networks on accelerators.",
)

Envs = Annotated[list[str], typer.Option("--env", metavar="ID", help="An environment's id; repeat for more.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="A keyword of the environment, the value in JSON; repeat for more."
    ),
]
Processes = Annotated[int, typer.Option(help="Processes to work with; the results do not depend on it.")]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Work on a Ray cluster instead of processes; the results do not depend on it. ADDRESS: local (the default: "
        "one is started here), auto (the one that runs here), HOST:PORT of its head, or ray://HOST:PORT.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to standard output, and nothing else.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ebatch {ebatch_env.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    pass


@app.command("list")
def list_everything(as_json: AsJson = False) -> None:
    """Show what there is: environments, policies, machines, networks, workloads."""
    from ebatch_env.machines import machine_names
    from ebatch_env.networks import NETWORKS
    from ebatch_env.reproduction import runner
    from ebatch_env.scoring.files import json_text
    from ebatch_env.scoring.policy import policy_names
    from ebatch_env.workloads import workload_names

    found: dict[str, dict[str, str]] = {
        "environments": {entry.id: entry.summary for entry in ebatch_env.SCENARIOS.values()},
        "policies": policy_names(),
        "machines": dict.fromkeys(machine_names(), ""),
        "networks": {network.name: network.source for network in NETWORKS.values()},
        "workloads": dict.fromkeys(workload_names(), ""),
        "reproductions": {name: point.value for name, point in runner.sections().items()},
    }
    if as_json:
        typer.echo(json_text(found), nl=False)
        return
    for kind, entries in found.items():
        typer.echo(kind + ("" if entries else ": none installed"))
        if any(entries.values()):
            width = max(map(len, entries))
            typer.echo("".join(f"  {name:{width}}  {about}\n" for name, about in entries.items()))
        elif entries:
            typer.echo("  " + ", ".join(entries) + "\n")


@app.command()
def evaluate(
    env: Envs,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="NAME_OR_FILE",
            help="A name, module:Class or file, with knobs as in NAME,knob=value,..., or agents: the shipped agents made "
            "for each environment; repeat for more. Default: every installed policy that can act on the environment.",
        ),
    ] = None,
    episodes: Annotated[int | None, typer.Option(help="Episodes per environment and policy. [default: 32]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the first episode. [default: 1000000]")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for the files; a rerun continues it.")] = None,
    as_json: AsJson = False,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Replay a CSV of requests instead of the workload.")
    ] = None,
    processes: Processes = 1,
    ray: Ray = None,
    num_envs: Annotated[
        int | None, typer.Option(help="Episodes side by side in a process, 1..64; the results do not depend on it.")
    ] = None,
    settings: Settings = None,
) -> None:
    """Play policies on environments and show how they do."""
    from ebatch_env.scoring import runner
    from ebatch_env.scoring.files import make_folder
    from ebatch_env.scoring.report import Report
    from ebatch_env.scoring.seeds import EVALUATION_SEED

    overrides = _settings(settings)
    if out is not None:
        make_folder(out)
    first = EVALUATION_SEED if seed is None else seed
    with _progress("episodes") as progress:
        records = runner.evaluate(
            env,
            policy or _installed(),
            episodes,
            first,
            num_envs=num_envs,
            processes=processes,
            ray=ray,
            overrides=overrides,
            trace=trace,
            out=out,
            progress=progress,
            on_skip=None if policy else _say_skipped,
        )
    report = Report(records, _note(trace, settings))
    if out is not None:
        meta = {
            "command": "ebatch " + shlex.join(sys.argv[1:]),
            "envs": env,
            "policies": list(dict.fromkeys(record.policy for record in records)),
            "episodes": len({record.episode for record in records}),
            "seed": first,
            "set": overrides,
            "trace": None if trace is None else str(trace),
        }
        report.write(out, meta)
    if as_json:
        typer.echo(report.summary_text(), nl=False)
        return
    _print_tables(report)
    if out is not None:
        typer.echo(f"Files are in {out}")


@app.command()
def tune(
    env: Envs,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            metavar="NAME",
            help="A name, module:Class, or algorithm; repeat for more. Default: all policies that have knobs, but for those "
            "whose search takes long.",
        ),
    ] = None,
    trials: Annotated[int, typer.Option(help="Settings tried per policy.")] = 64,
    decisions: Annotated[
        int | None, typer.Option(help="Decisions per policy, in the place of --trials; what it takes to train counts.")
    ] = None,
    episodes: Annotated[int, typer.Option(help="Episodes played per setting.")] = 16,
    seed: Annotated[int | None, typer.Option(help="Seed of the first episode. [default: 2000000]")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for <id>.json, one per environment.")] = Path(
        "tuned"
    ),
    studies: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder that keeps the trials, so that a rerun continues.")
    ] = None,
    as_json: AsJson = False,
    processes: Processes = 1,
    ray: Ray = None,
    settings: Settings = None,
) -> None:
    """Find good knobs: the same number of trials or of decisions for every policy, on episodes of their own.

    Only `constant` tries all plans, whatever that takes.
    """
    from ebatch_env.scoring import tuning
    from ebatch_env.scoring.files import json_text, make_folder
    from ebatch_env.scoring.seeds import TUNING_SEED

    overrides = _settings(settings)
    make_folder(out)
    with _progress("policies") as progress:
        results = tuning.tune(
            env,
            policy or [name for name in _installed() if tuning.tuned_by_default(name)],
            trials,
            episodes,
            TUNING_SEED if seed is None else seed,
            decisions=decisions,
            processes=processes,
            ray=ray,
            overrides=overrides,
            studies=studies,
            progress=progress,
            on_skip=None if policy else _say_skipped,
        )
    paths = tuning.store(results, out)
    if as_json:
        entries = {e: {r.policy: r.entry() for r in results if r.env == e} for e in env}
        typer.echo(json_text(entries), nl=False)
        return
    for result in results:
        knobs = ", ".join(f"{name}={value}" for name, value in result.knobs.items())
        if len(result.knobs) > MANY_KNOBS:
            knobs = f"{len(result.knobs)} knobs"
        typer.echo(f"{result.env}  {result.policy}  {result.default_cost:.4g} -> {result.cost:.4g}  {knobs}")
    last = results[0].seed + results[0].episodes - 1
    budget = f"{trials} trials" if decisions is None else f"{decisions:,} decisions"
    typer.echo(f"{budget} per policy, seeds {results[0].seed}..{last}; in " + ", ".join(map(str, paths)))


@app.command()
def reproduce(
    section: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SECTION]...", help="Which sections; see `ebatch list`. Default: all."),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for the page; a rerun continues it.")] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A look in under two minutes: smaller, in part other experiments.")
    ] = False,
    processes: Processes = 1,
    as_json: AsJson = False,
) -> None:
    """Set published results beside measured ones, row by row.

    --quick plays fewer episodes and networks, at fewer loads and smaller depths: its figures are not those of a full run
    with wider intervals. The report says section by section what was changed.
    """
    from rich.console import Console

    from ebatch_env.reproduction import runner
    from ebatch_env.reproduction.pages import ReproductionReport
    from ebatch_env.reproduction.report import Options

    options = Options(quick=quick, processes=processes)
    with share_done() as progress:
        try:
            outcomes = runner.reproduce(section or [], options, out=out, progress=progress)
        except KeyboardInterrupt:
            _say_kept(out)
            raise
    report = ReproductionReport(outcomes, "ebatch " + shlex.join(sys.argv[1:]), quick=quick)
    if out is not None:
        report.write(out)
    if as_json:
        typer.echo(report.json(), nl=False)
    else:
        report.print(Console(width=None if sys.stdout.isatty() else PIPE_WIDTH))
        if out is not None:
            typer.echo(f"Files are in {out}")
    for outcome in report.missing:
        typer.echo(f"ebatch: section {outcome.name!r} left out: {outcome.error}", err=True)
    for outcome in report.failed:
        typer.echo(f"ebatch: section {outcome.name!r} failed:\n{outcome.trace}", err=True)
    if report.failed or (report.missing and (section or len(report.missing) == len(outcomes))):
        raise typer.Exit(1)


def _say_kept(out: Path | None) -> None:
    """What is left of an interrupted `reproduce`."""
    parts = [] if out is None else sorted(path.name.rpartition("-")[0] for path in (out / "parts").glob("*.json"))
    if out is None:
        kept = "nothing is kept without --out"
    elif parts:
        kept = (
            f"finished and kept in {out / 'parts'}: {', '.join(dict.fromkeys(parts))}; the same command goes on there"
        )
    else:
        kept = "no section had finished, so nothing is kept"
    typer.echo(f"\nebatch: interrupted; {kept}", err=True)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def bench(ctx: typer.Context) -> None:
    """Measure speed (needs a checkout): --json prints JSON and nothing else, --quick takes a few seconds, and is rougher."""
    root = Path(ebatch_env.__file__).resolve().parents[1]
    if not (root / "benchmarks" / "speed.py").is_file():
        raise fail("ebatch bench", str(root), "run from a checkout of the project: benchmarks/ is not installed")
    sys.path.insert(0, str(root))
    main_of_bench: Callable[[list[str]], int | None] = importlib.import_module("benchmarks.speed").main
    raise typer.Exit(main_of_bench(list(ctx.args)) or 0)


def _with_address(arguments: list[str]) -> list[str]:
    """The arguments with ``local`` behind a ``--ray`` that no address follows: Typer has no options like that."""
    found = []
    for argument, following in zip(arguments, [*arguments[1:], "-"], strict=True):
        found.append(argument)
        if argument == "--ray" and following.startswith("-"):
            found.append("local")
    return found


def _settings(settings: list[str] | None) -> dict[str, Any]:
    from ebatch_env.scoring.jobs import parse_setting

    return dict(parse_setting(setting, "--set") for setting in settings or [])


def _installed() -> list[str]:
    """All policies that are installed: `AGENTS` for those made for one environment."""
    from ebatch_env.scoring.policy import AGENTS, POLICIES, policy_names, stored_policies

    made = [name for name, stored in stored_policies().items() if stored.env]
    names = [name for name in policy_names() if name not in made] + [AGENTS] * bool(made)
    if not names:
        raise fail("policy", names, f"given: no installed package has policies (entry points {POLICIES!r})")
    return names


def _say_skipped(env: str, policy: str, error: ValueError) -> None:
    if sys.stderr.isatty():
        typer.echo(f"{policy} is left out on {env}: {error}", err=True)


def _note(trace: Path | None, settings: list[str] | None) -> str:
    parts = [] if trace is None else [f"Trace: {trace}."]
    return " ".join([*parts, *([f"Set: {', '.join(settings)}."] if settings else [])])


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on standard error if that is a terminal; nothing otherwise."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn as Bar
    from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn(what), Bar(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextlib.contextmanager
def share_done() -> Iterator[Callable[[float, str], None] | None]:
    """The same for work that tells what share of it is done, and what it is at."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn as Bar
    from rich.progress import Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (Bar(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bars:
        task = bars.add_task("", total=1.0)
        yield lambda share, doing: bars.update(task, completed=share, description=doing)


def _print_tables(report: Any) -> None:
    from rich.console import Console

    from ebatch_env.scoring.tables import rich_table, split

    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    for table in report.tables:
        for part in split(table, console.width):
            console.print(rich_table(part))
    console.print(report.caption, soft_wrap=True, highlight=False, markup=False)


# Commands of other packages: functions as above, announced under their names.
for _point in sorted(entry_points(group="ebatch_env.commands"), key=lambda point: point.name):
    app.command(_point.name)(_point.load())


def main() -> None:
    """The command's entry point."""
    # Policies, machines and workloads of the user's, as module:Class; behind what is installed, which they must not hide.
    sys.path.append(str(Path.cwd()))
    app()


if __name__ == "__main__":
    main()
