"""`keras-nas retrain` and `keras-nas register`, as a person calls them after a search."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import TARGET
from tests.integration import forkserver

# The layer can be imported by nobody else.
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
    """A folder with a finished search, and the command in it."""

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
    """A search, its winner retrained with two seeds, and both registered."""
    path = tmp_path_factory.mktemp("search")
    (path / "recipe.py").write_text(RECIPE, encoding="utf-8")
    folder = Folder(path, forkserver.fork_server())
    done = folder.nas(SEARCH.format(store=forkserver.new_store(path)))
    assert done.returncode == 0, done.err
    folder.done = {
        "retrain": folder.nas("retrain --seeds 2"),
        "searched": folder.nas("register tiny-model --no-input-example --json"),
        "retrained": folder.nas("register tiny-model --retrained"),
    }
    for name, one in folder.done.items():
        assert one.returncode == 0, (name, one.err)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    """The same, in the test's own folder."""
    shutil.copytree(original.path, tmp_path, dirs_exist_ok=True)
    return Folder(tmp_path, forkserver.fork_server())


def test_both_scores_stand_side_by_side(original):
    lines = original.done["retrain"].out.splitlines()
    found = original.json("retrained/retraining.json")
    seeds = [model["scores"]["accuracy"] for model in found["models"]]
    assert lines[0] == (
        f"tiny: trial {found['trial_id']} retrained on 48 rows (training and validation) for "
        f"{found['epochs']} epochs, 2 seeds"
    )
    shown = [line.split() for line in lines[1:6]]
    assert [line[:2] for line in shown] == [
        ["searched,", "val_accuracy"],
        ["searched,", "accuracy"],
        *[["retrained,", "accuracy"]] * 3,
    ]
    expected = [
        found["searched"]["val_accuracy"],
        found["searched_scores"]["accuracy"],
        *seeds,
        np.mean(seeds),
    ]
    assert [line[2] for line in shown] == [f"{score:.4g}" for score in expected]
    assert "which chose it: optimistic" in lines[1]
    assert lines[2].endswith("on 40 test rows") and lines[3].endswith("seed 0, kept")
    assert f"standard deviation {np.std(seeds, ddof=1):.2g}" in lines[5]
    assert "loading" in original.done["retrain"].err


def test_every_seed_is_a_run_below_the_search(original):
    (parent,) = original.runs("search")
    trials, runs = original.runs("trial"), original.runs("retrained")
    assert len(trials) == 2 and len(runs) == 2, "no trial was added"
    found = original.json("retrained/retraining.json")
    for run in runs:
        tags = run.data.tags
        assert run.info.status == "FINISHED"
        assert tags["mlflow.parentRunId"] == parent.info.run_id
        assert tags["nas.search_id"] == found["search_id"]
        assert tags["nas.retrained_trial_id"] == found["trial_id"]
        assert tags["nas.device"] == parent.data.tags["nas.device"]
        (model,) = [m for m in found["models"] if m["seed"] == int(tags["nas.seed"])]
        assert run.info.run_id == model["run_id"]
        metrics, params = run.data.metrics, run.data.params
        assert metrics["retrained/accuracy"] == model["scores"]["accuracy"]
        assert metrics["searched/accuracy"] == found["searched_scores"]["accuracy"]
        assert metrics["searched/val_accuracy"] == found["searched"]["val_accuracy"]
        assert metrics["cost/train_seconds"] > 0
        history = original.client().get_metric_history(run.info.run_id, "loss")
        assert [point.step for point in history] == list(range(found["epochs"]))
        assert params["retrain/epochs"] == str(found["epochs"]) and "units" in params
        inputs = {i.dataset.name: i.tags[0].value for i in run.inputs.dataset_inputs}
        assert inputs == {"recipe-full": "training", "recipe-test": "test"}


def version_files(original, version):
    source = original.client().get_model_version("tiny-model", version).source
    return Path(source.removeprefix("file://"))


