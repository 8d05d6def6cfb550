"""torch and the packages that hold the data come in only when asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = "{'torch', 'sklearn', 'sktime', 'pandas'}"


@pytest.mark.parametrize("modules", ["ebatch_env", "ebatch_env.machines.savings, ebatch_env.reproduction.runner"])
def test_nothing_heavy(modules: str) -> None:
    code = f"import sys, {modules}; found = {HEAVY} & set(sys.modules); assert not found, found"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_data_files_without_importing_sktime() -> None:
    code = "import sys; from ebatch_env.approximation import load; load('vowels'); assert 'sktime' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_torch_the_extra_is_named() -> None:
    code = "import importlib.util as u; u.find_spec = lambda name, package=None: None; import ebatch_env.approximation"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode
    assert "pip install 'ebatch-env[approximation]'" in done.stderr
