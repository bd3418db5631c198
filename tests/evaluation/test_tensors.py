"""Rows of tensors that NumPy arrays cannot replace."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from keras_nas_plugin.evaluation.data_quality import rows_of
from keras_nas_plugin.evaluation.datasets import sample_rows
from keras_nas_plugin.evaluation.tensors import is_text_or_ragged, join_rows
from keras_nas_plugin.training.fit_arguments import DataSplit

TEXT = tf.constant([["a"], ["b"], ["c"]])
RAGGED = tf.ragged.constant([[1, 2], [3], [4, 5, 6]])


def as_lists(tensor):
    return tensor.to_list() if hasattr(tensor, "to_list") else tensor.numpy().tolist()


@pytest.mark.parametrize("tensor", [TEXT, RAGGED])
def test_rows_of_strings_and_ragged_tensors_stay_tensors(tensor):
    rows = as_lists(tensor)
    assert is_text_or_ragged(tensor)
    assert as_lists(sample_rows({"x": tensor}, 2)["x"]) == rows[:2]
    dataset = tf.data.Dataset.from_tensor_slices(tensor).batch(2)
    assert as_lists(sample_rows(dataset, 1)) == rows[:1]
    order = np.array([2, 0])
    taken = DataSplit(tensor, np.arange(3)).take(order)
    assert as_lists(taken.x) == [rows[2], rows[0]]
    assert as_lists(rows_of(tensor, order)) == [rows[2], rows[0]]
    assert as_lists(join_rows(tensor, taken.x)) == [*rows, rows[2], rows[0]]


def test_rows_of_numbers_are_taken_from_a_tensor_as_well():
    numbers = tf.constant([[1.0], [2.0]])
    assert not is_text_or_ragged(numbers)
    assert as_lists(rows_of(numbers, np.array([1]))) == [[2.0]]


@pytest.mark.parametrize(
    "other", [tf.constant([["a", "b"]]), tf.constant([[1]]), RAGGED, tf.constant(["a"])]
)
def test_rows_of_another_form_cannot_be_joined(other):
    with pytest.raises(ValueError, match="rows of"):
        join_rows(TEXT, other)
