"""Results as a table: for a terminal and in Markdown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ebatch_env.scoring.statistics import ALL, Aggregate, Improvement

if TYPE_CHECKING:
    from rich.table import Table

NOTES = "<!-- notes {env_id} -->"  # on a generated page: what is written by hand about a scenario goes here
MARK = "*"  # behind a policy some of whose episodes were truncated
PREFIXES = {-15: "f", -12: "p", -9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G"}


@dataclass(frozen=True)
class Column:
    """A metric as a table shows it: heading and unit ("%": a share; "": a pure number)."""

    metric: str
    heading: str
    unit: str


COLUMNS = (
    Column("cost", "cost", ""),
    Column("energy_per_request_j", "energy/request", "J"),
    Column("latency_p50_s", "latency p50", "s"),
    Column("latency_p99_s", "latency p99", "s"),
    Column("throughput_rps", "throughput", "1/s"),
    Column("occupancy", "occupancy", "%"),
    Column("padding", "padding", "%"),
    Column("slo_miss", "SLO miss", "%"),
)


@dataclass(frozen=True)
class Cell:
    """A value and its interval, as text in the column's unit."""

    value: str
    interval: str


@dataclass(frozen=True)
class ResultTable:
    """One environment's results, the best policy (least cost) first.

    Policies with truncated episodes come last, whatever their cost: what was left undone cost nothing.

    Attributes:
        title: the environment.
        headings: of the columns, "policy" first, units included.
        rows: policy and cells.
        marked: the policies with truncated episodes, shown with `MARK`.
    """

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]
    marked: frozenset[str] = frozenset()

    def label(self, policy: str) -> str:
        """The policy's name as tables show it."""
        return f"{policy} {MARK}" if policy in self.marked else policy


