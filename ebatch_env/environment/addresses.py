"""Arrays by address: what compiled code works on for long is handed over as one array of where things lie.

A call from Python takes some 25 ns for each array among its arguments, and a step of one environment is a microsecond or
two. Whoever packs arrays keeps them alive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np import numpy_support
from numba.np.arrayobj import populate_array

Kind = tuple[Any, int]
"""A numba scalar type and a number of dimensions."""


def pack(kinds: Sequence[Kind], arrays: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.int64]:
    """Address and shape of each of ``arrays``, one behind the other, for what `unpacker` makes of the same ``kinds``.

    Raises:
        ValueError: more or fewer arrays than kinds.
        TypeError: an array of another kind, or one that is not C-contiguous, aligned and writeable: compiled code would
            read something else, or write where nothing may be written.
    """
    words: list[int] = []
    for place, ((scalar, dimensions), array) in enumerate(zip(kinds, arrays, strict=True)):
        found = (numpy_support.from_dtype(array.dtype), array.ndim)
        if found != (scalar, dimensions) or not array.flags.carray:
            raise TypeError(
                f"array {place} must be C-contiguous and writeable, {scalar} with {dimensions} dimensions, got {found}"
            )
        words += [array.ctypes.data, *array.shape]
    return np.array(words, np.int64)


def unpacker(kinds: Sequence[Kind]) -> Any:
    """An intrinsic that makes a tuple of arrays of what `pack` made."""
    arrays = [types.Array(scalar, dimensions, "C") for scalar, dimensions in kinds]
    whole = types.Tuple(arrays)

    @intrinsic
    def unpack(typing: Any, words: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            found, place = [], 0
            for kind in arrays:
                word = [
                    builder.load(builder.gep(data, [ir.Constant(ir.IntType(64), place + n)]))
                    for n in range(1 + kind.ndim)
                ]
                place += 1 + kind.ndim
                found.append(_array(context, builder, kind, word[0], word[1:]))
            return context.make_tuple(builder, whole, found)

        return whole(words), generate

    return unpack


def _array(context: Any, builder: Any, kind: Any, address: Any, shape: list[Any]) -> Any:
    """The C-contiguous array of that ``kind`` and ``shape`` that lies there."""
    itemsize = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    strides = [ir.Constant(ir.IntType(64), itemsize)]
    for size in shape[:0:-1]:
        strides.insert(0, builder.mul(size, strides[0]))
    array = context.make_array(kind)(context, builder)
    data = builder.inttoptr(address, context.get_data_type(kind.dtype).as_pointer())
    populate_array(array, data=data, shape=shape, strides=strides, itemsize=itemsize, meminfo=None)
    return array._getvalue()


def _array_at(scalar: Any, dimensions: int) -> Any:
    """An intrinsic ``(address, *shape)`` that makes the array that lies there."""
    kind = types.Array(scalar, dimensions, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        shape = [context.cast(builder, a, t, types.intp) for a, t in zip(arguments, signature.args, strict=True)][1:]
        return _array(context, builder, kind, arguments[0], shape)

    if dimensions == 1:

        @intrinsic
        def one(typing: Any, address: Any, size: Any) -> Any:
            return kind(types.int64, size), generate

        return one

    @intrinsic
    def two(typing: Any, address: Any, rows: Any, columns: Any) -> Any:
        return kind(types.int64, rows, columns), generate

    return two


boolean_row, float64_row = _array_at(types.boolean, 1), _array_at(types.float64, 1)
int64_row = _array_at(types.int64, 1)
boolean_table, int8_table = _array_at(types.boolean, 2), _array_at(types.int8, 2)
int64_table, uint64_table = _array_at(types.int64, 2), _array_at(types.uint64, 2)
float32_table, float64_table = _array_at(types.float32, 2), _array_at(types.float64, 2)
