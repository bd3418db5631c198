"""A server that knows its users, and one of them who may look and not touch."""

from __future__ import annotations

import json

import numpy as np
import pytest

from keras_nas_plugin.tracking.outbox import Outbox
from tests.cli.conftest import TARGET
from tests.cli.test_promote import RECIPE, aliases, assert_one_error
from tests.cli.test_retrain import RECIPE as SEARCHED
from tests.cli.test_retrain import SEARCH
from tests.servers import ADMIN, ADMIN_PASSWORD, cheapen_passwords, guarded_server, signed_in

READER = signed_in("reader", "may only read")
OWNER = signed_in(ADMIN, ADMIN_PASSWORD)
STRANGER = signed_in("reader", "guessed wrongly")


def be(patch, user):
    """Who this process is at the server from now on."""
    for name, value in user.items():
        patch.setenv(name, value)


@pytest.fixture(scope="module")
def guarded(server, new_store, tmp_path_factory):
    """The server, with the models of `make_models` in it; everybody else may read them."""
    from mlflow.server.auth.client import AuthServiceClient

    pytest.importorskip("flask_wtf", reason="needs Flask-WTF: pip install 'mlflow[auth]'")
    folder = tmp_path_factory.mktemp("guarded")
    new_store(folder)
    with guarded_server(folder).running() as guarded:
        with pytest.MonkeyPatch.context() as patch:
            be(patch, OWNER)
            access = AuthServiceClient(guarded.uri)
            access.create_user("reader", READER["MLFLOW_TRACKING_PASSWORD"])
        passwords = {ADMIN: ADMIN_PASSWORD, "reader": READER["MLFLOW_TRACKING_PASSWORD"]}
        cheapen_passwords(folder, passwords)
        target = "tests.cli.test_promote:make_models"
        made = server.run(target, cwd=folder, uri=guarded.uri, environment=OWNER)
        assert made.returncode == 0, made.err
        yield guarded


@pytest.fixture
def owned(guarded, monkeypatch):
    """The registry as its administrator sees it."""
    from mlflow import MlflowClient

    be(monkeypatch, OWNER)
    return MlflowClient(guarded.uri)


@pytest.fixture
def held_out(tmp_path):
    """Rows that nobody was trained on."""
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
def test_what_is_not_permitted_moves_nothing(nas, guarded, owned, held_out, words, doing, user):
    # So that there is something to roll back to.
    owned.set_model_version_tag("toy", "1", "nas.promotion.previous", "3")
    before = state(owned)
    done = nas(words, "--tracking-uri", guarded.uri, environment=user)
    assert_one_error(done, 1, f"{doing} {guarded.uri} failed: it is not permitted: ")
    assert user["MLFLOW_TRACKING_PASSWORD"] not in done.err
    assert state(owned) == before


def test_a_password_in_an_address_is_not_shown(nas, guarded, held_out):
    address = guarded.uri.replace("//", "//reader:guess@")
    nobody = dict.fromkeys(READER, "")
    done = nas("promote toy --data held_out.npz --tracking-uri", address, environment=nobody)
    assert_one_error(done, 1, f"promoting `toy` at {guarded.uri} failed: it is not permitted: ")
    assert "guess" not in done.err


def test_a_search_that_may_not_log_is_told_so_before_it_trains(nas, write, guarded, tmp_path):
    write()
    words = "search recipe.py --max-trials 2 --epochs 1 --experiment models"
    done = nas(words, "--tracking-uri", guarded.uri, environment=READER)
    assert_one_error(done, 1, "`tracking_uri` needs a server at which you may write")
    assert guarded.uri in done.err and "MLFLOW_TRACKING_USERNAME" in done.err
    assert list(tmp_path.glob("searches/*/trial_*/record.json")) == []


def test_trials_wait_until_somebody_may_send_them(nas, write, guarded, owned, tmp_path):
    write()
    away = "http://127.0.0.1:9"
    words = "search recipe.py --max-trials 2 --epochs 1 --experiment models --tracking-uri"
    assert nas(words, away).returncode == 0
    sync = f"sync --tracking-uri {guarded.uri} --json"
    outbox = Outbox(tmp_path / "searches" / "recipe")
    assert_one_error(
        nas("sync"), 1, f"`tracking_uri` needs a store that answers; received '{away}"
    )
    done = nas(sync, environment=READER)
    assert_one_error(done, 1, "`tracking_uri` needs a server at which you may write")
    assert len(outbox.records()) == 2
    done = nas(sync, environment=OWNER)
    assert done.returncode == 0, done.err
    assert done.out.startswith("{"), (done.out, done.err)
    sent = json.loads(done.out)
    assert (sent["sent"], sent["waiting"], sent["status"]) == (2, 0, "FINISHED")
    experiment = owned.get_experiment_by_name("models").experiment_id
    runs = owned.search_runs([experiment], "tags.`nas.kind` = 'trial'")
    assert sorted(run.data.tags["nas.trial_id"] for run in runs) == ["0", "1"]