def test_a_version_says_what_it_is(original):
    client = original.client()
    versions = [client.get_model_version("tiny-model", version) for version in ("1", "2")]
    assert client.get_registered_model("tiny-model").aliases == {"challenger": 2}
    assert [v.tags["nas.kind"] for v in versions] == ["trial", "retrained"]
    found = original.json("retrained/retraining.json")
    kept = found["models"][0]
    assert versions[1].run_id == kept["run_id"]
    assert versions[1].tags["nas.value"] == repr(kept["scores"]["accuracy"])
    assert versions[1].tags["nas.measured_on"] == "test"
    assert float(versions[0].tags["nas.value"]) == found["searched"]["val_accuracy"]
    logged = client.get_logged_model(versions[1].tags["nas.model_id"])
    metrics = {metric.key: metric for metric in logged.metrics}
    assert metrics["model/accuracy"].value == kept["scores"]["accuracy"]
    assert metrics["model/accuracy"].dataset_name == "recipe-test"
    for version, text in zip(versions, ("best epoch", "retrained from scratch"), strict=True):
        card = (version_files(original, version.version) / "model_card.md").read_text()
        assert version.description == card and text in card
        assert f"`{found['search_id']}`" in card and "RandomOracle, 2 trials" in card
        score = found["searched_scores"]["accuracy"]
        assert f"| searched model, test (40 rows) | {score:,.6g} |" in card
        assert all(f"`{data['digest']}`" in card for data in found["datasets"])
        assert "- parameters: " in card and "Scaled" in card
        assert "as a rule higher than on new rows" in card
        assert 'mlflow.tensorflow.load_model("models:/tiny-model@challenger")' in card
        assert "after promotion it is `models:/tiny-model@champion`" in card
    first, second = (
        json.loads((version_files(original, version) / "architecture.json").read_text())
        for version in ("1", "2")
    )
    assert first["values"].keys() == {"units"} and first["keras"]["class_name"] == "Sequential"
    assert second["values"] == first["values"]


def test_rows_are_stored_unless_told_otherwise(original):
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
found = {}
for version in sys.argv[1:]:
    for flavour in ("pyfunc", "tensorflow"):
        model = getattr(mlflow, flavour).load_model(version)
        accuracy = float(np.mean(model.predict(x).argmax(axis=-1) == y))
        found.setdefault(version, []).append(accuracy)
    example = mlflow.models.Model.load(version).load_input_example(version)
    if example is not None:
        found[version].append(list(mlflow.pyfunc.load_model(version).predict(example).shape))
