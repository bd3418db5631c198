"""A new process can load registered models and predicts the same with them."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path

import numpy as np
import pytest

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import TrialRecord
from keras_nas_plugin.registry import RegisteredModel, register_model
from keras_nas_plugin.registry.card_updates import update_cards
from keras_nas_plugin.registry.trial import register_trial
from keras_nas_plugin.tracking import DatasetInfo, MLflowTracker
from tests.integration import forkserver

# A user's script with custom parts of every kind in `__main__`.
_REGISTER = '''
import sys
import keras, numpy as np
from mlflow import MlflowClient
from keras_nas_plugin.registry import register_model
import users_unused
import users_layers, users_helpers, fakelayers

class Scale(keras.layers.Layer):
    """Multiplies by a weight, with help from a function beside it."""
    def build(self, shape):
        self.w = self.add_weight(shape=(), initializer=Half())
    def call(self, x):
        return helper(x) * self.w

class Half(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return keras.ops.full(shape, 0.5, dtype)

@keras.saving.register_keras_serializable("mine")
class Shift(keras.layers.Layer):
    def __init__(self, by=1.0, **kwargs):
        super().__init__(**kwargs)
        self.by = by
    def call(self, x):
        return x + self.by
    def get_config(self):
        return {**super().get_config(), "by": self.by}

class Penalty(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.ops.mean(keras.ops.square(y_true - y_pred))

class Hits(keras.metrics.MeanSquaredError):
    pass

class Subclassed(keras.Model):
    def __init__(self, units=2, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.dense = keras.layers.Dense(units)
    def call(self, x):
        return self.dense(x)
    def get_config(self):
        return {"units": self.units}

def helper(x):
    return x + 0.25

def squash(x):
    return keras.ops.tanh(x)

def sequential(*layers):
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(2)])
    model.compile("adam", "mse")
    return model

def two_inputs(as_list):
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    out = keras.layers.Dense(2)(keras.layers.Concatenate()([a, b]))
    return keras.Model([a, b] if as_list else {"a": a, "b": b}, out)

def two_outputs():
    a = keras.Input((3,))
    return keras.Model(a, [keras.layers.Dense(1, name="p")(a), keras.layers.Dense(2, name="q")(a)])

def mixed():
    policy = "mixed_float16"
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, dtype=policy),
                             keras.layers.Dense(2, dtype=policy)])

def main_module():
    model = sequential(Scale(), Shift(2.0), keras.layers.Dense(4, activation=squash))
    model.compile("adam", Penalty(), metrics=[Hits()])
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    return model

x = np.random.default_rng(0).random((4, 3)).astype("float32")
y = np.random.default_rng(1).random((4, 2)).astype("float32")
cases = {
    "plain": (sequential, (), x, {}),
    "main": (main_module, (), x, {}),
    "subclassed": (Subclassed, (), x, {}),
    "users_file": (lambda: sequential(users_layers.Twice()), (), x, {}),
    "copied": (lambda: sequential(users_layers.Twice()), (), x,
               {"code_paths": [users_layers.__file__, users_helpers.__file__]}),
    "installed": (lambda: sequential(fakelayers.Thrice()), (), x, {}),
    "dict_inputs": (two_inputs, (False,), {"a": x, "b": y}, {}),
    "list_inputs": (two_inputs, (True,), [x, y], {}),
    "two_outputs": (two_outputs, (), x, {}),
    "mixed_float16": (mixed, (), x, {}),
}
uri = sys.argv[1]
client = MlflowClient(uri)
experiment = client.create_experiment("models")
for name, (build, arguments, sample, more) in cases.items():
    model = build(*arguments)
    predicted = model.predict(sample, verbose=0)
    if not isinstance(predicted, list):
        predicted = [predicted]
    run = client.create_run(experiment)
    register_model(model, name=name, run_id=run.info.run_id, tracking_uri=uri, sample=sample,
                   **more)
    np.savez(f"{name}.npz", *[p.astype("float32") for p in predicted])
'''

_LOAD = """
import json, sys
import mlflow, numpy as np
mlflow.set_tracking_uri(sys.argv[1])
x = np.random.default_rng(0).random((4, 3)).astype("float32")
y = np.random.default_rng(1).random((4, 2)).astype("float32")
results = {}
for name in sys.argv[2:]:
    expected = np.load(f"{name}.npz")
    expected = [expected[key] for key in expected.files]
    for loader in ("pyfunc", "tensorflow"):
        try:
            model = getattr(mlflow, loader).load_model(f"models:/{name}@challenger")
            sample = {"a": x, "b": y} if "inputs" in name else x
            if name == "list_inputs" and loader == "tensorflow":
                sample = [x, y]
            outputs = model.predict(sample)
            outputs = outputs if isinstance(outputs, list) else [outputs]
            worst = max(float(np.abs(f.astype("float32") - e).max())
                        for f, e in zip(outputs, expected, strict=True))
            results[f"{name}/{loader}"] = worst
        except Exception as error:
            results[f"{name}/{loader}"] = f"{type(error).__name__}: {error}"[:2000]
