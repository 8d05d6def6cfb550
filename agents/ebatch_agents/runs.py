"""A training's settings and the folder it keeps its files in."""

from __future__ import annotations

import contextlib
import json
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ebatch_agents.algorithms import algorithm, hyperparameters
from ebatch_env.compatibility import ScenarioVersion
from ebatch_env.errors import check_integer, fail, needs_extra
from ebatch_env.scenarios import scenario
from ebatch_env.scoring.files import make_folder, write_json
from ebatch_env.scoring.policy import policy_class
from ebatch_env.scoring.seeds import SEEDS_PER_USE, TRAINING_SEED

LANES_PER_SEED = 4096  # environments of a training; the seeds of their episodes follow one another
MAX_SEED = SEEDS_PER_USE // LANES_PER_SEED - 1
EVALUATIONS = 20
EPISODES = 16
LIBRARIES = ("ebatch-env", "numpy", "numba", "torch", "stable-baselines3", "sb3-contrib", "gymnasium", "safetensors")


@dataclass(frozen=True)
class Run:
    """All that decides a training's outcome, on one machine and one set of libraries.

    Attributes:
        env: the id.
        algo: see `ALGORITHMS`.
        seed: 0..`MAX_SEED`, of the weights, of exploration, and of the episodes.
        steps: decisions to train for; the last rollout is finished.
        keywords: of the environment, in the place of the scenario's.
        hyperparameters: as the algorithm's class takes them, ``lin_`` schedules as text; and ``n_envs``, ``horizon``
            and ``teacher``.
        evaluations: how often the model is evaluated on the validation episodes, besides at the start.
        episodes: how many those are.
        threads: of torch.
        config: the file that the hyperparameters came from, as it was given; None: those of this package. What it said is in
            ``hyperparameters`` and ``keywords``.
    """

    env: str
    algo: str
    seed: int
    steps: int
    keywords: Mapping[str, Any] = field(default_factory=dict)
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    evaluations: int = EVALUATIONS
    episodes: int = EPISODES
    threads: int = 1
    config: str | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        scenario(self.env)
        algorithm(self.algo)
        check_integer("seed", self.seed, low=0, high=MAX_SEED)
        check_integer("steps", self.steps, low=1)
        check_integer("evaluations", self.evaluations, low=0)
        check_integer("episodes", self.episodes, low=1, high=SEEDS_PER_USE)
        check_integer("threads", self.threads, low=1)

    @property
    def name(self) -> str:
        """The folder's: ``<algo>-<id without "ebatch/">-seed<seed>``."""
        return f"{self.algo}-{self.env.removeprefix('ebatch/').replace('/', '-')}-seed{self.seed}"

    @property
    def first_episode(self) -> int:
        """The seed of the first environment's episodes."""
        return TRAINING_SEED + LANES_PER_SEED * self.seed

    @property
    def command(self) -> str:
        """The command that does the same, from the same folder if ``config`` is a relative path.

        Raises:
            ValueError: ``config`` is not of rl-zoo3's format any more.
            OSError: it cannot be read any more.
        """
        words = ["ebatch", "train", "--env", self.env, "--algo", self.algo, "--seed", self.seed, "--steps", self.steps]
        if self.config is not None:
            words += ["--config", self.config]
        usual = hyperparameters(self.algo, self.env, self.config)
        kept = {"n_envs": usual.n_envs, "horizon": usual.horizon, "teacher": usual.teacher, **usual.keywords}
        for option, values, known in (
            ("--param", self.hyperparameters, kept),
            ("--set", self.keywords, {**usual.env_kwargs, "flat_actions": algorithm(self.algo).flat}),
        ):
            for name, value in values.items():
                if name not in known or known[name] != value:
                    words += [option, f"{name}={json.dumps(value, default=repr)}"]
        for name in ("evaluations", "episodes", "threads"):
            if getattr(self, name) != getattr(type(self), name):
                words += [f"--{name}", getattr(self, name)]
        return shlex.join(map(str, words))

    def basis(self) -> dict[str, Any]:
        """What the settings name and do not say: what the scenario means, and how the teacher is tuned; plain values."""
        teacher = self.hyperparameters.get("teacher")
        tuned = None if teacher is None else getattr(policy_class(teacher), "tuned_knobs", None)
        knobs = None if tuned is None else tuned(self.env)
        found = {"scenario": ScenarioVersion.of(self.env).to_dict(), "teacher": knobs}
        return dict(json.loads(json.dumps(found)))

    def to_dict(self) -> dict[str, Any]:
        """The settings as they are after a round trip through JSON."""
        return dict(json.loads(json.dumps(asdict(self), default=repr)))


