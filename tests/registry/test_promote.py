"""Promotion and rollback in a real registry: aliases, stored verdicts, and crash recovery."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import http.server
import itertools
import json
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import keras
import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from keras_nas_plugin import Constraint, PromotionError, PromotionPolicy, promote, rollback
from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.registry import Verdict, aliases, evidence, promotion, register_model
from keras_nas_plugin.registry.card import loading_section
from keras_nas_plugin.registry.gates.base import Finding
from keras_nas_plugin.registry.rows import leaves

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 4)).astype("float32")
Y = (X[:, 0] + X[:, 1] > 0).astype(int)
GOOD, FAIR, BAD = 1.0, 0.4, -1.0  # weights of the second column; 1 is the truth
DATA = (X, Y)
FIRST = {"thresholds": [Constraint("accuracy", min=0.6)]}
POLICY_FIELDS = {field.name for field in dataclasses.fields(PromotionPolicy)}


class Doubled(keras.layers.Layer):
    """A layer that no other process can import."""

    def call(self, x):
        return 2.0 * x


def classifier(weight):
    """A classifier by the first column and the weighted second one."""
    hidden = keras.layers.Dense(2)
    model = keras.Sequential([keras.Input((4,)), hidden, Doubled(), keras.layers.Softmax()])
    kernel = np.zeros((4, 2))
    kernel[0], kernel[1] = (-1, 1), (-weight, weight)
    hidden.set_weights([kernel, np.zeros(2)])
    return model


@dataclasses.dataclass
class Registry:
    """A store with registered models; each test uses a different model name."""

    uri: str
    client: MlflowClient
    experiment: str
    name: str = ""

    def add(self, model, alias="challenger"):
        run = self.client.create_run(self.experiment)
        return register_model(
            model, name=self.name, run_id=run.info.run_id, tracking_uri=self.uri, alias=alias
        )

    def copy(self, source, alias="challenger"):
        """A new version with the files of an existing one, without training or saving a model."""
        run = self.client.create_run(self.experiment)
        original = self.client.get_model_version(*source)
        with contextlib.suppress(mlflow.MlflowException):
            self.client.create_registered_model(self.name)
        created = self.client.create_model_version(self.name, original.source, run.info.run_id)
        if alias:
            self.client.set_registered_model_alias(self.name, alias, created.version)
        return str(created.version)

    def promote(self, data=DATA, **options):
        """Promote without a smoke test; options that are fields of the policy go into it."""
        fields = {name: options.pop(name) for name in POLICY_FIELDS & options.keys()}
        policy = PromotionPolicy(**{"smoke_test": False, **fields})
        return promote(self.name, data, policy=policy, tracking_uri=self.uri, **options)

    def rollback(self, **options):
        return rollback(self.name, tracking_uri=self.uri, **options)

    @property
    def aliases(self):
        by_alias = self.client.get_registered_model(self.name).aliases
        return {alias: str(version) for alias, version in by_alias.items()}

    def version(self, version):
        return self.client.get_model_version(self.name, version)

    def tags(self, version):
        return self.version(version).tags

    def state(self):
        """Aliases, tags and artifacts, which are all that a call may change."""
        versions = self.client.search_model_versions(f"name = '{self.name}'")
        artifacts = {v.run_id: self.client.list_artifacts(v.run_id, "promotion") for v in versions}
        return self.aliases, {v.version: self.tags(v.version) for v in versions}, artifacts


@pytest.fixture(scope="module")
def store(tmp_path_factory, empty_store):
    """A registry with a good, a fair and a bad model: versions 1 to 3 of `models`."""
    folder = tmp_path_factory.mktemp("promotion")
    shutil.copy(empty_store, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    experiment = client.create_experiment("models", (folder / "artifacts").as_uri())
    registry = Registry(uri, client, experiment, "models")
    for weight in (GOOD, FAIR, BAD):
        registry.add(classifier(weight), alias=None)
    return registry


EXAMINED = {}


def examine_once(folder, version, x, *, batch_size=None, costs=()):
    """`examine` with a cache, by the contents of the files and the rows."""
    content = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content.update(file.read_bytes())
    for rows in leaves(x):
        content.update(np.ascontiguousarray(rows).tobytes())
    key = content.hexdigest(), batch_size, tuple(costs)
    if key not in EXAMINED:
        options = {"batch_size": batch_size, "costs": costs}
        EXAMINED[key] = evidence.examine(folder, version, x, **options)
    return dataclasses.replace(EXAMINED[key], version=version, folder=folder)


@pytest.fixture(autouse=True)
def models_loaded_once(monkeypatch):
    """Most tests examine the same three models, whose loading takes long."""
    monkeypatch.setattr(promotion, "examine", examine_once)


NUMBERS = itertools.count()
MODELS = {"good": ("models", "1"), "fair": ("models", "2"), "bad": ("models", "3")}


@pytest.fixture
def registry(store):
    """The store with a model name that no other test uses."""
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

    assert ready.tags("2")["nas.promotion.verdict"] == "passed"
    details = aliases.details_of(ready.tags("2"))
    assert (details["by"], details["why"]) == ("ada", "spring release")
    assert (details["at"], details["previous"]) == (verdict.at, "1")
    assert details["data"].startswith("spring.npz ")
    assert details["p_value"] == verdict.finding("comparison").numbers["p_value"]
    assert "refused_because" not in details

    run_id = ready.version("2").run_id
    text = mlflow.artifacts.load_text(
        f"{ready.client.get_run(run_id).info.artifact_uri}/{details['artifact']}"
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
        ("fair", {}, ["comparison"]),  # an equally good model
        ("bad", {}, ["comparison"]),
        ("good", {"min_improvement": 0.9}, ["comparison"]),
        ("good", {"thresholds": [Constraint("loss", max=0.01)]}, ["thresholds"]),
        ("good", {"thresholds": [Constraint("size", max=100)]}, ["costs"]),
        ("bad", {"max_class_drop": 0.1, "alpha": 0.9}, ["comparison", "classes"]),
    ],
)
def test_a_refusal_moves_no_alias_and_is_recorded(registry, model, options, refused):
    registry.copy(MODELS["fair"], "champion")
    registry.copy(MODELS[model])
    verdict = registry.promote(**options)
    assert not verdict.passed and not verdict.promoted
    assert list(verdict.refused_by) == refused
    assert registry.aliases == {"champion": "1", "challenger": "2"}
    tags = registry.tags("2")
    assert tags["nas.promotion.verdict"] == "refused"
    details = aliases.details_of(tags)
    assert refused[0] in details["refused_because"]
    assert details["artifact"] and details["compared_with"] == "1"
    assert "previous" not in details
    assert not any(key.startswith("nas.") for key in registry.tags("1"))


def test_an_equally_good_challenger_passes_a_test_for_non_inferiority(registry):
    registry.copy(MODELS["fair"], "champion")
    registry.copy(MODELS["fair"])
    verdict = registry.promote(min_improvement=-0.05)
    assert verdict.promoted and verdict.finding("comparison").numbers["method"] == "score"


def test_a_later_verdict_replaces_the_tags_of_an_earlier_one(ready):
    assert not ready.promote(thresholds=[Constraint("loss", max=0.01)], why="too strict").passed
    assert ready.promote().promoted
    tags = ready.tags("2")
    assert tags["nas.promotion.verdict"] == "passed"
    details = aliases.details_of(tags)
    assert "refused_because" not in details
    # Without a reason from the user, the numbers are the reason.
    assert details["why"].startswith("accuracy 1 against ")
    assert len(ready.client.list_artifacts(ready.version("2").run_id, "promotion")) == 2


def test_a_first_champion_needs_a_threshold_on_a_metric(registry):
    registry.copy(MODELS["fair"])
    before = registry.state()
    for thresholds in ([], [Constraint("params", max=100)]):
        with pytest.raises(
            PromotionError, match="`thresholds` .`--require`. must hold a limit on a metric"
        ):
            registry.promote(thresholds=thresholds)
    assert registry.state() == before
    verdict = registry.promote(thresholds=[Constraint("accuracy", min=0.99)])
    assert not verdict.passed and registry.aliases == {"challenger": "1"}
    verdict = registry.promote(**FIRST)
    assert verdict.promoted and verdict.champion is None
    assert registry.aliases == {"champion": "1"}
    assert "previous" not in aliases.details_of(registry.tags("1"))
    with pytest.raises(PromotionError, match="champion replaced another"):
        registry.rollback()


@pytest.mark.parametrize("model", ["good", "bad"])
def test_a_dry_run_writes_nothing(registry, model):
    registry.copy(MODELS["fair"], "champion")
    registry.copy(MODELS[model])
    before = registry.state()
    verdict = registry.promote(dry_run=True)
    assert verdict.passed is (model == "good") and not verdict.promoted
    assert registry.state() == before


class ProcessKilled(BaseException):
    """Stands in for a kill of the process."""


def kill_at(monkeypatch, method):
    def die(*arguments):
        raise ProcessKilled

    monkeypatch.setattr(MlflowClient, method, die)


def test_a_crash_before_champion_moves_changes_no_alias(ready, monkeypatch):
    with monkeypatch.context() as patch:
        kill_at(patch, "set_registered_model_alias")
        with pytest.raises(ProcessKilled):
            ready.promote()
    assert ready.aliases == {"champion": "1", "challenger": "2"}
    verdict = ready.promote()
    assert verdict.promoted and not verdict.finished_earlier
    assert ready.aliases == {"champion": "2"}


@pytest.fixture
def crashed(ready, monkeypatch):
    """A promotion that died after `champion` was set, before `challenger` was deleted."""
    with monkeypatch.context() as patch:
        kill_at(patch, "delete_registered_model_alias")
        with pytest.raises(ProcessKilled):
            ready.promote(why="spring release")
    assert ready.aliases == {"champion": "2", "challenger": "2"}
    return ready


def test_the_next_call_repairs_a_crash_between_the_two_alias_changes(crashed, caplog):
    before = crashed.state()
    preview = crashed.promote(dry_run=True)
    assert preview.finished_earlier and crashed.state() == before
    verdict = crashed.promote()
    assert verdict.promoted and verdict.finished_earlier and verdict.why == "spring release"
    assert verdict.finding("comparison").passed
    assert "version 2" in caplog.text and "interrupted" in caplog.text
    assert crashed.aliases == {"champion": "2"}
    with pytest.raises(PromotionError, match="has none"):
        crashed.promote()
    assert crashed.rollback().champion == "1"


def test_a_crash_is_repaired_for_a_version_without_a_run(crashed):
    details = aliases.details_of(crashed.tags("2"))
    del details["artifact"]
    aliases.set_details(crashed.client, crashed.name, "2", details)
    verdict = crashed.promote()
    assert verdict.promoted and verdict.finished_earlier
    assert (verdict.champion, verdict.why) == ("1", "spring release")
    assert crashed.aliases == {"champion": "2"}


def test_a_new_challenger_after_a_crash_is_judged(crashed):
    crashed.copy(MODELS["bad"])
    assert crashed.aliases == {"champion": "2", "challenger": "3"}
    verdict = crashed.promote()
    assert not verdict.finished_earlier and (verdict.version, verdict.champion) == ("3", "2")


def test_a_rollback_after_a_crash_deletes_the_challenger_alias_too(crashed):
    outcome = crashed.rollback()
    assert (outcome.left, outcome.champion) == ("2", "1")
    assert crashed.aliases == {"champion": "1"}


def test_both_aliases_set_manually_to_the_same_version_is_an_error(registry):
    registry.copy(MODELS["fair"], "champion")
    registry.client.set_registered_model_alias(registry.name, "challenger", "1")
    with pytest.raises(PromotionError, match="version 1 for both"):
        registry.promote()
    assert registry.aliases == {"champion": "1", "challenger": "1"}


@dataclasses.dataclass(frozen=True)
class Interfering:
    """A gate that calls a function while it judges."""

    interfere: Callable[[], object]
    costs: tuple = ()

    def check(self, evidence):
        self.interfere()
        return Finding("meanwhile", True, "something happened", {"rows": len(evidence.y)})


def test_an_alias_that_moves_during_the_judgement_stops_the_promotion(ready):
    gate = Interfering(lambda: ready.copy(MODELS["bad"]))
    with pytest.raises(PromotionError, match="must not change while a promotion is judged"):
        ready.promote(gates=[gate])
    assert ready.aliases == {"champion": "1", "challenger": "3"}


def test_a_challenger_registered_between_the_two_alias_changes_keeps_its_alias(ready, monkeypatch):
    move = MlflowClient.set_registered_model_alias

    def move_and_register(client, name, alias, version):
        move(client, name, alias, version)
        monkeypatch.undo()
        ready.copy(MODELS["bad"])

    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", move_and_register)
    assert ready.promote().promoted
    assert ready.aliases == {"champion": "2", "challenger": "3"}


def test_repeated_rollbacks_restore_earlier_champions_in_turn(ready):
    ready.promote()
    ready.client.set_registered_model_alias(ready.name, "challenger", "1")
    assert ready.promote(min_improvement=-0.99).promoted  # 1 again, after 2
    ready.copy(MODELS["good"])
    assert ready.promote().promoted and ready.aliases == {"champion": "3"}

    before = ready.state()
    assert ready.rollback(dry_run=True).champion == "1" and ready.state() == before
    outcome = ready.rollback(why="misreads sevens", by="ada")
    assert (outcome.left, outcome.champion) == ("3", "1") and ready.aliases == {"champion": "1"}
    rolled_back = {"to": "1", "by": "ada", "at": outcome.at, "why": "misreads sevens"}
    assert aliases.details_of(ready.tags("3"))["rolled_back"] == rolled_back
    assert ready.rollback().champion == "2"
    assert ready.rollback().champion == "1"
    with pytest.raises(PromotionError, match="champion replaced another"):
        ready.rollback()
    assert ready.aliases == {"champion": "1"}


def test_tags_of_earlier_releases_are_read_and_replaced(ready):
    ready.promote(why="spring release")
    details = aliases.details_of(ready.tags("2"))
    for key, value in details.items():
        ready.client.set_model_version_tag(ready.name, "2", f"nas.promotion.{key}", str(value))
    ready.client.delete_model_version_tag(ready.name, "2", "nas.promotion")
    assert aliases.details_of(ready.tags("2"))["previous"] == "1"
    assert ready.rollback().champion == "1"
    names = {name for name in ready.tags("2") if name.startswith("nas.promotion")}
    assert names == {"nas.promotion", "nas.promotion.verdict"}


def test_long_reasons_fit_into_a_tag(ready):
    ready.promote(why='"why" ' * 2_000, by="ada" * 1_000)
    ready.rollback(why='"why" ' * 2_000, by="ada" * 1_000)
    details = aliases.details_of(ready.tags("2"))
    assert details["why"].startswith('"why"') and details["rolled_back"]["why"].startswith('"why"')
    assert ready.aliases == {"champion": "1"}


def test_the_description_follows_the_alias_and_has_the_verdict(ready):
    def describe(version):
        card = "# m\n\n## Scores\n\n.9\n\n" + loading_section(ready.name, "challenger")
        text = f"{card}\n\n## Notes\n\nwritten by Ada\n"
        ready.client.update_model_version(ready.name, version, description=text)

    def section(version, title):
        text = ready.version(version).description
        assert text.endswith("## Notes\n\nwritten by Ada\n") and text.count("## Loading") == 1
        return text.partition(f"## {title}\n")[2].partition("\n## ")[0]

    for version in ("1", "2"):
        describe(version)
    assert not ready.promote(min_improvement=0.9).passed
    assert "Refused as champion" in section("2", "Promotion")
    assert f'load_model("models:/{ready.name}@challenger")' in section("2", "Loading")
    ready.promote(why="spring release")
    promotion = section("2", "Promotion")
    assert "Promoted to champion" in promotion and "compared with version 1" in promotion
    assert "spring release" in promotion and "comparison, passed: accuracy" in promotion
    assert f'load_model("models:/{ready.name}@champion")' in section("2", "Loading")
    assert f'load_model("models:/{ready.name}/1")' in section("1", "Loading")
    assert section("1", "Promotion") == ""
    ready.rollback(why="misreads sevens")
    promotion = section("2", "Promotion")
    assert "rolled back to version 1" in promotion and "misreads sevens" in promotion
    assert f'load_model("models:/{ready.name}@champion")' in section("1", "Loading")
    assert f'load_model("models:/{ready.name}/2")' in section("2", "Loading")


def test_a_promotion_whose_description_cannot_be_written_stands(ready, monkeypatch, caplog):
    card = loading_section(ready.name, "challenger")
    ready.client.update_model_version(ready.name, "2", description=f"# m\n\n{card}\n")

    def fail(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(MlflowClient, "update_model_version", fail)
    assert ready.promote().promoted and ready.aliases == {"champion": "2"}
    assert "description of version 2" in caplog.text and "no space left" in caplog.text


def test_rolling_back_to_a_deleted_version_fails(ready):
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


def test_the_error_names_a_champion_that_cannot_be_loaded(registry):
    broken = registry.add(classifier(FAIR), alias="champion")
    folder = Path(registry.version(broken.version).source.removeprefix("file://"))
    (folder / "MLmodel").write_text("flavors: {}")
    registry.copy(MODELS["good"])
    with pytest.raises(PromotionError, match="version 1 cannot be loaded"):
        registry.promote()
    assert registry.aliases == {"champion": "1", "challenger": "2"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": (X, Y[:10])}, "`x` and `y` must have the same number of rows.*400 and 10"),
        ({"data": (X, Y + 5), "metric": "accuracy"}, "`y` must hold class numbers"),
        ({"data": (X[:, :3], Y)}, "`x` must hold rows that version 2 can predict"),
        ({"data": X}, r"`data` must be a pair \(x, y\); got ndarray"),
        ({"data": (X, Y, Y)}, "`data` must be a pair .*; got tuple of 3"),
        ({"metric": "f1"}, "`metric`.*'f1'"),
        ({"alpha": 2}, "`alpha`"),
        ({"thresholds": ["accuracy>=0.9"]}, "`thresholds` must hold `Constraint"),
        ({"thresholds": [Constraint("f1", min=0.1)]}, "`thresholds`.*'f1'"),
        ({"max_class_drop": 2}, "`max_class_drop`"),
        ({"batch_size": 0}, "`batch_size`"),
        ({"seed": -1}, "`seed` must be at least 0; got -1"),
        ({"direction": "up"}, "`direction`.*'up'"),
    ],
)
def test_the_error_names_an_invalid_policy_or_data(ready, options, message):
    before = ready.state()
    with pytest.raises(PromotionError, match=message):
        ready.promote(**options)
    assert ready.state() == before


def test_a_missing_model_or_alias_is_an_error(registry):
    for call in (registry.promote, registry.rollback):
        with pytest.raises(PromotionError, match=f"registered model; got '{registry.name}'"):
            call()
    registry.copy(MODELS["fair"], None)
    with pytest.raises(PromotionError, match="the alias 'challenger'.*has none"):
        registry.promote()
    with pytest.raises(PromotionError, match="the alias 'champion'.*has none"):
        registry.rollback()


def test_the_users_mlflow_settings_are_neither_used_nor_changed(ready, tmp_path, monkeypatch):
    monkeypatch.setattr(promotion, "examine", evidence.examine)  # loading is part of the test
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


def test_a_version_registered_from_a_logged_model_can_be_promoted(registry):
    """As `mlflow.register_model("models:/m-...", name)` registers it."""
    original = registry.client.get_model_version(*MODELS["good"])
    source = f"models:/{original.tags['nas.model_id']}"
    registry.client.create_registered_model(registry.name)
    mlflow.set_tracking_uri(registry.uri)  # MLflow 3.17 looks the source up there
    try:
        version = registry.client.create_model_version(registry.name, source, original.run_id)
    finally:
        mlflow.set_tracking_uri(None)
    assert version.source == source
    registry.client.set_registered_model_alias(registry.name, "challenger", version.version)
    assert registry.promote(**FIRST).promoted


def test_a_promotion_without_a_policy_uses_the_default_policy(monkeypatch, ready):
    policies = []

    def judge(download, challenger, champion, policy, *arguments):
        policies.append(policy)
        raise ProcessKilled

    monkeypatch.setattr(promotion, "_judge", judge)
    with pytest.raises(ProcessKilled):
        promote(ready.name, DATA, tracking_uri=ready.uri)
    assert policies == [PromotionPolicy()]


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
    verdict = registry.promote((x, y), smoke_test=True, thresholds=[Constraint("mae", max=1e-3)])
    assert verdict.promoted, verdict.findings
    numbers = verdict.finding("fresh process").numbers
    assert numbers["rows"] == 4 and numbers["largest_difference"] <= numbers["tolerance"]


def test_a_server_that_does_not_answer_is_an_error(registry):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"http://ada:secret@127.0.0.1:{closed.getsockname()[1]}"
    for call in (
        lambda: promote("m", DATA, tracking_uri=uri),
        lambda: rollback("m", tracking_uri=uri),
    ):
        with pytest.raises(
            TrackingError, match="`tracking_uri` must be a server that answers"
        ) as e:
            call()
        assert "secret" not in str(e.value)


class Refuses(http.server.BaseHTTPRequestHandler):
    """A server that answers every request with a denial."""

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


def test_a_server_that_denies_access_is_an_error():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        with pytest.raises(TrackingError, match="promoting `m` at http.*Permission denied"):
            promote("m", DATA, tracking_uri=uri)
        with pytest.raises(TrackingError, match="rolling back `m` at http.*Permission denied"):
            rollback("m", tracking_uri=uri)
        server.shutdown()


@pytest.fixture
def unprivileged():
    """Become a user without privileges: the superuser may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_read_only_database_is_an_error(ready, request):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mlflow.db"
        shutil.copy(ready.uri.removeprefix("sqlite:///"), path)
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        request.getfixturevalue("unprivileged")
        for call, arguments in ((promote, [DATA]), (rollback, [])):
            with pytest.raises(TrackingError, match="`tracking_uri`.*can be written"):
                call(ready.name, *arguments, tracking_uri=f"sqlite:///{path}")
        if os.getuid() == 0:
            os.seteuid(0)
        Path(folder).chmod(0o755)
    assert ready.aliases == {"champion": "1", "challenger": "2"}
