"""One sequence at a time: share of low precision, accuracy, and what it is worth on E-PUR."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from ebatch_env.machines.approximation import PrecisionEffect
from ebatch_env.machines.savings import (
    PRECISION_MEAN,
    PRECISION_MEAN_EARLY,
    PUBLISHED_PRECISION,
    PublishedEffect,
    Saving,
    saving,
)
from ebatch_env.reproduction import energy_readings
from ebatch_env.reproduction import trained_networks as nets
from ebatch_env.reproduction.report import Chart, Row, Series, Table, points
from ebatch_env.reproduction.sections.precision.measured import Measured, Outcome, run_with, variations

Found = Mapping[str, list[Measured]]
Varied = list[tuple[str, str, float, float]]  # network, variation, low share, accuracy lost against 8 bits

AIM = 0.15
FEW_STEPS = 3  # a window of fewer steps than this hardly is one


def low_share(one: Measured) -> float:
    """Of one network and seed."""
    return one.dynamic.low_share


def lost(one: Measured, outcome: Outcome) -> float:
    """Accuracy below that of 8 bits throughout, which the scheme starts from."""
    return one.eight.accuracy - outcome.accuracy


def ideal_speed_up(share: float) -> float:
    """Most that can be gained if a ``share`` of the work takes half the time: 1 / (1 - share / 2)."""
    return 1.0 / (1.0 - share / 2.0)


def share_needed(speed_up: float) -> float:
    """The share of low precision without which ``speed_up`` cannot be."""
    return 2.0 * (1.0 - 1.0 / speed_up)


def savings(share: float | None = None) -> dict[str, Saving]:
    """Of the papers' networks on the published machine, with their published shares or all with ``share``."""
    return {
        one.network: saving(one.network, precision=PrecisionEffect(one.share if share is None else share))
        for one in PUBLISHED_PRECISION
    }


def energies() -> list[energy_readings.Counted]:
    """The published energy savings under every reading of E-PUR's energies."""

    def told(share: float | None = None) -> dict[str, energy_readings.Effects]:
        return {
            one.network: {"precision": PrecisionEffect(one.share if share is None else share)}
            for one in PUBLISHED_PRECISION
        }

    early, later = PRECISION_MEAN_EARLY.energy_saved or 0.0, PRECISION_MEAN.energy_saved or 0.0
    means = [
        energy_readings.PrintedMean("mean of the four", early, told()),
        energy_readings.PrintedMean(f"mean, share of {PRECISION_MEAN.share:.0%}", later, told(PRECISION_MEAN.share)),
    ]
    return energy_readings.counted(PUBLISHED_PRECISION, told(), means)


