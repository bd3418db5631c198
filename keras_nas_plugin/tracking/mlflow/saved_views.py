"""Saved views in the MLflow UI: trials as a table and as charts, and a comparison of searches.

The runs table of MLflow shows no metric until a user selects one, and its charts show ten runs.
A saved view is a tag of the experiment, which the UI lists by name and opens from an address.
The format is internal to MLflow, so a view is written only for versions in which `tests/ui` has
opened it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import time
import urllib.parse
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from keras_nas_plugin.tracking.mlflow.client import is_server, public_uri
from keras_nas_plugin.tracking.mlflow.saved_view_state import SavedView

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: Versions of MLflow (major and minor) whose UI opens these views, and whether it lists views by
#: name. Versions without names read the bare state; later ones read both.
KNOWN_VERSIONS = {"3.13": False, "3.14": False, "3.15": False, "3.16": True, "3.17": True}

TAG_PREFIX = "mlflow.sharedViewState."
#: Tags of the experiment with a digest of each view as this package wrote it.
WRITTEN_PREFIX = "nas.view."

_LOCAL_SCHEMES = ("sqlite", "postgresql", "mysql", "mssql")
_PACKED = "deflate;"
_KEY_LENGTH = 16
_TAG_LIMIT = 5_000  # characters of an experiment's tag that older servers accept

logger = logging.getLogger("keras_nas_plugin")


def write_views(
    client: MlflowClient,
    experiment_id: str,
    views: Sequence[SavedView],
    *,
    update: bool = False,
) -> list[str | None]:
    """Save views of an experiment, unless they exist.

    Searches with the same objective and space share their views, so that starting or resuming
    another one adds none. Changes that people make to a saved view in the UI stay.

    Args:
        client: An open store.
        experiment_id: The experiment.
        views: The views.
        update: Whether to replace the content of existing views that nobody has changed.

    Returns:
        The key of each view, for `view_url`; None, with a warning in the log, if it was not
        written because this version of MLflow is unknown or the view is too large.
    """
    version = ui_version(client)
    named = KNOWN_VERSIONS.get(".".join((version or "").split(".")[:2]))
    if named is None:
        logger.warning(
            "No saved view was written: the UI of MLflow %s is not known (known: %s). Runs, "
            "metrics and reports are not affected.",
            version or "of unknown version",
            ", ".join(KNOWN_VERSIONS),
        )
        return [None] * len(views)
    tags = dict(client.get_experiment(experiment_id).tags)
    keys: list[str | None] = []
    for view in views:
        new = _tags_of(view, tags, named=named, update=update)
        for tag, value in (new or {}).items():
            client.set_experiment_tag(experiment_id, tag, value)
        tags.update(new or {})
        keys.append(None if new is None else view_key(view))
    return keys


def _tags_of(
    view: SavedView, tags: Mapping[str, str], *, named: bool, update: bool
) -> dict[str, str] | None:
    """Tags of the experiment to set for a view; None if the view is too large."""
    key = view_key(view)
    existing = tags.get(TAG_PREFIX + key)
    if existing is not None and not (
        update and tags.get(WRITTEN_PREFIX + key) == _digest(existing)
    ):
        return {}
    taken = _names({tag: value for tag, value in tags.items() if tag != TAG_PREFIX + key})
    name = view.title if view.title not in taken else view.other_title
    value = view_tag(view.state, name if named else None, now_ms=int(time.time() * 1e3))
    if len(value) > _TAG_LIMIT:
        logger.warning(
            "No saved view was written: it must have at most %s characters; with names of this "
            "length it has %s.",
            f"{_TAG_LIMIT:,}",
            f"{len(value):,}",
        )
        return None if existing is None else {}
    # The digest shows later whether somebody has changed the view in the UI.
    return {TAG_PREFIX + key: value, WRITTEN_PREFIX + key: _digest(value)}


def view_url(experiment_url: str, key: str, *, mode: Literal["CHART", "TABLE"] = "CHART") -> str:
    """The address at which the UI opens a view.

    >>> view_url("http://host/#/experiments/1/runs?workflowType=machine_learning", "abc")
    ... # doctest: +ELLIPSIS
    'http://host/#/experiments/1/runs?workflowType=...&viewStateShareKey=abc&compareRunsMode=CHART'

    Args:
        experiment_url: The address of the experiment's runs, with its query.
        key: What `write_views` returned.
        mode: Whether charts or the table come first; a button on the page switches.
    """
    return f"{experiment_url}&viewStateShareKey={key}&compareRunsMode={mode}"


def view_key(view: SavedView) -> str:
    """A digest of what a view is about, by which searches share a view."""
    return _digest(_text_of(view.identity))


def view_tag(state: Mapping[str, Any], name: str | None, *, now_ms: int) -> str:
    """The value of a view's tag.

    Args:
        state: The view's state.
        name: The view's name in the UI; None for a UI that lists no names.
        now_ms: When it was created, in milliseconds since 1970 (UTC).
    """
    packed = base64.b64encode(zlib.compress(_text_of(state).encode(), 9)).decode()
    text = f"{_PACKED}{packed}"
    if name is None:
        return text
    return json.dumps({"name": name, "createdAt": now_ms, "updatedAt": now_ms, "state": text})


def read_tag(value: str) -> dict[str, Any]:
    """The state in a view's tag: the reverse of `view_tag`.

    Raises:
        ValueError: The tag has another format.
    """
    text = json.loads(value)["state"] if value.startswith("{") else value
    if not text.startswith(_PACKED):
        raise ValueError(f"`value` must hold a state that begins with '{_PACKED}'; got {text!r}")
    state: dict[str, Any] = json.loads(
        zlib.decompress(base64.b64decode(text.removeprefix(_PACKED)))
    )
    return state


def ui_version(client: MlflowClient) -> str | None:
    """The version of MLflow whose UI shows this store; None if it is not known.

    A server brings its own UI, whatever version the client has; a database is shown by the
    `mlflow ui` that is installed here; hosted services have UIs of their own.
    """
    uri = client.tracking_uri
    if urllib.parse.urlsplit(uri).scheme.partition("+")[0] in _LOCAL_SCHEMES:
        import mlflow

        return str(mlflow.__version__)
    if not is_server(uri):
        return None
    # MLflow's own request, since it uses the user's password or token and certificates.
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    response = http_request(get_default_host_creds(uri), "/version", "GET", max_retries=0)
    if response.status_code != 200:
        logger.debug("%s/version answered %s", public_uri(uri), response.status_code)
        return None
    text = str(response.text).strip()
    return text if text[:1].isdigit() else None


def _names(tags: Mapping[str, str]) -> set[str]:
    """The names of the existing views in the UI."""
    names = set()
    for tag, value in tags.items():
        if tag.startswith(TAG_PREFIX) and value.startswith("{"):
            try:
                names.add(json.loads(value).get("name", ""))
            except ValueError:
                continue  # the UI does not list such a view either
    return names


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]


def _text_of(content: object) -> str:
    return json.dumps(content, sort_keys=True, separators=(",", ":"))
