"""Trace files: this package's CSV, the Azure LLM inference traces, and writing a trace down."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from itertools import chain
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from ebatch_env.errors import LARGEST, FloatArray, check_choice, check_number
from ebatch_env.trace import MAX_LENGTH, RequestTrace

PLAIN = ("arrival_s", "length", "deadline_s")
AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
STEPS = ("generated", "context", "total")  # what counts as a sequence's steps in an Azure trace
UTC = "+00:00"  # the 2024 traces write the time zone
STAMP = 64  # characters; no date is as long
MIN_RATE, MAX_RATE = 1e-9, 1e12  # requests per second

Path = str | os.PathLike[str]


def check_steps(steps: str) -> str:
    """Return ``steps`` if it names a column choice of an Azure trace."""
    return check_choice("steps", steps, STEPS)


def check_rate(rate_rps: float) -> float:
    """Return ``rate_rps`` if it is a rate that keeps times finite."""
    return check_number("rate_rps", rate_rps, low=MIN_RATE, high=MAX_RATE)


def read_trace(path: Path, steps: str = "generated") -> RequestTrace:
    """Read either kind of file; the header tells which.

    Args:
        path: the file.
        steps: for an Azure trace, see `read_azure`; of no effect on this package's CSV.

    Raises:
        ValueError: see `read_csv` and `read_azure`.
        OSError: the file cannot be opened.
    """
    check_steps(steps)
    names = _header(path)
    return read_azure(path, steps) if names and names[0] == AZURE[0] else read_csv(path)


def read_csv(path: Path) -> RequestTrace:
    """Read a CSV with a header and columns ``arrival_s``, ``length`` and, optionally, ``deadline_s``, in any order.

    ``arrival_s`` is seconds from the start of the episode, sorted; ``length`` whole steps; ``deadline_s`` absolute
    seconds, later than the arrival, ``inf`` for none.

    Raises:
        ValueError: unknown, repeated or missing column, no rows, a cell that is no number or out of range, times out of
            order. The message names the file, the line (the header is line 1) and the column.
        OSError: the file cannot be opened.
    """
    names = _header(path)
    _check_columns(path, names, PLAIN, required=PLAIN[:2])
    try:
        rows = _load(path, np.dtype([(name, "f8") for name in names]))
    except ValueError as error:
        _find_bad_cell(path, names, error)
    arrival, length = rows["arrival_s"], rows["length"]
    deadline = rows["deadline_s"] if "deadline_s" in names else None
    _refuse(path, "arrival_s", arrival, ~((arrival >= 0.0) & (arrival <= LARGEST)), f"a number in [0, {LARGEST:g}]")
    back = np.append(False, np.diff(arrival) < 0.0)
    _refuse(path, "arrival_s", arrival, back, "sorted (no earlier than the row before)")
    whole = np.isfinite(length) & (length == np.floor(length)) & (length >= 1) & (length <= MAX_LENGTH)
    _refuse(path, "length", length, ~whole, f"an integer in 1..{MAX_LENGTH}")
    if deadline is not None:
        _refuse(path, "deadline_s", deadline, ~(deadline > arrival), "later than arrival_s, or inf")
    return RequestTrace(arrival_s=arrival, length=length.astype(np.int32), deadline_s=deadline)  # type: ignore[arg-type]


def read_azure(path: Path, steps: str = "generated") -> RequestTrace:
    """Read an Azure LLM inference trace (columns ``TIMESTAMP,ContextTokens,GeneratedTokens``) as published.

    Time 0 is the first request; requests are sorted by time. A recurrent decoder takes one step per token. A sequence
    has at least one step, so zero tokens count as one.

    Args:
        path: the file. Timestamps look like ``2023-11-16 18:17:03.9799600``; a ``+00:00`` at the end is accepted.
        steps: ``"generated"``, ``"context"`` or ``"total"`` (their sum).

    Raises:
        ValueError: as `read_csv`.
        OSError: the file cannot be opened.

    Source: Patel et al., "Splitwise", ISCA 2024; github.com/Azure/AzurePublicDataset (CC-BY).
    """
    check_steps(steps)
    names = _header(path)
    _check_columns(path, names, AZURE, required=AZURE)
    try:
        rows = _load(path, np.dtype([(name, f"S{STAMP}" if name == AZURE[0] else "f8") for name in names]))
        text = rows[AZURE[0]]
        if text[0].endswith(UTC.encode()):
            text = np.char.replace(text, UTC.encode(), b"")
        stamp = text.astype("datetime64[ns]")
    except ValueError as error:
        _find_bad_cell(path, names, error)
    _refuse(path, AZURE[0], stamp, np.isnat(stamp), "a date and time")
    most = MAX_LENGTH // 2
    for name in AZURE[1:]:
        tokens = rows[name]
        whole = (tokens >= 0) & (tokens <= most) & (tokens == np.floor(tokens))
        _refuse(path, name, tokens, ~whole, f"an integer in 0..{most}")
    context, generated = rows[AZURE[1]], rows[AZURE[2]]
    length = {"generated": generated, "context": context, "total": context + generated}[steps]
    order = np.argsort(stamp, kind="stable")
    arrival = (stamp[order] - stamp[order[0]]).astype(np.int64) / 1e9
    return RequestTrace(arrival_s=arrival, length=np.maximum(length[order], 1).astype(np.int32))


def write_csv(path: Path, trace: RequestTrace) -> None:
    """Write ``trace`` so that `read_csv` gives it back bit for bit; the file appears whole or not at all."""
    columns: list[list[float] | list[int]] = [trace.arrival_s.tolist(), trace.length.tolist()]
    if trace.has_deadlines:
        columns.append(trace.deadline_s.tolist())
    target = os.fspath(path)
    part = f"{target}.{os.getpid()}.part"  # beside the target: a rename across file systems is not atomic
    try:
        with open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(PLAIN[: len(columns)])
            writer.writerows(zip(*columns, strict=True))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise


def mean_rate(trace: RequestTrace) -> float:
    """Requests per second from time 0 to the last arrival; ``inf`` if everything is there at time 0."""
    last = float(trace.arrival_s[-1])
    return trace.requests / last if last > 0.0 else np.inf


def at_rate(trace: RequestTrace, rate_rps: float) -> RequestTrace:
    """The same requests, with times stretched to a mean rate of ``rate_rps``; the time each may take stays as it was.

    A trace in which everything is there at time 0 stays as it is.

    Raises:
        ValueError: rate_rps outside 1e-9..1e12.

    >>> at_rate(RequestTrace(arrival_s=[0.0, 4.0], length=[3, 1], deadline_s=[1.0, 5.0]), 1.0).deadline_s.tolist()
    [1.0, 3.0]
    """
    rate = mean_rate(trace)
    factor = rate / check_rate(rate_rps) if rate < np.inf else 1.0
    arrival = trace.arrival_s * factor
    return RequestTrace(arrival, trace.length, later(arrival, trace.deadline_s - trace.arrival_s))


def later(arrival_s: FloatArray, patience_s: FloatArray) -> FloatArray:
    """Deadlines ``arrival_s + patience_s``, kept later than the arrival where the sum would be rounded away."""
    return np.maximum(arrival_s + patience_s, np.nextafter(arrival_s, np.inf))


def _load(path: Path, columns: np.dtype[np.void]) -> npt.NDArray[np.void]:
    """The rows under the header, shape (R,), by NumPy's C reader."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        next(csv.reader(file))
        first = next((line for line in file if line.strip()), None)
        if first is None:
            raise ValueError(f"{os.fspath(path)}: no requests after the header")
        lines = chain([first], file)
        return np.loadtxt(lines, delimiter=",", ndmin=1, comments=None, quotechar='"', dtype=columns)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every row that is not blank."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{os.fspath(path)}: not a CSV file in UTF-8: {error}") from error