assert sys.modules["keras_nas_plugin"] is None, "a model does not depend on this package"
print("RESULTS " + json.dumps(results))
"""

CASES = [
    "plain",
    "main",
    "subclassed",
    "users_file",
    "copied",
    "installed",
    "dict_inputs",
    "list_inputs",
    "two_outputs",
    "mixed_float16",
]


def _run_forked(code, *arguments, cwd, path, without_us=False):
    script = cwd / "script.py"
    script.write_text(code)
    process = forkserver.fork_server().run(
        forkserver.SCRIPT,
        cwd=cwd,
        file=str(script),
        arguments=list(arguments),
        path=[str(folder) for folder in path],
        without_us=without_us,
    )
    assert process.returncode == 0, process.err[-4000:]
    return process.out


@pytest.fixture(scope="module")
def registered(tmp_path_factory, empty_store):
    """Models registered by one process and loaded by another: URI, results, printed output."""
    folder = tmp_path_factory.mktemp("registry")
    shutil.copy(empty_store, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    users = folder / "users"
    users.mkdir()
    layer = """
        import keras
        {}
        class {}(keras.layers.Layer):
            def call(self, x):
                return grow(x)
        """
    users.joinpath("users_layers.py").write_text(
        textwrap.dedent(layer.format("from users_helpers import grow", "Twice"))
    )
    users.joinpath("users_helpers.py").write_text("def grow(x):\n    return 2.0 * x\n")
    users.joinpath("users_unused.py").write_text(
        "import keras\n@keras.saving.register_keras_serializable('unused')\n"
        "class Unused(keras.layers.Layer):\n    pass\n"
    )
    site = folder / "site"
    package = site / "fakelayers"
    package.mkdir(parents=True)
    package.joinpath("__init__.py").write_text(
        textwrap.dedent(layer.format("def grow(x): return 3.0 * x", "Thrice"))
    )
    info = site / "fake_layers-1.2.dist-info"
    info.mkdir()
    info.joinpath("METADATA").write_text(
        "Metadata-Version: 2.1\nName: fake-layers\nVersion: 1.2\n"
    )
    info.joinpath("top_level.txt").write_text("fakelayers\n")
    printed = _run_forked(_REGISTER, uri, cwd=folder, path=[users, site])
    shutil.rmtree(users)
    # Copied code is importable in the entire process, so the case without it is loaded first.
    output = _run_forked(_LOAD, uri, *CASES, cwd=folder, path=[site], without_us=True)
    results = json.loads(output.partition("RESULTS ")[2])
    return uri, results, printed


@pytest.mark.parametrize("loader", ["pyfunc", "tensorflow"])
@pytest.mark.parametrize("name", CASES)
def test_a_new_process_predicts_the_same(registered, name, loader):
    _, results, _ = registered
    difference = results[f"{name}/{loader}"]
    assert isinstance(difference, float), difference
    assert difference <= 1e-6


def test_nothing_is_printed_to_standard_output(registered):
    assert registered[2] == ""


def _metadata(uri, name):
    """The `MLmodel` file and the requirements of a registered model."""
    from mlflow import MlflowClient

    source = MlflowClient(uri).get_model_version_by_alias(name, "challenger").source
    folder = Path(source.removeprefix("file://"))
    from mlflow.models import Model

    return Model.load(str(folder)), (folder / "requirements.txt").read_text()


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("plain", {None: (-1, 3)}, {None: (-1, 2)}),
        ("dict_inputs", {"a": (-1, 3), "b": (-1, 2)}, {None: (-1, 2)}),
        ("list_inputs", {"a": (-1, 3), "b": (-1, 2)}, {None: (-1, 2)}),
        ("two_outputs", {None: (-1, 3)}, {"p": (-1, 1), "q": (-1, 2)}),
    ],
)
def test_the_signature_names_every_input(registered, name, inputs, outputs):
    signature = _metadata(registered[0], name)[0].signature
    assert {spec.name: spec.shape for spec in signature.inputs.inputs} == inputs
    assert {spec.name: spec.shape for spec in signature.outputs.inputs} == outputs


def test_requirements_are_pinned_and_follow_the_custom_objects(registered):
    plain = _metadata(registered[0], "plain")[1]
    assert all("==" in line for line in plain.split())
    assert "keras==" in plain and "tensorflow" in plain and "mlflow==" in plain
    assert "fake-layers" not in plain
    assert "fake-layers==1.2" in _metadata(registered[0], "installed")[1]


@pytest.fixture
def model():
    import keras

    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])


@pytest.fixture
def run_id(database):
    from mlflow import MlflowClient

    client = MlflowClient(database)
    return client.create_run(client.create_experiment("models")).info.run_id


@pytest.fixture
def register(database, model, run_id, tmp_path):
    """Registers the model as the best one of a search."""

    class Logged(MLflowTracker):
        def find_run(self, search, trial_id):
            return run_id

    record = TrialRecord(
        trial_id="07",
        values={"units": 4},
        status="FINISHED",
        score=0.5,
        metrics={"val_loss": 0.5},
        costs={"parameters": 30.0, "flops": 24.0, "latency_ms": 0.25},
    )

    def register_as(name, *, settings=None, **options):
        search = SearchInfo(
            search_id="s1",
            name="tiny",
            objective="val_loss",
            direction="min",
            strategy="RandomOracle",
            max_trials=1,
            settings=settings or {},
            directory=str(tmp_path),
        )
        tracker = Logged(tracking_uri=database)
        return register_trial(
            lambda: model, name=name, record=record, search=search, tracker=tracker, **options
        )

    return register_as


def test_a_version_has_few_tags_and_the_costs_of_its_trial_are_metrics_of_the_model(
    database, register
):
    from mlflow import MlflowClient

    register("costly")
    client = MlflowClient(database)
    tags = client.get_model_version_by_alias("costly", "challenger").tags
    assert (tags["nas.trial_id"], tags["nas.value"]) == ("07", "0.5")
    # Two more after a promotion; MLflow shows all of them.
    assert len(tags) <= 6
    metrics = client.get_logged_model(tags["nas.model_id"]).metrics
    costs = {metric.key: metric.value for metric in metrics if "/cost/" in metric.key}
    assert costs == {
        "model/cost/parameters": 30.0,
        "model/cost/flops": 24.0,
        "model/cost/latency_ms": 0.25,
    }


def card_of(client, version):
    folder = client.get_model_version(version.name, version.version).source
    return Path(folder.removeprefix("file://"), "model_card.md").read_text(encoding="utf-8")


def test_a_part_of_the_card_that_fails_is_left_out_with_a_warning(
    database, register, run_id, sample, caplog
):
    from mlflow import MlflowClient

    client = MlflowClient(database)
    labels = np.array([0, 1])
    version = register("whole", validation=(sample, labels))
    card = card_of(client, version)
    assert "## Scores by class" in card and "## Links" in card
    assert not any("model card" in message for message in caplog.messages)
    client.set_tag(run_id, "mlflow.parentRunId", "f" * 32)  # a run that was deleted
    version = register("partial", validation=(sample[:, :2], labels))
    messages = [message for message in caplog.messages if "model card" in message]
    assert [message.partition(":")[0] for message in messages] == [
        "The model card has no scores by class",
        "The model card has no links",
    ]
    card = card_of(client, version)
    assert "## Scores by class" not in card and "## Links" not in card
    assert "Nothing was measured by class" in card and "## Loading" in card


def test_a_long_card_is_whole_in_its_file_and_cut_in_the_description(database, register, run_id):
    """MLflow's databases store 5,000 characters; a promotion adds a section."""
    from mlflow import MlflowClient

    client = MlflowClient(database)
    settings = {f"setting_{number}": number for number in range(300)}
    version = register("long", settings=settings)
    card = card_of(client, version)
    assert len(card) > 5_000 and "setting_299 299" in card
    description = client.get_model_version("long", "1").description
    assert len(description) == 4_000
    remark = f" ... [cut: {len(card):,} characters, whole in model_card.md]"
    assert description == card[: 4_000 - len(remark)] + remark
    promotion = "## Promotion\n\n" + "x" * 900
    update_cards(client, "long", ("1",), promotion)
    updated = client.get_model_version("long", "1").description
    assert promotion in updated and updated.endswith(remark + "\n") and len(updated) <= 5_000
    update_cards(client, "long", ("1",), promotion + "x" * 1_000)  # does not fit
    assert client.get_model_version("long", "1").description == updated


