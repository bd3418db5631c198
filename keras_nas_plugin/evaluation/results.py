"""From what training returned to the metrics that count."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.errors import HyperModelError, InvalidResultError, ObjectiveError
from keras_nas_plugin.evaluation.names import COSTS

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


def trained_part(objective: Any) -> Any:
    """What of an objective training decides; None when all of it is what a model costs.

    Which epoch of a training was best does not depend on costs: they are the same in all.

    Args:
        objective: A `keras_tuner.Objective`, or one with several ``objectives``.
    """
    several = getattr(objective, "objectives", None)
    if several is None:
        return None if objective.name in COSTS else objective
    trained = [one for one in several if one.name not in COSTS]
    if len(trained) == len(several):
        return objective
    return type(objective)(trained) if trained else None


def result_of(returned: Any, objective: Any, costs: Mapping[str, float] | None = None) -> Result:
    """The metrics that count of what `run_trial` or `HyperModel.fit` returned.

    Of a Keras `History`, the best epoch counts among those whose objective and losses are
    finite: the accuracy of a model whose loss is NaN means nothing. Where the objective is
    about costs alone, it is the last of those.

    Args:
        returned: A `History`, a dictionary of metrics, a number (the objective), or a
            list of these, one per execution, whose mean counts.
        objective: A `keras_tuner.Objective`.
        costs: What the model costs, which an objective may be about.

    Raises:
        HyperModelError: Another type, for example None.
        ObjectiveError: The objective is not among the metrics.
        InvalidResultError: The objective is NaN or infinite.
    """
    if isinstance(returned, list | tuple):
        if not returned:
            raise HyperModelError("`run_trial` needs to return a result; received an empty list")
        return _mean([result_of(item, objective, costs) for item in returned])
    costs = costs or {}
    if isinstance(returned, numbers.Real) or getattr(returned, "shape", None) == ():
        return _checked({objective.name: float(returned)}, 0, objective, costs)
    if isinstance(returned, Mapping):
        return _checked(scalars(returned), 0, objective, costs)
    if isinstance(getattr(returned, "history", None), Mapping):
        numbers_of = getattr(returned, "epoch", ())
        return _best_epoch(epochs_of(returned), objective, numbers_of, costs)
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
    epochs: Sequence[dict[str, float]],
    objective: Any,
    numbers: Sequence[int],
    costs: Mapping[str, float],
) -> Result:
    reported = [epoch for epoch in epochs if objective.has_value({**costs, **epoch})]
    if not reported:
        _missing(objective, epochs[-1] if epochs else {})
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
            f"`{objective.name}` needs a finite value and a finite loss in some epoch; received "
            f"{objective.get_value({**costs, **reported[-1]})} with {losses} after "
            f"{len(epochs)} epochs"
        )
    index = best[1]
    # Training that goes on with another one's does not begin with epoch 0.
    step = numbers[index] if len(numbers) == len(epochs) else index
    return _checked(epochs[index], int(step), objective, costs)


def usable(metrics: Mapping[str, float], objective: Any) -> bool:
    """Whether an epoch may be the best: objective there, it and the losses finite.

    Args:
        metrics: Of the epoch.
        objective: See `trained_part`; None where no metric of training is one.
    """
    losses = [metrics[name] for name in _LOSSES if name in metrics]
    if objective is None:
        return all(map(math.isfinite, losses))
    if not objective.has_value(metrics):
        return False
    return all(math.isfinite(value) for value in [objective.get_value(metrics), *losses])


def _checked(
    metrics: dict[str, float], step: int, objective: Any, costs: Mapping[str, float]
) -> Result:
    if objective.name not in metrics:
        known = {**costs, **metrics}
        if not objective.has_value(known):
            _missing(objective, metrics)
        metrics = {**metrics, objective.name: float(objective.get_value(known))}
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
