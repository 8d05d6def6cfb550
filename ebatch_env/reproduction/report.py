"""What a section of `ebatch reproduce` reports: rows, tables, charts and a paragraph, as data.

A section is a function ``run(options, progress) -> Section``, announced under the entry-point group
``ebatch_env.reproductions``. It computes; how a report is printed, drawn and written is decided elsewhere, once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ebatch_env.errors import fail

Checked = Literal["read", "secondary", "recalled", "derived", "own"]
"""How sure a reference is: read in the source; read in a secondary source; recalled and never checked against the source
(a report marks it as unverified); derived from published figures by arithmetic; of the project's own making, so that only
its method is somebody else's."""

Kind = Literal["published", "exact", "bound", "simulator"]
"""What a reference is: a figure in print (or derived from such by arithmetic); the exact solution of the same model; a
bound computed by a formula; what another simulator gave when the project ran it. Only the first kind is shown, and
counted, as published."""

Progress = Callable[[float, str], None]
"""Called with the share of the section that is done, 0..1, and what is being worked on."""

_FILE_NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Row:
    """One measured figure, beside what it is compared with, if there is anything.

    Attributes:
        what: the quantity, for example "EESEN, times faster than real time".
        measured: in ``unit``.
        unit: "" for a plain number.
        reference: in ``unit``; a pair is a range, the lower end first; None: there is nothing to compare with.
        source: citation of the reference.
        checked: how sure it is.
        aim: the largest relative error the section aims at, as a fraction; None: none was set.
        interval: 95 % interval of ``measured``; None where it is exact, or see ``seeds``.
        note: a few words.
        kind: what the reference is.
        figure: which published figure it is, where several rows compare with the same one; "": the row's own.
        seeds: how many seeds ``measured`` comes from, where these are too few for an interval; 0: it is exact or has one.

    Raises:
        ValueError: a reference without its source or without how sure it is; a range from high to low.
    """

    what: str
    measured: float
    unit: str = ""
    reference: float | tuple[float, float] | None = None
    source: str = ""
    checked: Checked | None = None
    aim: float | None = None
    interval: tuple[float, float] | None = None
    note: str = ""
    kind: Kind = "published"
    figure: str = ""
    seeds: int = 0

    def __post_init__(self) -> None:
        """No reference without a source."""
        if self.reference is None:
            return
        if not self.source or self.checked is None:
            raise fail(f"source and checked of {self.what!r}", (self.source, self.checked), "given with `reference`")
        if isinstance(self.reference, tuple) and not self.reference[0] <= self.reference[1]:
            raise fail(f"reference of {self.what!r}", self.reference, "a range with its lower end first")
        if self.kind == "published" and self.checked == "own":
            raise fail(f"checked of {self.what!r}", self.checked, "something else for a published figure")

    @property
    def error(self) -> float | None:
        """measured / reference - 1; from the nearer end of a range, and 0 within it; None: nothing to compare with."""
        if self.reference is None:
            return None
        low, high = self.reference if isinstance(self.reference, tuple) else (self.reference, self.reference)
        measured = float(self.measured)  # numpy's would warn of a division by zero and carry on
        nearest = min(max(measured, float(low)), float(high))
        if nearest == measured:
            return 0.0
        return measured / nearest - 1.0 if nearest else math.copysign(math.inf, measured)

    @property
    def met(self) -> bool | None:
        """Whether the error is within the aim; None: no aim was set."""
        return None if self.error is None or self.aim is None else abs(self.error) <= self.aim


@dataclass(frozen=True)
class Table:
    """Measured figures that have no counterpart row by row.

    Attributes:
        name: short, unique in the section; used in file names.
        title: one line.
        columns: headings, units included.
        rows: cells; numbers are rounded when they are shown, not before (whole numbers not even then).

    Raises:
        ValueError: a row with more or fewer cells than there are columns.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]

    def __post_init__(self) -> None:
        """Check the shape."""
        for row in self.rows:
            if len(row) != len(self.columns):
                raise fail(f"row of table {self.name!r}", list(row), f"{len(self.columns)} cells")


@dataclass(frozen=True)
class Series:
    """One line, or one set of bars, of a `Chart`; ``low`` and ``high`` are the ends of error bars.

    Raises:
        ValueError: sequences of different lengths, or one of ``low`` and ``high`` without the other.
    """

    label: str
    x: Sequence[float | str]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        if (self.low is None) != (self.high is None):
            raise fail(f"low and high of series {self.label!r}", (self.low, self.high), "given both or not at all")
        sizes = [len(values) for values in (self.x, self.y, self.low, self.high) if values is not None]
        if len(set(sizes)) != 1:
            raise fail(f"series {self.label!r}", sizes, "of equal lengths")


@dataclass(frozen=True)
class Chart:
    """A picture as data.

    Attributes:
        name: file name without suffix, unique in the section.
        title: one line.
        x_label, y_label: of the axes, units included.
        series: what is drawn.
        kind: "line", "bar" (grouped, ``x`` are names) or "points".
        log_x, log_y: logarithmic axes.
        references: horizontal lines with their labels, for example a published value; "": one that belongs to the
            line before.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    kind: Literal["line", "bar", "points"] = "line"
    log_x: bool = False
    log_y: bool = False
    references: Sequence[tuple[str, float]] = ()


@dataclass(frozen=True)
class Section:
    """A section's outcome.

    Attributes:
        name: as in ``ebatch reproduce NAME``.
        title: heading.
        rows: measured beside published.
        summary: short paragraphs or points of Markdown (see `paragraphs` and `points`): what agrees, what does not, and
            why. Its figures are formatted from measured ones, never typed.
        tables, charts: what else was measured.
        seeds: what chance was used, for the report's foot; "" if none.
        quick: what a quick run changes here, for the report that one makes; "": nothing.

    Raises:
        ValueError: two tables or two charts of one name, or a name that cannot be in a file's.
    """

    name: str
    title: str
    rows: Sequence[Row]
    summary: str
    tables: Sequence[Table] = ()
    charts: Sequence[Chart] = ()
    seeds: str = ""
    quick: str = ""

    def __post_init__(self) -> None:
        """Names must do as file names."""
        for kind, parts in (("table", self.tables), ("chart", self.charts)):
            names = [part.name for part in parts]
            for name in names:
                if names.count(name) > 1 or not _FILE_NAME.fullmatch(name):
                    raise fail(
                        f"name of a {kind} in section {self.name!r}", name, "unique, of letters, digits, - and _"
                    )


@dataclass(frozen=True)
class Options:
    """How to run a section.

    Attributes:
        quick: less of everything that takes long, for a look: the whole report in under two minutes. Figures may
            differ from the full report's by more than their intervals: `Section.quick` says what was changed.
        processes: processes to share the work among; the figures do not depend on it.
    """

    quick: bool = False
    processes: int = 1


def paragraphs(*parts: str) -> str:
    """Parts of a summary, apart; empty ones are left out.

    >>> paragraphs("One.", "", "Two.")
    'One.\\n\\nTwo.'
    """
    return "\n\n".join(part for part in parts if part)


def points(*parts: tuple[str, str]) -> str:
    """A list in Markdown, of a few words and what they are about; points without text are left out.

    >>> points(("Speed.", "It holds."), ("Energy.", ""))
    '- **Speed.** It holds.'
    """
    return "\n".join(f"- **{about}** {text}" for about, text in parts if text)


class RunSection(Protocol):
    """What the entry points point to."""

    def __call__(self, options: Options, progress: Progress) -> Section:
        """Measure."""
        ...
