"""Earlier trials as an oracle is given them, and whether they have that form."""

from __future__ import annotations

import math
import numbers
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_nas_plugin.errors import WarmStartError

#: One number per objective.
Scores = tuple[float, ...]
#: Name and direction of each score; the direction is None where the source does not tell it.
Objectives = Sequence[tuple[str, str | None]]


class EarlierTrials(list):
    """A list of pairs (values, score) that knows what the scores are of.

    Args:
        pairs: Values by name, and one score, one per objective, or None for a failed trial.
        objectives: What the scores are of; None where that is not known.
    """

    def __init__(
        self,
        pairs: Iterable[tuple[Mapping[str, Any], Any]] = (),
        objectives: Objectives | None = None,
    ) -> None:
        super().__init__(pairs)
        self.objectives = objectives


def checked_pairs(earlier: Any, objectives: int) -> list[tuple[dict[str, Any], Scores | None]]:
    """What `NASOracle` was given as ``warm_start``, as values and finite scores.

    Args:
        earlier: Pairs of values and score.
        objectives: How many scores the strategy gets. A strategy that gets one takes several
            as well, where the oracle has several objectives: their sum counts.

    Raises:
        WarmStartError: Naming the entry that has another form.
    """
    if isinstance(earlier, str | os.PathLike):
        raise WarmStartError(
            f"`warm_start` needs pairs (values, score); received {str(earlier)!r}. "
            f"Write `warm_start=earlier_trials({str(earlier)!r})`."
        )
    if isinstance(earlier, Mapping) or not isinstance(earlier, Iterable):
        raise WarmStartError(
            f"`warm_start` needs a list of pairs (values, score); received {earlier!r}"
        )
    return [_checked(pair, index, objectives) for index, pair in enumerate(earlier)]


def _checked(pair: Any, index: int, objectives: int) -> tuple[dict[str, Any], Scores | None]:
    name = f"warm_start[{index}]"
    if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
        raise WarmStartError(f"`{name}` needs a pair (values, score); received {pair!r}")
    values, scores = values_of(pair[0], name), pair[1]
    if scores is None:
        return values, None
    if hasattr(scores, "tolist"):  # an array or a number of NumPy
        scores = scores.tolist()
    given = list(scores) if isinstance(scores, Sequence) else [scores]
    if any(isinstance(n, bool | str) or not isinstance(n, numbers.Real) for n in given):
        raise WarmStartError(f"`{name}` needs a number as its score; received {scores!r}")
    if not given or (objectives > 1 and len(given) != objectives):
        raise WarmStartError(
            f"`{name}` needs one score per objective, {objectives}; received {scores!r}"
        )
    return values, tuple(map(float, given)) if all(map(_finite, given)) else None


def _finite(number: numbers.Real) -> bool:
    try:
        return math.isfinite(number)
    except OverflowError:  # an integer that no float can hold
        return False


def values_of(item: Any, name: str) -> dict[str, Any]:
    """Values by name; a trial's own `keras_tuner.HyperParameters` are welcome as well.

    Args:
        item: What was given.
        name: What it is called in an error.

    Raises:
        WarmStartError: It is neither.
    """
    values = item if isinstance(item, Mapping) else getattr(item, "values", item)
    if not isinstance(values, Mapping):
        raise WarmStartError(f"`{name}` needs values by name; received {item!r}")
    return {str(key): value for key, value in values.items()}
