"""Screens: functions that judge a candidate before it becomes a trial.

A rejected candidate is not trained and does not count as a trial: the strategy learns from it and
proposes another candidate. `NASTuner` installs a screen that builds the model and computes its
costs; any other function works too::

    oracle.set_screen(lambda hp: Screening(violation=max(0, hp.get("units") - 64) / 64))
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import keras_tuner

from keras_nas_plugin.oracles.search_space import SearchSpace
from keras_nas_plugin.space.spec import Values


@dataclasses.dataclass(frozen=True)
class Screening:
    """The verdict of a screen on one candidate.

    Attributes:
        violation: Sum of the violations, each relative to its limit; 0 for a feasible candidate.
        metrics: Metrics that the screen computed. They become metrics of the trial and take
            precedence over metrics of the same name that training reports. Those of an
            infeasible candidate are logged, so that a resumed search can apply other limits.
        broken: Violation by name of the constraint.
        message: Why the candidate is infeasible, for log messages.
    """

    violation: float = 0.0
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    broken: Mapping[str, float] = dataclasses.field(default_factory=dict)
    message: str | None = None

    @property
    def feasible(self) -> bool:
        """Whether the candidate may be trained; False if the violation is NaN."""
        return self.violation <= 0


#: Judges a candidate. It may build the model; hyperparameters that this adds to the argument are
#: added to the search space. It must not train, nor change its argument in any other way.
Screen = Callable[[keras_tuner.HyperParameters], Screening]


def screened(
    space: SearchSpace, screen: Screen | None, values: Values
) -> tuple[Values, Screening]:
    """Judge a candidate, and add hyperparameters that the screen discovers to ``space``.

    Args:
        space: The search space, which may grow.
        screen: The screen; None accepts all candidates.
        values: The candidate.

    Returns:
        The values, with the defaults of newly discovered hyperparameters, and the verdict.
    """
    if screen is None:
        return values, Screening()
    hyperparameters = space.with_values(values)
    size = len(hyperparameters.space)
    screening = screen(hyperparameters)
    if space.discover(hyperparameters, size):
        spec = space.spec
        named = {
            name: value for name, value in hyperparameters.values.items() if name in spec.names
        }
        values = spec.restrict(named)
    return values, screening