@pytest.fixture(scope="module")
def searched(server, guarded, tmp_path_factory):
    """A folder with a search that the administrator logged at the guarded server."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "recipe.py").write_text(SEARCHED, encoding="utf-8")
    words = SEARCH.format(store=guarded.uri).split()
    done = server.run(TARGET, cwd=folder, words=words, environment=OWNER)
    assert done.returncode == 0, done.err
    return folder


@pytest.fixture
def runs(owned):
    """All runs of retrained models at the server."""

    def read():
        experiment = owned.get_experiment_by_name("tiny").experiment_id
        return owned.search_runs([experiment], "tags.`nas.kind` = 'retrained'")

    return read


@pytest.mark.parametrize("user", [READER, STRANGER], ids=["reader", "stranger"])
def test_a_model_that_may_not_be_registered_is_not(nas, searched, guarded, owned, user):
    address = guarded.uri.replace("//", "//somebody:guess@")
    for uri in (guarded.uri, address):
        words = "register forbidden --tracking-uri"
        done = nas(words, uri, cwd=searched, environment=user)
        assert_one_error(done, 1, f" at {guarded.uri} failed: it is not permitted: ")
        assert user["MLFLOW_TRACKING_PASSWORD"] not in done.err and "guess" not in done.err
    assert owned.search_registered_models("name = 'forbidden'") == []
    assert not (searched / "searches/tiny/registered_model.json").exists()


@pytest.mark.parametrize(
    ("user", "seed"), [(READER, 5), (STRANGER, 6)], ids=["reader", "stranger"]
)
def test_what_is_retrained_waits_until_somebody_may_log_it(
    nas, searched, guarded, runs, user, seed
):
    before = len(runs())
    words = f"retrain --seed {seed} --tracking-uri {guarded.uri}"
    done = nas(words, cwd=searched, environment=user)
    assert done.returncode == 1 and "Traceback" not in done.err, done.err
    assert f" at {guarded.uri} failed: it is not permitted: " in done.err
    assert done.err.count("not permitted") == 1
    assert user["MLFLOW_TRACKING_PASSWORD"] not in done.err
    assert "retrained, accuracy" in done.out, "the result is there nevertheless"
    assert len(list(searched.glob(f"searches/tiny/retrained/*/seed_{seed}.weights.h5"))) == 1
    assert len(runs()) == before

    done = nas(words, cwd=searched, environment=OWNER)
    assert done.returncode == 0, done.err
    assert "Retraining trial" not in done.err
    assert len(runs()) == before + 1


def test_from_the_search_to_a_champion_over_http(nas, searched, guarded, owned, runs):
    """As production has it: everything goes through the server, artifacts included."""
    at = f"--tracking-uri {guarded.uri}"
    done = nas("retrain --seeds 2 --json", at, cwd=searched, environment=OWNER)
    assert done.returncode == 0, done.err
    models = json.loads(done.out)["models"]
    assert {model["run_id"] for model in models} <= {run.info.run_id for run in runs()}
    done = nas("register wired --retrained --json", at, cwd=searched, environment=OWNER)
    assert done.returncode == 0, done.err
    assert json.loads(done.out)["run_id"] == models[0]["run_id"]
    words = "promote wired --data recipe.py --no-smoke-test --require accuracy>=0"
    done = nas(words, at, cwd=searched, environment=OWNER)
    assert done.returncode == 0, done.err
    version = owned.get_model_version_by_alias("wired", "champion")
    assert version.run_id == models[0]["run_id"]
    assert version.description.startswith("# ") and "retrained from scratch" in version.description


def test_a_permission_that_is_taken_away_in_the_middle_costs_no_trial(
    guarded, owned, tmp_path, monkeypatch
):
    from mlflow.server.auth.client import AuthServiceClient

    from keras_nas_plugin.tracking import MLflowTracker, SearchInfo, TrialRecord
    from keras_nas_plugin.tracking.sync import sync

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
    experiment = owned.create_experiment("shared")
    access = AuthServiceClient(guarded.uri)
    access.grant_user_permission("reader", "experiment", experiment, "EDIT")

    be(monkeypatch, READER)
    tracker = MLflowTracker("shared", tracking_uri=guarded.uri)
    tracker.search_started(search, [])
    for number in range(3):
        if number == 1:
            tracker.flush()  # the first trial is sent by another thread
            be(monkeypatch, OWNER)
            access.revoke_user_permission("reader", "experiment", experiment)
            be(monkeypatch, READER)
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

    be(monkeypatch, OWNER)
    done = sync(tmp_path)
    assert (done.sent, done.waiting) == (2, 0)
    runs = owned.search_runs([experiment], "tags.`nas.search_id` = 'revoked'")
    assert {run.info.status for run in runs} == {"FINISHED"}
    trials = [run.data.tags.get("nas.trial_id", "search") for run in runs]
    assert sorted(trials) == ["00", "01", "02", "search"]