def rows(found: Found) -> list[Row]:
    """Measured shares, and E-PUR with published and with measured shares, beside what is printed."""
    share, span = nets.mean_interval(nets.over_networks(found, low_share))
    loss, loss_span = nets.mean_interval(nets.over_networks(found, lambda one: lost(one, one.dynamic)))
    narrow, narrow_span = nets.mean_interval(nets.over_networks(found, lambda one: lost(one, one.weights_only)))
    printed = savings()
    other = "other networks and data than the paper's"
    few = 0 if span else len(next(iter(found.values())))
    source, checked = PRECISION_MEAN.source, PRECISION_MEAN.checked

    def speed(what: str, value: float, by: PublishedEffect) -> Row:
        return Row(f"{what}: speed-up", value, "x", by.speed_up, by.source, by.checked, AIM)

    def energy(what: str, value: float, by: PublishedEffect) -> Row:
        published = None if by.energy_saved is None else 100 * by.energy_saved
        return Row(f"{what}: energy saved", 100 * value, "%", published, by.source, by.checked, AIM)

    def mean(effects: Mapping[str, Saving], field: str) -> float:
        return fmean(getattr(one, field) for one in effects.values())

    def ours(what: str, field: str, published: float | None, unit: str, factor: float) -> Row:
        at = [factor * mean(savings(one), field) for one in (share, *(span or ()))]
        ends = None if span is None else (at[1], at[2])
        row = Row(f"E-PUR with our mean share: {what}", at[0], unit, published, source, checked, None, ends, other)
        return replace(row, seeds=few, figure=f"{what}, mean")

    what = f"neuron evaluations at 4 bits, mean of {len(found)} networks"
    early = 100 * PRECISION_MEAN_EARLY.share
    at_mean = f"published mean share of {PRECISION_MEAN.share:.0%}"
    return [
        Row(
            what,
            100 * share,
            "%",
            (100 * PRECISION_MEAN.share, early),
            f"{source}; {PRECISION_MEAN_EARLY.source}",
            checked,
            interval=_percent(span),
            note=other,
            seeds=few,
        ),
        Row("test accuracy lost against 8 bits, mean", 100 * loss, "points", interval=_percent(loss_span), seeds=few),
        Row("the same if inputs keep 8 bits", 100 * narrow, "points", interval=_percent(narrow_span), seeds=few),
        ours("speed-up", "speed_up", PRECISION_MEAN.speed_up, "x", 1.0),
        ours("energy saved", "energy_saved", 100 * (PRECISION_MEAN.energy_saved or 0.0), "%", 100.0),
        *(
            row
            for one in PUBLISHED_PRECISION
            for row in (
                speed(f"{one.network} with the published {one.share:.0%}", printed[one.network].speed_up, one),
                energy(f"{one.network} with the published {one.share:.0%}", printed[one.network].energy_saved, one),
            )
        ),
        speed("published shares, mean of four networks", mean(printed, "speed_up"), PRECISION_MEAN_EARLY),
        energy("published shares, mean of four networks", mean(printed, "energy_saved"), PRECISION_MEAN_EARLY),
        replace(
            speed(at_mean, mean(savings(PRECISION_MEAN.share), "speed_up"), PRECISION_MEAN), figure="speed-up, mean"
        ),
        replace(
            energy(at_mean, mean(savings(PRECISION_MEAN.share), "energy_saved"), PRECISION_MEAN),
            figure="energy saved, mean",
        ),
    ]


