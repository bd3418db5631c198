"""Data sets in place of arrays: `fit` trains on the same batches in the same order."""

import keras
import keras_tuner
import numpy as np
import psutil
import pytest

from keras_nas_plugin.training import array_batches
from keras_nas_plugin.training.array_batches import with_data_sets

RNG = np.random.default_rng(0)
A = RNG.random((50, 3))  # float64: Keras casts it
B = RNG.integers(0, 9, (50, 2))
Y = RNG.integers(0, 2, 50)
WEIGHTS = RNG.random(50).astype("float32")


class Plain(keras_tuner.HyperModel):
    def build(self, hp):
        raise NotImplementedError


class OwnFit(Plain):
    def fit(self, hp, model, *args, **kwargs):
        raise NotImplementedError


class Witness(keras.Model):
    """Keeps the batches that it is given."""

    def __init__(self):
        super().__init__()
        self.batches = []
        self.compile("sgd", run_eagerly=True)
        self.built = True

    def train_step(self, data):
        self.batches.append(("train", keras.tree.map_structure(np.asarray, data)))
        return {"loss": 0.0}

    def test_step(self, data):
        self.batches.append(("test", keras.tree.map_structure(np.asarray, data)))
        return {"loss": 0.0}


class FitOverridden(Witness):
    def fit(self, *args, **kwargs):
        return super().fit(*args, **kwargs)


def batches(args, kwargs):
    keras.utils.set_random_seed(3)
    model = Witness()
    model.fit(*args, **kwargs, verbose=0)
    return model.batches


def is_data_set(value):
    return type(value).__module__.startswith("tensorflow")


CALLS = {
    "one input": ((A, Y), {}),
    "by name": ((), {"x": {"b": B, "a": A}, "y": Y}),
    "a list of inputs": (([A, B], Y), {"batch_size": 7}),
    "several targets": ((A, {"c": Y, "d": B}), {"batch_size": 10}),  # without a rest
    "no targets": ((A,), {}),
    "a tuple without targets": (((A, B),), {}),
    "weights": ((A, Y), {"sample_weight": WEIGHTS}),
    "positional": ((A, Y, 16, 2), {}),
    "in order": ((A, Y), {"shuffle": False, "epochs": 2}),
    "validation": ((A, Y), {"validation_data": (A[:40], Y[:40]), "epochs": 2}),
    "validation in a list": ((A, Y), {"validation_data": [A[:9], Y[:9], WEIGHTS[:9]]}),
    "validation in other batches": (
        (A, Y),
        {"validation_data": (A[:40], Y[:40]), "validation_batch_size": 9, "batch_size": 20},
    ),
    "pictures": ((RNG.integers(0, 255, (50, 4, 4, 3)).astype("uint8"), Y > 0), {}),
    "half": ((A.astype("float16"), Y), {}),
}


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("name", CALLS)
def test_fit_gets_the_batches_that_keras_makes(name, size, monkeypatch):
    if size == "large":
        monkeypatch.setattr(array_batches, "_FEW_BYTES", 0)
    args, kwargs = CALLS[name]
    keras.utils.set_random_seed(3)
    replaced = with_data_sets(Plain(), Witness(), args, kwargs)
    assert is_data_set(replaced[1]["x"])
    assert ("validation_data" in kwargs) == is_data_set(replaced[1].get("validation_data"))
    expected, actual = batches(args, kwargs), batches(*replaced)
    assert [kind for kind, _ in actual] == [kind for kind, _ in expected]
    for (_, one), (_, other) in zip(expected, actual, strict=True):
        keras.tree.assert_same_structure(one, other)
        for left, right in zip(keras.tree.flatten(one), keras.tree.flatten(other), strict=True):
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)


@pytest.fixture
def without_seed():
    """No seed of the process, which other tests may have set."""
    import tensorflow as tf

    tf.random.set_seed(None)


