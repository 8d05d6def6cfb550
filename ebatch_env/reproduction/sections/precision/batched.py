"""In batches: a row runs at the highest precision any lane needs. Alone and with memoization; what schedulers get of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

import numpy as np

from ebatch_env.machines.savings import Saving
from ebatch_env.reproduction import energy_readings
from ebatch_env.reproduction import trained_networks as nets
from ebatch_env.reproduction.approximate_serving import (
    LANES,
    NOTHING_ON,
    POLICIES,
    SERVED,
    SERVING_LANES,
    VARIED_LANES,
    Effects,
    Served,
    change,
    on_lanes,
    serve,
    serving_table,
)
from ebatch_env.reproduction.report import Chart, Series, Table, points
from ebatch_env.reproduction.sections.precision.measured import Measured, Outcome

Found = Mapping[str, list[Measured]]

PRECISION, BOTH = "precision", "precision and memoization"
ALL_EIGHT: Effects = {"precision": {"low_share": 0.0, "offset_bits": 0}}


def chosen(found: Found) -> str:
    """The network whose curves the machine gets: the one that memoization spares most of, so that both have a say."""
    return max(found, key=lambda name: fmean(one.both.reuse for one in found[name]))


def effects(found: Found) -> dict[str, list[Effects]]:
    """What the machine is told for each of `LANES`: lanes that share rows act as one."""
    seeds = found[chosen(found)]
    told: dict[str, list[Effects]] = {PRECISION: [], BOTH: []}
    for place, lanes in enumerate(LANES):
        low = fmean(one.lanes[place].low_share for one in seeds)
        reuse = fmean(one.both_lanes[place].reuse for one in seeds)
        both_low = fmean(one.both_lanes[place].low_share for one in seeds)
        told[PRECISION].append({"precision": {"low_share": low, "lanes_low_share": [[lanes, low]]}})
        told[BOTH].append(
            {
                "precision": {"low_share": both_low, "lanes_low_share": [[lanes, both_low]]},
                "memoization": {"reuse": reuse, "lanes_reuse": [[lanes, reuse]]},
            }
        )
    return told


def serving(found: Found) -> Served:
    """Schedulers on a full queue: 8 bits throughout, precision, and both."""
    told = effects(found)
    results: Served = []
    for lanes in SERVING_LANES:
        results.append((lanes, NOTHING_ON, serve(ALL_EIGHT, lanes)))
        results += [(lanes, what, serve(told[what][LANES.index(lanes)], lanes)) for what in (PRECISION, BOTH)]
    return results


def _worth(told: Sequence[Effects]) -> list[Saving]:
    return [on_lanes(one, lanes) for lanes, one in zip(LANES, told, strict=True)]


def tables(found: Found, served: Served) -> list[Table]:
    """Shares by lanes; the machine; the schedulers."""
    kinds = (
        ("at 4 bits, %", lambda one: [outcome.low_share for outcome in one.lanes]),
        ("test accuracy, %", lambda one: [outcome.accuracy for outcome in one.lanes]),
        ("with memoization: skipped, %", lambda one: [outcome.reuse for outcome in one.both_lanes]),
        ("with memoization: of the rest at 4 bits, %", lambda one: [outcome.low_share for outcome in one.both_lanes]),
        ("with memoization: test accuracy, %", lambda one: [outcome.accuracy for outcome in one.both_lanes]),
    )
    shares = []
    for name, seeds in found.items():
        for what, of in kinds:
            columns = 100 * np.array([of(one) for one in seeds]).T
            shares.append((name, what, *(nets.with_interval(column.tolist(), 1, 100) for column in columns)))
    return [
        Table(
            "lanes",
            "Rows in staggered lanes that share them, by lanes",
            ("network", "what", *map(str, LANES)),
            shares,
        ),
        Table(
            "batched-e-pur",
            f"{SERVED} on E-PUR with 32 dot-product units a gate against 8 bits throughout, curves of {chosen(found)}",
            ("on", "busy lanes", "speed-up, x", "weight reads saved, %", "energy saved, %"),
            [
                (what, lanes, one.speed_up, 100 * one.weight_reads_saved, 100 * one.energy_saved)
                for what, told in effects(found).items()
                for lanes, one in zip(LANES, _worth(told), strict=True)
            ],
        ),
        serving_table(served),
    ]


def charts(found: Found) -> list[Chart]:
    """Shares by lanes, and what they are worth."""
    lanes = list(LANES)
    worth = {what: _worth(told) for what, told in effects(found).items()}

    def curve(label: str, seeds: list[Measured], of: str) -> Series:
        return Series(label, lanes, *nets.mean_curve([_low(getattr(one, of)) for one in seeds]))

    return [
        Chart(
            "lanes",
            "Rows that run at 4 bits in staggered lanes that share them",
            "lanes",
            "share of rows",
            [curve(name, seeds, "lanes") for name, seeds in found.items()],
            log_x=True,
        ),
        Chart(
            "batched-speed",
            f"{SERVED} on batched E-PUR: speed-up over 8 bits throughout",
            "busy lanes",
            "x",
            [Series(what, lanes, [one.speed_up for one in savings]) for what, savings in worth.items()],
            log_x=True,
            references=[("8 bits", 1.0)],
        ),
        Chart(
            "batched-energy",
            f"{SERVED} on batched E-PUR: energy saved against 8 bits throughout",
            "busy lanes",
            "share of energy",
            [Series(what, lanes, [one.energy_saved for one in savings]) for what, savings in worth.items()],
            log_x=True,
        ),
    ]


def _low(outcomes: Sequence[Outcome]) -> list[float]:
    return [outcome.low_share for outcome in outcomes]


def sensitivity(found: Found) -> tuple[Table, list[Chart]]:
    """Uncertain constants of the batched machine."""
    told = effects(found)[PRECISION]
    title = f"{SERVED} on batched E-PUR with dynamic precision"
    return energy_readings.sensitivity(SERVED, {n: told[LANES.index(n)] for n in VARIED_LANES}, title)


def summary(found: Found, served: Served) -> str:
    """How far batches leave anything."""
    name = chosen(found)
    worth = {what: _worth(told) for what, told in effects(found).items()}
    one, many = LANES.index(1), LANES.index(32)
    lows = {
        key: [100 * fmean(s.lanes[place].low_share for s in seeds) for place in (one, many)]
        for key, seeds in found.items()
    }
    best = max(lows, key=lambda key: lows[key][1])
    changes = {policy: change(served, 32, PRECISION, policy) for policy in POLICIES}
    told = ", ".join(f"{rate:+.1f} % and {energy:+.1f} % under {policy}" for policy, (rate, energy) in changes.items())
    return points(
        (
            "In a batch",
            f"one lane in a peak takes the row to 8 bits for all: 32 lanes leave {lows[name][1]:.1f} % of {name}'s "
            f"{lows[name][0]:.0f} % and at best {lows[best][1]:.1f} % ({best}). With {name}'s curves the speed-up of "
            f"{SERVED} "
            f"over 8 bits falls from {worth[PRECISION][one].speed_up:.2f}x with one lane to "
            f"{worth[PRECISION][many].speed_up:.2f}x with 32; together with memoization from "
            f"{worth[BOTH][one].speed_up:.2f}x to {worth[BOTH][many].speed_up:.2f}x.",
        ),
        ("In the environment, 32 lanes,", f"precision changes throughput and energy per request by {told}."),
    )
