"""The champion in every format: the same predictions in the format's own runtime."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from click.testing import CliRunner

from keras_nas_plugin.cli.main import cli
from tests.servers import Server

FORMATS = [
    ("savedmodel", None),
    ("litert", None),
    ("litert", "int8"),
    ("litert", "float16"),
    ("litert", "dynamic"),
    ("onnx", None),
    ("onnx", "int8"),
    ("onnx", "float16"),
    ("onnx", "dynamic"),
]


def keras_nas(*words):
    """Run a command in this process; returns its standard output."""
    result = CliRunner().invoke(cli, list(map(str, words)), standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.stdout


def exported(champion, folder, format_name, quantize=None, *words):
    """Export the champion with the command line; returns what it prints as JSON."""
    options = ["--quantize", quantize, "--calibration", champion.training] if quantize else []
    target = ["digits@champion", "--format", format_name, "--tracking-uri", champion.uri]
    where = ["--data", champion.data, "-o", folder, "--json"]
    return json.loads(keras_nas("export", *target, *options, *where, *words))


@pytest.fixture(scope="module")
def exports(champion, tmp_path_factory):
    """Every format, exported once: folder and printed result by format and quantization."""
    results = {}
    for name, quantize in FORMATS:
        folder = tmp_path_factory.mktemp(name)
        results[name, quantize] = folder, exported(champion, folder, name, quantize)
    return results


@pytest.mark.parametrize(("name", "quantize"), FORMATS)
def test_a_format_predicts_what_keras_does(champion, exports, name, quantize):
    folder, result = exports[name, quantize]
    assert result["rows"] == 200 and result["metric"] == "accuracy"
    assert result["keras_score"] > 0.85
    assert abs(result["keras_score"] - result["score"]) <= 0.02
    if quantize is None:
        assert result["largest_difference"] < 1e-4
    assert result["latency_p95_ms"] >= result["latency_p50_ms"] > 0
    files = [folder / result["file"], *(folder / result["file"]).glob("**/*")]
    assert result["bytes"] == sum(file.stat().st_size for file in files if file.is_file())
    described = json.loads((folder / "export.json").read_text())
    assert described["class_names"][3] == "digit 3"
    assert described["inputs"] == [{"name": "image", "dtype": "float32", "shape": [8, 8, 1]}]


def test_exports_are_logged_and_tagged(champion, exports):
    client = champion.client
    logged = {file.path for file in client.list_artifacts(champion.run_id, "exports")}
    assert logged == {f"exports/{n}-{q}" if q else f"exports/{n}" for n, q in FORMATS}
    files = {file.path for file in client.list_artifacts(champion.run_id, "exports/litert-int8")}
    assert files == {"exports/litert-int8/model.tflite", "exports/litert-int8/export.json"}
    tags = client.get_model_version_by_alias("digits", "champion").tags
    assert {tag for tag in tags if tag.startswith("nas.export")} == {
        "nas.export.savedmodel",
        "nas.export.litert",
        "nas.export.onnx",
    }
    by_label = json.loads(tags["nas.export.litert"])
    assert by_label.keys() == {"litert", "litert-int8", "litert-float16", "litert-dynamic"}
    assert by_label["litert-int8"]["bytes"] == exports["litert", "int8"][1]["bytes"]


def test_int8_is_smaller(exports):
    assert exports["litert", "int8"][1]["bytes"] < exports["litert", None][1]["bytes"]


def test_a_saved_model_is_loaded_by_its_signature(champion, exports):
    folder, result = exports["savedmodel", None]
    loaded = tf.saved_model.load(str(folder / result["file"]))
    (answer,) = loaded.signatures["serving_default"](image=tf.constant(champion.x)).values()
    np.testing.assert_allclose(answer, champion.predicted, atol=1e-5)


PROGRAM = """
import sys
sys.modules["keras"] = None  # an import raises
sys.modules["keras_nas_plugin"] = None
import numpy as np
kind, path, rows, output = sys.argv[1:]
x = np.load(rows)
if kind == "litert":
    from ai_edge_litert.interpreter import Interpreter
    run = Interpreter(path).get_signature_runner("serving_default")
    answers = [next(iter(run(image=row[None]).values())) for row in x]
    predicted = np.concatenate(answers)
else:
    import onnxruntime
    predicted = onnxruntime.InferenceSession(path).run(None, {"image": x})[0]
assert "tensorflow" not in sys.modules
np.save(output, predicted)
"""


@pytest.mark.parametrize("name", ["litert", "onnx"])
def test_the_exported_file_and_its_runtime_are_enough(champion, exports, name, tmp_path):
    folder, result = exports[name, None]
    np.save(tmp_path / "rows.npy", champion.x)
    arguments = [name, folder / result["file"], tmp_path / "rows.npy", tmp_path / "answers.npy"]
    words = [sys.executable, "-I", "-c", PROGRAM, *map(str, arguments)]
    completed = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    answers = np.load(tmp_path / "answers.npy")
    np.testing.assert_allclose(answers, champion.predicted, atol=1e-5)


def test_openvino_predicts_what_keras_does(champion, tmp_path):
    openvino = pytest.importorskip("openvino")
    result = exported(champion, tmp_path, "openvino", None, "--no-log")
    assert result["logged"] is None and result["largest_difference"] < 1e-4
    # By default, OpenVINO computes in half precision on processors that have it.
    precise = {"INFERENCE_PRECISION_HINT": "f32"}
    path = tmp_path / "openvino" / "model.xml"
    compiled = openvino.Core().compile_model(path, "CPU", precise)
    answers = compiled({"image": champion.x})[0]
    np.testing.assert_allclose(answers, champion.predicted, atol=1e-3)


def test_the_champion_is_served_and_answers_the_printed_request(champion, tmp_path):
    target = ["serve", "digits@champion", "--tracking-uri", champion.uri]
    body_file = tmp_path / "request.json"
    printed, with_file = keras_nas(*target, "--request", body_file).splitlines()
    assert shlex.split(with_file)[-1] == f"@{body_file}"

    def command(port):
        words = [*target, "--port", str(port), "--start"]
        return [sys.executable, "-m", "keras_nas_plugin.cli.main", *words]

    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    server = Server(tmp_path, command, health="/ping", environment=environment)
    with server.running():
        start, curl = server.log.splitlines()[:2]
        port = server.uri.rpartition(":")[2]
        assert start == printed.replace("5001", port)
        _, url, _, header, _, body = shlex.split(curl)
        assert json.loads(body) == json.loads(body_file.read_text())
        key, _, kind = header.partition(": ")
        request = urllib.request.Request(url, body.encode(), {key: kind})
        with urllib.request.urlopen(request, timeout=60) as response:
            (answer,) = json.load(response)["predictions"]
    row = np.array(json.loads(body)["inputs"], "float32")
    expected = champion.model.predict(row, verbose=0)[0]
    assert answer["class"] == f"digit {expected.argmax()}"
    assert [*answer["probabilities"].values()] == pytest.approx(expected.tolist(), abs=1e-5)


def test_without_data_the_input_example_is_compared(champion, tmp_path):
    words = ["digits/1", "--format", "onnx", "--tracking-uri", champion.uri, "-o", tmp_path]
    result = json.loads(keras_nas("export", *words, "--no-log", "--json"))
    assert result["rows"] == 2 and result["metric"] is None
    printed = keras_nas("export", *words, "--no-log")
    assert "model.onnx" in printed and "latency" in printed
