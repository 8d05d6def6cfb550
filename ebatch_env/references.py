"""``module:attribute``: how users name classes and functions of their own."""

from __future__ import annotations

import importlib
from typing import Any


def imported(reference: str) -> Any:
    """The attribute that ``"module:attribute"`` names, dots included.

    Raises:
        ImportError: there is no such module, or it cannot be imported.
        AttributeError: it has no such attribute.
    """
    module, _, attribute = reference.partition(":")
    found: Any = importlib.import_module(module)
    for name in attribute.split("."):
        found = getattr(found, name)
    return found
