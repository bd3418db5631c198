"""Arrays that workers share become tensors without a copy."""

import keras
import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin.executors.worker_process import open_array
from keras_nas_plugin.training.mapped_arrays import is_mapped, without_copies

ROWS = 64


@pytest.fixture
def mapped(tmp_path):
    def store(array):
        np.save(tmp_path / "array.npy", array)
        return open_array(tmp_path / "array.npy")

    return store


class Plain(keras_tuner.HyperModel):
    def build(self, hp):
        raise NotImplementedError


class Own(Plain):
    def fit(self, hp, model, *args, **kwargs):
        raise NotImplementedError


class OwnFit(keras.Sequential):
    def fit(self, *args, **kwargs):
        raise NotImplementedError


def model():
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    network.compile("sgd", "mse")
    return network


def test_a_training_on_shared_tensors_is_that_on_arrays(mapped):
    x = np.random.default_rng(0).random((ROWS, 4), dtype="float32")
    shared = mapped(x)
    assert is_mapped(shared) and is_mapped(shared[3:]) and not is_mapped(x)
    args, kwargs = without_copies(
        Plain(), model(), [shared], {"y": x[:, :1], "validation_data": (shared[:8], x[:8, :1])}
    )
    tensor, validation = args[0], kwargs["validation_data"][0]
    assert keras.ops.is_tensor(tensor) and keras.ops.is_tensor(validation)
    # The same memory: what is written to the array is in the tensors.
    shared[0, 0] = 7.0
    assert float(tensor[0, 0]) == float(validation[0, 0]) == 7.0
    shared[0, 0] = x[0, 0]
    histories = [
        model().fit(*data, **more, epochs=2, batch_size=16, verbose=0).history
        for data, more in (
            (args, kwargs),
            ([x], {"y": x[:, :1], "validation_data": (x[:8], x[:8, :1])}),
        )
    ]
    assert histories[0] == histories[1]


def test_inputs_by_name_keep_their_structure(mapped):
    shared = mapped(np.zeros((ROWS, 4), "float32"))
    _, kwargs = without_copies(
        Plain(), model(), [], {"x": {"a": shared, "b": [shared, shared]}, "epochs": 3}
    )
    assert keras.ops.is_tensor(kwargs["x"]["a"]) and keras.ops.is_tensor(kwargs["x"]["b"][1])
    assert kwargs["epochs"] == 3


@pytest.mark.parametrize("hypermodel, network", [(Own(), model), (Plain(), OwnFit)])
def test_a_fit_of_ones_own_gets_arrays(mapped, hypermodel, network):
    shared = mapped(np.zeros((ROWS, 4), "float32"))
    args, kwargs = without_copies(hypermodel, network(), [shared], {"y": shared})
    assert args[0] is shared and kwargs["y"] is shared


def test_class_weights_get_arrays(mapped):
    shared = mapped(np.zeros((ROWS, 4), "float32"))
    options = {"y": shared, "class_weight": {0: 1.0}}
    assert without_copies(Plain(), model(), [shared], options) == ([shared], options)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "float64", "float16", "complex64"])
def test_numbers_of_all_kinds_keep_their_values(mapped, dtype):
    array = (np.arange(ROWS * 4).reshape(ROWS, 4) % 3).astype(dtype)
    [value], _ = without_copies(Plain(), model(), [mapped(array)], {})
    np.testing.assert_array_equal(np.asarray(value), array)
    assert np.asarray(value).dtype == array.dtype


def test_arrays_that_cannot_be_shared_stay_arrays(mapped, tmp_path):
    texts = mapped(np.array(["a", "b"]))
    np.save(tmp_path / "read_only.npy", np.zeros((ROWS, 4)))
    read_only = np.load(tmp_path / "read_only.npy", mmap_mode="r")
    args, _ = without_copies(Plain(), model(), [texts, read_only], {})
    assert args[0] is texts and args[1] is read_only
