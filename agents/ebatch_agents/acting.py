"""Between trained policies and systems, either of which may count actions per control or flat."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ebatch_env.environment.actions import CONTROLS, ActionCodec
from ebatch_env.environment.fleet import AnySystem


class LegalActions:
    """What is legal on the machine that an observation shows; see `legal`.

    Args:
        system: what is acted on.
        flat: whether the policy's actions are flat.
    """

    def __init__(self, system: AnySystem, *, flat: bool) -> None:
        self._masks = np.stack([legal(machine.actions, flat=flat) for machine in system.machines])
        self._layout = system.observations

    def __call__(self, observation: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Masks (E, M) for observations (E, D)."""
        return np.asarray(self._masks[self._layout.machine_of(observation)])


def legal(codec: ActionCodec, *, flat: bool) -> npt.NDArray[np.bool_]:
    """What is always legal, (M,), as a policy with flat actions counts them or as one without.

    The one mask that moves, that there is nothing left to wait for, makes no difference: holding then admits all.
    """
    return replace(codec, flat=flat).mask().astype(np.bool_)


def to_rows(chosen: npt.NDArray[np.int64], codec: ActionCodec) -> npt.NDArray[np.int64]:
    """Actions as ``codec`` takes them: (E, C), or (E,) when flat.

    Args:
        chosen: (E, C), or (E, 1) for flat indices.
        codec: the system's.
    """
    sizes = tuple(int(codec.levels[name].size) for name in CONTROLS)
    flat_given = chosen.shape[1] == 1 and len(codec.controls) > 1
    if codec.flat == flat_given or len(codec.controls) == 1:
        return chosen[:, 0] if codec.flat else chosen
    if codec.flat:
        columns = dict(zip(codec.controls, chosen.T, strict=True))
        index = [columns.get(name, np.zeros(len(chosen), np.int64)) for name in CONTROLS]
        return np.asarray(np.ravel_multi_index(index, sizes), dtype=np.int64)
    parts = np.unravel_index(chosen[:, 0], sizes)
    return np.stack([parts[CONTROLS.index(name)] for name in codec.controls], axis=1).astype(np.int64)
