"""A search frees its models, and changes nothing else in the process."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from keras_nas_plugin.training import memory

X = np.linspace(0, 1, 64, dtype="float32").reshape(16, 4)
Y = np.arange(16) % 3


def fitted(optimizer="adam"):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(X, Y, verbose=0)
    return model


def test_train_graphs_of_earlier_models_are_dropped():
    """Fails when TensorFlow keeps its gradient functions elsewhere, and the leak has returned."""
    memory.forget_reduce_gradients()
    fitted()
    assert memory.forget_reduce_gradients() > 0
    assert memory.forget_reduce_gradients() == 0


def test_a_graph_is_freed_with_its_model():
    def graphs():
        gc.collect()
        return sum(1 for candidate in gc.get_objects() if type(candidate).__name__ == "FuncGraph")

    memory.forget_models()
    fitted()
    memory.forget_models()
    before = graphs()
    for _ in range(3):
        fitted()
    assert graphs() > before, "TensorFlow keeps references to graphs"
    memory.forget_models()
    assert graphs() <= before


def test_custom_gradients_of_the_program_are_kept():
    @tf.custom_gradient
    def clipped(x):
        return tf.identity(x), lambda upstream: tf.clip_by_value(upstream, -1.0, 1.0)

    @tf.function
    def slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = 10.0 * clipped(x)
        return tape.gradient(y, x)

    traced = slope.get_concrete_function(tf.TensorSpec((), tf.float32))
    memory.forget_models()
    assert float(traced(tf.constant(2.0))) == 1.0
    assert float(slope(tf.constant(2.0))) == 1.0


def test_a_model_that_is_still_used_can_be_trained_further():
    model = fitted()
    before = model.get_weights()
    memory.forget_models()
    model.fit(X, Y, epochs=2, verbose=0)
    assert any(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_the_dtype_policy_is_not_changed(policy):
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        memory.forget_models()
        assert keras.config.dtype_policy().name == policy
    finally:
        keras.config.set_dtype_policy(former)


@pytest.fixture
def unfrozen(monkeypatch):
    """No object is frozen, unlike in other tests."""
    monkeypatch.setattr(memory._Frozen, "by_program", False)
    gc.unfreeze()
    yield
    gc.freeze()


def test_objects_are_frozen_during_the_block_only(unfrozen):
    assert gc.get_freeze_count() == 0
    with pytest.raises(RuntimeError, match="in a trial"), memory.frozen_imports():
        assert gc.get_freeze_count() > 0
        raise RuntimeError("in a trial")
    assert gc.get_freeze_count() == 0


def test_a_search_within_a_search_unfreezes_nothing(unfrozen):
    for _ in range(2):
        with memory.frozen_imports():
            with memory.frozen_imports():
                assert gc.get_freeze_count() > 0
            assert gc.get_freeze_count() > 0
        assert gc.get_freeze_count() == 0


def test_objects_that_the_program_froze_stay_frozen(unfrozen):
    gc.freeze()
    try:
        for _ in range(2):
            with memory.frozen_imports():
                assert gc.get_freeze_count() > 0
            assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_kernels_stay_from_one_model_to_the_next_and_are_dropped_after_ten(monkeypatch):
    """Fails when Keras or TensorFlow drop the kernels in another way."""
    cleared = []
    original = type(context.context()).clear_kernel_cache
    monkeypatch.setattr(
        type(context.context()),
        "clear_kernel_cache",
        lambda self: cleared.append(len(calls)) or original(self),
    )
    calls = []
    for number in range(20):
        calls.append(number)
        memory.forget_models()
    assert len(cleared) == 2 and cleared[1] - cleared[0] == 10
    keras.backend.clear_session()
    assert len(cleared) == 3  # what others call is not changed
