"""One sentence for what a store raises."""

from __future__ import annotations

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from keras_nas_plugin.errors import StateError, TrackingError
from keras_nas_plugin.tracking.connection import lost
from keras_nas_plugin.tracking.failures import explained

START = "logging it at http://host failed: "
ANSWER = "API request to endpoint /x failed with error code 401 != 200. Response body: 'No.'"


def said(error, **options):
    address = "http://u:secret@host"
    with pytest.raises(TrackingError) as found, explained("logging it", address, **options):
        raise error
    return str(found.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            MlflowException("Permission denied", error_code=PERMISSION_DENIED),
            "it is not permitted: Permission denied",
        ),
        (MlflowException(ANSWER), f"it is not permitted: {ANSWER}"),
        (MlflowException("busy"), "busy"),
        (ConnectionError("gone"), "gone"),
    ],
)
def test_a_refusal_is_told_apart_from_an_outage(error, expected):
    assert said(error) == START + expected


def test_a_password_in_what_mlflow_says_is_not_shown():
    url = "http://u:s%40ec/ret@host:80/api/2.0/runs/get"
    told = said(MlflowException(f"API request to {url} failed with exception busy"))
    assert told == START + (
        "API request to http://host:80/api/2.0/runs/get failed with exception busy"
    )


@pytest.mark.parametrize("error", [KeyError("a fault of ours"), StateError("told already")])
def test_what_is_no_failure_of_a_store_stays_what_it_is(error):
    with pytest.raises(type(error)) as found, explained("logging it", "http://host"):
        raise error
    assert found.value is error


def test_what_keras_raises_is_explained_where_it_is_asked_for():
    assert said(TypeError("cannot pickle"), foreign=True) == f"{START}cannot pickle"


@pytest.mark.parametrize(
    ("status", "outage"), [(413, False), (431, False), (429, True), (500, True), (502, True)]
)
def test_what_a_gateway_never_lets_pass_is_no_outage(status, outage):
    """Else the trial that is too large would be sent again for ever, before all others."""
    import requests
    from mlflow.utils.rest_utils import verify_rest_response

    answer = requests.Response()
    answer.status_code, answer._content = status, b"<html>No.</html>"
    with pytest.raises(MlflowException) as found:
        verify_rest_response(answer, "/api/2.0/mlflow/runs/log-batch")
    assert lost(found.value) is outage
