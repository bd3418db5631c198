"""Objectives whose direction is beyond doubt.

KerasTuner 1.4.8 reads the direction from the name of a Keras metric or loss, and calls
everything it knows and does not list as a maximum a minimum: it minimises ``f1_score``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras_tuner

from keras_nas_plugin.errors import ObjectiveError
from keras_nas_plugin.evaluation.names import COSTS, canonical

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
# Larger is better for each of these; KerasTuner minimises them or fails on the name.
_MISREAD = frozenset(
    """binary_io_u concordance_correlation cosine_similarity f1_score f_beta_score fbeta_score
    io_u mean_io_u one_hot_io_u one_hot_mean_io_u pearson_correlation r2_score""".split()
)


class ParetoObjective(keras_tuner.Objective):
    """Several objectives, none of which is added to another.

    Where one number is needed (the best epoch of a trial, a leaderboard), the first
    objective counts. KerasTuner's own sum lets whichever has the largest unit decide:
    accuracy 0.9 and a million FLOPs make 999999.1.

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
        """Value of the first objective; NaN when any of them is not finite."""
        values = [float(objective.get_value(logs)) for objective in self.objectives]
        return values[0] if all(map(math.isfinite, values)) else math.nan


def checked_objective(objective: Any) -> Any:
    """What KerasTuner's `Oracle` may be given as its objective.

    Args:
        objective: A metric's name, a `keras_tuner.Objective`, a list of these, or None
            for a hypermodel that returns one number to minimise.

    Returns:
        The same with names turned into `keras_tuner.Objective`.

    Raises:
        ObjectiveError: A name whose direction is not known for certain, a direction that is
            neither ``"min"`` nor ``"max"``, or a list that is empty or names one twice.
    """
    if isinstance(objective, list | tuple):
        several = [checked_objective(item) for item in objective]
        names = [item.name for item in several]
        if not names or len(set(names)) < len(names):
            raise ObjectiveError(
                f"`objective` needs at least one metric, and each once; received {names}"
            )
        # KerasTuner would show the negative of a single objective to maximise.
        return several if len(several) > 1 else several[0]
    if isinstance(objective, str):
        if canonical(objective) in COSTS:
            return keras_tuner.Objective(canonical(objective), "min")
        return keras_tuner.Objective(objective, _direction(objective))
    if isinstance(objective, keras_tuner.Objective) and objective.direction not in ("min", "max"):
        raise ObjectiveError(
            f"`direction` of objective {objective.name!r} needs 'min' or 'max'; "
            f"received {objective.direction!r}"
        )
    return objective


def check_direction(objective: Any) -> None:
    """Refuse an objective that KerasTuner's own oracle misread from its name.

    Raises:
        ObjectiveError: A metric that is better when larger would be minimised.
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
    other = "" if base in _MISREAD else ' (or "min")'
    raise ObjectiveError(
        f"`objective` needs a direction for {name!r}, which its name does not tell for certain; "
        f'received the bare name. Write `keras_tuner.Objective("{name}", direction="max")`{other},'
        f" or on the command line `--objective {name} --direction max`{other}."
    )
