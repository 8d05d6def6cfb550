"""Running sections: which there are, one after the other, each one's outcome kept.

To add a section write a function ``run(options, progress) -> Section`` and announce it in ``pyproject.toml``::

    [project.entry-points."ebatch_env.reproductions"]
    tpu = "ebatch_env.reproduction.sections.tpu:run"
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import ebatch_env
from ebatch_env.errors import MissingExtraError, check_integer, fail
from ebatch_env.machines import ENTRY_POINTS as MACHINES
from ebatch_env.reproduction.report import Options, Progress, RunSection, Section
from ebatch_env.reproduction.stored import plain, section_from
from ebatch_env.scoring.files import make_folder, write_text
from ebatch_env.scoring.policy import POLICIES
from ebatch_env.scoring.report import versions

REPRODUCTIONS = "ebatch_env.reproductions"
# The order of a report: the paper first, then what it stands on. Sections of other distributions follow by name.
ORDER = ("e-batch", "cellular", "e-pur", "tpu", "spatial", "memoization", "precision", "queue")
# Modules that only show what others measured: a change in them leaves finished sections as they are.
_SHOWS_ONLY = {"cli.py", "charts.py", "pages.py", "plots.py", "tables.py", "rendering.py", "painter.py"}


@dataclass(frozen=True)
class Outcome:
    """How a section went.

    Attributes:
        name: the section's.
        section: what it measured; None: it failed.
        seconds: how long it took when it ran.
        error: what it raised, in a line; "" if nothing.
        trace: the traceback of that.
        kept: taken up from an earlier run.
        missing: it did not run because an extra is not installed; ``error`` says which.
    """

    name: str
    section: Section | None
    seconds: float
    error: str = ""
    trace: str = ""
    kept: bool = False
    missing: bool = False


def sections() -> dict[str, EntryPoint]:
    """The installed sections by name, in the order of a report."""
    found = {point.name: point for point in entry_points(group=REPRODUCTIONS)}
    return {name: found[name] for name in (*ORDER, *sorted(set(found) - set(ORDER))) if name in found}


def reproduce(
    names: Sequence[str] = (),
    options: Options | None = None,
    *,
    out: Path | None = None,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Run sections; one that raises, or lacks an extra, does not stop the others.

    Args:
        names: which; none: all that are installed. They run in the order of `sections`.
        options: how; None: as they are.
        out: keep each finished section in ``out/parts``, and take up what is there of an earlier run with the same
            options, versions and code.
        progress: called with the share of all sections that is done, and what is being worked on.

    Raises:
        ValueError: an unknown name, or no section is installed.
        OSError: ``out`` cannot be made or written to.
    """
    options = options or Options()
    check_integer("processes", options.processes, low=1)
    found = sections()
    for name in names:
        if name not in found:
            raise fail("section", name, f"one of {', '.join(found) or '(none is installed)'}")
    chosen = [point for name, point in found.items() if not names or name in names]
    if not chosen:
        raise fail("section", names, f"given: no installed package has any (entry points {REPRODUCTIONS!r})")
    parts = None if out is None else make_folder(out / "parts")
    outcomes = []
    for place, point in enumerate(chosen):

        def tell(share: float, doing: str, *, place: int = place, name: str = point.name) -> None:
            if progress is not None:
                done = (place + min(max(share, 0.0), 1.0)) / len(chosen)
                progress(done, f"{name}: {doing}" if doing else name)

        tell(0.0, "")
        path = None if parts is None else parts / f"{point.name}-{fingerprint(point, options)}.json"
        outcomes.append(_kept(point.name, path) or _run(point, options, tell, path))
    if progress is not None:
        progress(1.0, "")
    return outcomes


def fingerprint(point: EntryPoint, options: Options) -> str:
    """A digest of everything that a section's outcome depends on, code and versions included: 16 hex digits."""
    homes = {ebatch_env.__name__, point.value.partition(":")[0].partition(".")[0]}
    for group in (POLICIES, MACHINES):
        homes |= {other.value.partition(":")[0].partition(".")[0] for other in entry_points(group=group)}
    parts = [point.name, point.value, options.quick, versions(), [_code(home) for home in sorted(homes)]]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@cache
def _code(package: str) -> str:
    """A digest of a package's code and data."""
    total = hashlib.sha256(package.encode())
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).rglob("*")):
            if path.suffix in (".py", ".csv", ".json") and path.name not in _SHOWS_ONLY:
                total.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return total.hexdigest()


def _kept(name: str, path: Path | None) -> Outcome | None:
    """What an earlier run left; None if there is nothing that can be read."""
    if path is None or not path.is_file():
        return None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return Outcome(name, section_from(stored["section"]), float(stored["seconds"]), kept=True)
    except (ValueError, TypeError, KeyError):
        return None


def _run(point: EntryPoint, options: Options, tell: Progress, path: Path | None) -> Outcome:
    began = time.perf_counter()
    try:
        run: RunSection = point.load()
        with contextlib.redirect_stdout(sys.stderr):  # what a library prints must not get between the JSON
            section = run(options, tell)
        if section.name != point.name:
            raise fail("name of the section", section.name, f"{point.name!r}, as it is announced")
        stored = plain(section)
        section = section_from(stored)  # so that a fresh outcome and a kept one are the same
    except MissingExtraError as error:
        return Outcome(point.name, None, time.perf_counter() - began, str(error), missing=True)
    except Exception as error:  # whatever a section gets wrong is its own failure, and told as such
        told = f"{type(error).__name__}: {error}"
        return Outcome(point.name, None, time.perf_counter() - began, told, traceback.format_exc())
    seconds = time.perf_counter() - began
    if path is not None:
        # Not `write_json`: what is taken up again must be exact, NaN included.
        write_text(path, json.dumps({"seconds": seconds, "section": stored}, indent=1) + "\n")
    return Outcome(point.name, section, seconds)
