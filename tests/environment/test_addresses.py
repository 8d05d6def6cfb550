"""Arrays by address: what compiled code unpacks is what was packed, and nothing else can be packed."""

import numpy as np
import pytest
from numba import float32, float64, int8, int64, njit

from ebatch_env.environment.addresses import int64_row, pack, unpacker

KINDS = ((int64, 1), (float64, 2), (int8, 3), (float32, 2))
unpack = unpacker(KINDS)


def arrays():
    rng = np.random.default_rng(0)
    return (
        rng.integers(-9, 9, 5),
        rng.random((3, 4)),
        rng.integers(-9, 9, (2, 3, 4)).astype(np.int8),
        np.zeros((0, 7), np.float32),
    )


@njit
def look(words):
    whole, table, block, nothing = unpack(words)
    table[1, 2] = 42.0
    return whole.sum(), table.sum(), block[1, 2, 3], block.shape, nothing.shape


def test_what_is_unpacked_is_what_was_packed():
    packed = arrays()
    total, table, last, block_shape, shape = look(pack(KINDS, packed))
    assert packed[1][1, 2] == 42.0  # the same memory
    assert (total, last, block_shape, shape) == (packed[0].sum(), packed[2][1, 2, 3], (2, 3, 4), (0, 7))
    assert table == pytest.approx(packed[1].sum(), rel=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros(5, np.int32),
        np.zeros((5, 1), np.int64),
        np.zeros(10, np.int64)[::2],
        np.frombuffer(bytes(40), np.int64),
    ],
    ids=["another type", "another number of dimensions", "with gaps", "read-only"],
)
def test_another_kind_of_array_is_refused(wrong):
    with pytest.raises(TypeError, match=r"array 0 must be C-contiguous and writeable, int64 with 1 dimensions, got"):
        pack(KINDS, (wrong, *arrays()[1:]))


def test_as_many_arrays_as_kinds():
    with pytest.raises(ValueError, match="zip"):
        pack(KINDS, arrays()[:3])


def test_an_array_at_an_address():
    @njit
    def total(address, size):
        return int64_row(address, size).sum()

    row = np.arange(10)
    assert total(row.ctypes.data, 4) == 6