def _header(path: Path) -> list[str]:
    """Column names."""
    return [name.strip() for name in next((cells for _, cells in _rows(path)), [])]


def _check_columns(path: Path, names: list[str], known: tuple[str, ...], required: tuple[str, ...]) -> None:
    """Refuse a header with unknown, repeated or missing columns."""
    for name in names:
        if name not in known:
            raise ValueError(f"{os.fspath(path)}, line 1: unknown column {name!r}, expected {', '.join(known)}")
        if names.count(name) > 1:
            raise ValueError(f"{os.fspath(path)}, line 1: column {name!r} appears twice")
    for name in required:
        if name not in names:
            raise ValueError(f"{os.fspath(path)}, line 1: no column {name!r}, expected {', '.join(known)}")


def _refuse(path: Path, column: str, values: npt.NDArray[np.generic], wrong: npt.NDArray[np.bool_], what: str) -> None:
    """Raise for the first ``wrong`` value, with its line."""
    if wrong.any():
        i = int(np.argmax(wrong))
        line = [line for line, _ in _rows(path)][i + 1]
        raise ValueError(f"{os.fspath(path)}, line {line}, column {column!r}: must be {what}, got {values[i]}")


def _find_bad_cell(path: Path, names: list[str], error: Exception) -> NoReturn:
    """Say which cell the fast path stumbled over; slow, but only for files that are refused anyway."""
    for line, cells in list(_rows(path))[1:]:
        if len(cells) != len(names):
            raise ValueError(f"{os.fspath(path)}, line {line}: {len(cells)} cells, expected {len(names)}") from None
        for name, cell in zip(names, cells, strict=True):
            try:
                if name == AZURE[0]:
                    np.datetime64(cell.removesuffix(UTC), "ns")
                else:
                    float(cell)
            except ValueError:
                what = "a date and time" if name == AZURE[0] else "a number"
                where = f"{os.fspath(path)}, line {line}, column {name!r}"
                raise ValueError(f"{where}: must be {what}, got {cell!r}") from None
    message = str(error)
    raise ValueError(message if message.startswith(os.fspath(path)) else f"{os.fspath(path)}: {message}") from error