def scale_of(values: Sequence[float], unit: str) -> tuple[float, str]:
    """A factor and a unit for ``values`` such that the typical one reads well.

    >>> scale_of([0.0021, 0.0045], "J")
    (1000.0, 'mJ')
    """
    if unit == "%":
        return 100.0, "%"
    sizes = sorted(abs(v) for v in values if math.isfinite(v) and v != 0)
    if not unit or not sizes:
        return 1.0, unit
    power = 3 * math.floor(math.log10(sizes[len(sizes) // 2]) / 3 + 1e-9)
    power = min(max(power, -15), 9)
    if unit == "1/s":  # a prefix on 1/s would be misread
        return 1.0, unit
    return 10.0**-power, PREFIXES[power] + unit


def significant(value: float) -> str:
    """About three significant digits, "-" for NaN.

    >>> significant(3.14159), significant(1234.5), significant(0.0), significant(float("nan"))
    ('3.14', '1234', '0', '-')
    """
    if math.isnan(value):
        return "-"
    size = abs(value)
    if size == 0:
        return "0"
    if size < 0.001 or size >= 1e6:
        return f"{value:.3g}"
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{decimals}f}"


def result_tables(aggregates: Sequence[Aggregate], improvements: Sequence[Improvement]) -> list[ResultTable]:
    """A table per environment; with several, one more of the cost over all of them."""
    return [_table(env, aggregates, improvements) for env in dict.fromkeys(a.env for a in aggregates)]


def _table(env: str, aggregates: Sequence[Aggregate], improvements: Sequence[Improvement]) -> ResultTable:
    found = {(a.policy, a.metric): a for a in aggregates if a.env == env}
    marked = frozenset(policy for (policy, _), entry in found.items() if entry.truncated)
    policies = sorted({policy for policy, _ in found}, key=lambda p: (p in marked, _rank(found[p, "cost"].iqm), p))
    headings, columns = ["policy"], []
    for column in COLUMNS:
        entries = [found[policy, column.metric] for policy in policies if (policy, column.metric) in found]
        if not entries:
            continue
        factor, unit = scale_of([entry.iqm for entry in entries], column.unit)
        headings.append(f"{column.heading}, {unit}" if unit else column.heading)
        columns.append([_cell(entry.iqm, entry.low, entry.high, factor) for entry in entries])
    if env != ALL and len(policies) > 1:
        best = policies[0]
        against = {i.policy: i for i in improvements if i.env == env and i.rival == best}
        headings.append("P(beats best), %")
        columns.append(
            [
                _cell(against[p].probability, against[p].low, against[p].high, 100.0) if p != best else Cell("-", "")
                for p in policies
            ]
        )
    rows = tuple((p, tuple(column[n] for column in columns)) for n, p in enumerate(policies))
    return ResultTable("all environments" if env == ALL else env, tuple(headings), rows, marked)


def _rank(cost: float) -> float:
    return math.inf if math.isnan(cost) else cost


def _cell(value: float, low: float, high: float, factor: float) -> Cell:
    interval = "" if math.isnan(low) else f"{significant(low * factor)}..{significant(high * factor)}"
    return Cell(significant(value * factor), interval or "-")


def split(table: ResultTable, width: int) -> list[ResultTable]:
    """Tables of some of the columns each, such that `rich_table` fits into ``width`` characters (where that can be)."""

    def broad(texts: Sequence[str]) -> int:
        return max(map(len, texts)) + 3  # rich pads every column and draws a line

    room = width - broad(["policy", *(table.label(policy) for policy, _ in table.rows)]) - 2
    groups: list[list[int]] = [[]]
    used = 0
    for n, heading in enumerate(table.headings[1:]):
        cells = [text for _, row in table.rows for text in (row[n].value, row[n].interval)]
        wanted = broad([*heading.split(", "), *cells])
        if groups[-1] and used + wanted > room:
            groups.append([])
            used = 0
        groups[-1].append(n)
        used += wanted
    return [
        ResultTable(
            table.title,
            ("policy", *(table.headings[1 + n] for n in group)),
            tuple((policy, tuple(row[n] for n in group)) for policy, row in table.rows),
            table.marked,
        )
        for group in groups
    ]


def rich_table(table: ResultTable) -> Table:
    """For a terminal: the interval under the value."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=table.title, box=box.SIMPLE_HEAD, title_justify="left")
    for n, heading in enumerate(table.headings):
        name, _, unit = heading.partition(", ")
        shown.add_column(Text(f"{name}\n{unit}"), justify="right" if n else "left", no_wrap=True)
    for policy, cells in table.rows:
        texts = [Text.assemble(cell.value, "\n", (cell.interval, "dim")) for cell in cells]
        shown.add_row(Text(table.label(policy)), *texts)
    return shown


def markdown(tables: Sequence[ResultTable], caption: str) -> str:
    """For documents: a section per table, the interval beside the value."""
    lines = []
    for table in tables:
        lines += [f"### {table.title}", ""]
        rows = []
        for policy, cells in table.rows:
            texts = [cell.value + (f" ({cell.interval})" if cell.interval not in ("", "-") else "") for cell in cells]
            rows.append([f"`{policy}`" + table.label(policy).removeprefix(policy).replace(MARK, "\\" + MARK), *texts])
        lines.append(markdown_table(table.headings, rows))
    return "\n".join([*lines, caption, ""])


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of texts, with a line break at its end."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def number(value: Any) -> float:
    """A figure, also as JSON has it: null is NaN, and infinities are strings."""
    return math.nan if value is None else float(value)


def with_interval(found: Mapping[str, Any], key: str, factor: float = 1.0) -> str:
    """``found[key]`` with the interval ``low`` to ``high`` beside it, if there is one.

    >>> with_interval({"iqm": 1.2345, "low": 1, "high": 2}, "iqm")
    '1.23 (1.00..2.00)'
    """
    value, low, high = (number(found[name]) * factor for name in (key, "low", "high"))
    text = significant(value)
    return text if math.isnan(low) else f"{text} ({significant(low)}..{significant(high)})"


def difference(found: Mapping[str, Any]) -> str:
    """A relative difference ``value`` in per cent, with its interval ``low`` to ``high`` if there is one; "-" for none.

    >>> difference({"value": -0.1234, "low": -0.2, "high": 0.01}), difference({"value": -1e-5, "low": None, "high": None})
    ('-12.3 (-20.0..+1.0)', '+0.0')
    """
    value, low, high = (100 * number(found[name]) for name in ("value", "low", "high"))
    if math.isnan(value):
        return "-"
    texts = [f"{round(x, 1) + 0.0:+.1f}" for x in (value, low, high)]  # no "-0.0"
    return texts[0] if math.isnan(low) else f"{texts[0]} ({texts[1]}..{texts[2]})"


def with_notes(page: str, notes: str) -> str:
    """The page with what is written by hand: in ``notes`` a section ``## <id>`` per scenario, each optional.

    Raises:
        ValueError: notes on a scenario that is not on the page.
    """
    for part in ("\n" + notes).split("\n## ")[1:]:
        env_id, _, body = part.partition("\n")
        mark = NOTES.format(env_id=env_id.strip())
        if mark not in page:
            raise ValueError(f"notes must be on scenarios of the page, got {env_id.strip()!r}")
        page = page.replace(mark, body.strip())
    return page
