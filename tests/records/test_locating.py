import json
import linecache
import traceback

import keras
import keras_tuner
import mlflow
import numpy as np
import pytest

from keras_nas_plugin import MLflowTracker, NASTuner, RandomOracle
from keras_nas_plugin.records.locating import location_in, location_of
from keras_nas_plugin.records.trial import FAILED, Location, TrialRecord, load_records
from tests.integration import forkserver


def raised(function):
    with pytest.raises(Exception) as caught:
        function()
    return caught.value


def fail():
    raise ValueError("no")


def test_the_innermost_line_of_the_users_code_is_found():
    location = location_of(raised(fail))
    assert location.code == 'raise ValueError("no")' and location.file == __file__
    assert linecache.getline(__file__, location.line).strip() == location.code
    assert str(location) == f'{__file__}:{location.line}: raise ValueError("no")'


@pytest.mark.parametrize(
    ("function", "code"),
    [
        (lambda: keras.layers.Dense("many"), 'keras.layers.Dense("many")'),
        (lambda: json.loads("{"), 'json.loads("{")'),
        (lambda: keras_tuner.HyperParameters().Int("a", 3, 1), '.Int("a", 3, 1)'),
        (lambda: NASTuner(None), "NASTuner(None)"),
    ],
    ids=["keras", "standard library", "keras_tuner", "this package"],
)
def test_frames_of_libraries_are_skipped(function, code):
    location = location_of(raised(function))
    assert location.file == __file__ and code in location.code


def test_the_cause_is_searched_where_the_error_itself_has_no_line_of_the_user():
    cause, error = raised(fail), RuntimeError("in a library")
    error.__cause__ = cause
    assert location_of(error) == location_of(cause) != None  # noqa: E711
    hidden = RuntimeError("raised from None")
    hidden.__context__, hidden.__suppress_context__ = cause, True
    assert location_of(hidden) is None
    error.__cause__, cause.__cause__ = cause, error  # a cycle
    cause.__traceback__ = None
    assert location_of(error) is None


def chained():
    try:
        fail()
    except ValueError as error:
        raise RuntimeError("while building") from error


def in_a_library():
    json.loads("{")


@pytest.mark.parametrize("function", [fail, chained, in_a_library])
def test_a_traceback_as_text_has_the_same_location(function):
    error = raised(function)
    text = "".join(traceback.format_exception(error))
    assert location_in(text) == location_of(error) != None  # noqa: E711


def test_the_cause_in_a_text_is_searched_where_the_error_has_no_line_of_the_user():
    library = (
        f'Traceback (most recent call last):\n  File "{json.__file__}", line 1, in f\nKeyError'
    )
    cause = "".join(traceback.format_exception(raised(fail)))
    between = "The above exception was the direct cause of the following exception:"
    text = f"{cause}\n{between}\n\n{library}"
    assert location_in(text) == location_of(raised(fail))
    assert location_in(library) is None and location_in("no traceback") is None
    assert location_in('  File "<cell>", line 4, in <module>\nKeyError').code == ""


def test_code_without_a_file_has_a_location_without_code():
    location = location_of(raised(lambda: exec(compile("1 / 0", "<cell>", "exec"))))
    assert str(location) == "<cell>:1"


class Scaled(keras.layers.Layer):
    def call(self, x):
        return x * self.factor


def test_a_failed_trial_says_where(tmp_path, caplog):
    """In its record, in the log, in MLflow, and the whole traceback in its folder."""

    def build(hp):
        layers = [keras.layers.Dense(1)]
        if hp.Boolean("scaled"):
            layers.append(Scaled())
        model = keras.Sequential([keras.Input((3,)), *layers])
        model.compile("sgd", "mse", run_eagerly=True)
        return model

    x = np.zeros((4, 3), "float32")
    uri = forkserver.new_store(tmp_path)
    tracker = MLflowTracker("where", tracking_uri=uri)
    oracle = RandomOracle("val_loss", max_trials=2, seed=0)
    tuner = NASTuner(build, oracle, tracker=tracker, directory=tmp_path, project_name="p")
    tuner.search(x, x[:, :1], validation_data=(x, x[:, :1]), epochs=1, verbose=0)
    (record,) = (record for record in load_records(tuner.project_dir) if record.status == FAILED)
    assert record.location.file == __file__ and record.location.code == "return x * self.factor"
    folder = tmp_path / "p" / f"trial_{record.trial_id}"
    text = (folder / "traceback.txt").read_text("utf-8")
    assert text.startswith("Traceback") and "layers.append(Scaled())" not in text
    assert "return x * self.factor" in text and "has no attribute 'factor'" in text
    assert f"Trial {record.trial_id} failed: AttributeError" in caplog.text
    assert f"\n  at {record.location}" in caplog.text
    client, run_id = mlflow.MlflowClient(uri), tracker.run_id(record.trial_id)
    assert client.get_run(run_id).data.tags["nas.error_location"] == str(record.location)
    path = client.download_artifacts(run_id, "traceback.txt", str(tmp_path))
    with open(path, encoding="utf-8") as file:
        assert file.read() == text
    TrialRecord.discard(folder)
    assert not (folder / "traceback.txt").exists() and TrialRecord.load(folder) is None


def test_records_of_earlier_versions_have_no_location():
    record = TrialRecord(trial_id="0", values={}, status=FAILED, error="ValueError: no")
    data = json.loads(json.dumps(record.__dict__))
    del data["location"]
    assert TrialRecord.of(data).location is None
    data["location"] = {"file": "a.py", "line": 3, "code": "x"}
    assert TrialRecord.of(data).location == Location("a.py", 3, "x")
