"""Extracts the metrics of a trial from what its training returned."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeGuard

import numpy as np

from keras_nas_plugin.errors import (
    HyperModelError,
    InvalidResultError,
    ObjectiveError,
    UnnamedObjectiveError,
)
from keras_nas_plugin.evaluation.names import COSTS
from keras_nas_plugin.wording import counted

if TYPE_CHECKING:
    import keras

_LOSSES = ("loss", "val_loss")


class Objective(Protocol):
    """The attributes of `keras_tuner.Objective` that are used here."""

    name: str
    direction: str

    def has_value(self, logs: Mapping[str, float]) -> bool:
        """Whether the metrics contain the objective."""

    def get_value(self, logs: Mapping[str, float]) -> float:
        """The value; of several objectives, the sum of those to minimise minus the others."""

    def better_than(self, a: float, b: float) -> bool:
        """Whether value ``a`` is better than value ``b``."""


@dataclasses.dataclass(frozen=True)
class Result:
    """Metrics of a trial and the epoch that they belong to.

    Attributes:
        score: Value of the objective.
        metrics: Metrics by name, including the objective.
        step: The best epoch, counted from 0; for several executions their mean, rounded down.
    """

    score: float
    metrics: dict[str, float]
    step: int


def trained_part(objective: Objective) -> Objective | None:
    """The part of an objective that training determines.

    Costs of the model do not determine which epoch is best, because they are the same in all
    epochs.

    Args:
        objective: A `keras_tuner.Objective`, or one with several ``objectives``.

    Returns:
        An objective of the same class; None if it consists of costs only.
    """
    objectives = getattr(objective, "objectives", None)
    if objectives is None:
        return None if objective.name in COSTS else objective
    trained = [part for part in objectives if part.name not in COSTS]
    if len(trained) == len(objectives):
        return objective
    combine: Callable[[list[Objective]], Any] = type(objective)
    return combine(trained) if trained else None


def result_of(
    returned: object,
    objective: Objective,
    costs: Mapping[str, float] | None = None,
    *,
    source: str = "HyperModel.fit",
) -> Result:
    """The result of a trial, from what `run_trial` or `HyperModel.fit` returned.

    For a Keras `History`, it is the best epoch among those whose objective and losses are finite:
    the accuracy of a model whose loss is NaN is meaningless. If the objective consists of costs
    only, it is the last of these epochs.

    Args:
        returned: A `History`, a dictionary of metrics, a number (the objective), or a list of
            these, one per execution, which are averaged.
        objective: The objective of the search.
        costs: Costs of the model, which may be objectives.
        source: The method that returned it, for error messages.

    Raises:
        HyperModelError: ``returned`` is of another type, for example None.
        ObjectiveError: The objective is not among the metrics.
        InvalidResultError: The objective is NaN or infinite.
    """
    if isinstance(returned, list | tuple):
        if not returned:
            raise HyperModelError(f"`{source}` must return at least one result; got an empty list")
        return _mean([result_of(item, objective, costs, source=source) for item in returned])
    costs = costs or {}
    if _is_number(returned):
        return _checked(scalars({objective.name: returned}), 0, objective, costs, source)
    if isinstance(returned, Mapping):
        return _checked(scalars(returned), 0, objective, costs, source)
    if _is_history(returned):
        epoch_numbers = getattr(returned, "epoch", ())
        return _best_epoch(epochs_of(returned), objective, epoch_numbers, costs, source)
    raise _invalid_type(returned, source)


def check_result_type(returned: object, source: str) -> None:
    """Check that a training returned something that `result_of` can read.

    Args:
        returned: What it returned.
        source: The method that returned it, for the error message.

    Raises:
        HyperModelError: It is of another type, for example None.
    """
    if isinstance(returned, list | tuple):
        for item in returned:
            check_result_type(item, source)
    elif not (_is_number(returned) or isinstance(returned, Mapping) or _is_history(returned)):
        raise _invalid_type(returned, source)


def _is_number(returned: object) -> bool:
    return isinstance(returned, numbers.Real) or getattr(returned, "shape", None) == ()


def _is_history(returned: object) -> TypeGuard[keras.callbacks.History]:
    return isinstance(getattr(returned, "history", None), Mapping)


def _invalid_type(returned: object, source: str) -> HyperModelError:
    hint = ""
    if returned is None:
        statement = "return model.fit(...)" if source == "HyperModel.fit" else "return"
        hint = f". Is a `{statement}` missing?"
        if source == "run_trial":
            hint += " Metrics may also be reported with `oracle.update_trial`."
    return HyperModelError(
        f"`{source}` must return a History, a dictionary of metrics or a number; got "
        f"{type(returned).__name__}{hint}"
    )


def scalars(logs: Mapping[str, Any] | None) -> dict[str, float]:
    """Metrics as floats; one with a value per class (`F1Score` without `average`) is averaged."""
    return {name: float(np.mean(value)) for name, value in (logs or {}).items()}


def epochs_of(history: keras.callbacks.History) -> list[dict[str, float]]:
    """Metrics per epoch of a Keras `History`."""
    curves: Mapping[str, Sequence[Any]] = history.history
    count = max(map(len, curves.values()), default=0)
    return [
        scalars({name: curve[epoch] for name, curve in curves.items() if epoch < len(curve)})
        for epoch in range(count)
    ]


def _best_epoch(
    epochs: Sequence[dict[str, float]],
    objective: Objective,
    epoch_numbers: Sequence[int],
    costs: Mapping[str, float],
    source: str,
) -> Result:
    reported = [metrics for metrics in epochs if objective.has_value({**costs, **metrics})]
    if not reported:
        _raise_missing(objective, epochs[-1] if epochs else {}, source)
    trained = trained_part(objective)
    best: tuple[float, int] | None = None
    for index, metrics in enumerate(epochs):
        if not usable(metrics, trained):
            continue
        value = math.nan if trained is None else float(trained.get_value(metrics))
        if best is None or trained is None or trained.better_than(value, best[0]):
            best = value, index
    if best is None:
        losses = {name: epochs[-1][name] for name in _LOSSES if name in epochs[-1]}
        raise InvalidResultError(
            f"`{objective.name}` and the loss must be finite in at least one epoch; got "
            f"{objective.get_value({**costs, **reported[-1]})} with {losses} after "
            f"{counted(len(epochs), 'epoch')}"
        )
    index = best[1]
    # Training that resumes another trial's does not begin with epoch 0.
    step = epoch_numbers[index] if len(epoch_numbers) == len(epochs) else index
    return _checked(epochs[index], int(step), objective, costs, source)


def usable(metrics: Mapping[str, float], objective: Objective | None) -> bool:
    """Whether an epoch may be the best: it reports the objective, and all losses are finite.

    Args:
        metrics: Metrics of the epoch.
        objective: See `trained_part`; None if the objective consists of costs only.
    """
    losses = [metrics[name] for name in _LOSSES if name in metrics]
    if objective is None:
        return all(map(math.isfinite, losses))
    if not objective.has_value(metrics):
        return False
    return all(math.isfinite(value) for value in [objective.get_value(metrics), *losses])


def _checked(
    metrics: dict[str, float],
    step: int,
    objective: Objective,
    costs: Mapping[str, float],
    source: str,
) -> Result:
    if objective.name not in metrics:
        measurements = {**costs, **metrics}
        if not objective.has_value(measurements):
            _raise_missing(objective, metrics, source)
        metrics = {**metrics, objective.name: float(objective.get_value(measurements))}
    if not math.isfinite(metrics[objective.name]):
        raise InvalidResultError(
            f"`{objective.name}` must be finite; got {metrics[objective.name]}"
        )
    return Result(metrics[objective.name], metrics, step)


def _raise_missing(objective: Objective, metrics: Mapping[str, float], source: str) -> NoReturn:
    name = objective.name
    if name == "default_objective":
        raise UnnamedObjectiveError(
            f"`objective` must be the name of a metric unless `{source}` returns a number; "
            f"got None, and `{source}` returned {sorted(metrics)}"
        )
    hint = ""
    if name.startswith("val_") and not any(metric.startswith("val_") for metric in metrics):
        hint = " Pass `validation_data` or `validation_split` to `search`."
    if source == "run_trial":
        raise ObjectiveError(
            "`run_trial` must return the objective, or report it with `oracle.update_trial`; the "
            f"objective is {name!r}, and `run_trial` returned {sorted(metrics)}.{hint}"
        )
    raise ObjectiveError(
        f"`objective` must be a metric that training reports; got {name!r}, and training reported "
        f"{sorted(metrics)}.{hint}"
    )


def _mean(results: Sequence[Result]) -> Result:
    names = {name: None for result in results for name in result.metrics}
    metrics = {}
    for name in names:
        values = [result.metrics[name] for result in results if name in result.metrics]
        metrics[name] = sum(values) / len(values)
    score = sum(result.score for result in results) / len(results)
    return Result(score, metrics, sum(result.step for result in results) // len(results))
