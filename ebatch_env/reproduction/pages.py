"""A report: on a terminal, as a page of Markdown with charts, and as JSON. Numbers are rounded here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ebatch_env.reproduction.charts import draw_chart
from ebatch_env.reproduction.report import Checked, Row, Section, Table
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
}
HEADINGS = ("what", "published", "measured", "error", "aim", "met", "source", "checked", "note")
RIGHT = frozenset({1, 2, 3, 4})  # columns of numbers
INTRODUCTION = """\
`ebatch reproduce` measured everything on this page; published figures are in the column of that name and nowhere else.
An error is measured / published - 1, from the nearer end of a published range and 0 within it. In parentheses stands a
95 % interval; a figure without one is exact for the model. The last columns say where a published figure is from and how
sure it is: *read* in the source; from a *secondary source*; *derived* from published figures by arithmetic;
*unverified*: recalled and not checked against the source, so the error beside it may be ours or memory's.
"""
QUICK = "**Made with `--quick`: fewer episodes and settings than the full report; the intervals are wider.**\n"


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
        return [outcome for outcome in self.outcomes if outcome.section is None]

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
            _print_table(console, "", HEADINGS, [row_cells(row) for row in section.rows], RIGHT)
            for table in section.tables:
                _print_table(console, table.title, table.columns, table_cells(table), numeric(table))
        _print_table(console, "All sections", OVERVIEW, [overview_cells(outcome) for outcome in self.outcomes])

    def write(self, folder: Path) -> None:
        """Write ``report.json``, ``report.md`` and ``charts/SECTION-CHART.png``; each appears whole or not at all.

        Raises:
            OSError: ``folder`` cannot be made or written to.
        """
        charts = make_folder(folder / "charts")
        for section in self._sections():
            for chart in section.charts:
                draw_chart(chart, charts / f"{section.name}-{chart.name}.png")
        write_text(folder / "report.json", self.json())
        write_text(folder / "report.md", self.markdown())

    def markdown(self, charts: str = "charts") -> str:
        """The page; ``charts`` is the folder of the pictures as the page links to it."""
        parts = ["# Reproduced results\n", INTRODUCTION, *([QUICK] if self.quick else [])]
        parts.append(_markdown_table(OVERVIEW, [[linked(o), *overview_cells(o)[1:]] for o in self.outcomes]))
        for outcome in self.outcomes:
            section = outcome.section
            if section is None:
                parts.append(f"## {outcome.name}\n\nThis section failed: `{outcome.error}`\n")
                continue
            parts += [f"## {section.title}\n", section.summary.strip() + "\n"]
            parts.append(_markdown_table(HEADINGS, [row_cells(row) for row in section.rows], RIGHT))
            for table in section.tables:
                parts.append(
                    f"**{table.title}**\n\n" + _markdown_table(table.columns, table_cells(table), numeric(table))
                )
            for chart in section.charts:
                parts.append(f"![{chart.title}]({charts}/{section.name}-{chart.name}.png)\n")
            foot = f" {section.seeds}" if section.seeds else ""
            parts.append(f"`ebatch reproduce {section.name}`, {seconds(outcome.seconds)}.{foot}\n")
        found = ", ".join(f"{name} {version}" for name, version in versions().items())
        parts.append(f"## How this page was made\n\n`{self.command}`\n\nVersions: {found}.\n")
        return "\n".join(parts)

    def _sections(self) -> list[Section]:
        return [outcome.section for outcome in self.outcomes if outcome.section is not None]


OVERVIEW = ("section", "published figures", "aims met", "time")


def overview_cells(outcome: Outcome) -> list[str]:
    """A section in a line: how many published figures it has, how many of its aims are met, how long it took."""
    section = outcome.section
    if section is None:
        return [outcome.name, "-", f"failed: {outcome.error}", seconds(outcome.seconds)]
    aims = [row.met for row in section.rows if row.met is not None]
    rows = [row for row in section.rows if row.published is not None]
    unverified = sum(row.checked == "recalled" for row in rows)
    published = f"{len(rows)}" + (f", {unverified} unverified" if unverified else "")
    met = f"{sum(aims)} of {len(aims)}" if aims else "none set"
    kept = " (kept)" if outcome.kept else ""
    return [outcome.name, published, met, seconds(outcome.seconds) + kept]


def linked(outcome: Outcome) -> str:
    """A section's name with a link to its heading, by the rule of common Markdown viewers."""
    title = outcome.name if outcome.section is None else outcome.section.title
    anchor = "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")
    return f"[{outcome.name}](#{anchor})"


def row_cells(row: Row) -> list[str]:
    """A row as text, in the order of `HEADINGS`."""
    unit = f" {row.unit}" if row.unit else ""
    published = ""
    if row.published is not None:
        ends = row.published if isinstance(row.published, tuple) else (row.published,)
        published = span(ends) + unit
    measured = significant(row.measured) + unit + (f" ({span(row.interval)})" if row.interval else "")
    error = "" if row.error is None else percent(row.error, signed=True)
    aim = "" if row.aim is None else percent(row.aim)
    met = "" if row.met is None else "yes" if row.met else "no"
    mark = "" if row.published is None or row.checked is None else MARKS[row.checked]
    return [row.what, published, measured, error, aim, met, row.source, mark, row.note]


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

    >>> percent(0.0312, signed=True), percent(0.15), percent(-0.00001, signed=True)
    ('+3.1 %', '15 %', '-0.0 %')
    """
    digits = f"{100 * share:+.1f}" if signed else f"{100 * share:.3g}"
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
