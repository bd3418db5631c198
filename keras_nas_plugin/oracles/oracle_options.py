"""Keyword arguments that all oracles of this package share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    import keras_tuner

    from keras_nas_plugin.evaluation.constraints import Constraint


class OracleOptions(TypedDict, total=False):
    """Keyword arguments that every oracle of this package takes: see `NASOracle`."""

    seed: int | None
    hyperparameters: keras_tuner.HyperParameters | None
    allow_new_entries: bool
    tune_new_entries: bool
    max_retries_per_trial: int
    max_consecutive_failed_trials: int
    max_consecutive_infeasible: int | None
    constraints: Sequence[Constraint]
    exportable: str | Sequence[str]
    warm_start: Iterable[tuple[Mapping[str, Any], Any]]
    initial: Iterable[Mapping[str, Any]]
