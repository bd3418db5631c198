"""What a gate is: a question about two models, answered with numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from keras_nas_plugin.errors import NASError


class PromotionError(NASError, ValueError):
    """A promotion or rollback that cannot be judged or done as asked; nothing was moved."""


@dataclasses.dataclass(frozen=True)
class Candidate:
    """One version of a registered model, and what it did on the held-out data.

    Attributes:
        version: Its number in the registry.
        predictions: By row of the data.
        costs: What it costs, by name: ``parameters``, ``size_bytes`` (of its files), and what
            a gate asked for.
        folder: Its files, in MLflow's format; None where there are none.
    """

    version: str
    predictions: np.ndarray
    costs: Mapping[str, float] = dataclasses.field(default_factory=dict)
    folder: Path | None = None


@dataclasses.dataclass(frozen=True)
class Evidence:
    """All that gates look at, computed once.

    Attributes:
        x: Held-out inputs.
        y: Their labels or targets, by row.
        challenger: The version that may become champion.
        champion: The version that is champion; None where there is none.
    """

    x: Any
    y: np.ndarray
    challenger: Candidate
    champion: Candidate | None = None


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a gate found.

    Attributes:
        name: Which gate, for example ``"comparison"``.
        passed: Whether the challenger may pass.
        message: What was compared with what, in one line.
        numbers: Every number behind it; NaN and infinities are told apart in the message.
    """

    name: str
    passed: bool
    message: str
    numbers: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Gate(Protocol):
    """A condition of becoming champion.

    A gate is a frozen dataclass, so that two of the same settings are equal and what it was
    told shows in its representation. It asks for costs that take time to find by `costs`.
    """

    @property
    def costs(self) -> tuple[str, ...]:
        """Names of the challenger's costs that it needs."""
        ...

    def check(self, evidence: Evidence) -> Finding:
        """Judge.

        Raises:
            PromotionError: The evidence does not suit the gate, for example no classes.
        """
        ...
