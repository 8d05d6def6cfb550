"""A report: on a terminal, as a page of Markdown with charts, and as JSON. Numbers are rounded here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebatch_env.reproduction.charts import draw_chart
from ebatch_env.reproduction.report import Checked, Kind, Row, Section, Table
from ebatch_env.reproduction.runner import Outcome
from ebatch_env.reproduction.stored import plain
from ebatch_env.scoring.files import json_text, make_folder, write_text
from ebatch_env.scoring.report import versions
from ebatch_env.scoring.tables import significant

if TYPE_CHECKING:
    from rich.console import Console

MARKS: dict[Checked, str] = {
    "read": "read",
    "secondary": "secondary source",
    "recalled": "unverified",
    "derived": "derived",
    "own": "own",
}
KINDS: dict[Kind, tuple[str, str]] = {  # of one and of several
    "published": ("published figure", "published figures"),
    "exact": ("exact solution", "exact solutions"),
    "bound": ("computed bound", "computed bounds"),
    "simulator": ("another simulator", "runs of other simulators"),
}
HEADINGS = ("what", "published", "other reference", "measured", "error", "aim", "met", "source", "checked", "note")
RIGHT = frozenset({1, 2, 3, 4, 5})  # columns of numbers
INTRODUCTION = """\
`ebatch reproduce` measured everything on this page. Figures in print are in the column *published* and nowhere else. What
else is compared with is in the column *other reference*: an *exact solution* of the same model, computed by this project;
a *computed bound*, from a formula in print; or what *another simulator* gave when this project ran it.

An error is measured / reference - 1, from the nearer end of a range and 0 within it. In parentheses behind a row's measured
figure stands its 95 % interval; a figure without one is exact for the model, unless it says how many seeds it comes from.
Tables give means, with intervals where some are shown.

The last columns say where a reference is from and how sure it is: *read* in the source; from a *secondary source*; *derived*
from published figures by arithmetic; *own*: computed or run by this project, nothing in print; *unverified*: recalled and
not checked against the source, so the error beside it may be ours or memory's.

