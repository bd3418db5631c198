"""Training and validation data as one."""

from __future__ import annotations

import numpy as np
import pytest

from keras_nas_plugin.errors import RetrainingError
from keras_nas_plugin.training.full_data import full_data, rows_of

X, Y = np.arange(20).reshape(10, 2), np.arange(10)


def part(start, stop):
    return X[start:stop], Y[start:stop]


def test_arrays_are_joined_and_validation_goes():
    x, y = part(0, 6)
    found = full_data(
        (x, y),
        {
            "validation_data": part(6, 10),
            "validation_freq": 2,
            "initial_epoch": 1,
            "steps_per_epoch": 3,
            "batch_size": 4,
            "class_weight": {0: 2.0},
        },
    )
    assert found.kwargs == {"batch_size": 4, "class_weight": {0: 2.0}}
    assert len(found.args) == 2
    np.testing.assert_array_equal(found.args[0], X)
    np.testing.assert_array_equal(found.args[1], Y)
    assert found.rows.count == 10 and found.held_out is None


def test_what_had_a_name_keeps_it():
    x, y = part(0, 6)
    found = full_data((), {"x": x, "y": y, "validation_data": part(6, 10)})
    assert found.args == () and found.kwargs.keys() == {"x", "y"}
    # The positional third argument of `fit` is no data.
    found = full_data((x, y, 4, 9), {"validation_data": part(6, 10)})
    assert len(found.args) == 2 and found.kwargs == {"batch_size": 4, "epochs": 9}


def test_nested_inputs_are_joined_leaf_by_leaf():
    def inputs(start, stop):
        x, y = part(start, stop)
        return {"a": x, "b": [x[:, :1], x[:, 1:]]}, y

    x, y = inputs(0, 6)
    found = full_data((x, y), {"validation_data": inputs(6, 10)}).args[0]
    np.testing.assert_array_equal(found["a"], X)
    np.testing.assert_array_equal(found["b"][1], X[:, 1:])


def test_a_split_gives_all_rows_in_their_order():
    found = full_data((X, Y), {"validation_split": 0.25})
    np.testing.assert_array_equal(found.args[0], X)
    assert found.kwargs == {}


def test_held_out_rows_are_validation_rows_that_nobody_learns():
    found = full_data((X, Y), {"validation_split": 0.4}, hold_out=0.5, seed=3)
    again = full_data((X, Y), {"validation_split": 0.4}, hold_out=0.5, seed=3)
    other = full_data((X, Y), {"validation_split": 0.4}, hold_out=0.5, seed=4)
    apart, learned = found.held_out.y, found.args[1]
    assert len(apart) == 2 and set(apart) <= {6, 7, 8, 9}
    assert sorted([*apart, *learned]) == list(range(10))
    np.testing.assert_array_equal(apart, again.held_out.y)
    assert set(apart) != set(other.held_out.y)
    np.testing.assert_array_equal(found.held_out.x, X[apart])


def test_weights_are_there_for_both_or_for_neither():
    x, y = part(0, 6)
    weights = np.linspace(0, 1, 10)
    both = {"sample_weight": weights[:6], "validation_data": (*part(6, 10), weights[6:])}
    np.testing.assert_array_equal(full_data((x, y), both).kwargs["sample_weight"], weights)
    for one, which in (
        ({**both, "validation_data": part(6, 10)}, "training"),
        ({"validation_data": both["validation_data"]}, "validation"),
    ):
        with pytest.raises(RetrainingError, match=f"`sample_weight` .* {which} data alone"):
            full_data((x, y), one)


def test_every_element_of_two_data_sets_comes_once_an_epoch():
    import tensorflow as tf

    one = tf.data.Dataset.from_tensor_slices(part(0, 6)).batch(2, drop_remainder=True)
    other = tf.data.Dataset.from_tensor_slices(part(6, 10)).batch(3)
    found = full_data((one,), {"validation_data": other}, seed=1)
    epochs = [np.concatenate([y for _, y in found.args[0]]) for _ in range(4)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1, "the order changes"
    assert found.rows.count is None


def data_set(infinite=False, columns=2):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices((X[:, :columns], Y)).batch(5)
    return data.repeat() if infinite else data


@pytest.mark.parametrize(
    ("x", "kwargs", "said"),
    [
        (None, {}, "`x` needs the data"),
        (X, {"y": Y, "validation_data": (X[:, :1], Y)}, "`x` of shape .* and shape .10, 1"),
        (X, {"y": Y, "validation_data": (X, Y[:3])}, "as many targets as inputs"),
        (X, {"y": Y, "validation_data": (X,)}, "`y` of shape"),
        (X, {"y": Y, "validation_data": ({"a": X}, Y)}, "shape .10, 2. and .a"),
        (X, {"y": Y, "validation_data": (X, Y, Y, Y)}, "it has 4"),
        (X, {"y": Y, "validation_data": data_set}, "both arrays or both tf.data"),
        (data_set, {"validation_data": lambda: data_set(True)}, "data sets that end"),
        (data_set, {"validation_data": lambda: data_set(columns=1)}, "elements of one kind"),
        (data_set, {"validation_split": 0.5}, "`validation_split` needs arrays"),
        (iter(()), {"validation_data": (X, Y)}, "arrays or a tf.data.Dataset"),
    ],
)
def test_what_does_not_go_together(x, kwargs, said):
    made = {key: value() if callable(value) else value for key, value in kwargs.items()}
    with pytest.raises(RetrainingError, match=said):
        full_data((x() if callable(x) else x,), made)


@pytest.mark.parametrize(
    ("kwargs", "fraction", "said"),
    [
        ({"y": Y, "validation_split": 0.4}, 1.5, "between 0 and 1"),
        ({"y": Y, "validation_split": 0.4}, 0.01, "rows on both sides"),
        ({"y": Y}, 0.5, "needs validation data"),
    ],
)
def test_what_cannot_be_held_out(kwargs, fraction, said):
    with pytest.raises(RetrainingError, match=said):
        full_data((X,), kwargs, hold_out=fraction)


def test_rows_as_evaluate_takes_them():
    assert rows_of(None, "test_data") is None
    assert rows_of(X, "test_data").y is None
    found = rows_of((X, Y, Y), "test_data")
    assert found.count == 10 and found.weights is Y
