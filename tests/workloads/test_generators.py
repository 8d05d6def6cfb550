"""Numbers drawn in compiled code against NumPy's: bit for bit, and the generator moves on."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from ebatch_env.workloads.generators import (
    INLINED,
    PCG64,
    close_stream,
    exponential,
    open_stream,
    stream_of,
    uniform,
)


@njit(**{**INLINED, "forceinline": False})
def mixed(stream, numbers):  # type: ignore[no-untyped-def]
    """Uniform and exponential numbers in turn."""
    state = open_stream(stream)
    for n in range(0, numbers.size, 2):
        numbers[n], state = uniform(stream, state)
        numbers[n + 1], state = exponential(stream, state)
    close_stream(stream, state)


@pytest.mark.parametrize("source", [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox])
def test_numbers_and_state_are_those_of_numpy(source: type) -> None:
    for seed in range(100):
        ours, theirs = np.random.Generator(source(seed)), np.random.Generator(source(seed))
        numbers = np.zeros(2000)
        for rng in (ours, theirs):
            rng.integers(10, dtype=np.int32)  # leaves half a word behind
        mixed(stream_of(ours), numbers)
        for n in range(0, numbers.size, 2):
            assert (numbers[n], numbers[n + 1]) == (theirs.random(), theirs.standard_exponential())
        assert (
            ours.integers(10, size=5, dtype=np.int32).tolist() == theirs.integers(10, size=5, dtype=np.int32).tolist()
        )
        assert str(ours.bit_generator.state) == str(theirs.bit_generator.state)


def test_only_a_pcg64_that_is_laid_out_as_expected_is_advanced_directly() -> None:
    class Mine(np.random.PCG64):
        pass

    assert stream_of(np.random.Generator(np.random.PCG64(1)))[PCG64] != 0
    for source in (np.random.PCG64DXSM(1), np.random.MT19937(1), np.random.SFC64(1), Mine(1)):
        assert stream_of(np.random.Generator(source))[PCG64] == 0
