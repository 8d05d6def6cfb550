"""Sections for the tests of the runner and the report: one that counts its runs, one that raises, one misnamed."""

from __future__ import annotations

import numpy as np

from ebatch_env.errors import needs_extra
from ebatch_env.reproduction.report import Chart, Options, Progress, Row, Section, Series, Table

RUNS: list[Options] = []


def steady(options: Options, progress: Progress) -> Section:
    """Everything a section can report."""
    RUNS.append(options)
    progress(0.5, "half of it")
    print("chatter of a library")
    return Section(
        "steady",
        "A steady machine",
        rows=[
            Row("speed", np.float64(29.12345), "x", 30.0, "arXiv 1711.07480", "read", aim=0.05),
            Row("gain", -0.95, reference=(-0.905, -0.175), source="a paper", checked="recalled", aim=0.01),
            Row("alone", 0.1234567, "s", interval=(0.1, 0.15), note="nothing | published"),
            Row("speed with less", 28.0, "x", 30.0, "arXiv 1711.07480", "read", figure="speed"),
            Row("waiting", 2.0, "s", 2.0, "solved here", "own", 0.0, kind="exact", seeds=2),
        ],
        summary="It *agrees* with what is published.",
        tables=[
            Table("sizes", "Sizes", ("lanes", "energy, J", "rule"), [[1, 0.123456, "greedy"], [1024, np.nan, None]])
        ],
        charts=[
            Chart("load", "Latency over load", "load", "latency, ms", [Series("a", np.array([1.0, 2.0]), [3, 4])]),
            Chart("bars", "Speed", "machine", "x", [Series("b", ["p", "q"], [1, 2], [0.5, 1], [2, 4])], "bar"),
        ],
        seeds="Seeds 0..3.",
        quick="half of it",
    )


def broken(options: Options, progress: Progress) -> Section:
    """Raises."""
    progress(0.5, "dividing")
    raise ZeroDivisionError("no division by zero")


def misnamed(options: Options, progress: Progress) -> Section:
    """Calls itself something else."""
    return Section("other", "Other", [], "")


def lacking(options: Options, progress: Progress) -> Section:
    """Needs what is not installed."""
    with needs_extra("section 'lacking'", "approximation"):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")


def stopped(options: Options, progress: Progress) -> Section:
    """The user presses Ctrl-C."""
    raise KeyboardInterrupt
