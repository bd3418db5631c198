"""Register the searched or retrained model of a trial, at most once."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.files import file_lock
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.class_scores import ClassScores
from keras_nas_plugin.records.retraining import RETRAINED, Retraining
from keras_nas_plugin.records.search import DatasetInfo, SearchInfo, save_registration
from keras_nas_plugin.records.trial import TrialRecord, load_records
from keras_nas_plugin.registry.aliases import CHALLENGER, VERDICT
from keras_nas_plugin.registry.architecture_summary import summarize_architecture
from keras_nas_plugin.registry.card import (
    CARD,
    DESCRIPTION_LIMIT,
    PROMOTION_ROOM,
    Subject,
    render_card,
)
from keras_nas_plugin.registry.card_updates import update_cards
from keras_nas_plugin.registry.class_scores import measure_classes
from keras_nas_plugin.registry.interface import checked_class_names
from keras_nas_plugin.registry.names import check_alias, check_name
from keras_nas_plugin.registry.register import add_version
from keras_nas_plugin.registry.search_data import VERSION_KIND
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.tracking.formatting import shorten
from keras_nas_plugin.tracking.mlflow.registry import MLflowModelRegistry
from keras_nas_plugin.tracking.model_registry import ModelRegistry, RegisteredModel

if TYPE_CHECKING:
    import keras

logger = logging.getLogger("keras_nas_plugin")

_T = TypeVar("_T")

_TRIAL = "trial"


def register_trial(
    load_model: Callable[[], keras.Model],
    *,
    name: str,
    record: TrialRecord,
    search: SearchInfo,
    tracker: Tracker | None,
    alias: str | None = CHALLENGER,
    tags: Mapping[str, str] | None = None,
    sample: object = None,
    retraining: Retraining | None = None,
    retrained: bool = False,
    input_example: bool = True,
    class_names: Sequence[str] | None = None,
    validation: tuple[object, object] | None = None,
) -> RegisteredModel:
    """Register a trial's model, unless it is already registered.

    An existing version is found by its run and kind. If an earlier process died after creating
    the version, this call sets its alias and creates no second version.

    Args:
        load_model: Returns the trained model; called only to create a new version.
        name: Name of the registered model.
        record: The trial.
        search: Its search.
        tracker: The tracker that logged the trial.
        alias: Alias of the version, or None.
        tags: Further tags of a new version.
        sample: Input rows for the signature.
        retraining: The retraining of this trial; None without one.
        retrained: Whether to register the model that the retraining kept.
        input_example: Whether to store ``sample`` with the model.
        class_names: Names of the classes that a new version tells apart; see `register_model`.
        validation: Inputs and labels of the validation rows, to measure the searched model by
            class; labels are None where the inputs hold them.

    Returns:
        The new or existing version.

    Raises:
        TrackingError: The model has no run, the registry does not answer or rejects it,
            ``class_names`` do not fit the model, or what is loaded from its files is a different
            model.
    """
    check_name(name)
    check_alias(alias)
    names = None if class_names is None else checked_class_names(class_names)
    if tracker is None:
        raise TrackingError(
            "`register_best` must be called with a tracker: pass `tracker=MLflowTracker(...)`; "
            "got None"
        )
    with _exclusive_registration(search.directory):
        registry = tracker.model_registry()
        run_id = _run_id(tracker, search, record, retraining if retrained else None)
        kind = RETRAINED if retrained else _TRIAL
        before = _version_with_alias(registry, name, alias)
        registered = _existing_version(registry, name, run_id, kind, alias)
        if registered is None:
            content = _VersionContent(name, alias, search, record, retraining, retrained, names)
            model = load_model()
            files, description = content.files(
                model,
                example=sample is not None and input_example,
                class_scores=content.class_scores(model, validation),
                pages=_pages(registry, run_id),
            )
            metrics, dataset = content.metrics()
            registered = add_version(
                registry,
                model,
                name=name,
                run_id=run_id,
                alias=alias,
                tags={**content.tags(), VERSION_KIND: kind, **(tags or {})},
                sample=sample,
                metrics=metrics,
                dataset=dataset,
                input_example=input_example,
                files=files,
                description=description,
                class_names=names,
            )
        if isinstance(registry, MLflowModelRegistry) and before not in (None, registered.version):
            update_cards(registry.client(), name, (before, registered.version))
        save_registration(
            search.directory,
            {**dataclasses.asdict(registered), "trial_id": record.trial_id, "kind": kind},
        )
        return registered


@contextlib.contextmanager
def _exclusive_registration(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Exclude other processes that register a model of the search, for example its workers.

    Each of them looks for a version of its model before it creates one.
    """
    with contextlib.ExitStack() as stack:
        # A folder that cannot be written to is registered from without a lock.
        with contextlib.suppress(OSError):
            stack.enter_context(file_lock(ProjectLayout.of(folder).registration_lock))
        yield


def _version_with_alias(registry: ModelRegistry, name: str, alias: str | None) -> str | None:
    """The version that loses the alias; None if no version has it."""
    if alias is None or not isinstance(registry, MLflowModelRegistry):
        return None
    with contextlib.suppress(Exception):  # the model does not exist yet
        by_alias = registry.client().get_registered_model(name).aliases
        return str(by_alias[alias]) if alias in by_alias else None
    return None


