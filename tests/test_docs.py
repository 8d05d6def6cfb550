"""What README and docs show runs, and means what they say."""

import doctest
import re
from pathlib import Path

import pytest

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


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
