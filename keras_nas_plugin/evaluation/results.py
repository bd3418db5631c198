"""From what training returned to the metrics that count."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.errors import HyperModelError, InvalidResultError, ObjectiveError

_LOSSES = ("loss", "val_loss")


@dataclasses.dataclass(frozen=True)
class Result:
    """Metrics of a trial and the epoch they belong to.

    Attributes:
        score: Value of the objective.
        metrics: Metrics by name, the objective included.
        step: The best epoch from 0, as Keras counts; the mean, rounded down, over several
            executions.
    """

    score: float
    metrics: dict[str, float]
    step: int


def result_of(returned: Any, objective: Any) -> Result:
    """The metrics that count of what `run_trial` or `HyperModel.fit` returned.

    Of a Keras `History`, the best epoch counts among those whose objective and losses are
    finite: the accuracy of a model whose loss is NaN means nothing.

    Args:
        returned: A `History`, a dictionary of metrics, a number (the objective), or a
            list of these, one per execution, whose mean counts.
        objective: A `keras_tuner.Objective`.

    Raises:
        HyperModelError: Another type, for example None.
        ObjectiveError: The objective is not among the metrics.
        InvalidResultError: The objective is NaN or infinite.
    """
    if isinstance(returned, list | tuple):
        if not returned:
            raise HyperModelError("`run_trial` needs to return a result; received an empty list")
        return _mean([result_of(item, objective) for item in returned])
    if isinstance(returned, numbers.Real) or getattr(returned, "shape", None) == ():
        return _checked({objective.name: float(returned)}, 0, objective)
    if isinstance(returned, Mapping):
        return _checked(scalars(returned), 0, objective)
    if isinstance(getattr(returned, "history", None), Mapping):
        return _best_epoch(epochs_of(returned), objective, getattr(returned, "epoch", ()))
    raise HyperModelError(
        "`HyperModel.fit` needs to return a History, a dictionary of metrics or a number; "
        f"received {type(returned).__name__}. Is a `return model.fit(...)` missing?"
    )


def scalars(logs: Mapping[str, Any] | None) -> dict[str, float]:
    """Metrics as numbers; one per class (`F1Score` without `average`) counts as its mean."""
    return {name: float(np.mean(value)) for name, value in (logs or {}).items()}


def epochs_of(history: Any) -> list[dict[str, float]]:
    """Metrics per epoch of a Keras `History`."""
    count = max((len(values) for values in history.history.values()), default=0)
    return [
        scalars({name: v[e] for name, v in history.history.items() if e < len(v)})
        for e in range(count)
    ]


def _best_epoch(
    epochs: Sequence[dict[str, float]], objective: Any, numbers: Sequence[int]
) -> Result:
    reported = [epoch for epoch in epochs if objective.has_value(epoch)]
    if not reported:
        _missing(objective, epochs[-1] if epochs else {})
    best: tuple[float, int] | None = None
    for index, metrics in enumerate(epochs):
        if not usable(metrics, objective):
            continue
        value = float(objective.get_value(metrics))
        if best is None or objective.better_than(value, best[0]):
            best = value, index
    if best is None:
        losses = {name: epochs[-1][name] for name in _LOSSES if name in epochs[-1]}
        raise InvalidResultError(
            f"`{objective.name}` needs a finite value and a finite loss in some epoch; received "
            f"{objective.get_value(reported[-1])} with {losses} after {len(epochs)} epochs"
        )
    value, index = best
    # Training that goes on with another one's does not begin with epoch 0.
    step = numbers[index] if len(numbers) == len(epochs) else index
    return Result(value, {**epochs[index], objective.name: value}, int(step))


def usable(metrics: Mapping[str, float], objective: Any) -> bool:
    """Whether an epoch may be the best: objective there, it and the losses finite."""
    if not objective.has_value(metrics):
        return False
    losses = [metrics[name] for name in _LOSSES if name in metrics]
    return all(math.isfinite(value) for value in [objective.get_value(metrics), *losses])


def _checked(metrics: dict[str, float], step: int, objective: Any) -> Result:
    if objective.name not in metrics:
        if not objective.has_value(metrics):
            _missing(objective, metrics)
        metrics = {**metrics, objective.name: float(objective.get_value(metrics))}
    if not math.isfinite(metrics[objective.name]):
        raise InvalidResultError(
            f"`{objective.name}` needs a finite value; received {metrics[objective.name]}"
        )
    return Result(metrics[objective.name], metrics, step)


def _missing(objective: Any, metrics: Mapping[str, float]) -> None:
    name = objective.name
    if name == "default_objective":
        raise ObjectiveError(
            "`objective` needs the name of a metric unless `HyperModel.fit` returns a number; "
            f"received None, and training reported {sorted(metrics)}"
        )
    hint = ""
    if name.startswith("val_") and not any(other.startswith("val_") for other in metrics):
        hint = " Pass `validation_data` or `validation_split` to `search`."
    raise ObjectiveError(
        f"`objective` needs a metric that training reports; received {name!r}, and it reported "
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