class Folder:
    """The files of a training.

    | file | content |
    |---|---|
    | `run.json` | the settings, the command, and the versions of the libraries |
    | `checkpoint.pt` | what `checkpoint.save` wrote last |
    | `evaluations.json` | decisions and costs of every evaluation |
    | `progress.json` | how far it is, about every second |
    | `<algo>-best.zip`, `<algo>-last.zip` | SB3's form of the best model and of the last |
    | `tensorboard/` | if asked for |
    | `lock` | who holds it is training here |
    """

    def __init__(self, path: Path, run: Run) -> None:
        self.path = path
        self.run = run
        self.settings = path / "run.json"
        self.checkpoint = path / "checkpoint.pt"
        self.evaluations = path / "evaluations.json"
        self.progress = path / "progress.json"
        self.best = path / f"{run.algo}-best.zip"
        self.last = path / f"{run.algo}-last.zip"
        self.lock = path / "lock"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Make the folder, and keep all other trainings out of it inside.

        The operating system holds the lock and lets go of it when the process ends, however that ends.

        Raises:
            ValueError: a training is under way in it.
            OSError: it cannot be written to.
        """
        make_folder(self.path)
        with needs_extra("a training's folder", "sb3"):
            from filelock import FileLock, Timeout
        lock = FileLock(self.lock)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise fail(
                "out",
                str(self.path.parent),
                f"another folder, or tried again later: a training is under way in {self.path}",
            ) from None
        try:
            yield
        finally:
            lock.release()

    def prepare(self, *, resume: bool) -> bool:
        """Begin in the folder, which is `held`, or go on in it; True if there is a checkpoint to go on from.

        Raises:
            ValueError: the folder has a training already, and none, or one with other settings, is to be resumed.
            OSError: it cannot be written to.
        """
        if not resume:
            self.check_free()
        if self.settings.exists():
            self._check_same()
            if self.checkpoint.exists():
                return True
        values = {"settings": self.run.to_dict(), "command": self.run.command, "basis": self.run.basis()}
        write_json(self.settings, {**values, "versions": versions()})
        return False

    def check_free(self) -> None:
        """Check that no training has begun here.

        Raises:
            ValueError: one has.
        """
        if self.settings.exists():
            raise fail("out", str(self.path.parent), f"another folder, or --resume: {self.path} has a training already")

    def _check_same(self) -> None:
        try:
            told = json.loads(self.settings.read_text(encoding="utf-8"))
            there, basis = told["settings"], told["basis"]
        except (ValueError, KeyError, TypeError) as error:
            raise fail(str(self.settings), type(error).__name__, "the settings of a training") from None
        for name, value in self.run.to_dict().items():
            if name == "config":
                continue  # the file may lie elsewhere now; what it says is in the others
            if there.get(name) != value:
                raise fail(name, value, f"as in the training to resume, {there.get(name)!r} ({self.settings})")
        for name, value in self.run.basis().items():
            if basis.get(name) != value:
                raise fail(f"{name} of {self.run.env}", "changed", f"as when {self.settings} was written: train anew")


def versions(libraries: Sequence[str] = LIBRARIES) -> dict[str, str]:
    """Versions of Python and of those of the libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in libraries:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
