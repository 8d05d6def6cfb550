"""Energy constants of E-PUR: three readings of what is published, each derived here in the open.

E-PUR's authors publish a peak power of 975 mW, about 80 % of the energy in on-chip memories and 10-20 % in operations
(arXiv 1711.07480), but no energy per access. CACTI gives the dynamic energy of an SRAM read; what the memories draw
beyond that is their leakage. The published peak does not say at which word width it was taken, so:

``peak-fp32`` (the default)
    The peak is taken at the widest words, 4 bytes: a peak is drawn where most bits move, and three of the paper's five
    networks have the size of FP32 weights.
``peak-fp16``
    The same with 2-byte words: a MAC costs three times as much.
``circuit``
    No published power at all: CACTI, no leakage, and a MAC scaled from 45 nm. The lower bound; it explains about a
    third of the 975 mW.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

from ebatch_env.errors import check_number, fail

# CACTI 7, 28 nm, pJ per read: 1045 for 256 bytes of a 4 MB array; 2.3 for 8 bytes of 8 KB.
WIDE_SRAM_PJ_PER_BYTE = 1045.0 / 256.0
SMALL_SRAM_PJ_PER_BYTE = 2.3 / 8.0
# Horowitz, ISSCC 2014, 45 nm, pJ: fp16 multiply 1.1 + add 0.4; fp32 3.7 + 0.9 (these two recalled).
MAC_FP16_45NM_PJ = 1.1 + 0.4
MAC_FP32_45NM_PJ = 3.7 + 0.9
MAC_INT8_45NM_PJ = 0.2 + 0.1  # 8-bit multiply and 32-bit add (the add recalled)
# LPDDR4 is given as 8-14 pJ per bit: the middle.
LPDDR4_PJ_PER_BIT = 11.0
# E-PUR as published: 4 units of 16 MACs at 500 MHz; 16 MiB weights + 6 MiB intermediate + 4 * 8 KiB input memory.
PEAK_W, MEMORY_SHARE, OPERATIONS_SHARE = 0.975, 0.80, 0.15
MACS_PER_S = 4 * 16 * 500e6
SRAM_MIB = 16.0 + 6.0 + 4 * 8 / 1024
# 45 nm at 0.9 V to 28 nm at E-PUR's 0.78 V: energy goes with C * V^2, and C with the feature size.
SCALE_TO_28NM = (28.0 / 45.0) * (0.78 / 0.9) ** 2


@dataclass(frozen=True)
class EPUREnergy:
    """Energies of E-PUR's components.

    Attributes:
        mac_fp16_pj: one FP16 multiply-accumulate (pJ), its share of control included.
        mac_fp32_pj: the same in FP32.
        weight_pj_per_byte: weight buffer, read or write (pJ/byte), leakage apart.
        small_pj_per_byte: input memory and MWL's row buffer, read or write (pJ/byte).
        intermediate_pj_per_byte: intermediate memory, read or write (pJ/byte).
        dram_pj_per_bit: LPDDR4 (pJ/bit); given as 8-14.
        leakage_w_per_mib: drawn always, per MiB of on-chip memory (W).
    """

    mac_fp16_pj: float
    mac_fp32_pj: float
    weight_pj_per_byte: float = WIDE_SRAM_PJ_PER_BYTE
    small_pj_per_byte: float = SMALL_SRAM_PJ_PER_BYTE
    intermediate_pj_per_byte: float = WIDE_SRAM_PJ_PER_BYTE
    dram_pj_per_bit: float = LPDDR4_PJ_PER_BIT
    leakage_w_per_mib: float = 0.0

    def __post_init__(self) -> None:
        """Check every field: finite and not negative."""
        for field in fields(self):
            number = check_number(field.name, getattr(self, field.name), low=0.0)
            object.__setattr__(self, field.name, number)

    @property
    def mac_int8_pj(self) -> float:
        """One 8-bit multiply-accumulate (pJ): a fifth of FP16's, as at 45 nm."""
        return self.mac_fp16_pj * MAC_INT8_45NM_PJ / MAC_FP16_45NM_PJ

    @classmethod
    def from_peak_power(cls, word_bytes: int) -> EPUREnergy:
        """Read the published peak as drawn at full rate with words of 2 or 4 bytes.

        A MAC costs the operations' share over the MAC rate: 0.15 * 975 mW / 32 GMAC/s = 4.57 pJ at that width; the
        other width follows by the ratio of the 45 nm figures. Every MAC reads one weight and one input word; what these
        leave of the memories' share is leakage: with 4 bytes 780 mW - 128 GB/s * 4.37 pJ = 221 mW, with 2 bytes 500 mW.
        """
        mac = OPERATIONS_SHARE * PEAK_W / MACS_PER_S * 1e12
        ratio = MAC_FP32_45NM_PJ / MAC_FP16_45NM_PJ
        reading_w = MACS_PER_S * word_bytes * (WIDE_SRAM_PJ_PER_BYTE + SMALL_SRAM_PJ_PER_BYTE) * 1e-12
        return cls(
            mac_fp16_pj=mac if word_bytes == 2 else mac / ratio,
            mac_fp32_pj=mac if word_bytes == 4 else mac * ratio,
            leakage_w_per_mib=(MEMORY_SHARE * PEAK_W - reading_w) / SRAM_MIB,
        )

    @classmethod
    def from_circuits(cls) -> EPUREnergy:
        """CACTI without leakage and Horowitz's operations scaled to 28 nm: 0.70 pJ per FP16 MAC."""
        return cls(mac_fp16_pj=MAC_FP16_45NM_PJ * SCALE_TO_28NM, mac_fp32_pj=MAC_FP32_45NM_PJ * SCALE_TO_28NM)


ENERGY_SETS: Mapping[str, EPUREnergy] = MappingProxyType(
    {
        "peak-fp32": EPUREnergy.from_peak_power(4),
        "peak-fp16": EPUREnergy.from_peak_power(2),
        "circuit": EPUREnergy.from_circuits(),
    }
)


def resolve_energy(spec: str | Mapping[str, Any] | EPUREnergy) -> EPUREnergy:
    """The energy constants from a set's name, a mapping of `EPUREnergy`'s fields, or themselves.

    Raises:
        ValueError: an unknown name or field, or a value out of range.
    """
    if isinstance(spec, EPUREnergy):
        return spec
    if isinstance(spec, str) and spec in ENERGY_SETS:
        return ENERGY_SETS[spec]
    if isinstance(spec, Mapping):
        try:
            return EPUREnergy(**spec)
        except TypeError as error:
            raise fail("energy", dict(spec), "a mapping of the fields of EPUREnergy") from error
    raise fail("energy", spec, "one of " + ", ".join(ENERGY_SETS) + ", a mapping or an EPUREnergy")
