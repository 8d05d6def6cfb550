"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes ``path`` if the block ends well and vanishes if not.

    It stands in the same folder, because a rename is atomic only within a file system, and keeps the suffix, by which
    writers choose their format.
    """
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def json_text(value: Any) -> str:
    """Valid JSON with a newline at the end: null for NaN, strings for infinities."""
    return json.dumps(_finite(value), indent=2, allow_nan=False) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Write `json_text` of ``value``."""
    write_text(path, json_text(value))


def make_folder(path: Path) -> Path:
    """Create a folder that can be written to, parents included; fails before the work starts rather than after.

    Raises:
        OSError: it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with whole_file(path / "writable") as part:
            part.touch()
        (path / "writable").unlink()
    except OSError as error:
        wanted = "must be a folder that can be made and written to"
        raise OSError(error.errno, f"{wanted}: {error.strerror}", str(path)) from error
    return path


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value
