"""A server with access control, and a user who may read but not write."""

from __future__ import annotations

import json

import numpy as np
import pytest

from keras_nas_plugin.tracking.mlflow.outbox import Outbox
from tests.cli.conftest import TARGET
from tests.cli.test_promote import RECIPE, aliases, assert_one_error
from tests.cli.test_retrain import RECIPE as SEARCHED
from tests.cli.test_retrain import SEARCH
from tests.servers import ADMIN, ADMIN_PASSWORD, cheapen_passwords, guarded_server, signed_in

READER = signed_in("reader", "may only read")
OWNER = signed_in(ADMIN, ADMIN_PASSWORD)
STRANGER = signed_in("reader", "guessed wrongly")


def authenticate_as(patch, user):
    """Authenticate this process as a user."""
    for name, value in user.items():
        patch.setenv(name, value)


@pytest.fixture(scope="module")
def guarded(server, new_store, tmp_path_factory):
    """The server, with `toy` of `make_models`, which all other users may read."""
    from mlflow.server.auth.client import AuthServiceClient

    pytest.importorskip("flask_wtf", reason="needs Flask-WTF: pip install 'mlflow[auth]'")
    folder = tmp_path_factory.mktemp("guarded")
    new_store(folder)
    with guarded_server(folder).running() as guarded:
        with pytest.MonkeyPatch.context() as patch:
            authenticate_as(patch, OWNER)
            access = AuthServiceClient(guarded.uri)
            access.create_user("reader", READER["MLFLOW_TRACKING_PASSWORD"])
        passwords = {ADMIN: ADMIN_PASSWORD, "reader": READER["MLFLOW_TRACKING_PASSWORD"]}
        cheapen_passwords(folder, passwords)
        target = "tests.cli.test_promote:make_models"
        options = {"uri": guarded.uri, "names": ["toy"], "environment": OWNER}
        process = server.run(target, cwd=folder, **options)
        assert process.returncode == 0, process.err
        yield guarded


@pytest.fixture
def admin_client(guarded, monkeypatch):
    """A client of the registry, authenticated as its administrator."""
    from mlflow import MlflowClient

    authenticate_as(monkeypatch, OWNER)
    return MlflowClient(guarded.uri)


@pytest.fixture
def held_out(tmp_path):
    """Held-out rows."""
    namespace = {}
    exec(RECIPE, namespace)
    x, y = namespace["rows"](2)
    np.savez(tmp_path / "held_out.npz", x=x, y=y)


def state(client):
    tags = {version: client.get_model_version("toy", version).tags for version in "123"}
    return aliases(client), tags


@pytest.mark.parametrize("user", [READER, STRANGER], ids=["reader", "stranger"])
@pytest.mark.parametrize(
    ("words", "doing"),
    [
        ("promote toy --data held_out.npz --no-smoke-test", "promoting `toy` at"),
        ("rollback toy", "rolling back `toy` at"),
    ],
)
def test_a_denied_request_moves_no_alias(nas, guarded, admin_client, held_out, words, doing, user):
    # So that there is a version to roll back to.
    admin_client.set_model_version_tag("toy", "1", "nas.promotion.previous", "3")
    before = state(admin_client)
    process = nas(words, "--tracking-uri", guarded.uri, environment=user)
    assert_one_error(process, 1, f"{doing} {guarded.uri} failed: it is not permitted: ")
    assert user["MLFLOW_TRACKING_PASSWORD"] not in process.err
    assert state(admin_client) == before


def test_a_password_in_an_address_is_not_shown(nas, guarded, held_out):
    address = guarded.uri.replace("//", "//reader:guess@")
    no_user = dict.fromkeys(READER, "")
    process = nas("promote toy --data held_out.npz --tracking-uri", address, environment=no_user)
    assert_one_error(process, 1, f"promoting `toy` at {guarded.uri} failed: it is not permitted: ")
    assert "guess" not in process.err


def test_a_search_without_permission_to_log_fails_before_training(nas, write, guarded, tmp_path):
    write()
    words = "search recipe.py --max-trials 2 --epochs 1 --experiment models"
    process = nas(words, "--tracking-uri", guarded.uri, environment=READER)
    assert_one_error(process, 1, "`tracking_uri` must be a server that you may write to")
    assert guarded.uri in process.err and "MLFLOW_TRACKING_USERNAME" in process.err
    assert list(tmp_path.glob("searches/*/trial_*/record.json")) == []


def test_trials_are_stored_until_a_user_with_permission_uploads_them(
    nas, write, guarded, admin_client, tmp_path
):
    write()
    unreachable = "http://127.0.0.1:9"
    words = "search recipe.py --max-trials 2 --epochs 1 --experiment models --tracking-uri"
    assert nas(words, unreachable).returncode == 0
    sync = f"sync --tracking-uri {guarded.uri} --json"
    outbox = Outbox(tmp_path / "searches" / "recipe")
    assert_one_error(
        nas("sync"), 1, f"`tracking_uri` must be a store that answers; got '{unreachable}"
    )
    process = nas(sync, environment=READER)
    assert_one_error(process, 1, "`tracking_uri` must be a server that you may write to")
    assert len(outbox.records()) == 2
    process = nas(sync, environment=OWNER)
    assert process.returncode == 0, process.err
    assert process.out.startswith("{"), (process.out, process.err)
    uploaded = json.loads(process.out)
    assert (uploaded["sent"], uploaded["waiting"], uploaded["status"]) == (2, 0, "FINISHED")
    experiment = admin_client.get_experiment_by_name("models").experiment_id
    runs = admin_client.search_runs([experiment], "tags.`nas.kind` = 'trial'")
    assert sorted(run.data.tags["nas.trial_id"] for run in runs) == ["0", "1"]


