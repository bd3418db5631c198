"""Training and validation data are joined for a retraining on all data."""

from __future__ import annotations

import numpy as np
import pytest

from keras_nas_plugin.errors import RetrainingError
from keras_nas_plugin.retraining.full_data import full_data, measurement_split
from keras_nas_plugin.training.fit_arguments import FitArguments

X, Y = np.arange(20).reshape(10, 2), np.arange(10)


def part(start, stop):
    return X[start:stop], Y[start:stop]


def join(*args, hold_out=None, seed=0, **kwargs):
    return full_data(FitArguments.bind(args, kwargs), hold_out=hold_out, seed=seed)


def test_arrays_are_joined_and_validation_is_removed():
    x, y = part(0, 6)
    joined = join(
        x,
        y,
        validation_data=part(6, 10),
        validation_freq=2,
        initial_epoch=1,
        steps_per_epoch=3,
        batch_size=4,
        class_weight={0: 2.0},
    )
    args, kwargs = joined.arguments.to_fit()
    assert kwargs == {"batch_size": 4, "class_weight": {0: 2.0}}
    assert len(args) == 2
    np.testing.assert_array_equal(args[0], X)
    np.testing.assert_array_equal(args[1], Y)
    assert joined.training.rows == 10 and joined.held_out is None


def test_positional_arguments_stay_positional_and_keywords_stay_keywords():
    x, y = part(0, 6)
    args, kwargs = join(x=x, y=y, validation_data=part(6, 10)).arguments.to_fit()
    assert args == () and kwargs.keys() == {"x", "y"}
    args, kwargs = join(x, y, 4, 9, validation_data=part(6, 10)).arguments.to_fit()
    assert args[2:] == (4, 9) and kwargs == {}


def test_nested_inputs_are_joined_array_by_array():
    def inputs(start, stop):
        x, y = part(start, stop)
        return {"a": x, "b": [x[:, :1], x[:, 1:]], "c": (x,)}, y

    x, y = inputs(0, 6)
    joined = join(x, y, validation_data=inputs(6, 10)).training.x
    np.testing.assert_array_equal(joined["a"], X)
    np.testing.assert_array_equal(joined["b"][1], X[:, 1:])
    np.testing.assert_array_equal(joined["c"][0], X)


def test_pandas_objects_are_joined():
    pandas = pytest.importorskip("pandas")
    frame, labels = pandas.DataFrame(X), pandas.Series(Y)
    joined = join(frame[:6], labels[:6], validation_data=(frame[6:], labels[6:]))
    np.testing.assert_array_equal(joined.training.x, X)
    np.testing.assert_array_equal(joined.training.y, Y)


def test_a_validation_split_is_joined_in_the_order_of_the_rows():
    joined = join(X, Y, validation_split=0.25)
    np.testing.assert_array_equal(joined.training.x, X)
    assert joined.arguments.to_fit()[1] == {}


def test_held_out_rows_are_validation_rows_that_are_not_trained_on():
    joined = join(X, Y, validation_split=0.4, hold_out=0.5, seed=3)
    same_seed = join(X, Y, validation_split=0.4, hold_out=0.5, seed=3)
    other_seed = join(X, Y, validation_split=0.4, hold_out=0.5, seed=4)
    held_out, trained = joined.held_out.y, joined.training.y
    assert len(held_out) == 2 and set(held_out) <= {6, 7, 8, 9}
    assert sorted([*held_out, *trained]) == list(range(10))
    np.testing.assert_array_equal(held_out, same_seed.held_out.y)
    assert set(held_out) != set(other_seed.held_out.y)
    np.testing.assert_array_equal(joined.held_out.x, X[held_out])


