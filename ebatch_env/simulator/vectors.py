"""Sixty-four lanes at once, in vectors: for compiled code only.

The same as loops over lanes, spelt out because a compiler that does not know how many there are adds checks and remainders
that take longer than the work. Rows of lanes are whole words of 64 (`layout`); a free lane's request is -1, its steps
left and its length are 0.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ebatch_env.simulator.bits import call_llvm

WORD = 64  # lanes
_BIT, _INT32, _INT64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
_LANES = ir.VectorType(_INT32, WORD)
_ANY = ir.Constant(_LANES, ir.Undefined)
COUNTERS = 10  # that `doublings` keeps in a word
_COUNT_ALL = sum(1 << 6 * b for b in range(COUNTERS))  # 1 in each of them


def _same(number: int) -> Any:
    return ir.Constant(_LANES, [number] * WORD)


def _everywhere(context: Any, builder: Any, number: Any, kind: Any) -> Any:
    """An integer in all lanes of a vector."""
    first = builder.insert_element(_ANY, context.cast(builder, number, kind, types.int32), _INT32(0))
    return builder.shuffle_vector(first, _ANY, _same(0))


def _address(context: Any, builder: Any, kind: Any, row: Any, place: Any) -> Any:
    array = context.make_array(kind)(context, builder, row)
    return builder.bitcast(builder.gep(array.data, [place]), _LANES.as_pointer())


def _reduced(builder: Any, how: str, vector: Any) -> Any:
    """All entries of a vector made into one."""
    kind = vector.type
    return call_llvm(builder, f"vector.reduce.{how}.v{kind.count}i{kind.element.width}", kind.element, vector)


@intrinsic
def among(typing: Any, row: Any, place: Any, least: Any, most: Any) -> Any:
    """Which of the 64 lanes of an int32 row from ``place`` on are in ``least``..``most``, as the bits of a uint64.

    ``most`` is no less than ``least``.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        numbers = builder.load(_address(context, builder, row, *arguments[:2]), align=4)
        low, high = (_everywhere(context, builder, arguments[n], signature.args[n]) for n in (2, 3))
        # One comparison: what is less than ``least`` becomes huge as a number without a sign.
        inside = builder.icmp_unsigned("<=", builder.sub(numbers, low), builder.sub(high, low))
        return builder.bitcast(inside, _INT64)

    return types.uint64(row, types.int64, least, most), generate


@intrinsic
def advance(typing: Any, request_of: Any, left_of: Any, total_of: Any, place: Any, steps: Any) -> Any:
    """Run the 64 lanes from ``place`` on for so many ``steps``: those with none left become free."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = [_address(context, builder, request_of, row, arguments[3]) for row in arguments[:3]]
        request, left, total = (builder.load(address, align=4) for address in places)
        ran = _everywhere(context, builder, arguments[4], steps)
        stays = builder.icmp_signed(">", left, ran)
        builder.store(builder.select(stays, request, _same(-1)), places[0], align=4)
        builder.store(builder.select(stays, builder.sub(left, ran), _same(0)), places[1], align=4)
        builder.store(builder.select(stays, total, _same(0)), places[2], align=4)
        return context.get_dummy_value()

    return types.void(request_of, left_of, total_of, types.int64, steps), generate


@intrinsic
def survey(typing: Any, request_of: Any, left_of: Any, total_of: Any, place: Any) -> Any:
    """What 64 lanes from ``place`` on hold, as six int64.

    Sum, maximum and minimum of the steps left, the latter less 1 and huge if all are free; sum and maximum of the steps
    done; the earliest request, huge if all are free. No sum overflows, since lengths are below 2**25.
    """
    result = types.UniTuple(types.int64, 6)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows = [_address(context, builder, request_of, row, arguments[3]) for row in arguments[:3]]
        request, left, total = (builder.load(address, align=4) for address in rows)
        done = builder.sub(total, left)
        found = [
            _reduced(builder, "add", left),
            _reduced(builder, "smax", left),
            _reduced(builder, "umin", builder.sub(left, _same(1))),
            _reduced(builder, "add", done),
            _reduced(builder, "smax", done),
            _reduced(builder, "umin", request),
        ]
        return context.make_tuple(builder, result, [builder.zext(number, _INT64) for number in found])

    return result(request_of, left_of, total_of, types.int64), generate


@intrinsic
def doublings(typing: Any, row: Any, place: Any) -> Any:
    """Ten counters of the 64 lanes from ``place`` on: lanes with 1..2**b steps left, b = 0..9.

    As two uint64, for 32 lanes each: counter b has the 6 bits from 6 b on. The number of bits in left - 1 says from
    which counter on a lane counts; one shift adds 1 to all of those. A free lane's has 32 and counts nowhere.
    """
    result = types.UniTuple(types.uint64, 2)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        left = builder.load(_address(context, builder, row, *arguments), align=4)
        zeros = call_llvm(builder, f"ctlz.v{WORD}i32", _LANES, builder.sub(left, _same(1)), _BIT(0))
        size = call_llvm(builder, f"umin.v{WORD}i32", _LANES, builder.sub(_same(32), zeros), _same(COUNTERS))
        wide = ir.VectorType(_INT64, WORD)
        shift = builder.zext(builder.mul(size, _same(6)), wide)
        each = builder.shl(ir.Constant(wide, [_COUNT_ALL] * WORD), shift)
        halves = []
        for first in (0, WORD // 2):
            those = ir.Constant(ir.VectorType(_INT32, WORD // 2), list(range(first, first + WORD // 2)))
            half = builder.shuffle_vector(each, ir.Constant(wide, ir.Undefined), those)
            halves.append(_reduced(builder, "add", half))
        return context.make_tuple(builder, result, halves)

    return result(row, types.int64), generate
