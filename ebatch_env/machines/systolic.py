"""Arithmetic of weight-stationary systolic arrays: tiles, fill and drain, and weights that stream from memory.

Checked against two independent simulators, SCALE-Sim and ZigZag (``ebatch reproduce tpu`` prints the rows).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ebatch_env.errors import FloatArray


def tile_count(inputs: int, outputs: int, rows: int = 256, columns: int = 256) -> int:
    """Tiles of an ``inputs`` x ``outputs`` weight matrix on an array of ``rows`` x ``columns``; edges are padded.

    >>> tile_count(600, 600)
    9
    """
    return -(-inputs // rows) * -(-outputs // columns)


def serial_cycles(batch: npt.ArrayLike, inputs: int, outputs: int, rows: int = 256, columns: int = 256) -> FloatArray:
    """Cycles of a matrix product whose tiles neither load nor drain beside one another.

    Each tile takes ``rows`` cycles to load, ``batch`` to take a row of activations a cycle, and ``rows + columns - 2``
    until the last one has crossed the array. This is SCALE-Sim's weight-stationary count (closed form; it counts from
    0, so one cycle less in all), memory left out.

    Args:
        batch: rows of activations, any shape.
        inputs: rows of the weight matrix.
        outputs: columns of the weight matrix.
        rows: rows of the array.
        columns: columns of the array.

    >>> float(serial_cycles(1, 1024, 4096))
    49087.0
    """
    per_tile = 2 * rows + columns - 2 + np.asarray(batch, dtype=np.float64)
    return np.asarray(tile_count(inputs, outputs, rows, columns) * per_tile - 1, dtype=np.float64)


def streamed_cycles(
    batch: npt.ArrayLike,
    inputs: int,
    outputs: int,
    bytes_per_cycle: float,
    rows: int = 256,
    columns: int = 256,
    activations: bool = False,
) -> FloatArray:
    """Cycles of a matrix product whose 8-bit tiles come from memory, one loading while the one before works.

    A tile takes its transfer, its shift into the array (``rows`` cycles) or its work (``batch`` cycles), whichever is
    longest.

    Args:
        batch: rows of activations, any shape.
        inputs: rows of the weight matrix.
        outputs: columns of the weight matrix.
        bytes_per_cycle: memory bandwidth over clock.
        rows: rows of the array.
        columns: columns of the array.
        activations: whether activations come and go through the same memory, one byte each (ZigZag's set-up; the TPU
            keeps them on chip).
    """
    work = np.asarray(batch, dtype=np.float64)
    per_tile = np.maximum(rows * columns / bytes_per_cycle, np.maximum(rows, work))
    moved = work * (inputs + outputs) * activations / bytes_per_cycle
    return np.asarray(tile_count(inputs, outputs, rows, columns) * per_tile + moved, dtype=np.float64)
