"""Recall and precision by class, from the predictions of real models."""

from __future__ import annotations

import dataclasses
import json

import keras
import numpy as np
import pytest

from keras_nas_plugin.records.class_scores import ClassScores
from keras_nas_plugin.registry.class_scores import MAX_ROWS, measure_classes

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 1, 1])


def echo(outputs, loss="sparse_categorical_crossentropy"):
    """A model whose outputs are its inputs."""
    model = keras.Sequential([keras.Input((outputs,)), keras.layers.Activation("linear")])
    model.compile(loss=loss, run_eagerly=True)
    return model


def rows_of(scores):
    return [(s.name, s.rows, s.recall, s.precision) for s in scores.classes]


EXPECTED = [("a", 3, 2 / 3, 1.0), ("b", 2, 1.0, 0.5), ("c", 1, 0.0, None)]


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], np.eye(3)[LABELS]])
def test_labels_are_numbers_or_one_hot(labels):
    scores = measure_classes(echo(3), np.eye(3, dtype="float32")[PREDICTED], labels).named("abc")
    assert rows_of(scores) == EXPECTED
    assert (scores.rows, scores.first) == (6, False)


@pytest.mark.parametrize("single_rows", [False, True])
def test_a_data_set_is_measured_in_batches(single_rows):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((np.eye(3, dtype="float32")[PREDICTED], LABELS))
    scores = measure_classes(echo(3), data if single_rows else data.batch(4), None).named("abc")
    assert rows_of(scores) == EXPECTED


@pytest.mark.parametrize(
    ("loss", "outputs"),
    [
        ("binary_crossentropy", [0.2, 0.7, 0.6]),
        (keras.losses.BinaryCrossentropy(from_logits=True), [-2.0, 0.3, 0.1]),
    ],
)
def test_a_single_output_tells_two_classes_apart(loss, outputs):
    x = np.array(outputs, "float32")[:, None]
    scores = measure_classes(echo(1, loss), x, np.array([0, 1, 0]))
    assert rows_of(scores) == [("0", 2, 0.5, 1.0), ("1", 1, 1.0, 0.5)]


@pytest.mark.parametrize(
    ("outputs", "loss", "labels"),
    [
        (1, "mse", [0.0, 1.0]),  # a regression
        (2, "binary_crossentropy", [[1, 1], [0, 1]]),  # classes that do not exclude each other
        (2, "mse", [[0.5, 0.1], [0.2, 0.3]]),
        (2, "sparse_categorical_crossentropy", [0, 5]),
    ],
)
def test_what_is_not_a_classifier_has_no_scores(outputs, loss, labels):
    x = np.zeros((2, outputs), "float32")
    assert measure_classes(echo(outputs, loss), x, np.array(labels)) is None


def test_only_the_first_rows_are_measured():
    labels = np.arange(MAX_ROWS + 10) % 2
    scores = measure_classes(echo(2), np.eye(2, dtype="float32")[labels], labels)
    assert (scores.rows, scores.first) == (MAX_ROWS, True)


def test_names_are_used_if_there_is_one_for_each_class_and_scores_are_stored_as_json():
    scores = measure_classes(echo(3), np.eye(3, dtype="float32")[PREDICTED], LABELS)
    assert [score.name for score in scores.named(["a", "b"]).classes] == ["0", "1", "2"]
    named = scores.named(["x", "y", "z"])
    assert ClassScores.of(json.loads(json.dumps(dataclasses.asdict(named)))) == named


def test_the_worst_classes_have_the_lowest_recall():
    scores = measure_classes(echo(3), np.eye(3, dtype="float32")[PREDICTED], LABELS).named("abc")
    assert [score.name for score in scores.worst(2)] == ["a", "c"]
