"""Register the model of a trial, once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.registry.register import RegisteredModel, register_model
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.tracking.connection import public_uri
from keras_nas_plugin.tracking.records import (
    SearchInfo,
    TrialRecord,
    load_registration,
    save_registration,
)


def register_trial(
    load_model: Callable[[], Any],
    *,
    name: str,
    record: TrialRecord,
    search: SearchInfo,
    tracker: Tracker | None,
    alias: str = "challenger",
    tags: Mapping[str, str] | None = None,
    sample: Any = None,
) -> RegisteredModel:
    """Register a trial's model, unless it is the one that was registered last.

    Args:
        load_model: Gives the trained Keras model; called only when it is needed.
        name: Name in the registry.
        record: The trial.
        search: Its search.
        tracker: The `MLflowTracker` that logged the trial.
        alias: Alias of the version.
        tags: Further tags of the version.
        sample: Input rows for the signature.

    Returns:
        The version, new or as it was.

    Raises:
        TrackingError: The trial has no run in MLflow, or the registry refuses.
    """
    run_id = tracker.run_id(record.trial_id) if tracker is not None else None
    if run_id is None:
        where = getattr(tracker, "tracking_uri", None)
        came = f"tracker={tracker}"
        if where is not None:
            came = f"no run of trial {record.trial_id} at {public_uri(where)}"
        raise TrackingError(
            "`register_best` needs the trial's run in MLflow: pass `tracker=MLflowTracker(...)`, "
            f"run `search`, and check that the store answers; received {came}"
        )
    earlier = load_registration(search.directory) or {}
    if (earlier.get("name"), earlier.get("alias"), earlier.get("run_id")) == (name, alias, run_id):
        return RegisteredModel(**{f.name: earlier[f.name] for f in _FIELDS})
    registered = register_model(
        load_model(),
        name=name,
        run_id=run_id,
        tracking_uri=tracker.tracking_uri,
        registry_uri=tracker.registry_uri,
        alias=alias,
        tags={
            "nas.search_id": search.search_id,
            "nas.trial_id": record.trial_id,
            "nas.objective": search.objective,
            "nas.direction": search.direction,
            "nas.value": repr(record.score),
            **{f"nas.cost.{cost}": repr(value) for cost, value in record.costs.items()},
            **(tags or {}),
        },
        sample=sample,
        metrics=record.metrics,
        dataset=_judged_on(search),
    )
    save_registration(
        search.directory, {**dataclasses.asdict(registered), "trial_id": record.trial_id}
    )
    return registered


_FIELDS = dataclasses.fields(RegisteredModel)


def _judged_on(search: SearchInfo) -> Any:
    """The data that the metrics were measured on: validation where there is any."""
    by_context = {dataset.context: dataset for dataset in search.datasets}
    return by_context.get("validation") or by_context.get("training")