@pytest.mark.parametrize("size", ["small", "large"])
def test_without_a_seed_each_epoch_has_all_rows_in_another_order(size, without_seed, monkeypatch):
    if size == "large":
        monkeypatch.setattr(array_batches, "_FEW_ROWS", 0)
    rows = np.arange(50)
    replaced = with_data_sets(Plain(), Witness(), (rows, {"y": -rows}), {"epochs": 3})
    seen = [batch for _, batch in batches(*replaced)]
    assert [len(x) for x, _ in seen] == [32, 18] * 3
    assert all((x == -targets["y"]).all() for x, targets in seen)
    orders = [
        np.concatenate([x for x, _ in seen[epoch : epoch + 2]]).tolist() for epoch in (0, 2, 4)
    ]
    assert all(sorted(order) == rows.tolist() for order in orders)
    assert len({tuple(order) for order in [*orders, rows.tolist()]}) == 4


@pytest.mark.parametrize(
    "args, kwargs",
    [
        ((A, Y), {"class_weight": {0: 1.0, 1: 2.0}}),
        ((A, Y), {"steps_per_epoch": 2}),
        ((A, Y), {"validation_split": 0.2}),
        ((A, Y), {"shuffle": "batch"}),
        ((np.array(["a", "b"]), Y[:2]), {}),
        ((np.array(["a", None], object), Y[:2]), {}),
        ((A, {"c": Y, "d": Y}), {"sample_weight": WEIGHTS}),
        ((A[:0], Y[:0]), {}),
        ((A, Y[:9]), {}),  # Keras says what is wrong
        ((A, np.float64(3)), {}),
        ((), {}),
    ],
)
def test_other_data_stay_as_they_are(args, kwargs):
    actual_args, actual_kwargs = with_data_sets(Plain(), Witness(), args, kwargs)
    assert len(actual_args) == len(args) and actual_kwargs.keys() == kwargs.keys()
    assert all(one is other for one, other in zip(args, actual_args, strict=True))
    assert all(actual_kwargs[name] is kwargs[name] for name in kwargs)


def test_validation_rows_of_a_number_of_steps_stay_as_they_are():
    validation = (A[:40], Y[:40])
    _, kwargs = with_data_sets(
        Plain(), Witness(), (A, Y), {"validation_data": validation, "validation_steps": 1}
    )
    assert kwargs["validation_data"] is validation and is_data_set(kwargs["x"])


def test_weights_of_classes_need_arrays_for_training_only():
    options = {"class_weight": {0: 1.0, 1: 2.0}, "validation_data": (A, Y)}
    args, kwargs = with_data_sets(Plain(), Witness(), (A, Y), options)
    assert args[0] is A and is_data_set(kwargs["validation_data"])


@pytest.mark.parametrize(
    "hypermodel, model",
    [(OwnFit(), Witness), (Plain(), FitOverridden)],
    ids=["hypermodel", "model"],
)
def test_a_fit_of_ones_own_gets_arrays(hypermodel, model):
    args, _ = with_data_sets(hypermodel, model(), (A, Y), {})
    assert args[0] is A and args[1] is Y


def test_a_distributed_model_gets_arrays():
    import tensorflow as tf

    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        model = Witness()
        args, _ = with_data_sets(Plain(), model, (A, Y), {})
    assert args[0] is A


@pytest.mark.parametrize("shape", [(200_000, 100), (1_000, 19_999)], ids=["rows", "columns"])
def test_tensors_are_not_copied(shape, without_seed):
    """They may be in the memory of an array that workers share: see `mapped_arrays`."""

    def used_while_read(x, y):
        before = psutil.Process().memory_info().rss
        fit = {"batch_size": len(x) // 100, "validation_data": (x, y)}
        args, kwargs = with_data_sets(Plain(), Witness(), (x, y), fit)
        assert args == ()
        for data in (kwargs["x"], kwargs["validation_data"]):
            assert is_data_set(data)
            for _ in data:
                used = psutil.Process().memory_info().rss - before
        return used

    used_while_read(
        keras.ops.ones((1_000, 100)), keras.ops.ones((1_000,))
    )  # TensorFlow starts its threads
    x = keras.ops.ones(shape)
    assert used_while_read(x, keras.ops.ones(shape[:1])) < x.numpy().nbytes / 2