found["ours"] = "keras_nas_plugin" in sys.modules
print("FOUND", json.dumps(found))
"""


def test_a_fresh_process_loads_both(original, tmp_path):
    """In an empty folder, without the recipe: custom layers travel with the model."""
    for version in ("1", "2"):
        shutil.copytree(version_files(original, version), tmp_path / f"v{version}")
    done = subprocess.run(
        [sys.executable, "-I", "-c", LOAD, "v1", "v2"],
        cwd=tmp_path,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.partition("FOUND ")[2])
    expected = original.json("retrained/retraining.json")
    searched = expected["searched_scores"]["accuracy"]
    retrained = expected["models"][0]["scores"]["accuracy"]
    assert found["v1"] == pytest.approx([searched] * 2)
    assert found["v2"][:2] == pytest.approx([retrained] * 2) and found["v2"][2] == [4, 2]
    assert found["ours"] is False, "a model needs nothing of this package"
    requirements = (tmp_path / "v2/requirements.txt").read_text().split()
    assert all("==" in line for line in requirements)
    assert not any("keras-nas" in line for line in requirements)


def test_the_same_model_is_registered_once(folder):
    first = json.loads(folder.nas("register tiny-model --json").out)
    assert first["version"] == "1" and first["alias"] == "challenger"
    # Another search may have taken the alias meanwhile.
    folder.client().set_registered_model_alias("tiny-model", "challenger", "2")
    again = json.loads(folder.nas("register tiny-model --json").out)
    assert (again["version"], again["alias"]) == ("1", "challenger")
    assert folder.client().get_registered_model("tiny-model").aliases == {"challenger": 1}
    again = json.loads(folder.nas("register tiny-model --retrained --alias other --json").out)
    assert (again["version"], again["alias"]) == ("2", "other")
    aliases = folder.client().get_registered_model("tiny-model").aliases
    assert aliases == {"challenger": 1, "other": 2}
    # What is judged does not challenge again without being asked by a person.
    folder.client().set_model_version_tag("tiny-model", "2", "nas.promotion.verdict", "passed")
    folder.client().set_registered_model_alias("tiny-model", "champion", "2")
    judged = json.loads(folder.nas("register tiny-model --retrained --json").out)
    assert (judged["version"], judged["alias"]) == ("2", None)
    assert folder.client().get_registered_model("tiny-model").aliases["challenger"] == 1
    told = folder.nas("register tiny-model --retrained").out
    assert "models:/tiny-model/2\nIt did not become challenger, since `keras-nas promote`" in told


def register_and_die(words):
    """Die right after the version was made, before anything was noted."""
    from mlflow import MlflowClient

    create = MlflowClient.create_model_version

    def last(*arguments, **options):
        create(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    MlflowClient.create_model_version = last
    forkserver.command_line(words)


def test_a_kill_after_the_version_was_made_makes_no_second(folder):
    words = f"register other-model --retrained --tracking-uri {folder.uri}".split()
    died = folder._server.run(f"{__name__}:register_and_die", cwd=folder.path, words=words)
    assert died.returncode == -signal.SIGKILL, died.err
    assert folder.client().get_registered_model("other-model").aliases == {}
    done = folder.nas("register other-model --retrained")
    assert done.returncode == 0, done.err
    assert len(folder.client().search_model_versions("name = 'other-model'")) == 1
    assert folder.client().get_registered_model("other-model").aliases == {"challenger": 1}


def test_again_trains_what_is_missing(folder):
    before = folder.json("retrained/retraining.json")
    done = folder.nas("retrain --seeds 3 --json")
    assert done.returncode == 0, done.err
    after = json.loads(done.out)
    for model in (*before["models"], *after["models"]):
        del model["logged"]  # names the store, which was copied
    assert after["models"][:2] == before["models"] and after["models"][2]["seed"] == 2
    assert done.err.count("Retraining trial") == 1
    assert len(folder.runs("retrained")) == 3
    over = json.loads(folder.nas("retrain --epochs 1 --overwrite --no-tracking --json").out)
    assert over["epochs"] == 1 and over["models"][0]["run_id"] is None
    assert len(list(folder.project.glob("retrained/*/*.h5"))) == 1
    best = json.loads(folder.nas("best --json").out)["best"]
    runs = {run.data.tags["nas.trial_id"]: run.info.run_id for run in folder.runs("trial")}
    assert best["run_id"] == runs[best["trial_id"]], "a trial is still what it was"


def test_what_is_trained_anew_shares_neither_run_nor_version(folder):
    earlier = {run.info.run_id for run in folder.runs("retrained")}
    new = json.loads(folder.nas("retrain --overwrite --json").out)
    (run_id,) = (model["run_id"] for model in new["models"])
    assert {run.info.run_id for run in folder.runs("retrained")} == earlier | {run_id}
    assert run_id not in earlier
    for one in (*earlier, run_id):
        assert len(folder.client().get_metric_history(one, "loss")) == new["epochs"]
    version = json.loads(folder.nas("register tiny-model --retrained --json").out)
    assert (version["version"], version["run_id"]) == ("3", run_id)


def test_without_test_data_it_says_so(folder):
    done = folder.nas("retrain --data no_test")
    assert done.returncode == 0, done.err
    assert "retrained, accuracy unknown" in " ".join(done.out.split())
    assert "say nothing of it" in done.out and "--hold-out 0.2" in done.out
    done = folder.nas("retrain --data no_test --hold-out 0.5 --json")
    found = json.loads(done.out)
    assert (found["measured_on"], found["measured_rows"], found["rows"]) == ("hold-out", 12, 36)
    done = folder.nas("register held --retrained")
    assert done.returncode == 0, done.err
    card = folder.client().get_model_version("held", "1").description
    assert "held-out rows chose architecture and number of epochs" in card
    folder.nas("retrain --data no_test")
    folder.nas("register unknown --retrained")
    card = folder.client().get_model_version("unknown", "1").description
    assert "The score of this retrained model is not known" in card


@pytest.fixture(scope="module")
def nobody():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{closed.getsockname()[1]}"


def test_a_server_that_is_away_costs_no_training(folder, nobody):
    done = folder.nas("retrain --seed 9", uri=nobody)
    assert done.returncode == 1
    assert "`tracking_uri` needs a server that answers" in done.err
    assert "Error: MLflow has not got all of it; the same command sends it." in done.err
    assert "retrained, accuracy" in done.out
    # Runs elsewhere do not count.
    known = folder.nas("retrain --seeds 2", uri=nobody)
    assert known.returncode == 1 and "MLflow run of seed" not in known.out
    again = folder.nas("retrain --seed 9")
    assert again.returncode == 0, again.err
    assert "Retraining trial" not in again.err
    assert sorted(run.data.tags["nas.seed"] for run in folder.runs("retrained")) == ["0", "1", "9"]
    done = folder.nas("register tiny-model", uri=nobody)
    assert_one_error(done, 1, "`tracking_uri` needs a server that answers")
    assert nobody in done.err


def test_a_search_that_was_not_tracked(folder):
    (folder.project / "tracking.json").unlink()
    assert_one_error(folder.nas("register name"), 1, "needs runs in MLflow; it was not tracked")
    done = folder.nas("retrain --no-tracking --seed 7")
    assert done.returncode == 0 and "MLflow run" not in done.out


@pytest.mark.parametrize("words", ["register name", "retrain"])
def test_an_address_with_a_password_has_to_be_given_again(folder, words):
    note = folder.project / "tracking.json"
    noted = json.loads(note.read_text())
    noted["settings"]["tracking_uri"] = None
    note.write_text(json.dumps(noted))
    done = folder._server.run(
        TARGET, cwd=folder.path, words=words.split(), environment={"MLFLOW_TRACKING_URI": ""}
    )
    assert_one_error(done, 1, "the address at which the search logged, which holds a password")


def test_the_file_of_the_search(folder):
    recipe, elsewhere = folder.path / "recipe.py", folder.path / "moved.py"
    origin = json.loads((folder.project / "recipe.json").read_text())
    assert Path(origin["file"]).name == "recipe.py"
    (folder.project / "recipe.json").write_text(json.dumps({**origin, "file": str(recipe)}))
    recipe.write_text(RECIPE + "\n# another line\n")
    done = folder.nas("retrain --no-tracking --seeds 2")
    assert done.returncode == 0 and "has changed since the search" in done.err
    recipe.rename(elsewhere)
    assert_one_error(folder.nas("retrain"), 2, "the search's own file is gone")
    assert folder.nas("retrain --seeds 2 --recipe moved.py:build_model").returncode == 0
    (folder.project / "recipe.json").unlink()
    done = folder.nas("retrain")
    assert_one_error(done, 2, "`--recipe` needs FILE[:NAME], the Python file with build_model(hp)")


def assert_one_error(done, code, said):
    assert done.returncode == code, done.err
    assert "Traceback" not in done.err
    errors = [line for line in done.err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1, done.err
    assert said in done.err[done.err.index("Error: ") :]
    assert done.out == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("retrain --trial 99", "`trial_id` needs a trial that finished; received '99'"),
        ("retrain --data narrow", "`hypermodel` needs to train on these data"),
        ("retrain --data broken", "it raised OSError: no disk"),
        ("retrain --data other", "needs `other`; it defines"),
        ("retrain --recipe nowhere.py", "needs an existing Python file; received 'nowhere.py'"),
        ("retrain --hold-out 0.5", "`hold_out` needs data without test rows"),
        ("register tiny-model --alias latest", "`alias` needs letters"),
        ("register a/b", "`name` needs text"),
        ("register tiny-model --trial 99", "`trial_id` needs a trial that finished"),
    ],
)
def test_what_cannot_be_done(original, words, said):
    """None of these changes anything, so they share the folder."""
    assert_one_error(original.nas(words), 2, said)


def test_a_model_that_was_not_retrained(folder):
    shutil.rmtree(folder.project / "retrained")
    done = folder.nas("register tiny-model --retrained")
    assert_one_error(done, 2, "`retrained=True` needs trial")


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
    shown = capsys.readouterr().out
    assert end.value.code == 0 and f"Example: {example}" in " ".join(shown.split())


def test_the_winner_is_shown_with_what_became_of_it(original):
    found = original.json("retrained/retraining.json")
    seeds = [model["scores"]["accuracy"] for model in found["models"]]
    searched = found["searched_scores"]["accuracy"]
    done = original.nas("best --project-name tiny")
    assert done.returncode == 0, done.err
    assert (
        f"retrained: accuracy {np.mean(seeds):.6g} on 40 test rows (mean of 2 seeds, standard "
        f"deviation {np.std(seeds, ddof=1):.6g}); the searched model there: {searched:.6g}\n"
    ) in done.out
    for command in ("best", "report"):
        shown = json.loads(original.nas(command, "--project-name tiny --json").out)["retrained"]
        assert shown["trial_id"] == found["trial_id"]
        assert (shown["searched_score"], shown["scores"]) == (searched, seeds)
