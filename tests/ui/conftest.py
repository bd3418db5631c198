"""A real MLflow server with two searches in it, and a real browser to look at them with."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import shutil
import time
from pathlib import Path

import pytest

from keras_nas_plugin.tracking import SearchInfo, TrialRecord
from keras_nas_plugin.tracking.leaderboard import Leaderboard
from keras_nas_plugin.tracking.note import render_note
from keras_nas_plugin.tracking.payload import points_of, trial_label
from keras_nas_plugin.tracking.views import (
    TAG_PREFIX,
    view_state,
    view_tag,
    view_url,
    write_view,
)
from tests.servers import mlflow_server

ANSWERS_WITHIN = 60_000  # milliseconds, for anything to appear in the browser
EPOCHS = 10
MODEL = "digits-classifier"
WINDOW = {"width": 1400, "height": 1000}

SPACE = (
    {"name": "block", "type": "Choice", "values": ["normal", "residual", "separable"]},
    {"name": "activation", "type": "Choice", "values": ["gelu", "relu", "swish"]},
    {"name": "pooling", "type": "Choice", "values": ["average", "max"]},
)

# What MLflow puts before the page on a first visit: which half of its menu to show, the panel
# of its assistant, and the news about the registry. Seen in 3.13 to 3.17.
SEEN = """
localStorage.setItem('mlflow.workflowType_v1', '"machine_learning"');
localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false');
localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');
localStorage.setItem('_mlflow_model_registry_promo_modal_dismissed_v1', 'true');
"""


@dataclasses.dataclass(frozen=True)
class Lab:
    """What the server holds.

    Attributes:
        experiment_url: The experiment's page.
        view_key: Its saved view.
        bare_view_key: The same, as it is written for versions without a list of views.
        search_url: The page of the first search's run.
        model_url: The page of the registered model.
        scores: The objective by trial name, of the trials that finished.
        failed: Name of the trial that did not.
    """

    experiment_url: str
    view_key: str
    bare_view_key: str
    search_url: str
    model_url: str
    scores: dict[str, float]
    failed: str

    def view(self, mode):
        return view_url(self.experiment_url, self.view_key, mode=mode)


@pytest.fixture(scope="session")
def browser():
    """Chromium from the system, driven by Playwright; skips where either is missing."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="needs Playwright: pip install -e '.[ui]'"
    )
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    sync_api.expect.set_options(timeout=ANSWERS_WITHIN)
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def visitor(browser):
    """Opens tabs of somebody who has been here before; every page of a test loads in seconds."""
    context = browser.new_context(viewport=WINDOW)
    context.set_default_timeout(ANSWERS_WITHIN)
    context.add_init_script(SEEN)
    yield context
    context.close()


@pytest.fixture
def page(visitor):
    """An empty tab."""
    page = visitor.new_page()
    yield page
    page.close()


@pytest.fixture(scope="session")
def picture():
    """Saves what a page shows for the docs, where NAS_UI_PICTURES names a folder."""

    def save(page, name):
        folder = os.environ.get("NAS_UI_PICTURES")
        if not folder:
            return
        from PIL import Image

        page.wait_for_timeout(1_000)  # charts fade in
        image = Image.open(io.BytesIO(page.screenshot()))
        image.convert("RGB").quantize(256).save(Path(folder) / f"{name}.png", optimize=True)

    return save


@pytest.fixture(scope="session")
def server(browser, tmp_path_factory):
    """Address of an MLflow server on loopback, over an empty database."""
    folder = tmp_path_factory.mktemp("ui-server")
    with mlflow_server(folder).running() as server:
        yield server.uri


@pytest.fixture(scope="session")
def lab(server, tmp_path_factory):
    """Two searches in one experiment, 30 trials in all, a report and a registered model."""
    from mlflow import MlflowClient

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        client = MlflowClient(server)
        experiment = client.create_experiment("digits")
        names = ("evolution", "random")
        searches = [search(name, tmp_path_factory.mktemp(name)) for name in names]
        trials = [[trial(n, seed) for n in range(15)] for seed in (0, 1)]
        runs = [log(client, experiment, *each) for each in zip(searches, trials, strict=True)]
        key = write_view(client, experiment, searches[0])
        register(client, runs[0])
        bare = view_tag(view_state(searches[0]), None, now_ms=0)
        client.set_experiment_tag(experiment, f"{TAG_PREFIX}bare", bare)
    everything = [each for several in trials for each in several]
    url = f"{server}/#/experiments/{experiment}"
    return Lab(
        experiment_url=url,
        view_key=key,
        bare_view_key="bare",
        search_url=f"{url}/runs/{runs[0]}",
        model_url=f"{server}/#/models/{MODEL}",
        scores={trial_label(each): each.score for each in everything if each.score is not None},
        failed=next(trial_label(each) for each in everything if each.score is None),
    )


