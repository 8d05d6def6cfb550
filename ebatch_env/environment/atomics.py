"""What threads in compiled code need to talk through an int64 array: ordered loads and stores, and arrays by address."""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

_X86 = platform.machine().lower() in ("x86_64", "amd64", "i386", "i686")
_ORDER = "seq_cst"


def _place(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    return builder.gep(array.data, [context.cast(builder, arguments[1], signature.args[1], types.int64)])


@intrinsic
def load(typing: Any, array: Any, place: Any) -> Any:
    """``array[place]`` of an int64 array, seen in the order in which other threads wrote."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_place(context, builder, signature, arguments), _ORDER, 8)

    return types.int64(array, place), generate


@intrinsic
def store(typing: Any, array: Any, place: Any, value: Any) -> Any:
    """``array[place] = value``, seen by other threads after everything written before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.cast(builder, arguments[2], signature.args[2], types.int64)
        builder.store_atomic(number, _place(context, builder, signature, arguments), _ORDER, 8)
        return context.get_dummy_value()

    return types.void(array, place, value), generate


@intrinsic
def add(typing: Any, array: Any, place: Any, value: Any) -> Any:
    """Add to ``array[place]`` in one step and return what was there before."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.cast(builder, arguments[2], signature.args[2], types.int64)
        return builder.atomic_rmw("add", _place(context, builder, signature, arguments), number, _ORDER)

    return types.int64(array, place, value), generate


@intrinsic
def pause(typing: Any) -> Any:
    """Tell the core that this thread is waiting for another."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if _X86:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), generate


def _array_of(dtype: Any, dimensions: int) -> Any:
    """An intrinsic ``(address, *shape)``: the C-contiguous array that lies there, which somebody else keeps alive."""
    kind = types.Array(dtype, dimensions, "C")

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        itemsize = context.get_abi_sizeof(context.get_data_type(dtype))
        shape = [context.cast(builder, a, t, types.intp) for a, t in zip(arguments, signature.args, strict=True)][1:]
        strides = [ir.Constant(ir.IntType(64), itemsize)]
        for size in shape[:0:-1]:
            strides.insert(0, builder.mul(size, strides[0]))
        array = context.make_array(kind)(context, builder)
        data = builder.inttoptr(arguments[0], context.get_data_type(dtype).as_pointer())
        populate_array(array, data=data, shape=shape, strides=strides, itemsize=itemsize, meminfo=None)
        return array._getvalue()

    if dimensions == 1:

        @intrinsic
        def one(typing: Any, address: Any, size: Any) -> Any:
            return kind(types.int64, size), generate

        return one

    @intrinsic
    def two(typing: Any, address: Any, rows: Any, columns: Any) -> Any:
        return kind(types.int64, rows, columns), generate

    return two


uint8_row, float64_row = _array_of(types.uint8, 1), _array_of(types.float64, 1)
uint8_table, int8_table = _array_of(types.uint8, 2), _array_of(types.int8, 2)
int64_table, uint64_table = _array_of(types.int64, 2), _array_of(types.uint64, 2)
float32_table, float64_table = _array_of(types.float32, 2), _array_of(types.float64, 2)