In the table, figures are counted once, in however many rows they appear; aims are counted row by row.
"""
QUICK = """\
**Made with `--quick`: smaller experiments than the full report's, and some are others. Figures differ from the full report's
by more than their intervals. Under each heading stands what was changed; of sections that say nothing, nothing was.**
"""


class ReproductionReport:
    """Outcomes as something to read.

    Args:
        outcomes: what `reproduce` returned.
        command: the command that made them.
        quick: whether it was with ``--quick``.
    """

    def __init__(self, outcomes: Sequence[Outcome], command: str, *, quick: bool = False) -> None:
        self.outcomes = list(outcomes)
        self.command = command
        self.quick = quick

    @property
    def failed(self) -> list[Outcome]:
        """Sections that raised."""
        return [outcome for outcome in self.outcomes if outcome.section is None and not outcome.missing]

    @property
    def missing(self) -> list[Outcome]:
        """Sections that could not run because an extra is not installed."""
        return [outcome for outcome in self.outcomes if outcome.missing]

    def json(self) -> str:
        """The content of ``report.json``: unrounded."""
        sections = []
        for outcome in self.outcomes:
            entry: dict[str, Any] = {"name": outcome.name, "seconds": outcome.seconds, "error": outcome.error or None}
            if outcome.section is not None:
                rows = [{**plain(row), "error": row.error, "met": row.met} for row in outcome.section.rows]
                entry = {**plain(outcome.section), **entry, "rows": rows}
            sections.append(entry)
        head = {"command": self.command, "quick": self.quick, "versions": versions()}
        return json_text({**head, "sections": sections})

    def print(self, console: Console) -> None:
        """Every section for a terminal, and what they come to."""
        from rich.markdown import Markdown

        for outcome in self.outcomes:
            section = outcome.section
            if section is None:
                continue
            console.rule(f"[bold]{section.title}")
            console.print(Markdown(section.summary))
            if self.quick and section.quick:
                console.print(f"With --quick: {section.quick}", markup=False)
            _print_table(console, "", HEADINGS, [row_cells(row) for row in section.rows], RIGHT)
            for table in section.tables:
                _print_table(console, table.title, table.columns, table_cells(table), numeric(table))
        lines = [[*overview_cells(o), "kept from an earlier run" if o.kept else ""] for o in self.outcomes]
        _print_table(console, "All sections", (*OVERVIEW, ""), lines)

    def write(self, folder: Path) -> None:
        """Write ``report.json``, ``report.md`` and ``charts/SECTION-CHART.png``; each appears whole or not at all.

        Charts that an earlier report left there are removed.

        Raises:
            OSError: ``folder`` cannot be made or written to.
        """
        charts = make_folder(folder / "charts")
        drawn = set()
        for section in self._sections():
            for chart in section.charts:
                path = charts / f"{section.name}-{chart.name}.png"
                draw_chart(chart, path)
                drawn.add(path)
        for path in set(charts.glob("*.png")) - drawn:
            path.unlink()
        write_text(folder / "report.json", self.json())
        write_text(folder / "report.md", self.markdown())

    def markdown(self) -> str:
        """The page."""
        parts = ["# Reproduced results\n", INTRODUCTION, *([QUICK] if self.quick else [])]
        parts.append(_markdown_table(OVERVIEW, [[linked(o), *overview_cells(o)[1:]] for o in self.outcomes]))
        for outcome in self.outcomes:
            section = outcome.section
            if section is None:
                how = "was left out" if outcome.missing else "failed"
                parts.append(f"## {outcome.name}\n\nThis section {how}: `{outcome.error}`\n")
                continue
            parts.append(f"## {section.title}\n")
            if self.quick and section.quick:
                parts.append(f"**With `--quick`:** {section.quick}\n")
            parts.append(section.summary.strip() + "\n")
            parts.append(_markdown_table(HEADINGS, [row_cells(row) for row in section.rows], RIGHT))
            parts += [
                f"**{table.title}**\n\n" + _markdown_table(table.columns, table_cells(table), numeric(table))
                for table in section.tables
            ]
            parts += [f"![{chart.title}](charts/{section.name}-{chart.name}.png)\n" for chart in section.charts]
            foot = f" {section.seeds}" if section.seeds else ""
            parts.append(f"`ebatch reproduce {section.name}`, {seconds(outcome.seconds)}.{foot}\n")
        found = ", ".join(f"{name} {version}" for name, version in versions().items())
        parts.append(f"## How this page was made\n\n`{self.command}`\n\nVersions: {found}.\n")
        return "\n".join(parts)

    def _sections(self) -> list[Section]:
        return [outcome.section for outcome in self.outcomes if outcome.section is not None]


COUNTED: tuple[Checked, ...] = ("recalled", "secondary", "derived")
OVERVIEW = ("section", "published figures", "rows with them", "aims met", "other references", "aims met there", "time")


def overview_cells(outcome: Outcome) -> list[str]:
    """A section in a line: how many published figures and other references, how many aims are met, how long it took."""
    section = outcome.section
    if section is None:
        how = "left out" if outcome.missing else "failed"
        return [outcome.name, "-", "-", f"{how}: {outcome.error}", "-", "-", seconds(outcome.seconds)]
    compared = [row for row in section.rows if row.reference is not None]
    printed = [row for row in compared if row.kind == "published"]
    others = [row for row in compared if row.kind != "published"]
    figures = {row.figure or row.what: row.checked for row in printed}
    counts = [(sum(mark == checked for mark in figures.values()), MARKS[checked]) for checked in COUNTED]
    told = ", ".join([str(len(figures)), *(f"{count} {mark}" for count, mark in counts if count)])
    kinds = [(sum(row.kind == kind for row in others), names) for kind, names in KINDS.items()]
    other = ", ".join(f"{count} {one if count == 1 else several}" for count, (one, several) in kinds if count)
    return [
        outcome.name,
        told,
        str(len(printed)),
        aims_met(printed),
        other or "none",
        aims_met(others) if others else "",
        seconds(outcome.seconds),
    ]


def aims_met(rows: Sequence[Row]) -> str:
    """How many of the rows with an aim meet it."""
    met = [row.met for row in rows if row.met is not None]
    return f"{sum(met)} of {len(met)}" if met else "none set"


def linked(outcome: Outcome) -> str:
    """A section's name with a link to its heading, by the rule of common Markdown viewers."""
    title = outcome.name if outcome.section is None else outcome.section.title
    anchor = "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")
    return f"[{outcome.name}](#{anchor})"