def _percent(span: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if span is None else (100 * span[0], 100 * span[1])


def sensitivity(found: Found) -> Varied:
    """What our own readings of the scheme do, on the first seed of each network."""
    varied: Varied = []
    for name, (first, *_) in found.items():
        for what, scheme in variations(first.settings).items():
            run = first.dynamic if scheme == first.settings else Outcome.of(run_with(name, first.seed, scheme))
            varied.append((name, what, 100 * run.low_share, 100 * lost(first, run)))
    return varied


def tables(found: Found, varied: Varied) -> list[Table]:
    """Accuracies; what a share allows at most; the scheme's own settings."""
    ways: dict[str, Callable[[Measured], Outcome]] = {
        "8 bits": lambda one: one.eight,
        "4 bits": lambda one: one.four,
        "4-bit weights, 8-bit inputs": lambda one: one.four_weights,
        "dynamic": lambda one: one.dynamic,
        "dynamic weights, 8-bit inputs": lambda one: one.weights_only,
        "dynamic and memoization": lambda one: one.both,
    }
    accuracies = [
        (
            name,
            seeds[0].settings.stable_steps,
            seeds[0].settings.profile_steps,
            way,
            nets.with_interval([100 * of(one).low_share for one in seeds], most=100),
            nets.with_interval([100 * of(one).reuse for one in seeds], most=100),
            nets.with_interval([100 * of(one).accuracy for one in seeds], most=100),
            nets.with_interval([100 * lost(one, of(one)) for one in seeds]),
        )
        for name, seeds in found.items()
        for way, of in ways.items()
    ]
    ideal = [
        (one.network, 100 * one.share, ideal_speed_up(one.share), one.speed_up, 100 * share_needed(one.speed_up or 1))
        for one in (*PUBLISHED_PRECISION, PRECISION_MEAN_EARLY, PRECISION_MEAN)
    ]
    columns = ("network", "N = M", "profiling", "bits", "at 4 bits, %", "reused, %", "test accuracy, %", "lost, points")
    return [
        Table("accuracy", "Share of low precision and accuracy on the test data", columns, accuracies),
        Table(
            "ideal",
            "What a share of low precision allows at most if 4 bits take half the time of 8: 1 / (1 - share / 2)",
            ("network", "published share, %", "most, x", "published speed-up, x", "share that it would need, %"),
            ideal,
        ),
        Table(
            "settings",
            "The scheme's settings changed one at a time, first seed",
            ("network", "changed", "at 4 bits, %", "accuracy lost against 8 bits, points"),
            varied,
        ),
    ]


def charts(found: Found) -> list[Chart]:
    """Accuracy lost by network; published speed-ups against what their shares allow."""

    def bars(label: str, of: Callable[[Measured], float], most: float = 100.0) -> Series:
        columns = [[100 * of(one) for one in column] for column in zip(*found.values(), strict=True)]
        return Series(label, list(found), *nets.mean_curve(columns, most, least=-100.0))

    printed = savings()
    of_networks = list(printed)
    return [
        Chart(
            "accuracy",
            "Test accuracy lost against 8 bits throughout",
            "network",
            "points",
            [
                bars("4 bits", lambda one: lost(one, one.four)),
                bars("dynamic", lambda one: lost(one, one.dynamic)),
                bars("dynamic weights, 8-bit inputs", lambda one: lost(one, one.weights_only)),
            ],
            kind="bar",
        ),
        Chart(
            "share",
            "Neuron evaluations at 4 bits",
            "network",
            "%",
            [bars("dynamic", low_share)],
            kind="bar",
            references=[("published mean", 100 * PRECISION_MEAN.share)],
        ),
        Chart(
            "speed-up",
            "Speed-up with the published shares",
            "network",
            "x",
            [
                Series("published", of_networks, [one.speed_up or 1.0 for one in PUBLISHED_PRECISION]),
                Series(
                    "most that the share allows", of_networks, [ideal_speed_up(s.share) for s in PUBLISHED_PRECISION]
                ),
                Series("model", of_networks, [printed[name].speed_up for name in of_networks]),
            ],
            kind="bar",
        ),
    ]


def summary(found: Found, energies: Sequence[energy_readings.Counted]) -> str:
    """What holds and what does not, without batches."""
    shares = {name: 100 * fmean(map(low_share, seeds)) for name, seeds in found.items()}
    losses = {name: 100 * fmean(lost(one, one.dynamic) for one in seeds) for name, seeds in found.items()}
    worst = max(losses, key=lambda name: losses[name])
    kept = 100 * fmean(lost(one, one.weights_only) for one in found[worst])
    four = 100 * fmean(lost(one, one.four) for one in found[worst])
    too_fast = [one for one in PUBLISHED_PRECISION if (one.speed_up or 0) > ideal_speed_up(one.share)]
    told = " and ".join(
        f"{one.network} {one.speed_up:.2f}x at {one.share:.0%}, of which at most {ideal_speed_up(one.share):.2f}x "
        "follow"
        for one in too_fast
    )
    short = sorted({seeds[0].name.partition("-")[0] for seeds in found.values() if _window(seeds) < FEW_STEPS})
    window = ""
    if short:
        window = (
            f"On {' and '.join(short)} 5 % of the steps is a window of one step, so the share says more about the "
            "state "
            "machine than about the data."
        )
    return points(
        (
            "Share of low precision.",
            f"{fmean(shares.values()):.0f} % of the neuron evaluations run at 4 bits ({min(shares.values()):.0f} to "
            f"{max(shares.values()):.0f} % by network), where print says {100 * PRECISION_MEAN.share:.0f} % and, in "
            "the "
            f"earlier version, {100 * PRECISION_MEAN_EARLY.share:.0f} %. {window}",
        ),
        (
            "Accuracy.",
            f"The largest loss against 8 bits is {losses[worst]:.1f} points on {worst}, {kept:.1f} if inputs keep "
            "their 8 "
            f"bits; 4 bits throughout lose {four:.1f}.",
        ),
        (
            "Speed.",
            "Time in proportion to bits bounds the speed-up by 1 / (1 - share / 2). Two of the published pairs break "
            "this "
            f"bound: {told}. Share and speed-up cannot both be reproduced there; the model keeps the share.",
        ),
        (
            "Energy.",
            "Of the weight buffer low precision saves the bits that are not read, of the leakage the time. Leakage is "
            f"{energies[0].parts['static'][0]:.0f} % of {energies[0].network}'s energy as {energies[0].reading} reads "
            "it, and "
            "nothing as `circuit` does. Savings outside the aim as the machine stands: "
            f"{energy_readings.explained(energies, AIM)}",
        ),
    )


def _window(seeds: list[Measured]) -> int:
    return seeds[0].settings.stable_steps