@pytest.fixture(scope="module")
def searched(server, guarded, tmp_path_factory):
    """A folder with a search that the administrator logged at the guarded server."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "recipe.py").write_text(SEARCHED, encoding="utf-8")
    words = SEARCH.format(store=guarded.uri).split()
    process = server.run(TARGET, cwd=folder, words=words, environment=OWNER)
    assert process.returncode == 0, process.err
    return folder


@pytest.fixture
def runs(admin_client):
    """All runs of retrained models at the server."""

    def read():
        experiment = admin_client.get_experiment_by_name("tiny").experiment_id
        return admin_client.search_runs([experiment], "tags.`nas.kind` = 'retrained'")

    return read


@pytest.mark.parametrize("user", [READER, STRANGER], ids=["reader", "stranger"])
def test_registering_without_permission_is_an_error(nas, searched, guarded, admin_client, user):
    address = guarded.uri.replace("//", "//somebody:guess@")
    for uri in (guarded.uri, address):
        words = "register forbidden --tracking-uri"
        process = nas(words, uri, cwd=searched, environment=user)
        assert_one_error(process, 1, f" at {guarded.uri} failed: it is not permitted: ")
        assert user["MLFLOW_TRACKING_PASSWORD"] not in process.err and "guess" not in process.err
    assert admin_client.search_registered_models("name = 'forbidden'") == []
    assert not (searched / "searches/tiny/registered_model.json").exists()


@pytest.mark.parametrize(
    ("user", "seed"), [(READER, 5), (STRANGER, 6)], ids=["reader", "stranger"]
)
def test_retrained_models_are_stored_until_a_user_with_permission_logs_them(
    nas, searched, guarded, runs, user, seed
):
    before = len(runs())
    words = f"retrain --seed {seed} --tracking-uri {guarded.uri}"
    process = nas(words, cwd=searched, environment=user)
    assert process.returncode == 1 and "Traceback" not in process.err, process.err
    assert f" at {guarded.uri} failed: it is not permitted: " in process.err
    assert process.err.count("not permitted") == 1
    assert user["MLFLOW_TRACKING_PASSWORD"] not in process.err
    assert "retrained, accuracy" in process.out, "the result is shown nevertheless"
    assert len(list(searched.glob(f"searches/tiny/retrained/*/seed_{seed}.weights.h5"))) == 1
    assert len(runs()) == before

    process = nas(words, cwd=searched, environment=OWNER)
    assert process.returncode == 0, process.err
    assert "Retraining trial" not in process.err
    assert len(runs()) == before + 1


def test_a_model_is_retrained_registered_and_promoted_over_http(
    nas, searched, guarded, admin_client, runs
):
    """As in production, all requests go to the server, including those for artifacts."""
    at = f"--tracking-uri {guarded.uri}"
    process = nas("retrain --seeds 2 --json", at, cwd=searched, environment=OWNER)
    assert process.returncode == 0, process.err
    models = json.loads(process.out)["models"]
    assert {model["run_id"] for model in models} <= {run.info.run_id for run in runs()}
    process = nas("register wired --retrained --json", at, cwd=searched, environment=OWNER)
    assert process.returncode == 0, process.err
    assert json.loads(process.out)["run_id"] == models[0]["run_id"]
    words = "promote wired --data recipe.py --no-smoke-test --require accuracy>=0"
    process = nas(words, at, cwd=searched, environment=OWNER)
    assert process.returncode == 0, process.err
    version = admin_client.get_model_version_by_alias("wired", "champion")
    assert version.run_id == models[0]["run_id"]
    assert version.description.startswith("# ") and "retrained from scratch" in version.description


def test_a_permission_revoked_during_a_search_loses_no_trial(
    guarded, admin_client, tmp_path, monkeypatch
):
    from mlflow.server.auth.client import AuthServiceClient

    from keras_nas_plugin.tracking import MLflowTracker, SearchInfo, TrialRecord
    from keras_nas_plugin.tracking.mlflow.sync import sync

    search = SearchInfo(
        search_id="revoked",
        name="revoked",
        objective="loss",
        direction="min",
        strategy="s",
        max_trials=3,
        directory=str(tmp_path),
    )
    search.save()
    experiment = admin_client.create_experiment("shared")
    access = AuthServiceClient(guarded.uri)
    access.grant_user_permission("reader", "experiment", experiment, "EDIT")

    authenticate_as(monkeypatch, READER)
    tracker = MLflowTracker("shared", tracking_uri=guarded.uri)
    tracker.search_started(search, [])
    for number in range(3):
        if number == 1:
            tracker.flush()  # the first trial is sent by another thread
            authenticate_as(monkeypatch, OWNER)
            access.revoke_user_permission("reader", "experiment", experiment)
            authenticate_as(monkeypatch, READER)
        name, values = f"{number:02d}", {"units": number}
        tracker.trial_started(name, values)
        ends = {"score": 0.5, "metrics": {"loss": 0.5}, "ended_ms": 1_700_000_000_000 + number}
        record = TrialRecord(trial_id=name, values=values, status="FINISHED", **ends)
        folder = tmp_path / f"trial_{name}"
        folder.mkdir()
        record.save(folder)
        tracker.trial_ended(record)
    tracker.search_ended("FINISHED")
    assert [record.trial_id for record in Outbox(tmp_path).records()] == ["01", "02"]

    authenticate_as(monkeypatch, OWNER)
    result = sync(tmp_path)
    assert (result.sent, result.waiting) == (2, 0)
    runs = admin_client.search_runs([experiment], "tags.`nas.search_id` = 'revoked'")
    assert {run.info.status for run in runs} == {"FINISHED"}
    trials = [run.data.tags.get("nas.trial_id", "search") for run in runs]
    assert sorted(trials) == ["00", "01", "02", "search"]
