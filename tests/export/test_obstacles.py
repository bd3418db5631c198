"""Models that a format cannot hold: one sentence with the layer and what to write instead."""

from __future__ import annotations

import importlib.util

import keras
import numpy as np
import pandas as pd
import pytest

from keras_nas_plugin.errors import ExportError
from keras_nas_plugin.export import export_model, exporter_of
from keras_nas_plugin.export.base import Tolerance
from keras_nas_plugin.export.comparison import compare
from keras_nas_plugin.export.inference import InferenceGraph

SEQUENCES = np.random.default_rng(0).random((3, 5, 2)).astype("float32")


class Inverse(keras.layers.Layer):
    """An operation that LiteRT and ONNX do not have."""

    def call(self, x):
        return keras.ops.erfinv(0.5 * x)


def recurrent(layer):
    inputs = keras.Input((5, 2))
    return keras.Model(inputs, keras.layers.Dense(2)(layer(inputs)))


def quantized():
    model = recurrent(keras.layers.Dense(2, name="small"))
    for layer in model.layers[1:]:
        layer.quantize("int8")
    return model


def text():
    words = keras.layers.TextVectorization(20, output_sequence_length=4, name="words")
    words.adapt(["a b"])
    inputs = keras.Input((1,), dtype="string")
    return keras.Model(inputs, keras.layers.Embedding(20, 2)(words(inputs)))


REFUSED = {
    "int8 LSTM": (
        lambda: recurrent(keras.layers.LSTM(3, name="memory")),
        ("litert", "int8"),
        r"layer 'memory' \(LSTM\) stands in the way .* LiteRT in int8.*unroll=True",
    ),
    "Flex operation": (
        lambda: recurrent(Inverse(name="inverse")),
        ("litert", None),
        r"layer 'inverse' \(Inverse\) .* LiteRT, which has no operation Erfinv: replace it",
    ),
    "ONNX operation": (
        lambda: recurrent(Inverse(name="inverse")),
        ("onnx", None),
        r"layer 'inverse' \(Inverse\) stands in the way of an export to ONNX.*Erfinv",
    ),
    "texts in LiteRT": (text, ("litert", None), r"layer 'words' \(TextVectorization\) must not"),
    "texts in ONNX": (text, ("onnx", None), "ONNX, which has no strings. Use the format"),
    "quantized by Keras": (
        quantized,
        ("litert", None),
        r"layer 'small' \(Dense\) .* `model.quantize` of Keras .* `quantize=\"int8\"`",
    ),
    "open shape": (
        lambda: keras.Sequential([keras.Input((None, 2)), keras.layers.Dense(1)]),
        ("litert", None),
        "must have a fixed shape for LiteRT; got \\(None, 2\\)",
    ),
    "no inputs": (
        lambda: keras.Sequential([keras.layers.Dense(1)]),
        ("onnx", None),
        "`model` must declare its inputs; got Sequential",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_refusal_names_the_layer_and_the_remedy(kind, tmp_path):
    build, (name, quantize), message = REFUSED[kind]
    rows = SEQUENCES if quantize else None
    with pytest.raises(ExportError, match=message):
        export_model(build(), name, tmp_path, quantize=quantize, calibration=rows)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("layer", "name", "quantize"),
    [
        (lambda: keras.layers.LSTM(3), "litert", None),
        (lambda: keras.layers.LSTM(3, unroll=True), "litert", "int8"),
        (lambda: keras.layers.LSTM(3), "onnx", None),
        (lambda: keras.layers.Dense(3, activation="gelu"), "onnx", None),
        (lambda: keras.layers.Dense(3, dtype="mixed_float16"), "onnx", None),
    ],
    ids=["LSTM in LiteRT", "unrolled LSTM in int8", "LSTM in ONNX", "exact GELU in ONNX", "half"],
)
def test_layers_that_are_known_to_be_difficult(layer, name, quantize, tmp_path):
    model = recurrent(layer())
    result = export_model(
        model, name, tmp_path, quantize=quantize, data=(SEQUENCES, None), calibration=SEQUENCES
    )
    assert result.rows == 3 and result.path.exists()


def test_string_layers_are_part_of_a_saved_model(tmp_path):
    rows = np.array([["a b"], ["b"]], object)
    result = export_model(text(), "savedmodel", tmp_path, data=(rows, None))
    assert result.largest_difference == 0.0
    assert result.inputs[0]["dtype"] == "string"


def test_several_inputs_and_outputs_have_names(tmp_path):
    a, b = keras.Input((3,), name="b"), keras.Input((2,), name="a")
    joined = keras.layers.Concatenate()([a, b])
    heads = [keras.layers.Dense(2, name="one")(joined), keras.layers.Dense(1, name="two")(joined)]
    model = keras.Model({"b": a, "a": b}, heads)
    rows = {"a": np.ones((4, 2), "float32"), "b": np.zeros((4, 3), "float32")}
    for name in ("litert", "onnx", "savedmodel"):
        result = export_model(model, name, tmp_path / name, data=(rows, None))
        assert [spec["name"] for spec in result.inputs] == ["a", "b"]
        assert result.largest_difference < 1e-5


def test_tables_are_rows_of_several_inputs_by_column():
    inputs = {name: keras.Input((1,), name=name) for name in ("age", "weight")}
    both = InferenceGraph(keras.Model(inputs, keras.layers.Concatenate()(list(inputs.values()))))
    table = pd.DataFrame({"weight": [70.0, None], "id": [1, 2], "age": [30, 40]})
    rows = both.arrays(table)
    np.testing.assert_array_equal(rows["age"], [[30.0], [40.0]])
    np.testing.assert_array_equal(rows["weight"], [[70.0], [np.nan]])
    single = InferenceGraph(keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]))
    (array,) = single.arrays(table.fillna(0.0)).values()
    assert array.shape == (2, 3)


