"""What threads in compiled code need to talk through an int64 array: ordered loads and stores."""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ebatch_env.simulator.bits import call_llvm

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
            call_llvm(builder, "x86.sse2.pause", ir.VoidType())
        return context.get_dummy_value()

    return types.void(), generate
