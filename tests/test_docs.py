"""What README and docs show runs, and means what they say."""

import doctest
import re
from pathlib import Path

import pytest

from ebatch_env.reproduction.pages import row_cells
from ebatch_env.reproduction.report import Options
from ebatch_env.reproduction.runner import sections

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def test_readme_has_examples():
    assert len(BLOCKS) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_readme_examples_run(number):
    exec(compile(BLOCKS[number], f"README example {number}", "exec"), {"__name__": "__main__"})


def test_model_page_computes_what_it_shows():
    failed, attempted = doctest.testfile(str(ROOT / "docs" / "model.md"), module_relative=False)
    assert attempted > 3
    assert failed == 0


def test_every_section_is_on_the_reproduction_page():
    page = (ROOT / "docs" / "reproduction.md").read_text()
    missing = [name for name in sections() if f"\n`ebatch reproduce {name}`, " not in page]
    assert not missing, "run `make reproduce`"
    assert "This section failed" not in page
    assert "Made with `--quick`" not in page


@pytest.mark.parametrize("name", ["e-pur", "tpu"])
def test_the_page_has_what_is_measured_now(name: str):
    """Sections that take no time: their rows are on the page as they come out."""
    page = (ROOT / "docs" / "reproduction.md").read_text().splitlines()
    section = sections()[name].load()(Options(), lambda share, doing: None)
    lines = {tuple(cell.strip() for cell in line.strip("|").split("|")) for line in page if line.startswith("| ")}
    for row in section.rows:
        filled = [cell for cell in row_cells(row) if cell]
        assert any([cell for cell in line if cell] == filled for line in lines), f"{row.what}: run `make reproduce`"


def test_errors_on_the_page_follow_from_its_figures():
    number = re.compile(r"-?[0-9][0-9.e+-]*")
    checked = 0
    for table in re.findall(r"(?:^\|.*\n)+", (ROOT / "docs" / "reproduction.md").read_text(), flags=re.MULTILINE):
        head, _, *lines = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
        if "measured" not in head or "error" not in head:
            continue
        for cells in lines:
            row = dict(zip(head, cells, strict=True))
            reference = row.get("published") or row.get("other reference", "")
            if not row["error"]:
                continue
            ends = [float(x) for x in number.findall(reference.split(" ")[0].replace("..", " "))]
            measured = float(number.findall(row["measured"])[0])
            nearest = min(max(measured, ends[0]), ends[-1])
            error = 100 * (measured / nearest - 1) if nearest else 0.0
            rounding = 100 * (0.006 + 0.006 * abs(measured / nearest if nearest else 0.0))
            assert float(row["error"].removesuffix(" %")) == pytest.approx(error, abs=rounding), row
            checked += 1
    assert checked > 150


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
