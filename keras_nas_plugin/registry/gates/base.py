"""The interface of a gate: a condition on a challenger, with the numbers behind the decision.

The command line imports this module for `--help`, so it must not import numpy at run time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from keras_nas_plugin.errors import NASError

if TYPE_CHECKING:
    import numpy as np

Direction = Literal["max", "min"]
#: Metrics that `promote` knows by name.
MetricName = Literal["accuracy", "loss", "mae", "mse"]
#: Paired tests that `promote` knows by name.
Method = Literal["auto", "mcnemar", "bootstrap"]


class PromotionError(NASError, ValueError):
    """A promotion or rollback that cannot be judged or carried out; no alias was moved."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One version of a registered model, and its predictions for the held-out data.

    Attributes:
        version: Version number in the registry.
        predictions: Predictions, one for each row of the data.
        costs: Costs by name: ``parameters``, ``size_bytes`` (of the files), and those that a
            gate requested.
        folder: Folder of the files, in MLflow's format, or None.
    """

    version: str
    predictions: np.ndarray
    costs: Mapping[str, float] = dataclasses.field(default_factory=dict)
    folder: Path | None = None


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The input of every gate, computed once.

    Attributes:
        x: Held-out inputs: an array, or a list or dictionary of arrays.
        y: Labels or targets, one for each row of ``x``.
        challenger: The version that may become champion.
        champion: The current champion, or None.
    """

    x: Any
    y: np.ndarray
    challenger: Candidate
    champion: Candidate | None = None


@dataclasses.dataclass(frozen=True)
class Finding:
    """The result of one gate.

    Attributes:
        name: Name of the gate, for example ``"comparison"``.
        passed: Whether the challenger passes.
        message: What was compared with what, in one line.
        numbers: Every number behind the decision. They are stored as JSON, where NaN and
            infinities become null; only the message shows which it was.
    """

    name: str
    passed: bool
    message: str
    numbers: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Gate(Protocol):
    """A condition that a challenger must satisfy to become champion.

    The gates of this package are frozen dataclasses: two gates with the same settings are equal,
    and the representation of a gate shows its settings.
    """

    @property
    def costs(self) -> tuple[str, ...]:
        """Names of the challenger's costs that the gate needs, so that they are measured."""
        ...

    def check(self, evidence: Evidence) -> Finding:
        """Judge the challenger.

        Args:
            evidence: Data, predictions and costs of both models.

        Returns:
            Whether the challenger passes, and why.

        Raises:
            PromotionError: The gate does not apply to this evidence, for example because the
                labels are not classes.
        """
        ...