def test_a_model_is_linked_to_its_run_metrics_data_and_search(database, model, run_id, sample):
    from mlflow import MlflowClient

    client = MlflowClient(database)
    client.set_terminated(run_id)
    data = DatasetInfo(name="digits", context="validation", digest="bbbb2222", profile={})
    version = register_model(
        model,
        name="digits-classifier",
        run_id=run_id,
        tracking_uri=database,
        tags={"nas.search_id": "s1", "nas.value": 0.97},
        sample=sample,
        metrics={"val_accuracy": 0.97},
        dataset=data,
    )
    assert version == RegisteredModel(
        name="digits-classifier",
        version="1",
        alias="challenger",
        model_uri="models:/digits-classifier/1",
        run_id=run_id,
        model_id=version.model_id,
    )
    stored = client.get_model_version_by_alias("digits-classifier", "challenger")
    assert stored.run_id == run_id and stored.status == "READY"
    assert stored.tags == {
        "nas.search_id": "s1",
        "nas.value": "0.97",
        "nas.model_id": version.model_id,
    }
    logged = client.get_logged_model(version.model_id)
    assert logged.status == "READY" and logged.source_run_id == run_id
    (metric,) = logged.metrics
    assert (metric.key, metric.value) == ("model/val_accuracy", 0.97)
    assert (metric.dataset_name, metric.dataset_digest) == ("digits", "bbbb2222")
    run = client.get_run(run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [version.model_id]
    assert run.info.status == "FINISHED"


def test_the_alias_moves_to_the_next_version(database, model, run_id):
    from mlflow import MlflowClient

    arguments = {"name": "m", "run_id": run_id, "tracking_uri": database}
    register_model(model, **arguments)
    assert register_model(model, **arguments).version == "2"
    register_model(model, alias="champion", **arguments)
    assert register_model(model, alias=None, **arguments).alias is None
    client = MlflowClient(database)
    assert client.get_registered_model("m").aliases == {"challenger": 2, "champion": 3}
    assert client.get_model_version_by_alias("m", "challenger").version == 2
    assert client.get_model_version_by_alias("m", "champion").version == 3


def test_the_users_active_run_and_tracking_uri_are_not_changed(database, model, run_id, tmp_path):
    import mlflow

    user_uri = f"sqlite:///{tmp_path / 'mlflow.db'}?own"
    mlflow.set_tracking_uri(user_uri)
    try:
        with mlflow.start_run(experiment_id="0") as active:
            register_model(model, name="m", run_id=run_id, tracking_uri=database)
            assert mlflow.active_run().info.run_id == active.info.run_id
            assert mlflow.get_tracking_uri() == user_uri
        run = mlflow.get_run(active.info.run_id)
        assert run.outputs is None or run.outputs.model_outputs == []
    finally:
        mlflow.set_tracking_uri(None)


def test_a_model_that_cannot_be_saved_is_not_registered(database, run_id, monkeypatch):
    import keras
    from mlflow import MlflowClient

    class Broken(keras.layers.Layer):
        def get_config(self):
            raise RuntimeError("no config today")

    model = keras.Sequential([keras.Input((3,)), Broken()])
    with pytest.raises(TrackingError, match="registering `m` .*no config today"):
        register_model(model, name="m", run_id=run_id, tracking_uri=database)
    client = MlflowClient(database)
    assert client.search_registered_models() == []
    experiment = client.get_run(run_id).info.experiment_id
    (logged,) = client.search_logged_models([experiment])
    assert logged.status == "FAILED"


@pytest.mark.parametrize(
    "alias", ["latest", "Latest", "v1", "V12", "", "a b", "a/b", "x" * 256, 3]
)
def test_an_invalid_alias_is_rejected_before_a_model_is_saved(alias):
    with pytest.raises(TrackingError, match="`alias`"):
        register_model(None, name="m", run_id="r", tracking_uri="none://", alias=alias)


@pytest.mark.parametrize(
    "name",
    ["", " ", "a/b", "a:b", "..", None, "a?b", "spam?", "a\tb", "a\nb", "a\x00b", "x" * 257],
)
def test_an_invalid_name_is_rejected_before_a_model_is_saved(name):
    with pytest.raises(TrackingError, match="`name`"):
        register_model(None, name=name, run_id="r", tracking_uri="none://")


def test_a_name_that_is_accepted_can_be_loaded(database, model, run_id):
    import mlflow
    import numpy as np

    name = "a#b%20c@d;e&f größe " + "x" * 230
    registered = register_model(model, name=name, run_id=run_id, tracking_uri=database)
    rows = np.ones((1, 3), "float32")
    mlflow.set_tracking_uri(database)
    try:
        for uri in (registered.model_uri, f"models:/{name}@challenger"):
            loaded = mlflow.tensorflow.load_model(uri)
            np.testing.assert_array_equal(loaded(rows), model(rows))
    finally:
        mlflow.set_tracking_uri(None)


def test_the_error_names_a_run_that_does_not_exist(database, model):
    with pytest.raises(TrackingError, match="0123456789abcdef"):
        register_model(model, name="m", run_id="0123456789abcdef", tracking_uri=database)


@pytest.fixture
def sample():
    import numpy as np

    return np.ones((2, 3), "float32")
