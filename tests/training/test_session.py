"""A search lets go of its models, and changes nothing else in the process."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_nas_plugin.training import session

X = np.linspace(0, 1, 64, dtype="float32").reshape(16, 4)
Y = np.arange(16) % 3


def fitted(optimizer="adam"):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])
    model.compile(optimizer, "sparse_categorical_crossentropy")
    model.fit(X, Y, verbose=0)
    return model


def test_train_graphs_of_earlier_models_are_dropped():
    """Fails when TensorFlow keeps its gradient functions elsewhere: the leak is back then."""
    session.forget_reduce_gradients()
    fitted()
    assert session.forget_reduce_gradients() > 0
    assert session.forget_reduce_gradients() == 0


def test_a_graph_is_freed_with_its_model():
    def graphs():
        gc.collect()
        return sum(1 for one in gc.get_objects() if type(one).__name__ == "FuncGraph")

    session.forget_models()
    fitted()
    session.forget_models()
    before = graphs()
    for _ in range(3):
        fitted()
    assert graphs() > before, "TensorFlow holds on to graphs"
    session.forget_models()
    assert graphs() <= before


def test_gradients_of_others_stay():
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
    session.forget_models()
    assert float(traced(tf.constant(2.0))) == 1.0
    assert float(slope(tf.constant(2.0))) == 1.0


def test_a_model_that_lives_on_goes_on_training():
    kept = fitted()
    before = kept.get_weights()
    session.forget_models()
    kept.fit(X, Y, epochs=2, verbose=0)
    assert any(np.any(a != b) for a, b in zip(before, kept.get_weights(), strict=True))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_the_dtype_policy_survives(policy):
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        session.forget_models()
        assert keras.config.dtype_policy().name == policy
    finally:
        keras.config.set_dtype_policy(former)


@pytest.fixture
def thawed():
    """Nothing is frozen, unlike in other tests."""
    gc.unfreeze()
    yield
    gc.freeze()


def test_objects_are_frozen_for_the_search_only(thawed):
    assert gc.get_freeze_count() == 0
    with pytest.raises(RuntimeError, match="in a trial"), session.search_session():
        assert gc.get_freeze_count() > 0
        raise RuntimeError("in a trial")
    assert gc.get_freeze_count() == 0


def test_what_the_program_froze_itself_stays_frozen(thawed):
    gc.freeze()
    try:
        with session.search_session():
            assert gc.get_freeze_count() > 0
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
