"""The backend's module against a function whose derivatives are known."""

import keras
import numpy as np
import pytest

from keras_nas_plugin.errors import BackendError
from keras_nas_plugin.proxies import gradients

W, V, X = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0]), np.array([0.5, -1.0, 2.0])


@pytest.fixture
def variables():
    return [keras.Variable(initial, dtype="float32") for initial in (W, V)]


def plain(tensors):
    return [keras.ops.convert_to_numpy(tensor) for tensor in tensors]


def test_one_recording_has_gradients_of_several_targets(variables):
    w, v = variables

    def compute(watch):
        x = watch("x", keras.ops.convert_to_tensor(X, dtype="float32"))
        hidden = watch("hidden", w * x)
        return {"sum": keras.ops.sum(hidden * hidden), "parts": [hidden, x * x]}

    recording = gradients.of_backend().Recording(compute, variables)
    np.testing.assert_allclose(*plain([recording.outputs["sum"]]), np.sum((W * X) ** 2))
    by_variable, by_tensor = recording.pull("sum", watched=["x", "hidden"])
    np.testing.assert_allclose(plain(by_variable)[0], 2 * W * X * X)
    np.testing.assert_allclose(plain(by_variable)[1], 0 * V)  # not connected
    np.testing.assert_allclose(*plain([by_tensor["hidden"]]), 2 * W * X)
    np.testing.assert_allclose(*plain([by_tensor["x"]]), 2 * W * W * X)
    no_gradients, by_tensor = recording.pull("parts", variables=False, watched=["x"])
    assert len(no_gradients) == 0
    np.testing.assert_allclose(*plain([by_tensor["x"]]), W + 2 * X)


def test_tensors_after_stop_gradient_can_be_watched(variables):
    w, _ = variables

    def compute(watch):
        first = w * w
        second = watch(0, keras.ops.stop_gradient(first))
        return {"sum": keras.ops.sum(second * second * second)}

    by_variable, by_tensor = (
        gradients.of_backend().Recording(compute, variables).pull("sum", watched=[0])
    )
    np.testing.assert_allclose(plain(by_variable)[0], 0 * W)
    np.testing.assert_allclose(*plain([by_tensor[0]]), 3 * W**4)


def test_hessian_product_agrees_with_closed_form(variables):
    """f = sum w^3 v: g = (3 w^2 v, w^3); H is made of 6 w v and 3 w^2."""
    w, v = variables

    def compute():
        return keras.ops.sum(w * w * w * v)

    gradient, product = gradients.of_backend().hessian_product(compute, variables)
    expected = [3 * W**2 * V, W**3]
    for measured, exact in zip(plain(gradient), expected, strict=True):
        np.testing.assert_allclose(measured, exact, rtol=1e-6)
    np.testing.assert_allclose(
        plain(product)[0], 6 * W * V * expected[0] + 3 * W**2 * expected[1], rtol=1e-6
    )
    np.testing.assert_allclose(plain(product)[1], 3 * W**2 * expected[0], rtol=1e-6)


def test_a_backend_without_gradients_is_rejected(monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "numpy")
    with pytest.raises(BackendError, match="tensorflow, jax, torch; got 'numpy'"):
        gradients.of_backend()
