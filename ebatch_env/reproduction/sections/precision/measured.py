"""Dynamic precision on one trained network, alone and together with memoization, by itself and in lane groups."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ebatch_env.approximation.evaluation import Evaluation, evaluate
from ebatch_env.approximation.memoization import FuzzyMemoization
from ebatch_env.approximation.precision import DynamicPrecision
from ebatch_env.approximation.thresholds import largest
from ebatch_env.reproduction import trained_networks as nets
from ebatch_env.reproduction.approximate_serving import LANES


@dataclass(frozen=True)
class Outcome:
    """A run on the test data: accuracy, and shares of rows skipped and, of the others, run at 4 bits."""

    accuracy: float
    reuse: float
    low_share: float

    @classmethod
    def of(cls, run: Evaluation) -> Outcome:
        """Read off a run."""
        return cls(run.accuracy, run.reuse, run.low_share)


@dataclass(frozen=True)
class Measured:
    """One network.

    Attributes:
        name, seed: which.
        settings: of the scheme.
        exact: accuracy in floating point.
        eight, four: always 8 bits, always 4; four_weights: the weights always 4, the inputs 8.
        dynamic: weights and inputs in 4 or 8 bits; weights_only: inputs always in 8.
        lanes: ``dynamic`` for staggered lanes that share rows, for each of `LANES`.
        both: with memoization at the threshold for `nets.LOSS`, by itself.
        both_lanes: the same for each of `LANES`.
    """

    name: str
    seed: int
    settings: DynamicPrecision
    exact: float
    eight: Outcome
    four: Outcome
    four_weights: Outcome
    dynamic: Outcome
    weights_only: Outcome
    lanes: list[Outcome]
    both: Outcome
    both_lanes: list[Outcome]


def settings(name: str) -> DynamicPrecision:
    """5 % of the mean length of the training sequences."""
    return DynamicPrecision.for_length(float(nets.data(name).train.length.mean()))


def run_with(
    name: str, seed: int, scheme: DynamicPrecision, threshold: float | None = None, lanes: int | None = None
) -> Evaluation:
    """The test data, by itself or, if ``lanes`` are given, staggered through lane groups of that size."""
    data = nets.data(name)
    features = data.train.steps
    return evaluate(
        nets.network(name, seed),
        data.test,
        precision=scheme,
        memoization=None if threshold is None else FuzzyMemoization(threshold),
        input_range=(float(features.min()), float(features.max())),
        schedule=None if lanes is None else nets.staggered_queue(name, seed),
        group=lanes or 1,
    )


def measure(name: str, seed: int) -> Measured:
    """Train, or take from the cache, and run all of it."""
    scheme = settings(name)
    threshold = largest(nets.training_sweep(name, seed), nets.LOSS).threshold

    def outcome(changed: DynamicPrecision, *how: float | int | None) -> Outcome:
        return Outcome.of(run_with(name, seed, changed, *how))  # type: ignore[arg-type]

    # Lanes of a staggered queue that share nothing decide as sequences by themselves do: the first is the scheme alone.
    lanes = [outcome(scheme, None, count) for count in LANES]
    both = lanes if threshold < 0 else [outcome(scheme, threshold, count) for count in LANES]
    return Measured(
        name,
        seed,
        scheme,
        evaluate(nets.network(name, seed), nets.data(name).test).accuracy,
        outcome(replace(scheme, fixed_bits=8)),
        outcome(replace(scheme, fixed_bits=4)),
        outcome(replace(scheme, fixed_bits=4, low_inputs=False)),
        lanes[0],
        outcome(replace(scheme, low_inputs=False)),
        lanes,
        both[0],
        both,
    )


def variations(scheme: DynamicPrecision) -> dict[str, DynamicPrecision]:
    """What is assumed or read in our own way, changed one at a time."""
    longer = 2 * scheme.stable_steps
    return {
        "as it is": scheme,
        "margin b = 0": replace(scheme, margin=0.0),
        "margin b = 0.2": replace(scheme, margin=0.2),
        "profiling twice as long": replace(scheme, profile_steps=2 * scheme.profile_steps),
        "N and M twice as long": replace(scheme, stable_steps=longer, peak_steps=longer),
        "N twice as long": replace(scheme, stable_steps=longer),
        "M twice as long": replace(scheme, peak_steps=longer),
    }
