"""Types of the ``warm_start`` argument of an oracle, and their validation."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_nas_plugin.errors import WarmStartError

#: One number per objective.
Scores = tuple[float, ...]
#: Name and direction of each score; the direction is None if the source does not record it.
Objectives = Sequence[tuple[str, str | None]]
#: Values by name, and one score, one per objective, or None for a failed trial.
Pair = tuple[Mapping[str, Any], Any]


class EarlierTrials(list[Pair]):
    """A list of pairs (values, score) with the objectives of the scores.

    Args:
        pairs: Values by name, and one score, one per objective, or None for a failed trial.
        objectives: The objectives of the scores; None if they are unknown.
    """

    def __init__(self, pairs: Iterable[Pair] = (), objectives: Objectives | None = None) -> None:
        super().__init__(pairs)
        self.objectives = objectives


def checked_pairs(earlier: object, objectives: int) -> list[tuple[dict[str, Any], Scores | None]]:
    """Validate the ``warm_start`` argument of `NASOracle`.

    Args:
        earlier: Pairs of values and score.
        objectives: Number of scores that the strategy gets per trial. If it gets one score, an
            oracle with several objectives accepts several scores too and adds them up.

    Returns:
        Pairs of values and finite scores; None in place of the scores of a failed trial.

    Raises:
        WarmStartError: An entry has the wrong type; the message names it.
    """
    if isinstance(earlier, str | os.PathLike):
        raise WarmStartError(
            f"`warm_start` must be pairs (values, score); got {str(earlier)!r}. "
            f"Write `warm_start=earlier_trials({str(earlier)!r})`."
        )
    if isinstance(earlier, Mapping) or not isinstance(earlier, Iterable):
        raise WarmStartError(
            f"`warm_start` must be a list of pairs (values, score); got {earlier!r}"
        )
    return [_checked_pair(pair, index, objectives) for index, pair in enumerate(earlier)]


def _checked_pair(
    pair: object, index: int, objectives: int
) -> tuple[dict[str, Any], Scores | None]:
    name = f"warm_start[{index}]"
    if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
        raise WarmStartError(f"`{name}` must be a pair (values, score); got {pair!r}")
    values, scores = values_of(pair[0], name), pair[1]
    if scores is None:
        return values, None
    if hasattr(scores, "tolist"):  # a numpy array or number
        scores = scores.tolist()
    numbers_of_trial = list(scores) if isinstance(scores, Sequence) else [scores]
    if any(
        isinstance(number, bool | str) or not isinstance(number, numbers.Real)
        for number in numbers_of_trial
    ):
        raise WarmStartError(f"the score of `{name}` must be a number; got {scores!r}")
    if not numbers_of_trial or (objectives > 1 and len(numbers_of_trial) != objectives):
        raise WarmStartError(
            f"`{name}` must have one score per objective, {objectives}; got {scores!r}"
        )
    if not all(map(_is_finite, numbers_of_trial)):
        return values, None
    return values, tuple(map(float, numbers_of_trial))


def _is_finite(number: float) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer that is too large for a float
        return False


def values_of(item: object, name: str) -> dict[str, Any]:
    """Values by name from a mapping or a `keras_tuner.HyperParameters`.

    Args:
        item: The mapping or the hyperparameters.
        name: Name of the argument in an error message.

    Returns:
        A new dictionary.

    Raises:
        WarmStartError: ``item`` is neither.
    """
    values = item if isinstance(item, Mapping) else getattr(item, "values", item)
    if not isinstance(values, Mapping):
        raise WarmStartError(f"`{name}` must be a mapping of values by name; got {item!r}")
    return {str(key): value for key, value in values.items()}
