"""`earlier_trials`: reads the trials of another search from its folder or from MLflow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_nas_plugin.errors import WarmStartError
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.oracles.earlier import EarlierTrials
from keras_nas_plugin.transfer.experiments import read_experiment
from keras_nas_plugin.transfer.projects import read_project
from keras_nas_plugin.transfer.trials import parse_objective

if TYPE_CHECKING:
    import keras_tuner


def earlier_trials(
    source: str | os.PathLike[str] | None = None,
    *,
    experiment: str | None = None,
    tracking_uri: str | None = None,
    objective: str | keras_tuner.Objective | Sequence[str | keras_tuner.Objective] | None = None,
    constraints: Sequence[Constraint] = (),
) -> EarlierTrials:
    """Read the trials of an earlier search for the warm start of another one.

    ```python
    earlier = earlier_trials("searches/fashion", objective="val_accuracy")
    oracle = RegularizedEvolutionOracle("val_accuracy", max_trials=50, warm_start=earlier)
    ```

    Failed trials have no score. Trials that had not ended are ignored. If a search trained
    promising configurations further (Hyperband, successive halving), the longest training of
    each configuration counts.

    Args:
        source: Project folder of a search of this package or of KerasTuner.
        experiment: Name of an MLflow experiment to read instead; any program may have logged its
            runs. Their parameters are the values.
        tracking_uri: The tracking store of the experiment; None for MLflow's default.
        objective: The metric to use as the score: a name, a `keras_tuner.Objective`, or a list
            of these for one score per objective. None uses the objective of the source. The
            value of a different metric is the one at the trial's best epoch.
        constraints: Limits on metrics; a trial that violates one counts as failed.

    Returns:
        A list of pairs (values, score) for ``warm_start`` of any oracle of this package. Its
        attribute ``objectives`` names the objectives of the scores.

    Raises:
        WarmStartError: There are no trials; ``objective`` is not among their metrics, has
            another direction there, or is required and missing.
        TrackingError: The MLflow store does not respond.
    """
    objectives = parse_objective(objective)
    if source is not None and experiment is None:
        return read_project(source, objectives, constraints)
    if experiment is not None and source is None:
        return read_experiment(experiment, tracking_uri, objectives, constraints)
    received = "neither" if source is None else f"{str(source)!r} and {experiment!r}"
    raise WarmStartError(
        f"either `source` or `experiment` must be given to `earlier_trials`; got {received}"
    )
