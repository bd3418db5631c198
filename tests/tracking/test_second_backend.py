"""A tracker that is not MLflow's can log a retraining and register a model."""

from __future__ import annotations

import dataclasses

import pytest

from keras_nas_plugin import Tracker
from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.records.retraining import RetrainedModel, Retraining
from keras_nas_plugin.registry.trial import register_trial
from keras_nas_plugin.tracking.composite import CompositeTracker
from keras_nas_plugin.tracking.model_registry import ExistingVersion, RegisteredModel


class MemoryRegistry:
    """A model registry in memory, which saves no models."""

    def __init__(self):
        self.versions = []
        self.aliases = {}

    def register(self, version):
        number = str(len(self.versions) + 1)
        uri = f"memory:/{version.name}/{number}"
        model = RegisteredModel(version.name, number, None, uri, version.run_id, number)
        self.versions.append(ExistingVersion(model, dict(version.tags), ()))
        self.set_alias(version.name, version.alias, number)
        return dataclasses.replace(model, alias=version.alias)

    def versions_of_run(self, name, run_id):
        versions = [v for v in self.versions if (v.model.name, v.model.run_id) == (name, run_id)]
        return [dataclasses.replace(v, aliases=self._aliases_of(v.model)) for v in versions]

    def set_alias(self, name, alias, version):
        self.aliases[name, alias] = version

    def _aliases_of(self, model):
        return tuple(
            alias
            for (name, alias), version in self.aliases.items()
            if (name, version) == (model.name, model.version)
        )


class MemoryTracker(Tracker):
    """A tracker of another backend, whose run ids contain the trial's id."""

    def __init__(self):
        self.registry = MemoryRegistry()

    def run_id(self, trial_id):
        return f"memory-{trial_id}"

    def retraining_finished(self, retraining, record, search):
        models = tuple(
            dataclasses.replace(model, run_id=f"memory-{record.trial_id}-{model.seed}")
            for model in retraining.models
        )
        return dataclasses.replace(retraining, models=models)

    def model_registry(self):
        return self.registry


@pytest.fixture
def search(make_search, tmp_path):
    return make_search(directory=str(tmp_path))


@pytest.fixture
def retraining(search, make_record):
    model = RetrainedModel(seed=3, curve=(), weights="retrained/k/seed_3.weights.h5")
    return Retraining(
        search_id=search.search_id,
        trial_id=make_record(0).trial_id,
        key="k",
        objective="val_accuracy",
        direction="max",
        epochs=1,
        rows=8,
        searched={},
        models=(model,),
        datasets=search.datasets[:1],
    )


@pytest.fixture
def model():
    import keras

    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


def test_a_second_backend_registers_a_trial_once(model, search, make_record):
    tracker = MemoryTracker()
    loaded = []

    def load():
        loaded.append(model)
        return model

    arguments = {"name": "m", "record": make_record(0), "search": search, "tracker": tracker}
    first = register_trial(load, **arguments)
    second = register_trial(load, **arguments)
    assert first == second and len(loaded) == 1
    assert (first.version, first.alias, first.run_id) == ("1", "challenger", "memory-00")
    (version,) = tracker.registry.versions
    assert version.tags["nas.trial_id"] == "00" and version.tags["nas.kind"] == "trial"


def test_a_second_backend_registers_a_retrained_model(model, search, make_record, retraining):
    version = register_trial(
        lambda: model,
        name="m",
        record=make_record(0),
        search=search,
        tracker=MemoryTracker(),
        retraining=retraining,
        retrained=True,
    )
    assert version.run_id == "memory-00-3"


@pytest.mark.parametrize(
    ("tracker", "message"),
    [(None, "MLflowTracker"), (Tracker(), "`tracker` must have a model registry.*got Tracker")],
)
def test_registering_without_a_registry_raises(model, search, make_record, tracker, message):
    with pytest.raises(TrackingError, match=message):
        register_trial(
            lambda: model, name="m", record=make_record(0), search=search, tracker=tracker
        )


def test_a_tracker_without_runs_logs_no_retraining(search, make_record, retraining):
    record = make_record(0)
    assert Tracker().retraining_finished(retraining, record, search) == retraining
    assert Tracker().find_run(search, record.trial_id) is None


def test_a_composite_asks_each_of_its_trackers(search, make_record, retraining):
    memory = MemoryTracker()
    composite = CompositeTracker([None, Tracker(), memory])
    record = make_record(0)
    assert composite.find_run(search, "00") == composite.run_id("00") == "memory-00"
    assert composite.model_registry() is memory.registry
    logged = composite.retraining_finished(retraining, record, search)
    assert [model.run_id for model in logged.models] == ["memory-00-3"]
    assert not composite.shows_report
    with pytest.raises(TrackingError, match="must have a model registry"):
        CompositeTracker([Tracker()]).model_registry()
