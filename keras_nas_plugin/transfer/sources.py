"""`earlier_trials`: trials of another search, from its folder or from MLflow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from keras_nas_plugin.errors import WarmStartError
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.oracles.earlier import EarlierTrials
from keras_nas_plugin.transfer.experiments import read_experiment
from keras_nas_plugin.transfer.projects import read_project
from keras_nas_plugin.transfer.trials import parse_objective


def earlier_trials(
    source: str | os.PathLike | None = None,
    *,
    experiment: str | None = None,
    tracking_uri: str | None = None,
    objective: Any = None,
    constraints: Sequence[Constraint] = (),
) -> EarlierTrials:
    """Read trials of an earlier search, to warm-start another one.

    ```python
    earlier = earlier_trials("searches/fashion", objective="val_accuracy")
    oracle = RegularizedEvolutionOracle("val_accuracy", max_trials=50, warm_start=earlier)
    ```

    Trials that failed have no score. Those that were still running are left out. Where a
    search trained promising configurations further (Hyperband, successive halving), the
    longest training of each counts.

    Args:
        source: Project folder of a search of this package or of KerasTuner.
        experiment: In its place, the name of an MLflow experiment: its runs are read,
            whoever logged them. Their parameters are the values.
        tracking_uri: Where the experiment is; None for MLflow's own default.
        objective: Metric to take as the score: a name, a `keras_tuner.Objective`, or a list
            of these for one score per objective. None takes what the source searched for.
            Another metric than that counts at the trial's best epoch.
        constraints: Limits on metrics; a trial that breaks one counts as failed.

    Returns:
        A list of pairs (values, score), for ``warm_start`` of any oracle of this package.
        Its attribute ``objectives`` says what the scores are of.

    Raises:
        WarmStartError: There are no trials, ``objective`` is not among their metrics or has
            another direction there, or it is needed and was not given.
        TrackingError: The MLflow store does not answer.
    """
    if (source is None) == (experiment is None):
        received = "neither" if source is None else f"{str(source)!r} and {experiment!r}"
        raise WarmStartError(
            f"`earlier_trials` needs either `source` or `experiment`; received {received}"
        )
    wanted = parse_objective(objective)
    if experiment is not None:
        return read_experiment(experiment, tracking_uri, wanted, constraints)
    return read_project(source, wanted, constraints)
