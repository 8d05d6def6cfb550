"""Random numbers in compiled code, bit for bit those of a ``numpy.random.Generator``, which moves on as if it had drawn.

Any bit generator is called through the function pointers that NumPy publishes. PCG64, which Gymnasium seeds, is so fast
that the calls would take longer than the numbers: its state is advanced in registers and put back at the end. Where
NumPy keeps it is not a published interface, so `stream_of` compares what lies there with what NumPy says the state is.

    state = open_stream(stream)
    x, state = exponential(stream, state)   # and so on; nobody else may draw meanwhile
    close_stream(stream, state)
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

try:  # NumPy's own ziggurat tables, as numba keeps them
    from numba.np.random._constants import fe_double, ke_double, we_double, ziggurat_exp_r
except ImportError:  # pragma: no cover - a numba that moved them: `Workload.sample` then draws everything
    fe_double = we_double = np.zeros(0)
    ke_double, ziggurat_exp_r = np.zeros(0, np.uint64), 0.0

INLINED: dict[str, Any] = {"nogil": True, "_nrt": False, "error_model": "numpy", "forceinline": True}
KNOWS_TABLES = ke_double.size > 0

# Entries of a stream, uint64 (4,): addresses. PCG64: of the words of its state (low, high) and increment (low, high); 0: of
# another bit generator, or of one that is laid out in another way.
STATE, NEXT_UINT64, NEXT_DOUBLE, PCG64 = range(4)
MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645  # PCG_DEFAULT_MULTIPLIER_128
StreamArray = npt.NDArray[np.uint64]


def stream_of(rng: np.random.Generator) -> StreamArray:
    """Where compiled code finds the bit generator, uint64 (4,). Good as long as ``rng`` lives."""
    source = rng.bit_generator
    interface = source.ctypes
    pointers = (interface.next_uint64, interface.next_double)
    addresses = [interface.state_address, *(ctypes.cast(p, ctypes.c_void_p).value for p in pointers)]
    return np.array([*addresses, _pcg64_words(source)], np.uint64)


def _pcg64_words(source: np.random.BitGenerator) -> int:
    """The address of a PCG64's words, 0 if it is none."""
    if type(source) is not np.random.PCG64 or sys.byteorder != "little":
        return 0
    address = ctypes.c_uint64.from_address(source.ctypes.state_address).value
    words = [int(word) for word in (ctypes.c_uint64 * 4).from_address(address)]
    state = source.state["state"]
    as_expected = [words[0] | words[1] << 64, words[2] | words[3] << 64] == [state["state"], state["inc"]]
    return address if as_expected else 0


