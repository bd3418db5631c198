"""A saved view in the MLflow UI: the trials of an experiment as a table and as charts.

The runs table of MLflow shows no metric until somebody picks one, and its charts show ten runs.
A saved view is a tag of the experiment, which the UI lists by its name and opens from an address.
The format is MLflow's own and documented nowhere, so it is written only for versions that
`tests/ui` opened it in.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import time
import urllib.parse
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from keras_nas_plugin.tracking.connection import is_server, public_uri
from keras_nas_plugin.tracking.records import SearchInfo
from keras_nas_plugin.tracking.views_state import ViewKeys, view_state

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: Versions of MLflow (major and minor) whose UI opens these views, and whether it lists views by
#: a name. Those that do not yet read the bare state; later ones read both.
KNOWN_VERSIONS = {"3.13": False, "3.14": False, "3.15": False, "3.16": True, "3.17": True}

TAG_PREFIX = "mlflow.sharedViewState."

_SHOWN_HERE = ("sqlite", "postgresql", "mysql", "mssql")
_PACKED = "deflate;"
_KEY_LENGTH = 16
_TAG_LIMIT = 5_000  # characters of an experiment's tag; what older servers take

_log = logging.getLogger("keras_nas_plugin")

__all__ = ["KNOWN_VERSIONS", "ViewKeys", "view_state", "view_url", "write_view"]


def write_view(
    client: MlflowClient, experiment_id: str, search: SearchInfo, *, keys: ViewKeys | None = None
) -> str | None:
    """Save the view of a search in its experiment, unless it is there.

    Searches of one objective over one space share a view, so that starting or resuming another
    one adds none. What people change in a saved view, in the UI, stays as they want it.

    Args:
        client: An open store.
        experiment_id: The experiment.
        search: The search.
        keys: What the view shows; None for what the search implies.

    Returns:
        The view's key, for `view_url`; None where it is not written, with a line in the log:
        this version of MLflow is not known, or too much was to be shown.
    """
    version = ui_version(client)
    named = KNOWN_VERSIONS.get(".".join((version or "").split(".")[:2]))
    if named is None:
        _log.warning(
            "No saved view was written: the UI of MLflow %s is not known (known: %s). Runs, "
            "metrics and reports are not affected.",
            version or "of unknown version",
            ", ".join(KNOWN_VERSIONS),
        )
        return None
    keys = keys or ViewKeys.of(search)
    state = view_state(search, keys)
    key = view_key(state)
    tags = client.get_experiment(experiment_id).tags
    if f"{TAG_PREFIX}{key}" in tags:
        return key
    name = keys.title if keys.title not in _names(tags) else f"{keys.title}, {search.name}"
    value = view_tag(state, name if named else None, now_ms=int(time.time() * 1e3))
    if len(value) > _TAG_LIMIT:
        _log.warning(
            "No saved view was written: it needs %s characters at most, and names of this "
            "length make it %s.",
            f"{_TAG_LIMIT:,}",
            f"{len(value):,}",
        )
        return None
    client.set_experiment_tag(experiment_id, f"{TAG_PREFIX}{key}", value)
    return key


def view_url(experiment_url: str, key: str, *, mode: Literal["CHART", "TABLE"] = "CHART") -> str:
    """Where the UI opens a view.

    >>> view_url("http://host/#/experiments/1", "abc")  # doctest: +ELLIPSIS
    'http://host/#/experiments/1/runs?viewStateShareKey=abc&compareRunsMode=CHART&workflow...'

    Args:
        experiment_url: The experiment's address in the UI.
        key: What `write_view` returned.
        mode: Charts or table first; a button on the page changes between them.
    """
    # Without a workflow, MLflow 3 shows the menu for language models.
    query = f"viewStateShareKey={key}&compareRunsMode={mode}&workflowType=machine_learning"
    return f"{experiment_url}/runs?{query}"


def view_key(state: Mapping[str, Any]) -> str:
    """A key that only views of equal content share."""
    return hashlib.sha256(_text_of(state).encode()).hexdigest()[:_KEY_LENGTH]


def view_tag(state: Mapping[str, Any], name: str | None, *, now_ms: int) -> str:
    """The value of a view's tag.

    Args:
        state: What `view_state` returned.
        name: What the UI calls the view; None for a UI that lists none.
        now_ms: When it was made, in milliseconds since 1970 (UTC).
    """
    packed = base64.b64encode(zlib.compress(_text_of(state).encode(), 9)).decode()
    text = f"{_PACKED}{packed}"
    if name is None:
        return text
    return json.dumps({"name": name, "createdAt": now_ms, "updatedAt": now_ms, "state": text})


def read_tag(value: str) -> dict[str, Any]:
    """The state in a view's tag: the reverse of `view_tag`.

    Raises:
        ValueError: The tag is of another format.
    """
    text = json.loads(value)["state"] if value.startswith("{") else value
    if not text.startswith(_PACKED):
        raise ValueError(f"`value` needs a state that begins with '{_PACKED}'; received {text!r}")
    return json.loads(zlib.decompress(base64.b64decode(text.removeprefix(_PACKED))))


def ui_version(client: MlflowClient) -> str | None:
    """The version of MLflow that shows this store; None where nobody tells.

    A server brings its own UI, whatever version the client has; a database is shown by the
    `mlflow ui` that is installed here; hosted services have UIs of their own.
    """
    uri = client.tracking_uri
    if urllib.parse.urlsplit(uri).scheme.partition("+")[0] in _SHOWN_HERE:
        import mlflow

        return mlflow.__version__
    if not is_server(uri):
        return None
    # MLflow's own request, since it brings the user's password or token and certificates.
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    response = http_request(get_default_host_creds(uri), "/version", "GET", max_retries=0)
    if response.status_code != 200:
        _log.debug("%s/version answered %s", public_uri(uri), response.status_code)
        return None
    text = response.text.strip()
    return text if text[:1].isdigit() else None


def _names(tags: Mapping[str, str]) -> set[str]:
    """What the UI calls the views that are there."""
    names = set()
    for tag, value in tags.items():
        if tag.startswith(TAG_PREFIX) and value.startswith("{"):
            try:
                names.add(json.loads(value).get("name", ""))
            except ValueError:
                continue  # the UI lists no view that it cannot read either
    return names


def _text_of(state: Mapping[str, Any]) -> str:
    return json.dumps(state, sort_keys=True, separators=(",", ":"))