def row_cells(row: Row) -> list[str]:
    """A row as text, in the order of `HEADINGS`."""
    unit = f" {row.unit}" if row.unit else ""
    published = other = mark = ""
    if row.reference is not None:
        ends = row.reference if isinstance(row.reference, tuple) else (row.reference,)
        figure = span(ends) + unit
        published, other = (figure, "") if row.kind == "published" else ("", f"{figure}, {KINDS[row.kind][0]}")
        mark = "" if row.checked is None else MARKS[row.checked]
    measured = significant(row.measured) + unit + (f" ({span(row.interval)})" if row.interval else "")
    if row.seeds and not row.interval:
        measured += " (1 seed)" if row.seeds == 1 else f" ({row.seeds} seeds)"
    error = "" if row.error is None else percent(row.error, signed=True)
    aim = "" if row.aim is None else percent(row.aim)
    met = "" if row.met is None else "yes" if row.met else "no"
    return [row.what, published, other, measured, error, aim, met, row.source, mark, row.note]


def table_cells(table: Table) -> list[list[str]]:
    """A table's cells as text: numbers in three significant digits, whole ones as they are."""
    return [[cell_text(cell) for cell in row] for row in table.rows]


def numeric(table: Table) -> frozenset[int]:
    """Columns that hold numbers and nothing else."""
    columns = enumerate(zip(*table.rows, strict=True))
    return frozenset(n for n, cells in columns if all(isinstance(cell, (int, float, type(None))) for cell in cells))


def cell_text(cell: str | float | None) -> str:
    """One cell as text."""
    if cell is None:
        return ""
    return significant(cell) if isinstance(cell, float) else str(cell)


def span(ends: Sequence[float]) -> str:
    """One number, or a range.

    >>> span([3.0]), span([-90.5, -17.5])
    ('3.00', '-90.5..-17.5')
    """
    return "..".join(map(significant, ends))


def percent(share: float, *, signed: bool = False) -> str:
    """A fraction in percent.

    >>> percent(0.0312, signed=True), percent(0.15), percent(-0.00001, signed=True), percent(1e-9)
    ('+3.1 %', '15 %', '-0.0 %', '0 %')
    """
    digits = f"{100 * share:+.1f}" if signed else f"{round(100 * share, 3):.3g}"
    return f"{digits} %"


def seconds(value: float) -> str:
    """A duration.

    >>> seconds(0.42), seconds(75.2)
    ('0.4 s', '75 s')
    """
    return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"


def _markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    """A table without the columns that are empty throughout; ``right``: columns aligned to the right."""
    keep = _filled(headings, rows)
    if not rows:
        return ""
    lines = ["| " + " | ".join(headings[n] for n in keep) + " |"]
    lines.append("|" + "".join("---:|" if n in right else "---|" for n in keep))
    lines += ["| " + " | ".join(row[n].replace("|", "\\|") for n in keep) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _print_table(
    console: Console,
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: frozenset[int] = frozenset(),
) -> None:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    if not rows:
        return
    shown = RichTable(title=title or None, box=box.SIMPLE_HEAD, title_justify="left")
    keep = _filled(headings, rows)
    for n in keep:
        shown.add_column(Text(headings[n]), justify="right" if n in right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(row[n]) for n in keep))
    console.print(shown)


def _filled(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [n for n in range(len(headings)) if any(row[n] for row in rows)]
