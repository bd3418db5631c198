"""The arguments of `fit`, bound by name, with each kind of data."""

from __future__ import annotations

import subprocess
import sys

import keras
import keras_tuner
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from keras_nas_plugin.errors import FitArgumentsError
from keras_nas_plugin.evaluation.datasets import DataKind
from keras_nas_plugin.training.fit_arguments import (
    FIT_ARGUMENTS,
    DataSplit,
    FitArguments,
    argument_names,
)

X, Y = np.arange(20.0).reshape(10, 2), np.arange(10)
WEIGHTS = np.linspace(0, 1, 10)


class Batches(keras.utils.PyDataset):
    """Five batches of two rows."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        rows = slice(2 * index, 2 * index + 2)
        return X[rows], Y[rows], WEIGHTS[rows]


class Untouchable:
    """An iterator that fails when an element is requested."""

    def __iter__(self):
        return self

    def __next__(self):
        raise AssertionError("consumed")


def dataset(*arrays, batch=4):
    data = tf.data.Dataset.from_tensor_slices(arrays or (X, Y))
    return data.batch(batch) if batch else data


def bind(*args, **kwargs):
    return FitArguments.bind(args, kwargs)


def test_the_names_are_those_of_keras_fit():
    import inspect

    assert tuple(inspect.signature(keras.Model.fit).parameters)[1:] == FIT_ARGUMENTS


def test_positional_and_keyword_arguments_are_bound_alike():
    callbacks = [keras.callbacks.TerminateOnNaN()]
    positional = bind(X, Y, 32, 9, 0, callbacks, 0.2, initial_epoch=2, class_weight={0: 2.0})
    keywords = bind(
        x=X,
        y=Y,
        batch_size=32,
        epochs=9,
        verbose=0,
        callbacks=callbacks,
        validation_split=0.2,
        initial_epoch=2,
        class_weight={0: 2.0},
    )
    for arguments in (positional, keywords):
        assert arguments.x is X and arguments.y is Y
        assert (arguments.batch_size, arguments.epochs, arguments.initial_epoch) == (32, 9, 2)
        assert arguments.callbacks == callbacks and arguments.callbacks is not callbacks
        assert arguments.validation_split == 0.2
        assert arguments.class_weight == {0: 2.0}
    assert positional.values.keys() == keywords.values.keys()


def test_arguments_that_were_not_given_have_the_defaults_of_keras():
    arguments = bind()
    assert arguments.x is None and arguments.training is None
    assert arguments.validation is None and arguments.splits() == (None, None)
    assert (arguments.batch_size, arguments.epochs, arguments.initial_epoch) == (None, None, 0)
    assert (arguments.callbacks, arguments.validation_split) == ([], 0.0)
    assert arguments.sample_weight is None and arguments.class_weight is None
    assert arguments.sample() is None and arguments.sample_batch(2) is None
    assert arguments.describe("data") == ()


def test_to_fit_returns_the_call_that_was_bound():
    calls = [
        ((), {"x": X, "y": Y}),
        ((X, Y, 32, 9), {"verbose": 0}),
        ((X,), {"y": Y, "patience_of_my_own_fit": 3}),
    ]
    for args, kwargs in calls:
        assert FitArguments.bind(args, kwargs).to_fit() == (args, kwargs)


def test_replace_keeps_positional_arguments_positional():
    arguments = bind("x", "y", 32, 9, sample_weight="w")
    changed = arguments.replace(epochs=3, initial_epoch=1)
    assert changed.to_fit() == (("x", "y", 32, 3), {"sample_weight": "w", "initial_epoch": 1})
    assert arguments.epochs == 9, "the original does not change"
    assert bind(x="x").replace(epochs=3).to_fit() == ((), {"x": "x", "epochs": 3})


def test_arguments_after_one_that_is_removed_become_keywords():
    arguments = bind("x", "y", 32, 9, 0, [], 0.2, None, False, validation_freq=2)
    args, kwargs = arguments.without("validation_split", "validation_data").to_fit()
    assert args == ("x", "y", 32, 9, 0, [])
    assert kwargs == {"shuffle": False, "validation_freq": 2}
    assert bind("x", own=1).without("own", "epochs").to_fit() == (("x",), {})


class OwnFit(keras_tuner.HyperModel):
    """Has a `fit` whose arguments have other names and another order than those of Keras."""

    def fit(self, hp, model, images, labels, x, rate, epochs, extra, *, callbacks=(), **options):
        return None


class PassesOn(keras_tuner.HyperModel):
    def fit(self, hp, model, data, *args, **kwargs):
        return model.fit(data, *args, **kwargs)


def test_what_fit_does_not_accept_is_left_for_fit_to_report():
    for args, kwargs in (((X, Y), {"y": Y}), (tuple(range(17)), {}), ((X,), {"unknown": 1})):
        for hypermodel in (None, OwnFit(), PassesOn()):
            assert FitArguments.bind(args, kwargs, hypermodel).to_fit() == (args, kwargs)


def test_positional_arguments_of_a_hypermodel_have_the_names_of_its_fit():
    args = (X, Y, 7, 0.5, 9, "extra")
    arguments = FitArguments.bind(args, {"callbacks": ["c"], "batch_size": 4}, OwnFit())
    assert arguments.x is X and arguments.y is Y
    assert (arguments.batch_size, arguments.epochs, arguments.callbacks) == (4, 9, ["c"])
    changed = arguments.replace(callbacks=["d"], epochs=3, initial_epoch=1)
    assert changed.to_fit()[0] == (X, Y, 7, 0.5, 3, "extra")
    assert changed.to_fit()[1] == {"callbacks": ["d"], "batch_size": 4, "initial_epoch": 1}
    assert argument_names(PassesOn()) == ("data", *FIT_ARGUMENTS[1:])
    assert argument_names(keras_tuner.HyperModel()) == argument_names(None) == FIT_ARGUMENTS


def test_other_data_are_put_where_the_data_were():
    data = DataSplit("new x", "new y", "new weights")
    arguments = FitArguments.bind(("a", "b"), {"x": 7, "sample_weight": "c"}, OwnFit())
    changed = arguments.with_data(data)
    assert changed.to_fit() == (("new x", "new y"), {"x": 7, "sample_weight": "new weights"})
    assert bind("a", y="b", epochs=2).with_data(data).to_fit() == (
        ("new x",),
        {"y": "new y", "epochs": 2},
    )
    assert bind(x="a").with_data(data).to_fit() == ((), {"x": "new x"})


# ------------------------------------------------------------------ kinds of data


@pytest.mark.parametrize(
    ("x", "kind", "rows"),
    [
        (X, DataKind.ARRAYS, 10),
        (tf.constant(X), DataKind.ARRAYS, 10),
        ([[1, 2], [3, 4]], DataKind.ARRAYS, 2),
        ({"a": X, "b": (X, [X, X])}, DataKind.ARRAYS, 10),
        ((X, X), DataKind.ARRAYS, 10),
        ([{"a": X}, X], DataKind.ARRAYS, 10),
        (pd.DataFrame(X), DataKind.ARRAYS, 10),
        (pd.Series(Y), DataKind.ARRAYS, 10),
        (np.float32(1.0), DataKind.ARRAYS, None),
        (dataset(), DataKind.TF_DATASET, None),
        (dataset(batch=None), DataKind.TF_DATASET, None),
        (Batches(), DataKind.PY_DATASET, None),
        (iter(dataset()), DataKind.OTHER, None),
        ((batch for batch in [(X, Y)]), DataKind.OTHER, None),
        (Untouchable(), DataKind.OTHER, None),
    ],
)
def test_the_kind_of_data_and_the_number_of_rows(x, kind, rows):
    split = DataSplit(x)
    assert (split.kind, split.rows) == (kind, rows)


@pytest.mark.parametrize(
    ("args", "sample"),
    [
        ((X, Y), X[:3]),
        ((tf.constant(X), Y), X[:3]),
        ((pd.DataFrame(X), pd.Series(Y)), X[:3]),
        ((dataset(),), X[:3]),
        ((dataset(X, Y, WEIGHTS),), X[:3]),
        ((dataset(batch=None),), X[:3]),
        ((dataset(X, np.eye(10), batch=None),), X[:3]),
        ((Batches(),), X[:2]),
    ],
)
def test_a_sample_has_the_first_rows(args, sample):
    arguments = FitArguments.bind(args, {})
    np.testing.assert_array_equal(arguments.sample(3), sample)
    inputs, labels = arguments.sample_batch(3)
    np.testing.assert_array_equal(inputs, sample)
    assert len(labels) == len(sample)
    np.testing.assert_array_equal(
        np.asarray(labels).argmax(-1) if labels.ndim > 1 else labels, Y[: len(sample)]
    )


def test_a_sample_keeps_the_structure():
    arguments = bind({"a": X, "b": [X, X + 1]}, {"c": Y})
    inputs, labels = arguments.sample_batch(2)
    np.testing.assert_array_equal(inputs["b"][1], X[:2] + 1)
    np.testing.assert_array_equal(labels["c"], Y[:2])
    nested = tf.data.Dataset.from_tensor_slices(({"a": X}, Y)).batch(4)
    np.testing.assert_array_equal(bind(nested).sample(2)["a"], X[:2])


def test_iterators_are_not_consumed():
    for data in (Untouchable(), (1 / 0 for _ in range(1)), iter(dataset())):
        arguments = bind(data, validation_data=Untouchable())
        assert arguments.sample() is None and arguments.sample_batch(4) is None
        assert arguments.training.rows is None and arguments.validation.rows is None
        assert arguments.training.weighted is None and arguments.training.target_spec() is None
        assert [info.profile["type"] for info in arguments.describe("data")] == [
            type(data).__name__,
            "Untouchable",
        ]
        assert arguments.to_fit()[0] == (data,)
    assert len(list(data)) == 3, "no batch was consumed"


def test_a_dataset_is_recognised_without_tensorflow():
    program = (
        "import sys\n"
        "from keras_nas_plugin.training.fit_arguments import FitArguments\n"
        "class Dataset:\n"
        "    element_spec = cardinality = take = None\n"
        "print(FitArguments.bind((Dataset(),), {}).training.kind.value)\n"
        "print(sorted({'tensorflow', 'keras', 'mlflow'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.split("\n")[:2] == ["tf.data.Dataset", "[]"]


# ------------------------------------------------------------------ weights and targets


@pytest.mark.parametrize(
    ("args", "weights", "weighted"),
    [
        ((X, Y), None, False),
        ((X, Y), WEIGHTS, True),
        ((dataset(),), None, False),
        ((dataset(X, Y, WEIGHTS),), None, True),
        ((Batches(),), None, None),
    ],
)
def test_sample_weights_are_recognised(args, weights, weighted):
    arguments = FitArguments.bind(args, {} if weights is None else {"sample_weight": weights})
    assert arguments.sample_weight is weights
    assert arguments.training.weighted is weighted


@pytest.mark.parametrize(
    ("args", "spec"),
    [
        ((X, Y), ((None,), "int64")),
        ((X, X.astype("float32")), ((None, 2), "float32")),
        ((dataset(),), ((None,), "int64")),
        ((dataset(X, np.eye(10, dtype="float32"), WEIGHTS),), ((None, 10), "float32")),
        ((dataset(batch=None),), None),
        ((dataset(X, np.eye(10), batch=None),), None),
        ((X, {"a": Y, "b": Y}), None),
        ((X, np.array(["a"] * 10)), None),
        ((X,), None),
        ((Batches(),), None),
    ],
)
def test_the_target_spec_is_the_shape_and_type_of_a_batch_of_targets(args, spec):
    assert FitArguments.bind(args, {}).training.target_spec() == spec


# ------------------------------------------------------------------ validation


@pytest.mark.parametrize("container", [tuple, list])
def test_validation_data_are_unpacked_from_a_tuple_or_list(container):
    split = bind(X, Y, validation_data=container([X, Y])).validation
    assert split.x is X and split.y is Y and split.sample_weight is None
    split = bind(X, Y, validation_data=container([X, Y, WEIGHTS])).validation
    assert split.sample_weight is WEIGHTS and split.rows == 10


def test_validation_data_in_a_single_object_are_the_inputs():
    for data in (dataset(), Batches(), Untouchable(), X):
        split = bind(X, Y, validation_data=data).validation
        assert split.x is data and split.y is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((), "`validation_data` must be .x, y. or .x, y, sample_weight.; got 0 elements"),
        ([X, Y, WEIGHTS, X], "got 4 elements"),
        ((X, Y[:3]), "`validation_data` must have as many targets as inputs; got 3 and 10"),
        ((X, Y, WEIGHTS[:4]), "as many sample weights as inputs; got 4 and 10"),
    ],
)
def test_malformed_validation_data_are_an_error(data, message):
    arguments = bind(X, Y, validation_data=data)
    with pytest.raises(FitArgumentsError, match=message):
        _ = arguments.validation
    with pytest.raises(FitArgumentsError, match=message):
        arguments.splits()


def test_a_validation_split_takes_the_last_rows():
    training, validation = bind({"a": X}, Y, validation_split=0.25, sample_weight=WEIGHTS).splits()
    np.testing.assert_array_equal(training.x["a"], X[:7])
    np.testing.assert_array_equal(validation.x["a"], X[7:])
    np.testing.assert_array_equal(training.y, Y[:7])
    np.testing.assert_array_equal(validation.sample_weight, WEIGHTS[7:])


def test_validation_data_take_precedence_over_a_validation_split():
    training, validation = bind(X, Y, validation_split=0.5, validation_data=(X, Y)).splits()
    assert training.x is X and validation.x is X


@pytest.mark.parametrize(
    ("x", "fraction", "message"),
    [
        (dataset(), 0.2, "`validation_split` must be 0 unless `x` is an array"),
        (Batches(), 0.2, "got 0.2 and a Batches"),
        (X, 0.95, "must leave rows to train on and rows to validate on; got 0.95 of 10 rows"),
        (X, 1.0, "got 1.0 of 10 rows"),
    ],
)
def test_a_validation_split_that_cannot_be_applied_is_an_error(x, fraction, message):
    with pytest.raises(FitArgumentsError, match=message):
        bind(x, validation_split=fraction).splits()


# ------------------------------------------------------------------ descriptions


def test_the_description_covers_training_and_validation():
    training, validation = bind(X, Y, validation_data=(X, Y, WEIGHTS)).describe("digits")
    assert (training.name, training.context) == ("digits", "training")
    assert training.profile["x"] == {"shape": [10, 2], "dtype": "float64"}
    assert (validation.name, validation.context) == ("digits-validation", "validation")
    assert validation.digest == training.digest, "the same inputs and targets"
    (positional,) = bind(X, Y).describe("digits")
    (keywords,) = bind(x=X, y=Y).describe("digits")
    assert positional == keywords == training


def test_validation_data_in_the_form_of_a_custom_fit_are_described():
    (_, validation) = bind(X, Y, validation_data=(X, Y, X, Y)).describe("digits")
    assert validation.profile.keys() == {"x", "y"}


def test_pandas_objects_are_described_by_their_content():
    frame = pd.DataFrame({"a": Y, "b": WEIGHTS})
    (info,) = bind(frame, pd.Series(Y)).describe("digits")
    assert info.profile == {
        "x": {
            "a": {"shape": [10], "dtype": "int64"},
            "b": {"shape": [10], "dtype": "float64"},
        },
        "y": {"shape": [10], "dtype": "int64"},
    }
    (changed,) = bind(frame.assign(b=0.0), pd.Series(Y)).describe("digits")
    assert changed.digest != info.digest
    (uniform,) = bind(pd.DataFrame(X)).describe("digits")
    assert uniform.profile == {"shape": [10, 2], "dtype": "float64"}