def search(name, folder):
    return SearchInfo(
        search_id=f"search-{name}",
        name=f"digits-{name}",
        objective="val_accuracy",
        direction="max",
        strategy="RegularizedEvolutionOracle" if name == "evolution" else "RandomOracle",
        max_trials=15,
        space=SPACE,
        settings={"epochs": EPOCHS, "seed": 0},
        directory=str(folder),
    )


def trial(number, seed):
    """A trial that depends on its values as a real one might; one of all thirty failed."""
    index = (7 * number + 5 * seed) % 18
    values = {
        one["name"]: one["values"][index // step % len(one["values"])]
        for one, step in zip(SPACE, (1, 3, 9), strict=True)
    }
    width = 1 + (number * 5 + seed) % 11
    score = 0.7 + 0.08 * (values["block"] == "residual") + 0.05 * (values["activation"] == "gelu")
    score += 0.1 * (1 - math.exp(-width / 4)) + 0.004 * math.sin(9 * number + seed)
    started = int(time.time() * 1e3) - 3_600_000 + 60_000 * (number + 15 * seed)
    record = TrialRecord(
        trial_id=f"{number:02d}",
        values=values,
        status="FINISHED",
        score=score,
        metrics={"val_accuracy": score, "val_loss": 1.1 - score},
        best_step=EPOCHS - 1,
        curves=(tuple(epoch(score, step) for step in range(EPOCHS)),),
        costs={
            "parameters": 1_200.0 * width**2,
            "flops": 55_000.0 * width**2 * (1 + 0.3 * (values["pooling"] == "max")),
            "peak_memory_bytes": 2e6 + 90_000.0 * width,
            "train_seconds": 3 + 0.7 * width,
        },
        started_ms=started,
        ended_ms=started + 50_000,
    )
    if (number, seed) != (11, 1):
        return record
    nothing = {"score": None, "metrics": {}, "curves": ()}
    return dataclasses.replace(
        record, status="FAILED", error="ResourceExhaustedError: out of memory", **nothing
    )


def epoch(score, step):
    progress = 1 - math.exp(-(step + 1) / 3)
    return {
        "accuracy": min(1.0, 1.04 * score * progress),
        "val_accuracy": score * progress,
        "loss": 2.3 * (1 - progress) + 0.9 - score,
        "val_loss": 2.3 * (1 - progress) + 1.1 - score,
    }


def log(client, experiment, info, records):
    """Write a search as the plugin names things; returns the id of its run."""
    from mlflow.entities import Metric, Param, RunTag

    board = Leaderboard(info)
    best = [one for one in map(board.add, records) if one]
    tags = {"nas.kind": "search", "nas.search_id": info.search_id}
    parent = client.create_run(experiment, run_name=info.name, tags=tags).info.run_id
    points = [Metric("best_objective", one.score, one.time_ms, one.step) for one in best]
    note = RunTag("mlflow.note.content", render_note(info, board))
    client.log_batch(parent, metrics=points, tags=[note])
    client.log_artifact(parent, report(info, records))
    for record in records:
        tags = {
            "nas.kind": "trial",
            "nas.search_id": info.search_id,
            "nas.trial_id": record.trial_id,
            "mlflow.parentRunId": parent,
        }
        name = trial_label(record)
        run = client.create_run(experiment, record.started_ms, tags, name).info.run_id
        points = [Metric(*point) for point in points_of(record, info)[0]]
        params = [Param(name, value) for name, value in record.values.items()]
        client.log_batch(run, metrics=points, params=params)
        client.set_terminated(run, record.status, record.ended_ms)
    client.set_terminated(parent)
    return parent


def report(info, records):
    """The report of a search that has its project folder."""
    from keras_nas_plugin.reports import write_report

    info.save()
    for record in records:
        folder = Path(info.directory) / f"trial_{record.trial_id}"
        folder.mkdir()
        record.save(folder)
    return write_report(info.directory, Path(info.directory) / "report.html")


def register(client, run):
    """Two versions of one model: the one in use and the one that wants its place."""
    client.create_registered_model(MODEL)
    for alias in ("champion", "challenger"):
        source = client.get_run(run).info.artifact_uri
        version = client.create_model_version(MODEL, source, run)
        client.set_registered_model_alias(MODEL, alias, version.version)
