"""Addresses of pages in the MLflow UI.

MLflow 3 has two menus, for language models and for training. Without ``workflowType`` it opens the
one that was used last, which is the former for somebody who never used either: then an
experiment's address shows an empty page about traces, and that of a run is an "evaluation run".
"""

from __future__ import annotations

import dataclasses
import os
import urllib.parse

from keras_nas_plugin.files import read_json
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.tracking.mlflow.client import is_server, public_uri

UI_PORT = 5000
WORKFLOW = "workflowType=machine_learning"
#: Key of a search's `RunPages` in ``tracking.json``.
RUN_PAGES = "run_pages"


@dataclasses.dataclass(frozen=True)
class RunPages:
    """Where the UI shows the runs of a search.

    Attributes:
        ui: Address of the UI, without a password.
        experiment_id: The experiment that holds the runs.
    """

    ui: str
    experiment_id: str

    def page(self, run_id: str) -> str:
        """The address of a run."""
        return run_page(self.ui, self.experiment_id, run_id)

    def to_dict(self) -> dict[str, str]:
        """Convert to JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def of(cls, directory: str | os.PathLike[str]) -> RunPages | None:
        """The pages of a project folder; None if its runs were not logged to MLflow yet."""
        try:
            return cls(**read_json(ProjectLayout.of(directory).tracking)[RUN_PAGES])
        except (FileNotFoundError, KeyError):
            return None


def ui_address(tracking_uri: str) -> str:
    """The address of the UI that shows a store.

    Args:
        tracking_uri: A server, which has the UI; for a database, the UI is where `mlflow ui`
            serves it.
    """
    if is_server(tracking_uri):
        return public_uri(tracking_uri).rstrip("/")
    return f"http://127.0.0.1:{UI_PORT}"


def experiment_page(tracking_uri: str, experiment_id: str) -> str:
    """The runs of an experiment.

    >>> experiment_page("http://host:80/", "1")
    'http://host:80/#/experiments/1/runs?workflowType=machine_learning'
    """
    return f"{ui_address(tracking_uri)}/#/experiments/{experiment_id}/runs?{WORKFLOW}"


def run_page(tracking_uri: str, experiment_id: str, run_id: str) -> str:
    """A run.

    >>> run_page("sqlite:///mlflow.db", "1", "ab")
    'http://127.0.0.1:5000/#/experiments/1/runs/ab?workflowType=machine_learning'
    """
    return f"{ui_address(tracking_uri)}/#/experiments/{experiment_id}/runs/{run_id}?{WORKFLOW}"


def artifact_page(tracking_uri: str, experiment_id: str, run_id: str, path: str) -> str:
    """A file among the artifacts of a run.

    >>> artifact_page("http://host", "1", "ab", "report.html")
    'http://host/#/experiments/1/runs/ab/artifacts/report.html?workflowType=machine_learning'
    """
    run = f"{ui_address(tracking_uri)}/#/experiments/{experiment_id}/runs/{run_id}"
    return f"{run}/artifacts/{urllib.parse.quote(path)}?{WORKFLOW}"


def version_page(tracking_uri: str, name: str, version: str) -> str:
    """A version of a registered model.

    >>> version_page("http://host", "my model", "3")
    'http://host/#/models/my%20model/versions/3?workflowType=machine_learning'
    """
    quoted = urllib.parse.quote(name, safe="")
    return f"{ui_address(tracking_uri)}/#/models/{quoted}/versions/{version}?{WORKFLOW}"