def _caller(returns: Any, kind: ir.Type) -> Any:
    """An intrinsic ``(function, state)`` that calls a C function of one pointer at an address."""

    @intrinsic
    def call(typing: Any, function: Any, state: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            pointer = ir.IntType(8).as_pointer()
            callee = builder.inttoptr(arguments[0], ir.FunctionType(kind, [pointer]).as_pointer())
            return builder.call(callee, [builder.inttoptr(arguments[1], pointer)])

        return returns(types.uint64, types.uint64), generate

    return call


_call_uint64 = _caller(types.uint64, ir.IntType(64))
_call_double = _caller(types.float64, ir.DoubleType())


def _word_at(builder: Any, address: Any, place: Any) -> Any:
    return builder.gep(builder.inttoptr(address, ir.IntType(64).as_pointer()), [place])


@intrinsic
def _read(typing: Any, address: Any, place: Any) -> Any:
    """Word ``place`` behind ``address``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_word_at(builder, *arguments))

    return types.uint64(types.uint64, types.int64), generate


@intrinsic
def _write(typing: Any, address: Any, place: Any, word: Any) -> Any:
    """Set word ``place`` behind ``address``."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _word_at(builder, *arguments[:2]))
        return context.get_dummy_value()

    return types.void(types.uint64, types.int64, types.uint64), generate


def _affine(multiplier: int, adds: bool) -> Any:
    """An intrinsic ``(low, high, add_low, add_high)``: (low, high) times ``multiplier`` plus, if it ``adds``, the rest."""
    pair = types.UniTuple(types.uint64, 2)

    @intrinsic
    def affine(typing: Any, low: Any, high: Any, add_low: Any, add_high: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            word, wide = ir.IntType(64), ir.IntType(128)
            parts = [builder.zext(part, wide) for part in arguments]
            number = builder.mul(builder.or_(parts[0], builder.shl(parts[1], wide(64))), wide(multiplier))
            if adds:
                number = builder.add(number, builder.or_(parts[2], builder.shl(parts[3], wide(64))))
            halves = builder.trunc(number, word), builder.trunc(builder.lshr(number, wide(64)), word)
            return context.make_tuple(builder, pair, halves)

        return pair(types.uint64, types.uint64, types.uint64, types.uint64), generate

    return affine


# PCG64's next state, and the one four draws on: x -> a x + c four times over is x -> a^4 x + (a^3 + a^2 + a + 1) c.
_advance = _affine(MULTIPLIER, True)
_advance_4 = _affine(MULTIPLIER**4 % 2**128, True)
_increment_4 = _affine((MULTIPLIER**3 + MULTIPLIER**2 + MULTIPLIER + 1) % 2**128, False)


@njit(**INLINED)
def open_stream(stream):
    """The state to draw with: PCG64's four words, else nothing."""
    address = stream[PCG64]
    if address == np.uint64(0):
        return np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0)
    return _read(address, 0), _read(address, 1), _read(address, 2), _read(address, 3)


@njit(**INLINED)
def close_stream(stream, state):
    """Put the state back where the generator finds it."""
    address = stream[PCG64]
    if address != np.uint64(0):
        _write(address, 0, state[0])
        _write(address, 1, state[1])


@njit(**INLINED)
def _output(low, high):
    """PCG64's output function, XSL RR."""
    mixed, turn = high ^ low, high >> np.uint64(58)
    return (mixed >> turn) | (mixed << ((np.uint64(64) - turn) & np.uint64(63)))


@njit(**INLINED)
def is_pcg64(state):
    """Whether it is a PCG64's state: its increment is odd. Not read from the stream, so that loops ask once."""
    return state[2] != np.uint64(0)


@njit(**INLINED)
def _next_uint64(stream, state):
    if not is_pcg64(state):
        return _call_uint64(stream[NEXT_UINT64], stream[STATE]), state
    low, high = _advance(state[0], state[1], state[2], state[3])
    return _output(low, high), (low, high, state[2], state[3])


@njit(**INLINED)
def uniform(stream, state):
    """``Generator.random()`` and the next state."""
    if not is_pcg64(state):
        return _call_double(stream[NEXT_DOUBLE], stream[STATE]), state
    bits, state = _next_uint64(stream, state)
    return np.float64(bits >> np.uint64(11)) * (1.0 / 9007199254740992.0), state


@njit(**INLINED)
def _strip(bits):
    """The ziggurat's first try: an exponential number, whether it may be taken as it is, and the strip it lies in."""
    bits >>= np.uint64(3)
    place = bits & np.uint64(0xFF)
    bits >>= np.uint64(8)
    return np.float64(bits) * we_double[place], bits < ke_double[place], place


@njit(**INLINED)
def exponential(stream, state):
    """``Generator.standard_exponential()``, the ziggurat of Marsaglia and Tsang with NumPy's tables; and the next state."""
    while True:
        bits, state = _next_uint64(stream, state)
        x, within, place = _strip(bits)
        if within:
            return x, state
        chance, state = uniform(stream, state)
        if place == np.uint64(0):
            return ziggurat_exp_r - np.log1p(-chance), state
        below = fe_double[place]
        if (fe_double[place - np.uint64(1)] - below) * chance + below < np.exp(-x):
            return x, state


# --- four draws of a PCG64 at a time: a state depends on the one before, and the product takes longer than the rest -----
@njit(**INLINED)
def four(state):
    """PCG64's next four states, (low, high) each, and what `four_on` adds to them."""
    a = _advance(state[0], state[1], state[2], state[3])
    b = _advance(a[0], a[1], state[2], state[3])
    c = _advance(b[0], b[1], state[2], state[3])
    d = _advance(c[0], c[1], state[2], state[3])
    return a, b, c, d, _increment_4(state[2], state[3], np.uint64(0), np.uint64(0))


@njit(**INLINED)
def four_on(states):
    """The four states after ``states``."""
    a, b, c, d, add = states
    return (
        _advance_4(a[0], a[1], add[0], add[1]),
        _advance_4(b[0], b[1], add[0], add[1]),
        _advance_4(c[0], c[1], add[0], add[1]),
        _advance_4(d[0], d[1], add[0], add[1]),
        add,
    )


@njit(**INLINED)
def after_four(states, state):
    """``state`` once the numbers of ``states`` are drawn."""
    return states[3][0], states[3][1], state[2], state[3]


@njit(**INLINED)
def top_bits(state):
    """2**53 times the number in [0, 1) that a state (low, high) of `four` makes: a uint64."""
    return _output(state[0], state[1]) >> np.uint64(11)


@njit(**INLINED)
def exponentials(stream, state, out):
    """Fill ``out``, float64 (n,), as `exponential` would one by one, and return the next state."""
    i = 0
    if is_pcg64(state):
        states = four(state)
        while i + 4 <= out.size:
            w, w_within, _ = _strip(_output(states[0][0], states[0][1]))
            x, x_within, _ = _strip(_output(states[1][0], states[1][1]))
            y, y_within, _ = _strip(_output(states[2][0], states[2][1]))
            z, z_within, _ = _strip(_output(states[3][0], states[3][1]))
            if w_within & x_within & y_within & z_within:
                out[i] = w
                out[i + 1] = x
                out[i + 2] = y
                out[i + 3] = z
                state = after_four(states, state)
                states = four_on(states)
            else:  # one time in twelve
                for place in range(i, i + 4):
                    out[place], state = exponential(stream, state)
                states = four(state)
            i += 4
    while i < out.size:
        out[i], state = exponential(stream, state)
        i += 1
    return state