def test_constants_that_onnx_needs_are_in_the_file(tmp_path):
    pytest.importorskip("tf2onnx")
    scale = keras.layers.Normalization(axis=(1, 2))  # TensorFlow does not store that many
    series = np.random.default_rng(0).normal(size=(6, 20, 9)).astype("float32")
    scale.adapt(series)
    inputs = keras.Input((20, 9))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(scale(inputs))))
    result = export_model(model, "onnx", tmp_path, data=(series, None))
    assert result.largest_difference < 1e-4


def test_several_layers_of_strings_are_named_once(tmp_path):
    inputs = {name: keras.Input((1,), name=name, dtype="string") for name in ("color", "shape")}
    features = [
        keras.layers.StringLookup(
            vocabulary=["a", "b"], output_mode="one_hot", name=f"{name}_lookup"
        )(tensor)
        for name, tensor in inputs.items()
    ]
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Concatenate()(features)))
    with pytest.raises(ExportError, match="of the layers after all of its") as raised:
        export_model(model, "litert", tmp_path)
    assert str(raised.value).count("color_lookup") == str(raised.value).count("shape_lookup") == 1


def test_predictions_that_differ_are_refused(tmp_path):
    model = recurrent(keras.layers.Dense(2))
    with pytest.raises(ExportError, match="the mean difference .* must be at most 1e-12"):
        export_model(
            model,
            "litert",
            tmp_path,
            quantize="int8",
            data=(SEQUENCES, None),
            calibration=SEQUENCES,
            tolerance=1e-12,
        )
    assert not list(tmp_path.iterdir())


def test_a_loss_of_accuracy_is_refused():
    y = np.array([0, 1])
    right, wrong = np.eye(2), np.eye(2)[::-1]
    comparison = compare({"out": right}, {"other": wrong}, y)
    assert (comparison.keras_score, comparison.score) == (1.0, 0.0)
    with pytest.raises(ExportError, match="the loss of accuracy between it and the Keras model"):
        comparison.check(Tolerance(metric_drop=0.02), "it")
    worse = compare({"out": np.array([[2.0]])}, {"out": np.array([[3.0]])}, np.array([1.5]))
    assert worse.metric == "mse" and worse.metric_drop == pytest.approx(8.0)


def test_labels_that_do_not_fit_the_predictions_give_no_metric(caplog):
    boxes = np.zeros((2, 7, 5))  # for a grid of cells, as a detector predicts it
    grid = np.full((2, 3, 4, 6), 2.0)
    comparison = compare({"grid": grid}, {"grid": grid + 1}, boxes)
    assert (comparison.metric, comparison.score, comparison.metric_drop) == (None, None, 0)
    assert comparison.largest_difference == 0.5
    assert "The labels of shape (2, 7, 5) do not fit the predictions of shape (2, 3, 4, 6)" in (
        caplog.text
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("litert", "int4"), "`quantize` must be one of int8, float16, dynamic .* got 'int4'"),
        (("savedmodel", "int8"), "`quantize` must be one of no quantization .* got 'int8'"),
        (("coreml", None), "`format` must be one of savedmodel, litert, onnx, openvino"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, message):
    with pytest.raises(ExportError, match=message):
        exporter_of(*arguments)


def test_int8_needs_training_rows(tmp_path):
    with pytest.raises(ExportError, match="`calibration` must hold training rows"):
        export_model(recurrent(keras.layers.Dense(1)), "litert", tmp_path, quantize="int8")


def test_a_missing_library_is_one_sentence_with_the_command(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name)
    )
    with pytest.raises(ExportError, match=r"pip install 'keras-nas-plugin\[export-onnx\]'"):
        exporter_of("onnx")
