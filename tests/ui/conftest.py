"""An MLflow server with two searches, and a real browser."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import shutil
import time
from pathlib import Path

import pytest

from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.registry.card import Subject, render_card
from keras_nas_plugin.tracking import MLflowTracker, SearchInfo, TrialRecord
from keras_nas_plugin.tracking.mlflow import links
from keras_nas_plugin.tracking.mlflow.payload import trial_label
from keras_nas_plugin.tracking.mlflow.saved_view_state import trials_view
from keras_nas_plugin.tracking.mlflow.saved_views import TAG_PREFIX, view_tag, view_url
from tests.servers import mlflow_server

TIMEOUT = 60_000  # milliseconds, for anything to appear in the browser
EPOCHS, TRIAL_SECONDS = 10, 50
EXPERIMENT, MODEL = "digits", "digits-classifier"
WINDOW = {"width": 1400, "height": 1000}

SPACE = (
    {"name": "block", "type": "Choice", "values": ["normal", "residual", "separable"]},
    {"name": "activation", "type": "Choice", "values": ["gelu", "relu", "swish"]},
    {"name": "pooling", "type": "Choice", "values": ["average", "max"]},
)

# Settings of a returning user, without which MLflow (3.13 to 3.17) covers the page with a choice
# of its menu, the panel of its assistant and news about the registry.
RETURNING_USER = """
localStorage.setItem('mlflow.workflowType_v1', '"machine_learning"');
localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false');
localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');
localStorage.setItem('_mlflow_model_registry_promo_modal_dismissed_v1', 'true');
"""


@dataclasses.dataclass(frozen=True)
class Lab:
    """The contents of the server.

    Attributes:
        experiment_url: The experiment's page.
        view_url: The saved view of its trials.
        bare_view_url: The same view, in the format for versions without a list of views.
        searches_view_url: The saved view that compares its searches.
        search_url: The page of the first search's run.
        trial_url: The page of its first trial's run.
        report_url: The page of its report.
        model_url: The page of the registered model.
        version_url: The page of its first version.
        scores: The objective of each finished trial, by the name of its run.
        failed: The name of the failed trial's run.
        searches: The objective of each trial in the order of their ends, None for a failed one, by
            the name of the search.
    """

    experiment_url: str
    view_url: str
    bare_view_url: str
    searches_view_url: str
    search_url: str
    trial_url: str
    report_url: str
    model_url: str
    version_url: str
    scores: dict[str, float]
    failed: str
    searches: dict[str, list[float | None]]

    def view(self, mode):
        return self.view_url.replace("compareRunsMode=CHART", f"compareRunsMode={mode}")


@pytest.fixture(scope="session")
def browser():
    """The system's Chromium, controlled by Playwright; skips the tests if either is missing."""
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="needs Playwright: pip install -e '.[ui]'"
    )
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    sync_api.expect.set_options(timeout=TIMEOUT)
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def visitor(browser):
    """A browser context of a returning user, so that no introduction covers the page."""
    context = browser.new_context(viewport=WINDOW)
    context.set_default_timeout(TIMEOUT)
    context.add_init_script(RETURNING_USER)
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
    """Saves screenshots for the docs if NAS_UI_PICTURES names a folder."""

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
    """The address of an MLflow server on loopback with an empty database."""
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
        names = ("evolution", "random")
        searches = [search(name, tmp_path_factory.mktemp(name)) for name in names]
        trials = [[trial(n, seed) for n in range(15)] for seed in (0, 1)]
        trackers = [
            log(server, info, records) for info, records in zip(searches, trials, strict=True)
        ]
        first = trackers[0]
        register(client, first.parent_run_id, card(searches[0], trials[0]))
        bare = view_tag(trials_view(searches[0]).state, None, now_ms=0)
        client.set_experiment_tag(first.experiment_id, f"{TAG_PREFIX}bare", bare)
    all_records = [record for records in trials for record in records]
    return Lab(
        experiment_url=first.experiment_url,
        view_url=first.view_url,
        bare_view_url=view_url(first.experiment_url, "bare", mode="TABLE"),
        searches_view_url=first.searches_view_url,
        search_url=first.search_url,
        trial_url=first.run_url(first.run_id("00")),
        report_url=links.artifact_page(
            server, first.experiment_id, first.parent_run_id, "report.html"
        ),
        model_url=f"{server}/#/models/{MODEL}?{links.WORKFLOW}",
        version_url=links.version_page(server, MODEL, "1"),
        scores={trial_label(r): r.score for r in all_records if r.score is not None},
        failed=next(trial_label(r) for r in all_records if r.score is None),
        searches={
            info.name: [record.score for record in records]
            for info, records in zip(searches, trials, strict=True)
        },
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
    """A trial whose results depend on its values; one of the thirty failed."""
    index = (7 * number + 5 * seed) % 18
    values = {
        decision["name"]: decision["values"][index // step % len(decision["values"])]
        for decision, step in zip(SPACE, (1, 3, 9), strict=True)
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
        ended_ms=started + 1_000 * TRIAL_SECONDS,
    )
    if (number, seed) != (11, 1):
        return record
    no_result = {"score": None, "metrics": {}, "curves": ()}
    return dataclasses.replace(
        record, status="FAILED", error="ResourceExhaustedError: out of memory", **no_result
    )


def epoch(score, step):
    progress = 1 - math.exp(-(step + 1) / 3)
    return {
        "accuracy": min(1.0, 1.04 * score * progress),
        "val_accuracy": score * progress,
        "loss": 2.3 * (1 - progress) + 0.9 - score,
        "val_loss": 2.3 * (1 - progress) + 1.1 - score,
    }


def log(server, info, records):
    """Log a search as the plugin does; returns its tracker."""
    from keras_nas_plugin.files import write_json
    from keras_nas_plugin.reports.data import report_data
    from keras_nas_plugin.reports.page import write_page

    info.save()
    layout = ProjectLayout.of(info.directory)
    tracker = MLflowTracker(EXPERIMENT, tracking_uri=server)
    tracker.search_started(info, [])
    for record in records:
        folder = layout.trial(record.trial_id).folder
        folder.mkdir()
        (folder / "model_summary.txt").write_text("Layers: Dense(10)\n", encoding="utf-8")
        record.save(folder)
        tracker.trial_ended(record)
    data = report_data(info.directory)
    write_json(layout.importance, data["importance"])
    write_page(data, layout.report)
    tracker.search_ended("FINISHED")
    return tracker


def card(info, records):
    """The card of the best trial of a search."""
    best = max((record for record in records if record.score), key=lambda record: record.score)
    subject = Subject(
        name=MODEL,
        alias="champion",
        search=info,
        record=best,
        trials=tuple(records),
        retraining=None,
        retrained=False,
        architecture="Dense(10)",
        input_example=False,
    )
    return render_card(subject)


def register(client, run, description):
    """Two versions of one model: the champion and the challenger."""
    client.create_registered_model(MODEL)
    for alias in ("champion", "challenger"):
        source = client.get_run(run).info.artifact_uri
        version = client.create_model_version(MODEL, source, run, description=description)
        client.set_registered_model_alias(MODEL, alias, version.version)
