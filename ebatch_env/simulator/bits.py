"""Sets of small whole numbers as bits of uint64 words, and the intrinsics under them: for compiled code only."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.cpu import CPUContext
from numba.extending import intrinsic

# Without numba's run-time (``_nrt``) slices cost nothing: no reference is counted, and nothing can be allocated. Arrays are
# passed by value, so a call that is not inlined copies some hundred words: hence INLINED.
COMPILED: dict[str, Any] = {"nogil": True, "_nrt": False, "error_model": "numpy"}
INLINED: dict[str, Any] = {**COMPILED, "forceinline": True}

ONE, ZERO, FULL = np.uint64(1), np.uint64(0), np.uint64(0xFFFFFFFFFFFFFFFF)


def call_llvm(builder: Any, name: str, result: Any, *arguments: Any) -> Any:
    """Call one of LLVM's own functions."""
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}"), arguments)


@intrinsic
def lowest(typing: Any, word: Any) -> Any:
    """Place of the lowest bit of a uint64 that is not 0: one machine instruction."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic
def highest(typing: Any, word: Any) -> Any:
    """Place of the highest bit of a uint64 that is not 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zeros = builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))
        return builder.xor(zeros, ir.Constant(ir.IntType(64), 63))

    return types.int64(types.uint64), generate


@intrinsic
def count(typing: Any, word: Any) -> Any:
    """Bits set in a uint64, as int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@intrinsic
def known(typing: Any, place: Any) -> Any:
    """``place`` itself, an index that is never negative: spares the check for one that counts from the end."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.cast(builder, arguments[0], signature.args[0], types.int64)
        call_llvm(builder, "assume", ir.VoidType(), builder.icmp_signed(">=", number, ir.IntType(64)(0)))
        return number

    return types.int64(place), generate


@intrinsic
def copy_from(typing: Any, row: Any, first: Any, target: Any) -> Any:
    """``target[first:] = row[first:]`` for rows of one type and size."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        source, aim = (context.make_array(signature.args[n])(context, builder, arguments[n]) for n in (0, 2))
        byte = ir.IntType(8).as_pointer()
        places = [builder.bitcast(builder.gep(array.data, [arguments[1]]), byte) for array in (aim, source)]
        size = builder.mul(builder.sub(builder.extract_value(source.shape, 0), arguments[1]), source.itemsize)
        call_llvm(builder, "memcpy.p0.p0.i64", ir.VoidType(), *places, size, ir.IntType(1)(0))
        return context.get_dummy_value()

    return types.void(row, types.int64, target), generate


@intrinsic
def prefetch(typing: Any, row: Any, place: Any) -> Any:
    """Ask for the cache line of ``row[place]``, which may lie outside the array: a hint that computes nothing."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if not isinstance(context, CPUContext):  # a GPU hides its memory's latency in another way
            return context.get_dummy_value()
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        byte = ir.IntType(8).as_pointer()
        address = builder.bitcast(builder.gep(array.data, [arguments[1]]), byte)
        word = ir.IntType(32)
        call_llvm(builder, "prefetch.p0", ir.VoidType(), address, word(0), word(3), word(1))
        return context.get_dummy_value()

    return types.void(row, types.int64), generate


# --- sets ---------------------------------------------------------------------------------------------------------
@njit(**INLINED)
def bit(bits, section, r):
    """1 if ``r`` is in the set, else 0."""
    return np.int64((bits[known(section + (r >> 6))] >> np.uint64(r & 63)) & ONE)


@njit(**INLINED)
def clear(bits, section, r):
    """Take ``r`` out of a set."""
    bits[known(section + (r >> 6))] &= ~(ONE << np.uint64(r & 63))


@njit(**INLINED)
def fill_range(bits, section, first, end):
    """Put first..end-1, at least one, into a set."""
    for word in range(first >> 6, ((end - 1) >> 6) + 1):
        bits[known(section + word)] |= _between(first, end, word)


@njit(**INLINED)
def count_range(bits, section, first, end):
    """How many of first..end-1, at least one, are in a set."""
    members = 0
    for word in range(first >> 6, ((end - 1) >> 6) + 1):
        members += count(bits[known(section + word)] & _between(first, end, word))
    return members


@njit(**INLINED)
def _between(first, end, word):
    """Of the members first..end-1 those in a word that holds any, as bits."""
    low, high = max(first - (word << 6), 0), min(end - (word << 6), 64)
    return (FULL << np.uint64(low)) & (FULL >> np.uint64(64 - high))


# --- 64-ary trees: a bit of level l + 1 says whether a word of level l has any. Level 0 begins at word 0. --------------
@njit(**INLINED)
def tree_add(bits, levels, p):
    """Put ``p`` in."""
    before = bits[known(p >> 6)]
    bits[known(p >> 6)] = before | (ONE << np.uint64(p & 63))
    level = 1
    while before == ZERO and level < levels.size - 1:
        p >>= 6
        word = known(levels[level] + (p >> 6))
        before = bits[word]
        bits[word] = before | (ONE << np.uint64(p & 63))
        level += 1


@njit(**INLINED)
def tree_remove(bits, levels, p, gone):
    """Take member ``p`` out if it is ``gone``, without a branch on that."""
    after = bits[known(p >> 6)] & ~(np.uint64(gone) << np.uint64(p & 63))
    bits[known(p >> 6)] = after
    level = 1
    while after == ZERO and level < levels.size - 1:
        p >>= 6
        word = known(levels[level] + (p >> 6))
        after = bits[word] & ~(ONE << np.uint64(p & 63))
        bits[word] = after
        level += 1


@njit(**INLINED)
def tree_next(bits, levels, p):
    """The smallest member >= p, which there could be; -1: none."""
    word = p >> 6
    found = bits[known(word)] & (FULL << np.uint64(p & 63))
    level = 0
    while found == ZERO:
        p = word + 1
        word = p >> 6
        level += 1
        if level == levels.size - 1 or levels[level] + word >= levels[level + 1]:
            return -1
        found = bits[known(levels[level] + word)] & (FULL << np.uint64(p & 63))
    p = (word << 6) + lowest(found)
    while level > 0:
        level -= 1
        p = (p << 6) + lowest(bits[known(levels[level] + p)])
    return p


@njit(**INLINED)
def tree_previous(bits, levels, p):
    """The largest member <= p, which there could be, or -1; -1: none."""
    if p < 0:
        return -1
    word = p >> 6
    found = bits[known(word)] & (FULL >> np.uint64(63 - (p & 63)))
    level = 0
    while found == ZERO:
        p = word - 1
        word = p >> 6
        level += 1
        if level == levels.size - 1 or p < 0:
            return -1
        found = bits[known(levels[level] + word)] & (FULL >> np.uint64(63 - (p & 63)))
    p = (word << 6) + highest(found)
    while level > 0:
        level -= 1
        p = (p << 6) + highest(bits[known(levels[level] + p)])
    return p
