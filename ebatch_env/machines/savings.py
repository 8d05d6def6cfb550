"""What approximate evaluation saves on a network, beside what its authors publish.

Shares of reuse and of low precision are inputs: published per network, or measured by running the schemes. Published
speed-ups are means over networks, so they are compared with the mean of the networks' speed-ups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ebatch_env.costs import CostTable
from ebatch_env.errors import check_integer
from ebatch_env.machines.approximation import MemoizationEffect, PrecisionEffect
from ebatch_env.machines.epur import EPUR
from ebatch_env.networks import Network, resolve_network

PUBLISHED_EPUR = EPUR(replicas=1)  # one sequence at a time, FP16
MEMOIZATION_AREA_MM2 = (64.6, 66.8)  # without and with [read, MICRO 2019]
PRECISION_AREA_OVERHEAD = 0.088  # [read, arXiv 1911.04244]
_MICRO = "Silfa et al., MICRO 2019"
_LONG = "Silfa et al. (arXiv 2202.06563)"
_HIPC = "Silfa et al., HiPC 2020 (arXiv 1911.04244)"


@dataclass(frozen=True)
class PublishedEffect:
    """What is printed of a scheme on one network, or on average.

    Attributes:
        network: a name in `NETWORKS`, or "mean".
        share: of neuron evaluations that are reused, or that run in low precision.
        speed_up: on E-PUR; None: not printed.
        energy_saved: share of E-PUR's energy; None: not printed.
        source, checked: citation, and how sure.
    """

    network: str
    share: float
    speed_up: float | None
    energy_saved: float | None
    source: str
    checked: Literal["read", "recalled"] = "read"


PUBLISHED_MEMOIZATION = (
    PublishedEffect("IMDB", 0.362, None, 0.25, _LONG),
    PublishedEffect("DeepSpeech2", 0.164, None, 0.14, _LONG),
    PublishedEffect("EESEN", 0.305, None, 0.253, _LONG),
    PublishedEffect("MNMT", 0.190, None, 0.222, _LONG),
)
MEMOIZATION_MEAN = PublishedEffect("mean", 0.242, 1.35, 0.185, _MICRO)
MEMOIZATION_MEAN_LONG = PublishedEffect("mean", 0.268, 1.40, 0.21, _LONG)
PUBLISHED_PRECISION = (
    PublishedEffect("IMDB", 1.00, 1.99, 0.353, _HIPC),
    PublishedEffect("ShowTell", 0.52, 1.31, 0.143, _HIPC),
    PublishedEffect("EESEN", 0.70, 1.63, 0.325, _HIPC),
    PublishedEffect("MNMT", 0.44, 1.40, 0.162, _HIPC),
)
PRECISION_MEAN = PublishedEffect("mean", 0.57, 1.46, 0.192, "Silfa et al., HiPC 2020")
PRECISION_MEAN_EARLY = PublishedEffect("mean", 0.66, 1.56, 0.23, "Silfa et al. (arXiv 1911.04244)")


@dataclass(frozen=True)
class Saving:
    """A network with approximate evaluation against the same machine without.

    Attributes:
        speed_up: time without over time with.
        computations_avoided: share of multiply-accumulates, each weighted with its bits.
        weight_reads_saved: share of what is read from the weight buffer.
        energy_saved: share of all energy: DRAM, leakage and predictor included.
        parts: joules before and after, by component, ``static`` included; ``predictor`` only with memoization.
    """

    speed_up: float
    computations_avoided: float
    weight_reads_saved: float
    energy_saved: float
    parts: Mapping[str, tuple[float, float]]


def saving(
    network: str | Network,
    *,
    memoization: MemoizationEffect | Mapping[str, object] | None = None,
    precision: PrecisionEffect | Mapping[str, object] | None = None,
    machine: EPUR = PUBLISHED_EPUR,
    lanes: int = 1,
    steps: int = 100,
) -> Saving:
    """What the given effects save in rounds of ``steps`` steps with ``lanes`` busy lanes, one after the other.

    With ``precision`` the comparison is with evaluation in 8 bits throughout on the same units, as in the paper.

    Raises:
        ValueError: an effect, the lanes or the steps out of range, or more than the machine holds.
    """
    shape = resolve_network(network)
    exact = None if precision is None else PrecisionEffect(low_share=0.0, offset_bits=0)
    before = replace(machine, memoization=None, precision=exact).cost_table(shape, lanes)
    after = replace(machine, memoization=memoization, precision=precision).cost_table(shape, lanes)
    steps = check_integer("steps", steps, low=1, high=before.max_time_steps)
    spent = [_parts(table, lanes, steps) for table in (before, after)]
    names = list(spent[1])
    parts = {name: (spent[0].get(name, 0.0), spent[1][name]) for name in names}
    reads = [float(table.parts["weight_buffer"].step_j[:, lanes].sum()) for table in (before, after)]
    return Saving(
        speed_up=float(before.round_s(steps, lanes) / after.round_s(steps, lanes)),
        computations_avoided=1.0 - parts["macs"][1] / parts["macs"][0],
        weight_reads_saved=1.0 - reads[1] / reads[0],
        energy_saved=1.0 - sum(spent[1].values()) / sum(spent[0].values()),
        parts=parts,
    )


def _parts(table: CostTable, lanes: int, steps: int) -> dict[str, float]:
    """Joules of one round by component."""
    parts = {
        name: float(part.load_j.sum() + part.input_j.sum() + steps * part.step_j[:, lanes].sum())
        for name, part in table.parts.items()
    }
    return {**parts, "static": table.static_w * float(table.round_s(steps, lanes))}
