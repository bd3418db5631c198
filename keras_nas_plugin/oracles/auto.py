"""Chooses a strategy for a search."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.oracles.base import NASOracle
from keras_nas_plugin.oracles.objectives import Objectives, checked_objective

logger = logging.getLogger("keras_nas_plugin")

# Fewer epochs cannot be divided into rungs.
_EPOCHS_OF_RUNGS = 3


@dataclasses.dataclass(frozen=True)
class Choice:
    """A strategy, and why it was chosen.

    Attributes:
        strategy: Its name, as for `make_oracle`.
        options: Further arguments.
        reason: Why, as a clause.
    """

    strategy: str
    options: Mapping[str, Any]
    reason: str


def choose_strategy(objectives: int, epochs: int | None) -> Choice:
    """Choose a strategy by what is known before the first trial.

    The choice depends on nothing that may change when a search is resumed, such as its number of
    trials or its time.

    Args:
        objectives: Number of objectives.
        epochs: Epochs of a full training; None where it is not known.
    """
    if objectives > 1:
        return Choice("nsga2", {}, f"there are {objectives} objectives")
    if epochs is not None and epochs >= _EPOCHS_OF_RUNGS:
        reason = f"poor architectures can be stopped before their {epochs} epochs"
        return Choice("halving", {"source": "surrogate"}, reason)
    return Choice("surrogate", {}, "trainings are too short to be stopped early")


def auto_oracle(
    objective: Objectives = None,
    max_trials: int | None = 100,
    *,
    seed: int | None = None,
    max_epochs: int | None = None,
    constraints: Sequence[Constraint] = (),
    exportable: str | Sequence[str] = (),
    warm_start: Iterable[tuple[Mapping[str, Any], Any]] = (),
) -> NASOracle:
    """The oracle of a strategy that is chosen for the search; the reason is logged.

    Several objectives are searched by NSGA-II. One is searched by the surrogate, inside successive
    halving where trainings have at least three epochs. The default architecture is tried first.

    Args:
        objective: See `NASOracle`.
        max_trials: See `NASOracle`.
        seed: See `NASOracle`.
        max_epochs: Epochs of a full training; None where it is not known.
        constraints: See `NASOracle`.
        exportable: See `NASOracle`.
        warm_start: See `NASOracle`.

    Raises:
        NASError: An argument is invalid.
    """
    from keras_nas_plugin.oracles.registry import make_oracle

    objective = checked_objective(objective)
    count = len(objective) if isinstance(objective, list) else 1
    choice = choose_strategy(count, max_epochs)
    source = f" around {choice.options['source']}" if choice.options else ""
    logger.warning("Strategy: %s%s, because %s.", choice.strategy, source, choice.reason)
    options: dict[str, Any] = {
        "constraints": constraints,
        "exportable": exportable,
        "warm_start": warm_start,
        "initial": [{}],  # the default of each hyperparameter
    }
    made = make_oracle(
        choice.strategy,
        objective,
        max_trials,
        seed=seed,
        epochs=max_epochs,
        **choice.options,
        **options,
    )
    return cast(NASOracle, made)
