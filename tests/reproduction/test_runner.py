"""Running sections: order, resumption, failure; and the command over it."""

from __future__ import annotations

import json
import re
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ebatch_env.cli import app
from ebatch_env.reproduction import runner
from ebatch_env.reproduction.report import Options
from ebatch_env.reproduction.runner import fingerprint, reproduce, sections
from tests.reproduction.samples import RUNS

pytestmark = pytest.mark.usefixtures("announced")


def ebatch(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["reproduce", *arguments])


def test_order_is_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["queue", "zebra", "tpu", "apple", "e-batch", "cellular"]
    points = [EntryPoint(name, "nowhere:run", runner.REPRODUCTIONS) for name in names]
    monkeypatch.setattr(runner, "entry_points", lambda group: points)
    assert list(sections()) == ["e-batch", "cellular", "tpu", "queue", "apple", "zebra"]


def test_a_failure_does_not_stop_the_rest() -> None:
    told = []
    outcomes = reproduce(progress=lambda share, doing: told.append((share, doing)))
    assert [(o.name, o.section is None) for o in outcomes] == [("broken", True), ("misnamed", True), ("steady", False)]
    assert outcomes[0].error == "ZeroDivisionError: no division by zero"
    assert "samples.py" in outcomes[0].trace
    assert "name of the section must be 'misnamed', as it is announced, got 'other'" in outcomes[1].error
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert (0.5 / 3, "broken: dividing") in told


def test_finished_sections_are_kept(tmp_path: Path) -> None:
    first = reproduce(["steady", "broken"], out=tmp_path)
    again = reproduce(["steady", "broken"], out=tmp_path)
    assert len(RUNS) == 1
    assert [o.kept for o in again] == [False, True]  # a failure is tried again
    assert str(again[1].section) == str(first[1].section)  # as text, because NaN is not itself
    assert again[1].seconds == first[1].seconds
    assert len(list((tmp_path / "parts").iterdir())) == 1


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = EntryPoint("stopped", "tests.reproduction.samples:stopped", runner.REPRODUCTIONS)
    steady = sections()["steady"]
    monkeypatch.setattr(runner, "sections", lambda: {"steady": steady, "stopped": later})
    with pytest.raises(KeyboardInterrupt):
        reproduce(out=tmp_path)
    monkeypatch.setattr(runner, "sections", lambda: {"steady": steady})
    (outcome,) = reproduce(out=tmp_path)
    assert outcome.kept
    assert len(RUNS) == 1


def test_other_options_or_code_are_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reproduce(["steady"], out=tmp_path)
    reproduce(["steady"], Options(processes=2), out=tmp_path)
    assert len(RUNS) == 1
    reproduce(["steady"], Options(quick=True), out=tmp_path)
    assert len(RUNS) == 2
    monkeypatch.setattr(runner, "_code", lambda package: "changed")
    reproduce(["steady"], out=tmp_path)
    assert len(RUNS) == 3
    before = fingerprint(sections()["steady"], Options())
    monkeypatch.setattr(runner, "versions", lambda: {"numpy": "0"})
    assert fingerprint(sections()["steady"], Options()) != before


@pytest.mark.parametrize("left", ["", "{", "[]", '{"seconds": 1}', '{"seconds": 1, "section": {"rows": [{}]}}'])
def test_what_cannot_be_read_is_run_again(left: str, tmp_path: Path) -> None:
    reproduce(["steady"], out=tmp_path)
    (part,) = (tmp_path / "parts").iterdir()
    whole = part.read_text()
    part.write_text(left)
    (outcome,) = reproduce(["steady"], out=tmp_path)
    assert len(RUNS) == 2
    assert not outcome.kept
    strip = re.compile(r'"seconds": [0-9.e-]+')
    assert strip.sub("", part.read_text()) == strip.sub("", whole)


def test_nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "entry_points", lambda group: [])
    with pytest.raises(ValueError, match="no installed package has any"):
        reproduce()


def test_command_writes_prints_and_resumes(tmp_path: Path) -> None:
    done = ebatch("steady", "--quick", "--out", str(tmp_path))
    assert (done.exit_code, done.stderr) == (0, "chatter of a library\n")
    assert "A steady machine" in done.stdout
    assert f"Files are in {tmp_path}" in done.stdout
    assert "chatter" not in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"charts", "parts", "report.json", "report.md"}
    assert [run.quick for run in RUNS] == [True]
    assert "kept from an earlier run" in ebatch("steady", "--quick", "--out", str(tmp_path)).stdout
    assert len(RUNS) == 1


def test_json_and_nothing_else(tmp_path: Path) -> None:
    done = ebatch("steady", "--json", "--out", str(tmp_path))
    assert done.exit_code == 0
    assert done.stdout == (tmp_path / "report.json").read_text()
    assert [section["name"] for section in json.loads(done.stdout)["sections"]] == ["steady"]


def test_a_failed_section_fails_the_command() -> None:
    done = ebatch("--json")
    assert done.exit_code == 1
    assert [section["error"] is None for section in json.loads(done.stdout)["sections"]] == [False, False, True]
    assert "ebatch: section 'broken' failed:\nTraceback" in done.stderr
    shown = ebatch("broken", "steady")
    assert shown.exit_code == 1
    assert "failed: ZeroDivisionError" in shown.stdout
    assert "A steady machine" in shown.stdout


def with_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {name: sections()[name] for name in ("steady",)}
    found["lacking"] = EntryPoint("lacking", "tests.reproduction.samples:lacking", runner.REPRODUCTIONS)
    monkeypatch.setattr(runner, "sections", lambda: found)


def test_a_missing_extra_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with_lacking(monkeypatch)
    done = ebatch()
    assert done.exit_code == 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("ebatch:")]
    assert line.startswith("ebatch: section 'lacking' left out: section 'lacking' needs the extra 'approximation'")
    assert "Traceback" not in done.stderr
    assert "A steady machine" in done.stdout
    asked = ebatch("lacking", "steady")
    assert asked.exit_code == 1  # it was asked for by name


def test_an_interruption_tells_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"steady": sections()["steady"]}
    found["stopped"] = EntryPoint("stopped", "tests.reproduction.samples:stopped", runner.REPRODUCTIONS)
    monkeypatch.setattr(runner, "sections", lambda: found)
    done = ebatch("--out", str(tmp_path))
    assert done.exit_code != 0
    assert f"interrupted; finished and kept in {tmp_path / 'parts'}: steady; the same command goes on" in done.stderr
    assert "interrupted; nothing is kept without --out" in ebatch().stderr
    assert "no section had finished" in ebatch("stopped", "--out", str(tmp_path / "new")).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fast"], "section must be one of broken, misnamed, steady, got 'fast'"),
        (["steady", "--processes", "0"], "processes must be an integer >= 1, got 0"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str) -> None:
    done = ebatch(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"ebatch: {message}\n"
    assert not RUNS
