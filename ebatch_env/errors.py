"""Checks shared by every public constructor: each failure names the field, the value and the range."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int32]

# The largest time (s), energy (J) and power (W) taken: beyond, sums over an episode would lose what they are sums of.
LARGEST = 1e12


def fail(field: str, value: object, expected: str) -> ValueError:
    """The error every check raises: ``field``, the offending ``value``, and what was ``expected``."""
    return ValueError(f"{field} must be {expected}, got {value!r}")


class MissingExtraError(ModuleNotFoundError):
    """A part of this package was asked for whose libraries are not installed; the message says which extra has them."""

    def __init__(self, what: str, extra: str, error: ModuleNotFoundError) -> None:
        super().__init__(
            f"{what} needs the extra {extra!r}: pip install 'ebatch-env[{extra}]' (no module {error.name!r})",
            name=error.name,
        )
        self._given = (what, extra, error)

    def __reduce__(self) -> Any:
        """To be raised in one process and caught in another."""
        return type(self), self._given


@contextlib.contextmanager
def needs_extra(what: str, extra: str) -> Iterator[None]:
    """Around imports of what only ``extra`` installs: a missing module becomes a `MissingExtraError`."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(what, extra, error) from None


def check_number(
    field: str,
    value: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    low_open: bool = False,
    high_open: bool = False,
) -> float:
    """Return ``value`` as a finite float within ``[low, high]`` (open ends on request)."""
    left, right = "(" if low_open else "[", ")" if high_open else "]"
    expected = f"a finite number in {left}{low:g}, {high:g}{right}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise fail(field, value, expected)
    number = float(value)
    too_low = number <= low if low_open else number < low
    too_high = number >= high if high_open else number > high
    if not math.isfinite(number) or too_low or too_high:
        raise fail(field, value, expected)
    return number


def check_integer(field: str, value: Any, *, low: int, high: int | None = None) -> int:
    """Return ``value`` as an int in ``low..high``; a float or a bool is refused."""
    expected = f"an integer >= {low}" if high is None else f"an integer in {low}..{high}"
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise fail(field, value, expected)
    if value < low or (high is not None and value > high):
        raise fail(field, value, expected)
    return int(value)


def check_choice(field: str, value: Any, choices: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``choices``."""
    if value not in choices:
        raise fail(field, value, "one of " + ", ".join(repr(choice) for choice in choices))
    return str(value)


def check_array(
    field: str, value: Any, *, shape: tuple[int | None, ...], low: float = 0.0, high: float = math.inf
) -> FloatArray:
    """Return ``value`` as a new read-only float64 array of ``shape`` (None: any size), finite and in ``[low, high]``."""
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise fail(field, value, "an array of numbers") from error
    wanted = "(" + ", ".join("n" if size is None else str(size) for size in shape) + ")"
    if array.ndim != len(shape) or any(s is not None and s != a for s, a in zip(shape, array.shape, strict=True)):
        raise ValueError(f"{field} must have shape {wanted}, got shape {array.shape}")
    wrong = ~np.isfinite(array) | (array < low) | (array > high)
    if wrong.any():
        where = tuple(int(i) for i in np.argwhere(wrong)[0])
        most = "" if high == math.inf else f" and <= {high:g}"
        raise ValueError(f"{field} must be finite and >= {low:g}{most}, got {array[where]} at index {where}")
    array.setflags(write=False)
    return array
