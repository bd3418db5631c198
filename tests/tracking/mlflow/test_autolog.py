"""Trials are not autologged, and the user's autologging stays on."""

from __future__ import annotations

import subprocess
import sys

import pytest

from keras_nas_plugin.tracking import autolog_disabled


@pytest.fixture
def autolog(database):
    import mlflow
    import mlflow.tensorflow
    from mlflow.utils.autologging_utils import AUTOLOGGING_INTEGRATIONS

    mlflow.set_tracking_uri(database)
    mlflow.set_experiment("autolog")
    mlflow.tensorflow.autolog(log_models=False, checkpoint=False, silent=True)
    yield lambda: dict(AUTOLOGGING_INTEGRATIONS["tensorflow"])
    mlflow.tensorflow.autolog(disable=True)
    mlflow.set_tracking_uri(None)


@pytest.fixture
def fit():
    import keras
    import numpy as np

    def run():
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
        model.compile("sgd", "mse")
        model.fit(np.zeros((4, 2)), np.zeros((4, 1)), verbose=0)

    return run


def number_of_runs():
    import mlflow

    return len(mlflow.search_runs(experiment_names=["autolog"], output_format="list"))


def test_a_fit_creates_no_run_inside_the_block_and_one_after_it(autolog, fit):
    before = autolog()
    with autolog_disabled():
        fit()
    assert number_of_runs() == 0
    assert autolog() == before
    fit()
    assert number_of_runs() == 1


def test_autologging_is_restored_after_an_error_and_inside_the_users_own_block(autolog, fit):
    from mlflow.utils.autologging_utils import disable_autologging

    with pytest.raises(KeyError), autolog_disabled():
        raise KeyError
    with disable_autologging():
        with autolog_disabled():
            fit()
        fit()
    assert number_of_runs() == 0
    fit()
    assert number_of_runs() == 1


def test_a_program_without_mlflow_does_not_import_it():
    code = (
        "import sys; from keras_nas_plugin.tracking import autolog_disabled\n"
        "with autolog_disabled(): print('mlflow' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout.strip() == "False", process.stderr
