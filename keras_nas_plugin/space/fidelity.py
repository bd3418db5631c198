"""The fidelity of a trial, as KerasTuner's Hyperband stores it among the trial's values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from keras_nas_plugin.space.spec import Values

_PREFIX = "tuner/"


@dataclasses.dataclass(frozen=True)
class Fidelity:
    """The epochs of a trial in a multi-fidelity search.

    Attributes:
        epochs: Total epochs of the trial, including those of its parent.
        initial_epoch: Epochs of its parent.
        rung: Index of its rung, from 0.
        parent: Id of the trial whose training it resumes, or None.
    """

    epochs: int
    initial_epoch: int = 0
    rung: int = 0
    parent: str | None = None

    def to_values(self) -> Values:
        """The fidelity as values, under the names that KerasTuner's Hyperband uses.

        >>> Fidelity(3).to_values()["tuner/epochs"]
        3
        """
        values: Values = {
            "tuner/epochs": self.epochs,
            "tuner/initial_epoch": self.initial_epoch,
            "tuner/bracket": 0,
            "tuner/round": self.rung,
        }
        return values if self.parent is None else {**values, "tuner/trial_id": self.parent}


def fidelity_of(values: Mapping[str, Any]) -> Fidelity | None:
    """The fidelity that the values of a trial describe; None if they do not contain one.

    >>> fidelity_of({"units": 8}) is None
    True
    >>> fidelity_of(Fidelity(9, 3, 1, "07").to_values())
    Fidelity(epochs=9, initial_epoch=3, rung=1, parent='07')
    """
    if "tuner/epochs" not in values:
        return None
    return Fidelity(
        epochs=values["tuner/epochs"],
        initial_epoch=values.get("tuner/initial_epoch", 0),
        rung=values.get("tuner/round", 0),
        parent=values.get("tuner/trial_id") or None,
    )


def configuration(values: Mapping[str, Any]) -> Values:
    """The values without those that describe the fidelity.

    >>> configuration({"units": 8, "tuner/epochs": 3})
    {'units': 8}
    """
    return {name: value for name, value in values.items() if not name.startswith(_PREFIX)}
