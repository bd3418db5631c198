"""`keras-nas retrain` and `keras-nas register` after a search."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import TARGET
from tests.integration import forkserver

# The custom layer cannot be imported from another module.
RECIPE = '''
import keras
import numpy as np

OBJECTIVE = "val_accuracy"

class Scaled(keras.layers.Layer):
    """Multiplies by a weight."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, x):
        return self.scale * x

def build_model(hp):
    hidden = keras.layers.Dense(hp.Int("units", 4, 32), activation="relu")
    layers = [keras.Input((4,)), hidden, Scaled(), keras.layers.Dense(2, activation="softmax")]
    model = keras.Sequential(layers)
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.SGD(0.5), loss, metrics=["accuracy"], run_eagerly=True)
    return model

def rows(seed, n=24):
    x = np.random.default_rng(seed).random((n, 4), dtype="float32")
    return x, (x[:, 0] > 0.5).astype("int32")

def load_data():
    print("loading")
    return rows(0), rows(1), rows(2, 40)

def no_test():
    return rows(0), rows(1)

def narrow():
    (x, y), (x_val, y_val), _ = load_data()
    return (x[:, :3], y), (x_val[:, :3], y_val)

def broken():
    raise OSError("no disk")
'''
SEARCH = (
    "search recipe.py --strategy random --max-trials 2 --epochs 3 --batch-size 8 --seed 0 "
    "--deterministic --tracking-uri {store} --experiment tiny --project-name tiny"
)


class Folder:
    """A folder with a finished search, in which the command is run."""

    def __init__(self, path, server):
        self.path, self._server = path, server
        self.uri = f"sqlite:///{path}/mlflow.db"
        self.project = path / "searches/tiny"

    def nas(self, *words, uri=None):
        words = [word for part in words for word in str(part).split()]
        if words[0] in ("retrain", "register") and "--no-tracking" not in words:
            words += ["--tracking-uri", uri or self.uri]
        return self._server.run(TARGET, cwd=self.path, words=words)

    def client(self):
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    def runs(self, kind):
        client = self.client()
        experiment = client.get_experiment_by_name("tiny").experiment_id
        return list(client.search_runs([experiment], f"tags.`nas.kind` = '{kind}'"))

    def json(self, name):
        return json.loads((self.project / name).read_text())


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A search whose best trial was retrained with two seeds; both models are registered."""
    path = tmp_path_factory.mktemp("search")
    (path / "recipe.py").write_text(RECIPE, encoding="utf-8")
    folder = Folder(path, forkserver.fork_server())
    result = folder.nas(SEARCH.format(store=forkserver.new_store(path)))
    assert result.returncode == 0, result.err
    folder.results = {
        "retrain": folder.nas("retrain --seeds 2"),
        "searched": folder.nas("register tiny-model --no-input-example --json"),
        "retrained": folder.nas("register tiny-model --retrained --class-names low,high"),
    }
    for name, command in folder.results.items():
        assert command.returncode == 0, (name, command.err)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    """A copy of the finished search for this test only."""
    shutil.copytree(original.path, tmp_path, dirs_exist_ok=True)
    return Folder(tmp_path, forkserver.fork_server())


def test_searched_and_retrained_scores_are_shown_side_by_side(original):
    lines = original.results["retrain"].out.splitlines()
    summary = original.json("retrained/retraining.json")
    seeds = [model["scores"]["accuracy"] for model in summary["models"]]
    assert lines[0] == (
        f"tiny: trial {summary['trial_id']} retrained on 48 rows (training and validation) for "
        f"{summary['epochs']} epochs, 2 seeds"
    )
    table = [line.split() for line in lines[1:6]]
    assert [line[:2] for line in table] == [
        ["searched,", "val_accuracy"],
        ["searched,", "accuracy"],
        *[["retrained,", "accuracy"]] * 3,
    ]
    expected = [
        summary["searched"]["val_accuracy"],
        summary["searched_scores"]["accuracy"],
        *seeds,
        np.mean(seeds),
    ]
    assert [line[2] for line in table] == [f"{score:.4g}" for score in expected]
    assert "by which it was chosen: optimistic" in lines[1]
    assert lines[2].endswith("on 40 test rows") and lines[3].endswith("seed 0, kept")
    assert f"standard deviation {np.std(seeds, ddof=1):.2g}" in lines[5]
    better = summary["searched_scores"]["accuracy"] > seeds[0]
    advice = "The searched model is better on these rows: `keras-nas register NAME`, without"
    assert (advice in original.results["retrain"].out) == better
    assert "loading" in original.results["retrain"].err


def test_every_seed_has_a_child_run_of_the_search(original):
    (parent,) = original.runs("search")
    trials, runs = original.runs("trial"), original.runs("retrained")
    assert len(trials) == 2 and len(runs) == 2, "no trial was added"
    summary = original.json("retrained/retraining.json")
    for run in runs:
        tags = run.data.tags
        assert run.info.status == "FINISHED"
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert tags["nas.search_id"] == summary["search_id"]
        assert tags["nas.retrained_trial_id"] == summary["trial_id"]
        for name in ("nas.search_name", "nas.strategy", "nas.device"):
            assert tags[name] == parent.data.tags[name]
        (model,) = [m for m in summary["models"] if m["seed"] == int(tags["nas.seed"])]
        assert run.info.run_id == model["run_id"]
        metrics, params = run.data.metrics, run.data.params
        assert metrics["retrained/accuracy"] == model["scores"]["accuracy"]
        assert metrics["searched/accuracy"] == summary["searched_scores"]["accuracy"]
        assert metrics["searched/val_accuracy"] == summary["searched"]["val_accuracy"]
        assert metrics["cost/train_seconds"] > 0
        history = original.client().get_metric_history(run.info.run_id, "by_epoch/loss")
        assert [point.step for point in history] == list(range(summary["epochs"]))
        assert params["retrain/epochs"] == str(summary["epochs"]) and "units" in params
        inputs = {i.dataset.name: i.tags[0].value for i in run.inputs.dataset_inputs}
        assert inputs == {"recipe-full": "training", "recipe-test": "test"}


def version_files(original, version):
    source = original.client().get_model_version("tiny-model", version).source
    return Path(source.removeprefix("file://"))


def test_a_version_is_documented_by_tags_and_card(original):
    client = original.client()
    versions = [client.get_model_version("tiny-model", version) for version in ("1", "2")]
    assert client.get_registered_model("tiny-model").aliases == {"challenger": 2}
    assert [v.tags["nas.kind"] for v in versions] == ["trial", "retrained"]
    summary = original.json("retrained/retraining.json")
    model = summary["models"][0]
    assert versions[1].run_id == model["run_id"]
    assert versions[1].tags["nas.value"] == repr(model["scores"]["accuracy"])
    assert float(versions[0].tags["nas.value"]) == summary["searched"]["val_accuracy"]
    logged = client.get_logged_model(versions[1].tags["nas.model_id"])
    metrics = {metric.key: metric for metric in logged.metrics}
    assert metrics["model/accuracy"].value == model["scores"]["accuracy"]
    assert metrics["model/accuracy"].dataset_name == "recipe-test"
    texts = (
        ("best epoch", "On 24 validation rows, which chose the model.", "0"),
        ("retrained from scratch", "On 40 test rows.", "low"),
    )
    for version, (text, measured_on, first_class) in zip(versions, texts, strict=True):
        card = (version_files(original, version.version) / "model_card.md").read_text()
        assert text in card and version.description.startswith(card.partition("## Loading")[0])
        assert f"`{summary['search_id']}`" in card and "RandomOracle, 2 trials" in card
        score = summary["searched_scores"]["accuracy"]
        assert f"| searched model, test (40 rows) | {score:,.6g} |" in card
        assert all(f"`{data['digest']}`" in card for data in summary["datasets"])
        assert "- parameters: " in card and "Scaled" in card
        assert "usually higher than on new rows" in card
        assert 'mlflow.tensorflow.load_model("models:/tiny-model@challenger")' in card
        assert "valid while the version has the alias" in card
        titles = [line for line in card.splitlines() if line.startswith("## ")]
        expected = ["## Scores", "## Data", "## Scores by class", "## Intended use", "## Limits"]
        assert titles[: len(expected)] == expected
        assert "Nothing was measured by class" not in card
        assert measured_on in card and f"\n| {first_class} | " in card
        assert titles[-1] == "## Links" and f"/runs/{version.run_id}?" in card
        assert "[Run of the search](" in card and "[Report of the search](" in card
        assert len(version.tags) <= 6
    # The second version took the alias from the first.
    addresses = ("models:/tiny-model/1", "models:/tiny-model@challenger")
    for version, address in zip(versions, addresses, strict=True):
        assert f'mlflow.pyfunc.load_model("{address}")' in version.description
    first, second = (
        json.loads((version_files(original, version) / "architecture.json").read_text())
        for version in ("1", "2")
    )
    assert first["values"].keys() == {"units"} and first["keras"]["class_name"] == "Sequential"
    assert second["values"] == first["values"]


def test_class_names_are_stored_with_the_version(original):
    from mlflow.models import Model

    metadata = [Model.load(version_files(original, version)).metadata for version in ("1", "2")]
    assert metadata == [None, {"class_names": ["low", "high"]}]
    description = original.client().get_model_version("tiny-model", "2").description
    assert "- Classes: low, high" in description


def test_an_input_example_is_stored_unless_it_is_disabled(original):
    assert not (version_files(original, "1") / "input_example.json").exists()
    assert (
        "input example" not in original.client().get_model_version("tiny-model", "1").description
    )
    stored = json.loads((version_files(original, "2") / "input_example.json").read_text())
    assert np.shape(stored) == (4, 4)
    assert "input example" in original.client().get_model_version("tiny-model", "2").description


LOAD = """
import json, sys
import numpy as np
import mlflow
x = np.random.default_rng(2).random((40, 4), dtype="float32")
y = (x[:, 0] > 0.5).astype("int32")
summary = {}
for version in sys.argv[1:]:
    for flavour in ("pyfunc", "tensorflow"):
        model = getattr(mlflow, flavour).load_model(version)
        predicted = model.predict(x)
        if hasattr(predicted, "columns"):  # with class names
            classes = (predicted["class"] == "high").to_numpy()
        else:
            classes = predicted.argmax(axis=-1)
        accuracy = float(np.mean(classes == y))
        summary.setdefault(version, []).append(accuracy)
    example = mlflow.models.Model.load(version).load_input_example(version)
    if example is not None:
        summary[version].append(list(mlflow.pyfunc.load_model(version).predict(example).shape))
try:
    import keras_nas_plugin
except ImportError:
    summary["ours"] = False
print("RESULTS", json.dumps(summary))
"""


def test_a_new_process_loads_both_models(original, tmp_path):
    """Without the recipe and the package: custom layers are stored with the model."""
    for version in ("1", "2"):
        shutil.copytree(version_files(original, version), tmp_path / f"v{version}")
    script = tmp_path / "load.py"
    script.write_text(LOAD, encoding="utf-8")
    result = forkserver.fork_server().run(
        forkserver.SCRIPT,
        cwd=tmp_path,
        file=str(script),
        arguments=["v1", "v2"],
        without_us=True,
    )
    assert result.returncode == 0, result.err[-4000:]
    summary = json.loads(result.out.partition("RESULTS ")[2])
    expected = original.json("retrained/retraining.json")
    searched = expected["searched_scores"]["accuracy"]
    retrained = expected["models"][0]["scores"]["accuracy"]
    assert summary["v1"] == pytest.approx([searched] * 2)
    assert summary["v2"][:2] == pytest.approx([retrained] * 2) and summary["v2"][2] == [4, 3]
    assert summary["ours"] is False, "a model does not depend on this package"
    requirements = (tmp_path / "v2/requirements.txt").read_text().split()
    assert all("==" in line for line in requirements)
    assert not any("keras-nas" in line for line in requirements)


def test_registering_a_model_again_returns_the_existing_version(folder):
    first = json.loads(folder.nas("register tiny-model --json").out)
    assert first["version"] == "1" and first["alias"] == "challenger"
    # Another search may have moved the alias in the meantime.
    folder.client().set_registered_model_alias("tiny-model", "challenger", "2")
    repeated = json.loads(folder.nas("register tiny-model --json").out)
    assert (repeated["version"], repeated["alias"]) == ("1", "challenger")
    assert folder.client().get_registered_model("tiny-model").aliases == {"challenger": 1}
    repeated = json.loads(folder.nas("register tiny-model --retrained --alias other --json").out)
    assert (repeated["version"], repeated["alias"]) == ("2", "other")
    aliases = folder.client().get_registered_model("tiny-model").aliases
    assert aliases == {"challenger": 1, "other": 2}
    # A version with a verdict becomes challenger only on request.
    folder.client().set_model_version_tag("tiny-model", "2", "nas.promotion.verdict", "passed")
    folder.client().set_registered_model_alias("tiny-model", "champion", "2")
    judged = json.loads(folder.nas("register tiny-model --retrained --json").out)
    assert (judged["version"], judged["alias"]) == ("2", None)
    assert folder.client().get_registered_model("tiny-model").aliases["challenger"] == 1
    output = folder.nas("register tiny-model --retrained").out
    assert (
        "models:/tiny-model/2\nIt did not become challenger, since `keras-nas promote`" in output
    )


def register_and_die(words):
    """Die right after the version was created, before it is recorded."""
    from mlflow import MlflowClient

    create = MlflowClient.create_model_version

    def create_and_die(*arguments, **options):
        create(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    MlflowClient.create_model_version = create_and_die
    forkserver.command_line(words)


def test_a_kill_after_a_version_was_created_creates_no_second_version(folder):
    words = f"register other-model --retrained --tracking-uri {folder.uri}".split()
    died = folder._server.run(f"{__name__}:register_and_die", cwd=folder.path, words=words)
    assert died.returncode == -signal.SIGKILL, died.err
    assert folder.client().get_registered_model("other-model").aliases == {}
    result = folder.nas("register other-model --retrained")
    assert result.returncode == 0, result.err
    assert len(folder.client().search_model_versions("name = 'other-model'")) == 1
    assert folder.client().get_registered_model("other-model").aliases == {"challenger": 1}


def test_a_second_retraining_trains_only_the_missing_models(folder):
    before = folder.json("retrained/retraining.json")
    result = folder.nas("retrain --seeds 3 --json")
    assert result.returncode == 0, result.err
    after = json.loads(result.out)
    for model in (*before["models"], *after["models"]):
        del model["logged"]  # names the store, which was copied
    assert after["models"][:2] == before["models"] and after["models"][2]["seed"] == 2
    assert result.err.count("Retraining trial") == 1
    assert len(folder.runs("retrained")) == 3
    over = json.loads(folder.nas("retrain --epochs 1 --overwrite --no-tracking --json").out)
    assert over["epochs"] == 1 and over["models"][0]["run_id"] is None
    assert len(list(folder.project.glob("retrained/*/*.h5"))) == 1
    best = json.loads(folder.nas("best --json").out)["best"]
    runs = {run.data.tags["nas.trial_id"]: run.info.run_id for run in folder.runs("trial")}
    assert best["run_id"] == runs[best["trial_id"]], "trials do not change"


def test_overwritten_models_get_new_runs_and_versions(folder):
    previous = {run.info.run_id for run in folder.runs("retrained")}
    retrained = json.loads(folder.nas("retrain --overwrite --json").out)
    (run_id,) = (model["run_id"] for model in retrained["models"])
    assert {run.info.run_id for run in folder.runs("retrained")} == previous | {run_id}
    assert run_id not in previous
    for run in (*previous, run_id):
        assert len(folder.client().get_metric_history(run, "by_epoch/loss")) == retrained["epochs"]
    version = json.loads(folder.nas("register tiny-model --retrained --json").out)
    assert (version["version"], version["run_id"]) == ("3", run_id)


def test_without_test_data_the_score_is_unknown(folder):
    result = folder.nas("retrain --data-function no_test")
    assert result.returncode == 0, result.err
    assert "retrained, accuracy unknown" in " ".join(result.out.split())
    assert "does not show how good a model is" in result.out and "--hold-out 0.2" in result.out
    result = folder.nas("retrain --data-function no_test --hold-out 0.5 --json")
    summary = json.loads(result.out)
    assert (summary["measured_on"], summary["measured_rows"], summary["rows"]) == (
        "hold-out",
        12,
        36,
    )
    result = folder.nas("register held --retrained")
    assert result.returncode == 0, result.err
    card = folder.client().get_model_version("held", "1").description
    assert "held-out rows chose architecture and number of epochs" in card
    assert "On 12 held-out validation rows.\n" in card
    folder.nas("retrain --data-function no_test")
    folder.nas("register unknown --retrained")
    card = folder.client().get_model_version("unknown", "1").description
    assert "The score of this retrained model is not known" in card
    assert "Nothing was measured by class" in card


@pytest.fixture(scope="module")
def unreachable():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


def test_an_unreachable_server_loses_no_training(folder, unreachable):
    result = folder.nas("retrain --seed 9", uri=unreachable)
    assert result.returncode == 1
    assert "`tracking_uri` must be a server that answers" in result.err
    assert (
        "Error: some models were not logged to MLflow; the same command logs them." in result.err
    )
    assert "retrained, accuracy" in result.out
    # Runs at another server are not runs at this one.
    logged_elsewhere = folder.nas("retrain --seeds 2", uri=unreachable)
    assert logged_elsewhere.returncode == 1
    assert "MLflow run of seed" not in logged_elsewhere.out
    logged = folder.nas("retrain --seed 9")
    assert logged.returncode == 0, logged.err
    assert "Retraining trial" not in logged.err
    assert sorted(run.data.tags["nas.seed"] for run in folder.runs("retrained")) == ["0", "1", "9"]
    result = folder.nas("register tiny-model", uri=unreachable)
    assert_one_error(result, 1, "`tracking_uri` must be a server that answers")
    assert unreachable in result.err


def test_a_search_that_was_not_tracked_can_be_retrained_but_not_registered(folder):
    (folder.project / "tracking.json").unlink()
    assert_one_error(folder.nas("register name"), 1, "must be a search that was logged to MLflow")
    result = folder.nas("retrain --no-tracking --seed 7")
    assert result.returncode == 0 and "MLflow run" not in result.out


@pytest.mark.parametrize("words", ["register name", "retrain"])
def test_an_address_with_a_password_must_be_given_each_time(folder, words):
    tracking_file = folder.project / "tracking.json"
    tracking = json.loads(tracking_file.read_text())
    tracking["settings"]["tracking_uri"] = None
    tracking_file.write_text(json.dumps(tracking))
    result = folder._server.run(
        TARGET, cwd=folder.path, words=words.split(), environment={"MLFLOW_TRACKING_URI": ""}
    )
    assert_one_error(result, 1, "password and so was not saved; got None")


def test_a_recipe_that_changed_or_moved_can_be_used_and_an_unknown_one_is_an_error(folder):
    recipe, elsewhere = folder.path / "recipe.py", folder.path / "moved.py"
    origin = json.loads((folder.project / "recipe.json").read_text())
    assert Path(origin["file"]).name == "recipe.py"
    (folder.project / "recipe.json").write_text(json.dumps({**origin, "file": str(recipe)}))
    recipe.write_text(RECIPE + "\n# another line\n")
    result = folder.nas("retrain --no-tracking --seeds 2")
    assert result.returncode == 0 and "has changed since the search" in result.err
    recipe.rename(elsewhere)
    assert_one_error(folder.nas("retrain"), 2, "the search's own file no longer exists")
    assert folder.nas("retrain --seeds 2 --recipe moved.py:build_model").returncode == 0
    (folder.project / "recipe.json").unlink()
    result = folder.nas("retrain")
    assert_one_error(
        result, 2, "`--recipe` must be FILE[:NAME], the Python file with build_model(hp)"
    )


def assert_one_error(result, code, message):
    assert result.returncode == code, result.err
    assert "Traceback" not in result.err
    errors = [line for line in result.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, result.err
    assert message in result.err[result.err.index("Error: ") :]
    assert result.out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("retrain --trial 99", "`trial_id` must be a finished trial, one of 0, 1; got '99'"),
        ("retrain --data-function narrow", "`hypermodel` must train on these data"),
        ("retrain --data-function broken", "it raised OSError: no disk"),
        ("retrain --data-function other", "must define `other`; it defines"),
        ("retrain --recipe nowhere.py", "must be an existing Python file; got 'nowhere.py'"),
        ("retrain --hold-out 0.5", "`hold_out` must be None when there are test data"),
        ("register tiny-model --alias latest", "`alias` must consist of letters"),
        ("register a/b", "`name` must be a string"),
        ("register tiny-model --trial 99", "`trial_id` must be a finished trial"),
    ],
)
def test_invalid_arguments_are_errors(original, words, message):
    """None of these commands changes a file, so they share the folder."""
    assert_one_error(original.nas(words), 2, message)


def test_registering_a_retrained_model_that_does_not_exist_is_an_error(folder):
    shutil.rmtree(folder.project / "retrained")
    result = folder.nas("register tiny-model --retrained")
    assert_one_error(result, 2, "`retrained` must be False unless trial")


@pytest.mark.parametrize(
    ("command", "example"),
    [
        ("retrain", "keras-nas retrain --project-name image_classification"),
        ("register", "keras-nas register digits-classifier --retrained"),
    ],
)
def test_the_help_has_an_example(command, example, capsys):
    from keras_nas_plugin.cli.main import main

    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    output = capsys.readouterr().out
    assert end.value.code == 0 and f"Example: {example}" in " ".join(output.split())


def test_best_and_report_show_the_retrained_scores(original):
    summary = original.json("retrained/retraining.json")
    seeds = [model["scores"]["accuracy"] for model in summary["models"]]
    searched = summary["searched_scores"]["accuracy"]
    result = original.nas("best --project-name tiny")
    assert result.returncode == 0, result.err
    assert (
        f"retrained: accuracy {np.mean(seeds):.6g} on 40 test rows (mean of 2 seeds, standard "
        f"deviation {np.std(seeds, ddof=1):.6g}); the searched model on these rows: "
        f"{searched:.6g}\n"
    ) in result.out
    for command in ("best", "report"):
        retrained = json.loads(original.nas(command, "--project-name tiny --json").out)[
            "retrained"
        ]
        assert retrained["trial_id"] == summary["trial_id"]
        assert (retrained["searched_score"], retrained["scores"]) == (searched, seeds)
