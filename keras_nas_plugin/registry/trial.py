"""Register the model of a trial, searched or retrained, once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.registry.aliases import CHALLENGER, VERDICT
from keras_nas_plugin.registry.card import CARD, DESCRIPTION_LIMIT, Subject, render_card
from keras_nas_plugin.registry.described import architecture_of
from keras_nas_plugin.registry.register import (
    RegisteredModel,
    check_alias,
    check_name,
    register_model,
)
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.tracking.connection import bounded_requests, connect, public_uri
from keras_nas_plugin.tracking.failures import explained
from keras_nas_plugin.tracking.payload import shorten
from keras_nas_plugin.tracking.records import (
    ARCHITECTURE,
    DatasetInfo,
    SearchInfo,
    TrialRecord,
    load_records,
    save_registration,
)
from keras_nas_plugin.tracking.retrained import log_retraining, run_of_trial
from keras_nas_plugin.tracking.retraining import RETRAINED, Retraining

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

_KIND, _MODEL_ID = "nas.kind", "nas.model_id"
_TRIAL = "trial"


def register_trial(
    load_model: Callable[[], Any],
    *,
    name: str,
    record: TrialRecord,
    search: SearchInfo,
    tracker: Tracker | None,
    alias: str | None = "challenger",
    tags: Mapping[str, str] | None = None,
    sample: Any = None,
    retraining: Retraining | None = None,
    retrained: bool = False,
    input_example: bool = True,
) -> RegisteredModel:
    """Register a trial's model, unless there is a version of it already.

    A version is found by its run and kind, so that a process that died after it was made is
    followed by one that gives it its alias and makes no second.

    Args:
        load_model: Gives the trained Keras model; called only when it is needed.
        name: Name in the registry.
        record: The trial.
        search: Its search.
        tracker: The `MLflowTracker` that logged the trial.
        alias: Alias of the version; None for none.
        tags: Further tags of the version.
        sample: Input rows for the signature.
        retraining: What came of retraining this trial, if it was.
        retrained: Whether the model is the one that the retraining kept.
        input_example: Whether ``sample`` is stored with the model.

    Returns:
        The version, new or as it was.

    Raises:
        TrackingError: The model has no run in MLflow, or the registry refuses.
    """
    check_name(name)
    check_alias(alias)
    run_id = _run_id(tracker, search, record, retraining if retrained else None)
    kind = RETRAINED if retrained else _TRIAL
    registered = _existing(tracker, name, run_id, kind, alias)
    if registered is None:
        about = _About(name, alias, search, record, retraining, retrained, input_example)
        model = load_model()
        files, description = about.files(model, example=sample is not None and input_example)
        metrics, dataset = about.metrics()
        registered = register_model(
            model,
            name=name,
            run_id=run_id,
            tracking_uri=tracker.tracking_uri,
            registry_uri=tracker.registry_uri,
            alias=alias,
            tags={**about.tags(), _KIND: kind, **(tags or {})},
            sample=sample,
            metrics=metrics,
            dataset=dataset,
            input_example=input_example,
            files=files,
            description=description,
        )
    save_registration(
        search.directory,
        {**dataclasses.asdict(registered), "trial_id": record.trial_id, "kind": kind},
    )
    return registered


def _run_id(
    tracker: Tracker | None,
    search: SearchInfo,
    record: TrialRecord,
    retraining: Retraining | None,
) -> str:
    """The run that trained the model."""
    where = getattr(tracker, "tracking_uri", None)
    if where is not None and retraining is not None:
        return log_retraining(retraining, record, search, tracker).kept.run_id
    run_id = run_of_trial(tracker, search, record.trial_id) if where is not None else None
    if run_id is None:
        came = f"tracker={tracker}"
        if where is not None:
            came = f"no run of trial {record.trial_id} at {public_uri(where)}"
        raise TrackingError(
            "`register_best` needs the trial's run in MLflow: pass `tracker=MLflowTracker(...)`, "
            f"run `search`, and check that the store answers; received {came}"
        )
    return run_id


def _existing(
    tracker: Any, name: str, run_id: str, kind: str, alias: str | None
) -> RegisteredModel | None:
    """The version of this model, with the alias; None where there is none."""
    client = connect(tracker.tracking_uri, tracker.registry_uri)
    with explained(f"registering `{name}`", tracker.tracking_uri), bounded_requests():
        versions = [
            version
            for version in client.search_model_versions(f"run_id = '{run_id}'")
            if version.name == name and version.tags.get(_KIND, _TRIAL) == kind
        ]
        if not versions:
            return None
        version = min(versions, key=lambda one: int(one.version))
        # What was judged does not challenge again by itself: it may be the champion by now.
        if alias is not None and not (alias == CHALLENGER and VERDICT in version.tags):
            client.set_registered_model_alias(name, alias, version.version)
        aliases = client.get_registered_model(name).aliases
    has = str(aliases.get(alias)) == str(version.version)
    return _of(version, alias if has else None)


def _of(version: ModelVersion, alias: str | None) -> RegisteredModel:
    return RegisteredModel(
        name=version.name,
        version=str(version.version),
        alias=alias,
        model_uri=f"models:/{version.name}/{version.version}",
        run_id=version.run_id,
        model_id=version.tags.get(_MODEL_ID, ""),
    )


@dataclasses.dataclass(frozen=True)
class _About:
    """What a version says about its model."""

    name: str
    alias: str | None
    search: SearchInfo
    record: TrialRecord
    retraining: Retraining | None
    retrained: bool
    input_example: bool

    def tags(self) -> dict[str, str]:
        """Tags of the version."""
        search, record = self.search, self.record
        costs = {f"nas.cost.{cost}": repr(value) for cost, value in record.costs.items()}
        tags = {
            "nas.search_id": search.search_id,
            "nas.trial_id": record.trial_id,
            "nas.objective": search.objective,
            "nas.direction": search.direction,
            **costs,
        }
        if not self.retrained:
            return {**tags, "nas.value": repr(record.score)}
        again = self.retraining
        tags |= {
            "nas.searched_value": repr(record.score),
            "nas.seed": str(again.kept.seed),
            "nas.retraining": again.key,
            "nas.cost.train_seconds": repr(again.kept.seconds),
            "nas.measured_on": again.measured_on or "nothing",
        }
        # What `fit` reports and `evaluate` does not has no value here.
        if again.scores and again.objective.removeprefix("val_") == again.metric:
            tags["nas.value"] = repr(again.scores[0])
        return tags

    def metrics(self) -> tuple[Mapping[str, float], DatasetInfo | None]:
        """What the model reached, and on what."""
        if not self.retrained:
            return self.record.metrics, _judged_on(self.search)
        again = self.retraining
        if again.measured_on is not None:
            return again.kept.scores, again.datasets[1]
        last = again.kept.curve[-1] if again.kept.curve else {}
        # On rows that it learned from, so under a name that nobody compares.
        return {f"training/{name}": value for name, value in last.items()}, again.datasets[0]

    def files(self, model: Any, *, example: bool) -> tuple[dict[str, str], str]:
        """Texts beside the model, and the description of the version."""
        folder = Path(self.search.directory) / f"trial_{self.record.trial_id}"
        architecture, words = architecture_of(model, self.record.values, folder)
        card = render_card(
            Subject(
                name=self.name,
                alias=self.alias,
                search=self.search,
                record=self.record,
                trials=tuple(load_records(self.search.directory)),
                retraining=self.retraining,
                retrained=self.retrained,
                architecture=words,
                input_example=example,
            )
        )
        return (
            {ARCHITECTURE: architecture, CARD: card},
            shorten(card, DESCRIPTION_LIMIT, whole_in=CARD),
        )


def _judged_on(search: SearchInfo) -> DatasetInfo | None:
    """The data that the metrics were measured on: validation where there is any."""
    by_context = {dataset.context: dataset for dataset in search.datasets}
    return by_context.get("validation") or by_context.get("training")
