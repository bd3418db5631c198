"""Validation of objectives and their directions.

KerasTuner 1.4.8 infers the direction from the name of a Keras metric or loss, and minimises all
Keras names that it does not list as maximised: for example, it minimises ``f1_score``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import keras_tuner

from keras_nas_plugin.errors import ObjectiveError
from keras_nas_plugin.evaluation.names import COSTS, canonical, direction_of

#: What oracles take as their objective: see `NASOracle`.
Objectives: TypeAlias = str | keras_tuner.Objective | Sequence[str | keras_tuner.Objective] | None

_MAXIMISED = frozenset(
    """acc accuracy auc binary_accuracy categorical_accuracy precision recall
    sparse_categorical_accuracy sparse_top_k_categorical_accuracy top_k_categorical_accuracy
    true_negatives true_positives""".split()
)
_MINIMISED = frozenset(
    """loss binary_crossentropy binary_focal_crossentropy categorical_crossentropy
    categorical_focal_crossentropy categorical_hinge ce crossentropy false_negatives
    false_positives hinge huber kl_divergence log_cosh mae mape mean_absolute_error
    mean_absolute_percentage_error mean_squared_error mean_squared_logarithmic_error mse msle
    poisson root_mean_squared_error sparse_categorical_crossentropy squared_hinge""".split()
)
# Larger is better for each of these; KerasTuner minimises them or rejects the name.
_MISREAD = frozenset(
    """binary_io_u concordance_correlation cosine_similarity f1_score f_beta_score fbeta_score
    io_u mean_io_u one_hot_io_u one_hot_mean_io_u pearson_correlation r2_score""".split()
)


class ParetoObjective(keras_tuner.Objective):
    """Several objectives that are not added up.

    Where a single number is needed (the best epoch of a trial, a leaderboard), it is that of the
    first objective. KerasTuner's own sum lets the objective with the largest numbers decide:
    accuracy 0.9 and a million FLOPs add up to 999999.1.

    Args:
        objectives: At least one `keras_tuner.Objective`.
    """

    def __init__(self, objectives: Sequence[keras_tuner.Objective]) -> None:
        super().__init__("multi_objective", objectives[0].direction)
        self.objectives = list(objectives)

    def has_value(self, logs: Mapping[str, float]) -> bool:
        """Whether every objective is among the metrics."""
        return all(objective.has_value(logs) for objective in self.objectives)

    def get_value(self, logs: Mapping[str, float]) -> float:
        """Value of the first objective; NaN if the value of any objective is not finite."""
        values = [float(objective.get_value(logs)) for objective in self.objectives]
        return values[0] if all(map(math.isfinite, values)) else math.nan


def checked_objective(objective: Objectives) -> Any:
    """Validate an objective, and replace names by `keras_tuner.Objective`.

    Args:
        objective: A metric's name, a `keras_tuner.Objective`, a list of these, or None
            for a hypermodel that returns one number to minimise.

    Returns:
        A single objective, or a list of at least two; None unchanged.

    Raises:
        ObjectiveError: The direction of a name cannot be inferred, a direction is neither
            ``"min"`` nor ``"max"``, or a list is empty or has a metric twice.
    """
    if isinstance(objective, list | tuple):
        several = [checked_objective(item) for item in objective]
        names = [item.name for item in several]
        if not names or len(set(names)) < len(names):
            raise ObjectiveError(
                f"`objective` must list at least one metric, and each only once; got {names}"
            )
        # KerasTuner would show the negative of a single objective to maximise.
        return several if len(several) > 1 else several[0]
    if isinstance(objective, str):
        if canonical(objective) in COSTS:
            return keras_tuner.Objective(canonical(objective), direction_of(objective))
        return keras_tuner.Objective(objective, _direction(objective))
    if isinstance(objective, keras_tuner.Objective) and objective.direction not in ("min", "max"):
        raise ObjectiveError(
            f"`direction` of objective {objective.name!r} must be 'min' or 'max'; "
            f"got {objective.direction!r}"
        )
    return objective


def check_direction(objective: keras_tuner.Objective) -> None:
    """Reject an objective whose direction an oracle of KerasTuner inferred wrongly.

    Args:
        objective: The objective of the oracle.

    Raises:
        ObjectiveError: A metric would be minimised although larger values are better.
    """
    for item in getattr(objective, "objectives", [objective]):
        if item.direction == "min" and _base_name(item.name) in _MISREAD:
            raise ObjectiveError(
                f"`objective` {item.name!r} would be minimised, but larger is better: KerasTuner "
                f"misreads this name. Give the oracle "
                f'`keras_tuner.Objective("{item.name}", "max")`.'
            )


def _base_name(name: str) -> str:
    return name.removeprefix("val_").removeprefix("weighted_")


def _direction(name: str) -> str:
    base = _base_name(name)
    if base in _MAXIMISED:
        return "max"
    if base in _MINIMISED:
        return "min"
    alternative = "" if base in _MISREAD else ' (or "min")'
    raise ObjectiveError(
        f"`objective` must have a direction, which cannot be inferred from the name {name!r}. "
        f'Write `keras_tuner.Objective("{name}", direction="max")`{alternative}, '
        f"or on the command line `--objective {name} --direction max`{alternative}."
    )