def test_sample_weights_must_cover_both_training_and_validation_data():
    x, y = part(0, 6)
    weights = np.linspace(0, 1, 10)
    weighted = (*part(6, 10), weights[6:])
    joined = join(x, y, sample_weight=weights[:6], validation_data=weighted)
    np.testing.assert_array_equal(joined.arguments.sample_weight, weights)
    with pytest.raises(RetrainingError, match="`sample_weight` .* training data only"):
        join(x, y, sample_weight=weights[:6], validation_data=part(6, 10))
    with pytest.raises(RetrainingError, match="`sample_weight` .* validation data only"):
        join(x, y, validation_data=weighted)
    with pytest.raises(RetrainingError, match="`sample_weight` .* validation data only"):
        join(dataset(), validation_data=dataset(weights=True))


def test_each_element_of_joined_datasets_is_used_once_per_epoch():
    import tensorflow as tf

    training = tf.data.Dataset.from_tensor_slices(part(0, 6)).batch(2, drop_remainder=True)
    validation = tf.data.Dataset.from_tensor_slices(part(6, 10)).batch(3)
    joined = join(training, validation_data=validation, seed=1)
    epochs = [np.concatenate([y for _, y in joined.training.x]) for _ in range(4)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1, "the order changes"
    assert joined.training.rows is None


def dataset(infinite=False, columns=2, weights=False):
    import tensorflow as tf

    elements = (X[:, :columns], Y, np.ones(10)) if weights else (X[:, :columns], Y)
    data = tf.data.Dataset.from_tensor_slices(elements).batch(5)
    return data.repeat() if infinite else data


@pytest.mark.parametrize(
    ("x", "kwargs", "message"),
    [
        (None, {}, "`x` must be the training data of the search; got None"),
        (X, {"y": Y, "validation_data": (X[:, :1], Y)}, "`x` of .* shape .* and shape .10, 1"),
        (X, {"y": Y, "validation_data": (X, Y[:3])}, "as many targets as inputs"),
        (X, {"y": Y, "validation_data": (X,)}, "`y` of training and validation data"),
        (X, {"y": Y, "validation_data": ({"a": X}, Y)}, "shape .10, 2. and .a"),
        (X, {"y": Y, "validation_data": (X, Y, Y, Y)}, "got 4 elements"),
        (X, {"y": Y, "validation_data": dataset}, "both arrays or both tf.data"),
        (dataset, {"validation_data": lambda: dataset(True)}, "must be finite data sets"),
        (dataset, {"validation_data": lambda: dataset(columns=1)}, "same shapes and types"),
        (dataset, {"validation_split": 0.5}, "`validation_split` must be 0 unless"),
        (iter(()), {"validation_data": (X, Y)}, "`x` must be arrays or a tf.data.Dataset"),
        (X, {"y": Y, "validation_data": iter(())}, "`validation_data` must be arrays or a tf"),
    ],
)
def test_the_error_names_data_that_cannot_be_joined(x, kwargs, message):
    arguments = {key: value() if callable(value) else value for key, value in kwargs.items()}
    with pytest.raises(RetrainingError, match=message):
        join(x() if callable(x) else x, **arguments)


@pytest.mark.parametrize(
    ("x", "kwargs", "fraction", "message"),
    [
        (X, {"y": Y, "validation_split": 0.4}, 0.01, "must leave validation rows to train on"),
        (X, {"y": Y}, 0.5, "`hold_out` must be None for a search without validation data"),
        (dataset, {"validation_data": dataset}, 0.5, "`hold_out` must be None when"),
    ],
)
def test_the_error_names_rows_that_cannot_be_held_out(x, kwargs, fraction, message):
    arguments = {key: value() if callable(value) else value for key, value in kwargs.items()}
    with pytest.raises(RetrainingError, match=message):
        join(x() if callable(x) else x, hold_out=fraction, **arguments)


def test_test_data_may_have_targets_and_sample_weights():
    assert measurement_split(None, "test_data") is None
    assert measurement_split(X, "test_data").y is None
    split = measurement_split((X, Y, Y), "test_data")
    assert split.rows == 10 and split.sample_weight is Y
    with pytest.raises(RetrainingError, match="`test_data` must be arrays or a tf.data.Dataset"):
        measurement_split(iter(()), "test_data")
