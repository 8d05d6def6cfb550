from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebatch_env.trace import RequestTrace
from ebatch_env.workloads import CATALOGUE, at_rate, read_azure, read_csv, read_trace, write_csv

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,110,0
2023-11-16 18:17:04.0319601,1,27
"""


def same(a: RequestTrace, b: RequestTrace) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("arrival_s", "length", "deadline_s"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trace.csv"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    gaps=st.lists(st.floats(0.0, 1e6), min_size=1, max_size=20),
    patience=st.none() | st.lists(st.floats(1e-3, 1e6) | st.just(float("inf")), min_size=20, max_size=20),
    seed=st.integers(0, 9),
)
def test_round_trip_is_exact(tmp_path, gaps, patience, seed) -> None:
    arrival = np.cumsum(gaps)
    length = np.random.default_rng(seed).integers(1, 1 << 24, arrival.size)
    deadline = None if patience is None else arrival + np.array(patience[: arrival.size])
    trace = RequestTrace(arrival_s=arrival, length=length, deadline_s=deadline)
    write_csv(tmp_path / "t.csv", trace)
    assert same(read_csv(tmp_path / "t.csv"), trace)
    assert same(read_trace(str(tmp_path / "t.csv")), trace)
    assert os.listdir(tmp_path) == ["t.csv"]


def test_what_is_written(path) -> None:
    write_csv(path, RequestTrace(arrival_s=[0.0, 0.1], length=[3, 4]))
    assert path.read_text() == "arrival_s,length\n0.0,3\n0.1,4\n"
    write_csv(path, RequestTrace(arrival_s=[0.0, 0.1], length=[3, 4], deadline_s=[1.5, np.inf]))
    assert path.read_text() == "arrival_s,length,deadline_s\n0.0,3,1.5\n0.1,4,inf\n"


def test_a_failed_write_leaves_the_old_file(path, monkeypatch) -> None:
    trace = RequestTrace(arrival_s=[0.0], length=[3])
    write_csv(path, trace)

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_csv(path, RequestTrace(arrival_s=[9.0], length=[9]))
    monkeypatch.undo()
    assert os.listdir(path.parent) == ["trace.csv"]
    assert same(read_csv(path), trace)


def test_columns_in_any_order_blank_lines_quotes_and_windows_line_ends(path) -> None:
    path.write_bytes(b'\xef\xbb\xbflength, arrival_s\r\n\r\n"3",1e0\r\n4,2\r\n\r\n')
    assert same(read_trace(path), RequestTrace(arrival_s=[1.0, 2.0], length=[3, 4]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: no column 'arrival_s'"),
        ("arrival_s,length\n", "no requests after the header"),
        ("arrival_s,length\n\n\n", "no requests after the header"),
        ("arrival_s\n1\n", "line 1: no column 'length', expected arrival_s, length, deadline_s"),
        ("arrival_s,length,user\n0,1,2\n", "line 1: unknown column 'user'"),
        ("arrival_s,length,length\n0,1,2\n", "line 1: column 'length' appears twice"),
        ("0,3\n1,4\n", "line 1: unknown column '0'"),
        ("arrival_s,length\n0,1\nsoon,2\n", "line 3, column 'arrival_s': must be a number, got 'soon'"),
        ("arrival_s,length\n0,1\n\n1,\n", "line 4, column 'length': must be a number, got ''"),
        ("arrival_s,length\n0,1\n1,2,3\n", "line 3: 3 cells, expected 2"),
        ("arrival_s,length\n0\n", "line 2: 1 cells, expected 2"),
        ("arrival_s,length\n0,1\nnan,2\n", "line 3, column 'arrival_s': must be a number in \\[0, 1e\\+12\\], got nan"),
        ("arrival_s,length\n1e300,1\n", "line 2, column 'arrival_s': must be a number in .*, got 1e.300"),
        ("arrival_s,length\ninf,1\n", "line 2, column 'arrival_s': must be a number in \\[0, 1e\\+12\\], got inf"),
        ("arrival_s,length\n-1,1\n", "line 2, column 'arrival_s': must be a number in \\[0, 1e\\+12\\], got -1.0"),
        ("arrival_s,length\n2,1\n\n1,1\n", r"line 4, column 'arrival_s': must be sorted .*, got 1.0"),
        ("arrival_s,length\n0,0\n", "line 2, column 'length': must be an integer in 1..16777216, got 0.0"),
        ("arrival_s,length\n0,1.5\n", "line 2, column 'length': must be an integer"),
        ("arrival_s,length\n0,nan\n", "line 2, column 'length': must be an integer"),
        ("arrival_s,length\n0,1e9\n", "line 2, column 'length': must be an integer"),
        ("arrival_s,length,deadline_s\n1,1,1\n", "line 2, column 'deadline_s': must be later than arrival_s, or inf"),
        ("arrival_s,length,deadline_s\n1,1,nan\n", "line 2, column 'deadline_s': must be later"),
        (AZURE.replace("ContextTokens", "Context"), "line 1: unknown column 'Context'"),
        ("TIMESTAMP,ContextTokens\n", "line 1: no column 'GeneratedTokens'"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "no requests after the header"),
        (AZURE.replace("2023-11-16 18:17:04.0319600", "noon"), "line 3, column 'TIMESTAMP': must be a date .*'noon'"),
        (AZURE.replace("2023-11-16 18:17:04.0319600", ""), "line 3, column 'TIMESTAMP': must be a date and time"),
        (AZURE.replace("4808", "many"), "line 2, column 'ContextTokens': must be a number, got 'many'"),
        (AZURE.replace("4808", "-3"), "line 2, column 'ContextTokens': must be an integer in 0..8388608, got -3"),
        (AZURE.replace("27", "2.5"), "line 4, column 'GeneratedTokens': must be an integer"),
        (AZURE.replace("110,0", "110"), "line 3: 2 cells, expected 3"),
    ],
)
def test_refusals_name_file_line_and_column(path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(ValueError, match=r"trace\.csv.*" + message):
        read_trace(path)


def test_not_text(path) -> None:
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ValueError, match=r"trace\.csv: not a CSV file in UTF-8"):
        read_trace(path)
    path.write_bytes(b"arrival_s,length\n0,1\n\xff,2\n")
    with pytest.raises(ValueError, match=r"trace\.csv"):
        read_trace(path)
    with pytest.raises(FileNotFoundError):
        read_trace(path.with_name("absent.csv"))


def test_azure(path) -> None:
    path.write_text(AZURE)
    trace = read_trace(path)
    assert np.allclose(trace.arrival_s, [0.0, 0.052, 0.0520001], rtol=0.0, atol=1e-12)
    assert trace.length.tolist() == [10, 1, 27]  # no tokens: one step all the same
    assert not trace.has_deadlines
    assert read_azure(path, "context").length.tolist() == [4808, 110, 1]
    assert read_azure(path, "total").length.tolist() == [4818, 110, 28]
    with pytest.raises(ValueError, match="steps must be one of 'generated', 'context', 'total', got 'all'"):
        read_trace(path, "all")


def test_azure_out_of_order_and_with_time_zone(path) -> None:
    first, second, third = AZURE.splitlines()[1:]
    path.write_text("\n".join([AZURE.splitlines()[0], third, second, first]))
    assert read_trace(path).length.tolist() == [10, 1, 27]
    zoned = "\n".join(line.replace(",", "+00:00,", 1) for line in (first, second, third))
    path.write_text(AZURE.splitlines()[0] + "\n" + zoned)
    assert np.allclose(read_trace(path).arrival_s, [0.0, 0.052, 0.0520001], rtol=0.0, atol=1e-12)


def test_a_hundred_thousand_rows(path) -> None:
    trace = CATALOGUE["translation"].sample(np.random.default_rng(0), 100_000, 10.0, 0.3)
    write_csv(path, trace)
    assert same(read_csv(path), trace)


def test_at_rate() -> None:
    trace = RequestTrace(arrival_s=[1.0, 3.0, 4.0], length=[1, 2, 3], deadline_s=[2.0, 5.0, np.inf])
    fast = at_rate(trace, 7.5)
    assert np.allclose(fast.arrival_s, [0.1, 0.3, 0.4])
    assert np.allclose(fast.deadline_s, [1.1, 2.3, np.inf])
    assert fast.requests / fast.arrival_s[-1] == pytest.approx(7.5)
    flood = RequestTrace(arrival_s=[0.0, 0.0], length=[1, 2])
    assert same(at_rate(flood, 3.0), flood)
    # A deadline that scaling would round away stays behind its arrival.
    tight = RequestTrace(arrival_s=[1e-9, 2e-9], length=[1, 1], deadline_s=[2e-9, 3e-9])
    assert (at_rate(tight, 1e-9).deadline_s > at_rate(tight, 1e-9).arrival_s).all()
    with pytest.raises(ValueError, match="rate_rps must be"):
        at_rate(trace, 0.0)
