"""Comparing what a scoreboard says with what is found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

TOLERANCE = 1e-9  # of figures worked out again; records must agree to the last bit


class Check:
    """Gathers what is found."""

    def __init__(self) -> None:
        self.mismatches: list[str] = []
        self.notes: list[str] = []
        self.figures = self.episodes = self.weights = 0

    def same(
        self, what: str, told: Any, found: Any, now: str = "when worked out again", then: str = "in the files"
    ) -> bool:
        """Compare plain values; tells the first place where they differ."""
        self.figures += _count(found)
        place = next(differences(told, found), None)
        if place is None:
            return True
        where, left, right = place
        self.mismatches.append(f"{what}{where} is {left!r} {then} and {right!r} {now}")
        return False


def differences(told: Any, found: Any, where: str = "", tolerance: float = TOLERANCE) -> Iterator[tuple[str, Any, Any]]:
    """Places where plain values differ: the path, and the two values there."""
    if isinstance(told, Mapping) and isinstance(found, Mapping):
        for key in {**told, **found}:
            path = f"{where}.{key}" if where else str(key)
            if key not in told or key not in found:
                yield path, told.get(key, "nothing"), found.get(key, "nothing")
            else:
                yield from differences(told[key], found[key], path, tolerance)
    elif isinstance(told, (list, tuple)) and isinstance(found, (list, tuple)) and len(told) == len(found):
        for n, (left, right) in enumerate(zip(told, found, strict=True)):
            yield from differences(left, right, f"{where}[{n}]", tolerance)
    elif not _equal(told, found, tolerance):
        yield where, told, found


def _equal(told: Any, found: Any, tolerance: float) -> bool:
    if isinstance(told, float) and isinstance(found, float):
        if math.isnan(told) or math.isnan(found):
            return math.isnan(told) and math.isnan(found)
        return told == found or math.isclose(told, found, rel_tol=tolerance, abs_tol=tolerance)
    number = all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in (told, found))
    return bool(told == found) and (number or type(told) is type(found))


def _count(value: Any) -> int:
    """How many numbers and words there are."""
    if isinstance(value, Mapping):
        return sum(_count(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return sum(_count(item) for item in value)
    return 1