def _pages(registry: ModelRegistry, run_id: str) -> dict[str, str]:
    if not isinstance(registry, MLflowModelRegistry):
        return {}
    return _for_card("links", lambda: registry.pages_of_run(run_id), {})


def _for_card(part: str, function: Callable[[], _T], default: _T) -> _T:
    """What a function returns; a default and a warning if it fails."""
    try:
        return function()
    except Exception as error:  # a model is registered without a part of its card
        logger.warning("The model card has no %s: %s: %s", part, type(error).__name__, error)
        return default


def _run_id(
    tracker: Tracker, search: SearchInfo, record: TrialRecord, retraining: Retraining | None
) -> str:
    """The run that trained the model."""
    if retraining is not None:
        run_id = tracker.retraining_finished(retraining, record, search).kept.run_id
    else:
        run_id = tracker.find_run(search, record.trial_id)
    if run_id is None:
        raise TrackingError(
            "`tracker` must hold the trial's run: run `search` with this tracker, and check that "
            f"its store answers; got one that has no run of trial {record.trial_id}"
        )
    return run_id


def _existing_version(
    registry: ModelRegistry, name: str, run_id: str, kind: str, alias: str | None
) -> RegisteredModel | None:
    """Find the existing version of this model and set its alias; None if there is none."""
    versions = [
        version
        for version in registry.versions_of_run(name, run_id)
        if version.tags.get(VERSION_KIND, _TRIAL) == kind
    ]
    if not versions:
        return None
    version = versions[0]
    # A judged version does not become challenger again by itself: it may be the champion by now.
    if alias is not None and not (alias == CHALLENGER and VERDICT in version.tags):
        registry.set_alias(name, alias, version.model.version)
    elif alias not in version.aliases:
        alias = None
    return dataclasses.replace(version.model, alias=alias)


@dataclasses.dataclass(frozen=True)
class _VersionContent:
    """Tags, metrics and files of a version."""

    name: str
    alias: str | None
    search: SearchInfo
    record: TrialRecord
    retraining: Retraining | None
    retrained: bool
    class_names: tuple[str, ...] | None

    @property
    def source(self) -> Retraining | None:
        """The retraining that the model comes from; None for the searched model."""
        return self.retraining if self.retrained else None

    def tags(self) -> dict[str, str]:
        """Tags of the version: few, because MLflow shows all of them; the card has the rest."""
        search, record, source = self.search, self.record, self.source
        tags = {
            "nas.search_id": search.search_id,
            "nas.trial_id": record.trial_id,
            "nas.objective": search.objective,
        }
        if source is None:
            return {**tags, "nas.value": repr(record.score)}
        # An objective that `fit` reports and `evaluate` does not has no value here.
        if source.scores and source.objective.removeprefix("val_") == source.metric:
            tags["nas.value"] = repr(source.scores[0])
        return tags

    def metrics(self) -> tuple[Mapping[str, float], DatasetInfo | None]:
        """The metrics of the model, and the data that they were measured on."""
        source = self.source
        costs = {f"cost/{name}": value for name, value in self.record.costs.items()}
        if source is None:
            return {**self.record.metrics, **costs}, _validation_data(self.search)
        costs["cost/train_seconds"] = source.kept.seconds
        if source.measured_on is not None:
            return {**source.kept.scores, **costs}, source.datasets[1]
        last = source.kept.curve[-1] if source.kept.curve else {}
        # Measured on rows that it was trained on, so not to be compared with other metrics.
        return {
            **{f"training/{name}": value for name, value in last.items()},
            **costs,
        }, source.datasets[0]

    def class_scores(
        self, model: keras.Model, validation: tuple[object, object] | None
    ) -> ClassScores | None:
        """Scores by class: a retrained model was measured when it was trained."""
        scores = None
        if self.source is not None:
            scores = self.source.kept.class_scores
        elif validation is not None:
            x, y = validation
            scores = _for_card("scores by class", lambda: measure_classes(model, x, y), None)
        return None if scores is None else scores.named(self.class_names)

    def files(
        self,
        model: keras.Model,
        *,
        example: bool,
        class_scores: ClassScores | None,
        pages: Mapping[str, str],
    ) -> tuple[dict[str, str], str]:
        """Text files of the version by name, and its description."""
        folder = ProjectLayout.of(self.search.directory).trial(self.record.trial_id).folder
        architecture, summary = summarize_architecture(model, self.record.values, folder)
        card = render_card(
            Subject(
                name=self.name,
                alias=self.alias,
                search=self.search,
                record=self.record,
                trials=tuple(load_records(self.search.directory)),
                retraining=self.retraining,
                retrained=self.retrained,
                architecture=summary,
                input_example=example,
                class_names=self.class_names,
                class_scores=class_scores,
                pages=pages,
            )
        )
        return (
            {"architecture.json": architecture, CARD: card},
            shorten(card, DESCRIPTION_LIMIT - PROMOTION_ROOM, whole_in=CARD),
        )


def _validation_data(search: SearchInfo) -> DatasetInfo | None:
    """The data that the trials were measured on: validation data if there are any."""
    by_context = {dataset.context: dataset for dataset in search.datasets}
    return by_context.get("validation") or by_context.get("training")
