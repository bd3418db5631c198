"""Errors of stores become one sentence."""

from __future__ import annotations

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED

from keras_nas_plugin.errors import StateError, TrackingError
from keras_nas_plugin.tracking.mlflow.client import is_outage
from keras_nas_plugin.tracking.mlflow.errors import tracking_errors

START = "logging it at http://host failed: "
ANSWER = "API request to endpoint /x failed with error code 401 != 200. Response body: 'No.'"


def message_of(error, **options):
    address = "http://u:secret@host"
    with pytest.raises(TrackingError) as raised, tracking_errors("logging it", address, **options):
        raise error
    return str(raised.value)


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
def test_a_rejection_differs_from_an_outage(error, expected):
    assert message_of(error) == START + expected


def test_a_password_in_an_error_of_mlflow_is_not_shown():
    url = "http://u:s%40ec/ret@host:80/api/2.0/runs/get"
    message = message_of(MlflowException(f"API request to {url} failed with exception busy"))
    assert message == START + (
        "API request to http://host:80/api/2.0/runs/get failed with exception busy"
    )


@pytest.mark.parametrize("error", [KeyError("a fault of ours"), StateError("message already")])
def test_errors_that_are_not_of_a_store_are_not_replaced(error):
    with pytest.raises(type(error)) as raised, tracking_errors("logging it", "http://host"):
        raise error
    assert raised.value is error


def test_errors_of_keras_are_explained_on_request():
    assert message_of(TypeError("cannot pickle"), foreign=True) == f"{START}cannot pickle"


@pytest.mark.parametrize(
    ("status", "outage"), [(413, False), (431, False), (429, True), (500, True), (502, True)]
)
def test_a_request_that_a_gateway_always_rejects_is_no_outage(status, outage):
    """Otherwise a trial that is too large would be sent forever, before all others."""
    import requests
    from mlflow.utils.rest_utils import verify_rest_response

    answer = requests.Response()
    answer.status_code, answer._content = status, b"<html>No.</html>"
    with pytest.raises(MlflowException) as raised:
        verify_rest_response(answer, "/api/2.0/mlflow/runs/log-batch")
    assert is_outage(raised.value) is outage
