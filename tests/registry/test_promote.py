"""Promotion and rollback in a real registry: what moves, what is written, what survives."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import itertools
import json
import os
import shutil
import socket
import tempfile
import threading
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from keras_nas_plugin import Constraint, PromotionError, promote, rollback
from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.registry import Verdict, register_model
from keras_nas_plugin.registry.gates.base import Finding

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 4)).astype("float32")
Y = (X[:, 0] + X[:, 1] > 0).astype(int)
GOOD, FAIR, BAD = 1.0, 0.4, -1.0  # weights of the second column; 1 is the truth
DATA = {"x": X, "y": Y, "smoke_test": False}
FIRST = {**DATA, "thresholds": [Constraint("accuracy", min=0.6)]}


class Doubled(keras.layers.Layer):
    """A layer that no other process can import."""

    def call(self, x):
        return 2.0 * x


def classifier(weight):
    """A classifier that knows the first column and weighs the second."""
    hidden = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((4,)), hidden, Doubled(), keras.layers.Softmax()])
    kernel = np.zeros((4, 2))
    kernel[0], kernel[1] = (-1, 1), (-weight, weight)
    hidden.set_weights([kernel, np.zeros(2)])
    return model


@dataclasses.dataclass
class Registry:
    """A store with registered models, each test under a name of its own."""

    uri: str
    client: MlflowClient
    experiment: str
    name: str = ""

    def add(self, model, alias="challenger"):
        run = self.client.create_run(self.experiment)
        return register_model(
            model, name=self.name, run_id=run.info.run_id, tracking_uri=self.uri, alias=alias
        )

    def copy(self, of, alias="challenger"):
        """A further version with the files of another one, which costs no training or saving."""
        run = self.client.create_run(self.experiment)
        found = self.client.get_model_version(*of)
        with contextlib.suppress(mlflow.MlflowException):
            self.client.create_registered_model(self.name)
        new = self.client.create_model_version(self.name, found.source, run.info.run_id)
        if alias:
            self.client.set_registered_model_alias(self.name, alias, new.version)
        return str(new.version)

    def promote(self, **options):
        return promote(self.name, tracking_uri=self.uri, **{**DATA, **options})

    def rollback(self, **options):
        return rollback(self.name, tracking_uri=self.uri, **options)

    @property
    def aliases(self):
        found = self.client.get_registered_model(self.name).aliases
        return {alias: str(version) for alias, version in found.items()}

    def version(self, version):
        return self.client.get_model_version(self.name, version)

    def tags(self, version):
        return self.version(version).tags

    def state(self):
        """All that a call may change."""
        versions = self.client.search_model_versions(f"name = '{self.name}'")
        artifacts = {v.run_id: self.client.list_artifacts(v.run_id, "promotion") for v in versions}
        return self.aliases, {v.version: self.tags(v.version) for v in versions}, artifacts


@pytest.fixture(scope="module")
def store(tmp_path_factory, empty_store):
    """A registry with a good, a fair and a bad model, as versions 1 to 3 of `models`."""
    folder = tmp_path_factory.mktemp("promotion")
    shutil.copy(empty_store, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("models", (folder / "artifacts").as_uri())
    made = Registry(uri, client, experiment, "models")
    for weight in (GOOD, FAIR, BAD):
        made.add(classifier(weight), alias=None)
    return made


NUMBERS = itertools.count()
MODELS = {"good": ("models", "1"), "fair": ("models", "2"), "bad": ("models", "3")}


@pytest.fixture
def registry(store):
    """The same store under a fresh name."""
    return dataclasses.replace(store, name=f"model-{next(NUMBERS)}")


@pytest.fixture
def ready(registry):
    """A fair champion, version 1, and a good challenger, version 2."""
    registry.copy(MODELS["fair"], "champion")
    registry.copy(MODELS["good"])
    return registry


def test_a_better_challenger_becomes_champion(ready):
    verdict = ready.promote(
        thresholds=[Constraint("accuracy", min=0.9), Constraint("params", max=100)],
        max_class_drop=0.1,
        why="spring release",
        by="ada",
        data_name="spring.npz",
    )
    assert verdict.passed and verdict.promoted and verdict.refused_by == ()
    assert (verdict.version, verdict.champion) == ("2", "1")
    assert [f.name for f in verdict.findings] == ["thresholds", "costs", "comparison", "classes"]
    assert verdict.finding("comparison").numbers["method"] == "mcnemar"
    assert verdict.finding("comparison").numbers["challenger"] == 1.0
    assert (
        verdict.costs["challenger"]["parameters"] == 10 == verdict.costs["champion"]["parameters"]
    )
    assert verdict.costs["challenger"]["size_bytes"] > 1000
    assert ready.aliases == {"champion": "2"}

    tags = {k.removeprefix("nas.promotion."): v for k, v in ready.tags("2").items()}
    assert (tags["verdict"], tags["by"], tags["why"]) == ("passed", "ada", "spring release")
    assert (tags["at"], tags["previous"]) == (verdict.at, "1")
    assert tags["data"].startswith("spring.npz ")
    assert float(tags["p_value"]) == verdict.finding("comparison").numbers["p_value"]
    assert "refused_because" not in tags

    run_id = ready.version("2").run_id
    text = mlflow.artifacts.load_text(
        f"{ready.client.get_run(run_id).info.artifact_uri}/{tags['artifact']}"
    )
    stored = json.loads(text)
    assert dataclasses.replace(Verdict.from_dict(stored), promoted=True).to_dict() == (
        verdict.to_dict()
    )
    assert stored["findings"][2]["numbers"] == verdict.finding("comparison").numbers
    assert stored["data"]["digest"] and stored["data"]["profile"][0]["shape"] == [400, 4]


@pytest.mark.parametrize(
    ("model", "options", "refused"),
    [
        ("fair", {}, ["comparison"]),  # an equal one
        ("bad", {}, ["comparison"]),
        ("good", {"min_improvement": 0.9}, ["comparison"]),
        ("good", {"thresholds": [Constraint("loss", max=0.01)]}, ["thresholds"]),
        ("good", {"thresholds": [Constraint("size", max=100)]}, ["costs"]),
        ("bad", {"max_class_drop": 0.1, "alpha": 0.9}, ["comparison", "classes"]),
    ],
)
def test_a_refusal_moves_nothing_and_is_recorded(registry, model, options, refused):
    registry.copy(MODELS["fair"], "champion")
    registry.copy(MODELS[model])
    verdict = registry.promote(**options)
    assert not verdict.passed and not verdict.promoted
    assert list(verdict.refused_by) == refused
    assert registry.aliases == {"champion": "1", "challenger": "2"}
    tags = registry.tags("2")
    assert tags["nas.promotion.verdict"] == "refused"
    assert refused[0] in tags["nas.promotion.refused_because"]
    assert tags["nas.promotion.artifact"] and tags["nas.promotion.compared_with"] == "1"
    assert "nas.promotion.previous" not in tags
    assert not any(key.startswith("nas.") for key in registry.tags("1"))


def test_an_equal_one_passes_a_test_for_non_inferiority(registry):
    registry.copy(MODELS["fair"], "champion")
    registry.copy(MODELS["fair"])
    verdict = registry.promote(min_improvement=-0.05)
    assert verdict.promoted and verdict.finding("comparison").numbers["method"] == "score"


def test_a_later_verdict_replaces_the_tags_of_an_earlier_one(ready):
    assert not ready.promote(thresholds=[Constraint("loss", max=0.01)], why="too strict").passed
    assert ready.promote().promoted
    tags = ready.tags("2")
    assert tags["nas.promotion.verdict"] == "passed"
    assert "nas.promotion.refused_because" not in tags
    # Nobody gave a reason this time: the numbers do.
    assert tags["nas.promotion.why"].startswith("accuracy 1 against ")
    assert len(ready.client.list_artifacts(ready.version("2").run_id, "promotion")) == 2


def test_a_first_champion_needs_a_threshold_on_a_metric(registry):
    registry.copy(MODELS["fair"])
    before = registry.state()
    for thresholds in ([], [Constraint("params", max=100)]):
        with pytest.raises(PromotionError, match="`thresholds` needs a limit on a metric"):
            registry.promote(thresholds=thresholds)
    assert registry.state() == before
    verdict = registry.promote(thresholds=[Constraint("accuracy", min=0.99)])
    assert not verdict.passed and registry.aliases == {"challenger": "1"}
    verdict = registry.promote(**FIRST)
    assert verdict.promoted and verdict.champion is None
    assert registry.aliases == {"champion": "1"}
    assert "nas.promotion.previous" not in registry.tags("1")
    with pytest.raises(PromotionError, match="champion that replaced another"):
        registry.rollback()


@pytest.mark.parametrize("model", ["good", "bad"])
def test_a_dry_run_writes_nothing(registry, model):
    registry.copy(MODELS["fair"], "champion")
    registry.copy(MODELS[model])
    before = registry.state()
    verdict = registry.promote(dry_run=True)
    assert verdict.passed is (model == "good") and not verdict.promoted
    assert registry.state() == before


class Killed(BaseException):
    """The end of a process."""


def kill_at(monkeypatch, method):
    def die(*arguments):
        raise Killed

    monkeypatch.setattr(MlflowClient, method, die)


def test_a_crash_before_champion_moves_changes_no_alias(ready, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at(patch, "set_registered_model_alias")
        with pytest.raises(Killed):
            ready.promote()
    assert ready.aliases == {"champion": "1", "challenger": "2"}
    verdict = ready.promote()
    assert verdict.promoted and not verdict.finished_earlier
    assert ready.aliases == {"champion": "2"}


@pytest.fixture
def crashed(ready, monkeypatch):
    """A promotion that died between its two calls."""
    with monkeypatch.context() as patch:
        kill_at(patch, "delete_registered_model_alias")
        with pytest.raises(Killed):
            ready.promote(why="spring release")
    assert ready.aliases == {"champion": "2", "challenger": "2"}
    return ready


def test_a_crash_between_the_two_calls_is_repaired_by_the_next(crashed, caplog):
    before = crashed.state()
    foreseen = crashed.promote(dry_run=True)
    assert foreseen.finished_earlier and crashed.state() == before
    verdict = crashed.promote()
    assert verdict.promoted and verdict.finished_earlier and verdict.why == "spring release"
    assert verdict.finding("comparison").passed
    assert "version 2" in caplog.text and "interrupted" in caplog.text
    assert crashed.aliases == {"champion": "2"}
    with pytest.raises(PromotionError, match="has none"):
        crashed.promote()
    assert crashed.rollback().champion == "1"


def test_a_crash_is_repaired_for_a_version_that_was_registered_without_a_run(crashed):
    crashed.client.delete_model_version_tag(crashed.name, "2", "nas.promotion.artifact")
    verdict = crashed.promote()
    assert verdict.promoted and verdict.finished_earlier
    assert (verdict.champion, verdict.why) == ("1", "spring release")
    assert crashed.aliases == {"champion": "2"}


def test_a_new_challenger_after_a_crash_is_judged(crashed):
    crashed.copy(MODELS["bad"])
    assert crashed.aliases == {"champion": "2", "challenger": "3"}
    verdict = crashed.promote()
    assert not verdict.finished_earlier and (verdict.version, verdict.champion) == ("3", "2")


def test_a_rollback_after_a_crash_takes_the_challenger_away_too(crashed):
    done = crashed.rollback()
    assert (done.left, done.champion) == ("2", "1")
    assert crashed.aliases == {"champion": "1"}


def test_both_aliases_set_by_hand_are_left_alone(registry):
    registry.copy(MODELS["fair"], "champion")
    registry.client.set_registered_model_alias(registry.name, "challenger", "1")
    with pytest.raises(PromotionError, match="version 1 for both"):
        registry.promote()
    assert registry.aliases == {"champion": "1", "challenger": "1"}


@dataclasses.dataclass(frozen=True)
class Meanwhile:
    """A gate during whose judgement somebody does something."""

    do: object
    costs: tuple = ()

    def check(self, evidence):
        self.do()
        return Finding("meanwhile", True, "something happened", {"rows": len(evidence.y)})


def test_aliases_that_move_during_the_judgement_stop_it(ready):
    gate = Meanwhile(lambda: ready.copy(MODELS["bad"]))
    with pytest.raises(PromotionError, match="need to stay where they are"):
        ready.promote(gates=[gate])
    assert ready.aliases == {"champion": "1", "challenger": "3"}


def test_a_challenger_that_comes_between_the_two_calls_stays(ready, monkeypatch):
    move = MlflowClient.set_registered_model_alias

    def then_another(client, name, alias, version):
        move(client, name, alias, version)
        monkeypatch.undo()
        ready.copy(MODELS["bad"])

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", then_another)
    assert ready.promote().promoted
    assert ready.aliases == {"champion": "2", "challenger": "3"}


def test_rolling_back_restores_one_champion_after_the_other(ready):
    ready.promote()
    ready.client.set_registered_model_alias(ready.name, "challenger", "1")
    assert ready.promote(min_improvement=-0.99).promoted  # 1 again, after 2
    ready.copy(MODELS["good"])
    assert ready.promote().promoted and ready.aliases == {"champion": "3"}

    before = ready.state()
    assert ready.rollback(dry_run=True).champion == "1" and ready.state() == before
    done = ready.rollback(why="misreads sevens", by="ada")
    assert (done.left, done.champion) == ("3", "1") and ready.aliases == {"champion": "1"}
    tags = ready.tags("3")
    assert tags["nas.rollback.why"] == "misreads sevens" and tags["nas.rollback.by"] == "ada"
    assert (tags["nas.rollback.to"], tags["nas.rollback.at"]) == ("1", done.at)
    assert ready.rollback().champion == "2"
    assert ready.rollback().champion == "1"
    with pytest.raises(PromotionError, match="champion that replaced another"):
        ready.rollback()
    assert ready.aliases == {"champion": "1"}


def test_rolling_back_to_a_version_that_was_deleted(ready):
    ready.promote()
    ready.client.delete_model_version(ready.name, "1")
    with pytest.raises(PromotionError, match="version 1 .* was deleted"):
        ready.rollback()
    assert ready.aliases == {"champion": "2"}


def test_a_version_that_cannot_be_loaded_is_refused(ready):
    broken = ready.add(classifier(GOOD))
    folder = Path(ready.version(broken.version).source.removeprefix("file://"))
    (folder / "data" / "model.keras").write_bytes(b"not a model")
    verdict = ready.promote()
    assert list(verdict.refused_by) == ["model"] and "cannot be loaded" in (
        verdict.findings[0].message
    )
    assert ready.aliases == {"champion": "1", "challenger": "3"}
    assert ready.tags("3")["nas.promotion.verdict"] == "refused"


def test_a_champion_that_cannot_be_loaded_is_named(registry):
    broken = registry.add(classifier(FAIR), alias="champion")
    folder = Path(registry.version(broken.version).source.removeprefix("file://"))
    (folder / "MLmodel").write_text("flavors: {}")
    registry.copy(MODELS["good"])
    with pytest.raises(PromotionError, match="version 1 cannot be loaded"):
        registry.promote()
    assert registry.aliases == {"champion": "1", "challenger": "2"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"y": Y[:10]}, "`x` and `y` need as many rows.*400 and 10"),
        ({"y": Y + 5, "metric": "accuracy"}, "`y` needs class numbers"),
        ({"x": X[:, :3]}, "`x` needs rows that version 2 can predict"),
        ({"metric": "f1"}, "`metric`.*'f1'"),
        ({"alpha": 2}, "`alpha`"),
        ({"thresholds": ["accuracy>=0.9"]}, "`thresholds` needs `Constraint"),
        ({"thresholds": [Constraint("f1", min=0.1)]}, "`thresholds`.*'f1'"),
        ({"max_class_drop": 2}, "`max_class_drop`"),
        ({"batch_size": 0}, "`batch_size`"),
    ],
)
def test_terms_and_data_that_make_no_sense_are_named(ready, options, said):
    before = ready.state()
    with pytest.raises(PromotionError, match=said):
        ready.promote(**options)
    assert ready.state() == before


def test_a_model_or_an_alias_that_is_not_there(registry):
    for call in (registry.promote, registry.rollback):
        with pytest.raises(PromotionError, match=f"registered model; received '{registry.name}'"):
            call()
    registry.copy(MODELS["fair"], None)
    with pytest.raises(PromotionError, match="the alias 'challenger'.*has none"):
        registry.promote()
    with pytest.raises(PromotionError, match="the alias 'champion'.*has none"):
        registry.rollback()


def test_mlflows_own_settings_are_neither_used_nor_changed(ready, tmp_path):
    own = f"sqlite:///{tmp_path / 'own.db'}"
    mlflow.set_tracking_uri(own)
    try:
        assert ready.promote().promoted
        assert mlflow.get_tracking_uri() == mlflow.get_registry_uri() == own
        assert ready.rollback().champion == "1"
    finally:
        mlflow.set_tracking_uri(None)
        mlflow.set_registry_uri(None)
    assert not (tmp_path / "own.db").exists()
    assert mlflow.active_run() is None


def test_a_version_that_was_registered_from_a_logged_model(registry):
    """What `mlflow.register_model("models:/m-...", name)` makes."""
    found = registry.client.get_model_version(*MODELS["good"])
    source = f"models:/{found.tags['nas.model_id']}"
    registry.client.create_registered_model(registry.name)
    mlflow.set_tracking_uri(registry.uri)  # MLflow 3.17 looks the source up there
    try:
        made = registry.client.create_model_version(registry.name, source, found.run_id)
    finally:
        mlflow.set_tracking_uri(None)
    assert made.source == source
    registry.client.set_registered_model_alias(registry.name, "challenger", made.version)
    assert registry.promote(**FIRST).promoted


def several_inputs():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    joined = keras.layers.Concatenate()([Doubled()(a), b])
    return keras.Model([a, b], keras.layers.Dense(1)(joined))


def test_a_fresh_process_predicts_with_several_inputs_and_a_custom_layer(registry):
    model = several_inputs()
    rng = np.random.default_rng(1)
    x = [rng.random((8, 3)), rng.random((8, 2))]  # float64, where the signature says float32
    y = model.predict(x, verbose=0)
    registry.add(model)
    verdict = registry.promote(x=x, y=y, smoke_test=True, thresholds=[Constraint("mae", max=1e-3)])
    assert verdict.promoted, verdict.findings
    numbers = verdict.finding("fresh process").numbers
    assert numbers["rows"] == 4 and numbers["largest_difference"] <= numbers["tolerance"]


def test_a_server_that_is_away(registry):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://ada:secret@127.0.0.1:{closed.getsockname()[1]}"
    for call in (
        lambda: promote("m", tracking_uri=uri, **DATA),
        lambda: rollback("m", tracking_uri=uri),
    ):
        with pytest.raises(TrackingError, match="`tracking_uri` needs a server that answers") as e:
            call()
        assert "secret" not in str(e.value)


class Refuses(http.server.BaseHTTPRequestHandler):
    """A server that answers, and permits nothing."""

    def do_GET(self):
        self.answer(200 if self.path == "/health" else 403)

    def answer(self, code):
        body = json.dumps({"error_code": "PERMISSION_DENIED", "message": "Permission denied"})
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments):
        pass


def test_a_server_that_refuses():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(TrackingError, match="promoting `m` at http.*Permission denied"):
            promote("m", tracking_uri=uri, **DATA)
        with pytest.raises(TrackingError, match="rolling back `m` at http.*Permission denied"):
            rollback("m", tracking_uri=uri)
        server.shutdown()


@pytest.fixture
def unprivileged():
    """The superuser may write everywhere: become somebody who may not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_database_that_may_only_be_read(ready, request):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        shutil.copy(ready.uri.removeprefix("sqlite:///"), path)
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        request.getfixturevalue("unprivileged")
        for call in (promote, rollback):
            options = DATA if call is promote else {}
            with pytest.raises(TrackingError, match="`tracking_uri`.*can be written"):
                call(ready.name, tracking_uri=f"sqlite:///{path}", **options)
        if os.getuid() == 0:
            os.seteuid(0)
        Path(folder).chmod(0o755)
    assert ready.aliases == {"champion": "1", "challenger": "2"}
