"""Observed forward passes: events, replaced tensors, and restored layers."""

import keras
import numpy as np

from keras_nas_plugin.proxies.running import Run
from tests.proxies import networks
from tests.proxies.networks import L


def events_of(model, x):
    events = []

    def observe(event):
        events.append((event.kind, type(event.operation).__name__, event.name, event.graph))

    Run(model, observe)(x)
    return events


def test_events_of_a_layer_with_an_activation():
    model = keras.Sequential([keras.Input((3,)), L.Dense(2, activation="relu"), L.ReLU()])
    assert events_of(model, np.ones((1, 3), "float32")) == [
        ("linear", "Dense", "", True),
        ("activation", "Dense", "relu", True),
        ("output", "Dense", "", True),
        ("activation", "ReLU", "relu", True),
        ("linear", "ReLU", "", True),
        ("output", "ReLU", "", True),
    ]


def test_nested_layers_are_observed_as_outside_the_graph():
    inner = keras.Sequential([keras.Input((3,)), L.Dense(3)])
    model = keras.Sequential([keras.Input((3,)), inner, networks.Block(4)])
    outputs = [(name, graph) for kind, name, _, graph in events_of(model, np.ones((2, 3)))
               if kind == "output"]  # fmt: skip
    assert outputs == [
        ("Dense", True),
        ("Dense", False),
        ("BatchNormalization", False),
        ("Block", True),
    ]


def test_operations_outside_layers_are_observed():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.ops.relu(inputs + 1.0))
    kinds = [(kind, name) for kind, _, name, _ in events_of(model, np.ones((1, 3), "float32"))]
    assert ("activation", "relu") in kinds


def test_tensors_returned_by_the_observer_replace_the_originals():
    model = keras.Sequential([keras.Input((2,)), L.Dense(2, use_bias=False), L.Identity()])
    model.set_weights([np.eye(2)])

    def observe(event):
        return event.tensor * 10 if event.kind == "linear" else None

    outputs, _ = Run(model, observe)(np.ones((1, 2), "float32"))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(outputs), 100)


def test_batch_norm_uses_the_batch_and_dropout_is_off():
    model = keras.Sequential([keras.Input((2,)), L.BatchNormalization(epsilon=0), L.Dropout(0.9)])
    x = np.array([[1.0, 5.0], [3.0, 9.0]], "float32")
    outputs, _ = Run(model)(x)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(outputs), [[-1, -1], [1, 1]], atol=1e-6)


def test_logits_are_found_for_every_form_of_final_activation():
    inputs = keras.Input((2,))
    identity = L.Dense(2, use_bias=False, kernel_initializer="identity")
    logits = identity(inputs)
    fused = L.Dense(2, use_bias=False, kernel_initializer="identity", activation="softmax")
    outputs = [
        fused(inputs),
        L.Softmax()(logits),
        L.Activation("sigmoid")(logits),
        keras.ops.softmax(logits),
        logits,
    ]
    x = np.array([[1.0, 2.0]], "float32")
    _, logits_found = Run(keras.Model(inputs, outputs))(x)
    for tensor in logits_found:
        np.testing.assert_allclose(keras.ops.convert_to_numpy(tensor), x)


def test_an_activation_layer_argument_is_reported_for_its_layer():
    model = keras.Sequential([keras.Input((3,)), L.Dense(2, activation=L.LeakyReLU())])
    assert events_of(model, np.ones((1, 3), "float32"))[:2] == [
        ("linear", "Dense", "", True),
        ("activation", "Dense", "leakyrelu", True),
    ]


def test_a_patched_call_is_used_and_restored():
    layer = L.Dense(2)
    model = keras.Sequential([keras.Input((3,)), layer])
    calls = []
    original = layer.call

    def mine(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    object.__setattr__(layer, "call", mine)
    Run(model)(np.ones((1, 3), "float32"))
    assert calls == [1]
    assert layer.call is mine
