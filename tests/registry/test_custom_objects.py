"""Finding the custom objects of a model, and storing their code with it."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import sys
import types

import cloudpickle
import keras
import pytest

from keras_nas_plugin.errors import TrackingError
from keras_nas_plugin.registry.custom_objects import (
    find_custom_objects,
    is_installed,
    no_registered_objects,
    pickled_by_value,
)
from keras_nas_plugin.registry.requirements import pinned_requirements


class Scale(keras.layers.Layer):
    def __init__(self, inner=None, **kwargs):
        super().__init__(**kwargs)
        self.inner = inner

    def build(self, input_shape):
        self.built = True

    def call(self, x):
        return x if self.inner is None else self.inner(x)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable("mine")
class Registered(Scale):
    pass


class Start(keras.initializers.Initializer):
    def __call__(self, shape, dtype=None):
        return keras.ops.ones(shape, dtype)


class Decay(keras.regularizers.Regularizer):
    def __call__(self, x):
        return 0.0


class Positive(keras.constraints.Constraint):
    def __call__(self, w):
        return w


class MyLoss(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.ops.mean(y_pred - y_true)


class MyMetric(keras.metrics.Mean):
    pass


class MySchedule(keras.optimizers.schedules.LearningRateSchedule):
    def __call__(self, step):
        return 0.1

    def get_config(self):
        return {}


class MyOptimizer(keras.optimizers.SGD):
    pass


class MyModel(keras.Model):
    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.branches = {"a": [layer]}


def swish2(x):
    return x * keras.ops.sigmoid(2 * x)


def my_loss(y_true, y_pred):
    return keras.ops.mean(y_pred)


def my_metric(y_true, y_pred):
    return keras.ops.mean(y_pred)


def sequential(*layers):
    return keras.Sequential([keras.Input((3,)), *layers])


def dense(**arguments):
    return keras.layers.Dense(2, **arguments)


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (lambda: dense(activation="relu", kernel_regularizer="l2"), set()),
        (lambda: Scale(), {"Scale"}),
        (lambda: Scale(inner=Registered()), {"Scale", "mine>Registered"}),
        (lambda: dense(activation=swish2), {"swish2"}),
        (lambda: dense(kernel_initializer=Start()), {"Start"}),
        (lambda: dense(bias_regularizer=Decay()), {"Decay"}),
        (lambda: dense(kernel_constraint=Positive()), {"Positive"}),
        (lambda: keras.layers.Lambda(swish2), {"swish2"}),
        (lambda: keras.layers.TimeDistributed(Scale()), {"Scale"}),
        (lambda: sequential(Scale()), {"Scale"}),
    ],
)
def test_custom_objects_in_a_layer_are_found(layer, names):
    inputs = keras.Input((3, 3))
    model = keras.Model(inputs, layer()(inputs))
    assert set(find_custom_objects(model)) == names


@pytest.mark.parametrize(
    ("compiled", "names"),
    [
        ({"loss": "mse", "metrics": ["accuracy"], "optimizer": "adam"}, set()),
        ({"loss": MyLoss(), "metrics": [MyMetric()]}, {"MyLoss", "MyMetric"}),
        ({"loss": my_loss, "metrics": [my_metric]}, {"my_loss", "my_metric"}),
        ({"loss": "mse", "optimizer": MyOptimizer()}, {"MyOptimizer"}),
        ({"loss": "mse", "optimizer": keras.optimizers.SGD(MySchedule())}, {"MySchedule"}),
    ],
)
def test_custom_arguments_of_compile_are_found(compiled, names):
    model = sequential(dense())
    model.compile(**compiled)
    assert set(find_custom_objects(model)) == names


def test_a_subclassed_model_and_the_layers_in_its_containers_are_found():
    objects = find_custom_objects(MyModel(Scale()))
    assert objects == {"MyModel": MyModel, "Scale": Scale}


def test_training_adds_no_custom_objects():
    import numpy as np

    model = sequential(Scale(), dense())
    model.compile("adam", my_loss)
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    assert set(find_custom_objects(model)) == {"Scale", "my_loss"}


def test_two_classes_with_the_same_name_are_an_error():
    namesake = type("Scale", (Scale,), {})
    with pytest.raises(TrackingError, match="'Scale'"):
        find_custom_objects(sequential(Scale(), namesake()))


def test_a_lambda_logs_a_warning(caplog):
    with caplog.at_level(logging.WARNING, logger="keras_nas_plugin"):
        objects = find_custom_objects(sequential(keras.layers.Lambda(lambda x: x)))
    assert objects == {}
    assert "replace it by a named function" in caplog.text


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A user's file, loaded as a module that no other process can import."""
    path = tmp_path / "users_file.py"
    path.write_text("def helper(x):\n    return x + 1\n\ndef use(x):\n    return helper(x)\n")
    loaded = types.ModuleType("users_file")
    loaded.__file__ = str(path)
    exec(compile(path.read_text(), str(path), "exec"), vars(loaded))
    monkeypatch.setitem(sys.modules, "users_file", loaded)
    return loaded


def test_code_that_is_not_installed_is_pickled_by_value(module):
    distributions = importlib.metadata.packages_distributions()
    with pickled_by_value([module.use], distributions):
        assert b"helper" in cloudpickle.dumps(module.use)
    assert b"helper" not in cloudpickle.dumps(module.use)


def test_code_that_is_copied_with_the_model_is_pickled_by_name(module, tmp_path):
    distributions = importlib.metadata.packages_distributions()
    with pickled_by_value([module.use], distributions, [tmp_path]):
        assert b"helper" not in cloudpickle.dumps(module.use)


def test_modules_that_the_user_registered_stay_registered(module):
    cloudpickle.register_pickle_by_value(module)
    try:
        with pickled_by_value([module.use], importlib.metadata.packages_distributions()):
            pass
        assert "users_file" in cloudpickle.list_registry_pickle_by_value()
    finally:
        cloudpickle.unregister_pickle_by_value(module)


@pytest.mark.parametrize(
    ("name", "installed"),
    [("keras.layers", True), ("json", True), ("users_file", False), ("no_such_module", False)],
)
def test_installed_modules_are_recognised(module, name, installed):
    assert is_installed(name, importlib.metadata.packages_distributions()) is installed


def test_a_users_module_with_the_name_of_an_installed_package_is_the_users(module):
    """As `tests`, which some distributions install beside their package."""
    distributions = {**importlib.metadata.packages_distributions(), "users_file": ["numpy"]}
    assert not is_installed("users_file.part", distributions)
    module.use.__module__ = "users_file"
    requirements = pinned_requirements([module.use], {**distributions, "users_file": ["pandas"]})
    assert not any(requirement.startswith("pandas") for requirement in requirements)
    with pickled_by_value([module.use], distributions):
        assert b"helper" in cloudpickle.dumps(module.use)


def test_the_modules_of_an_editable_distribution_are_installed(module, tmp_path, monkeypatch):
    information = tmp_path / "site" / "users_distribution-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Name: users-distribution\nVersion: 1.0\n")
    origin = {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}
    (information / "direct_url.json").write_text(json.dumps(origin))
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert is_installed("users_file", {"users_file": ["users-distribution"]})


def test_the_custom_objects_of_keras_are_empty_inside_the_block_and_restored_after_it():
    before = dict(keras.saving.get_custom_objects())
    assert "mine>Registered" in before
    with pytest.raises(KeyError), no_registered_objects():
        assert keras.saving.get_custom_objects() == {}
        raise KeyError
    assert keras.saving.get_custom_objects() == before


def test_requirements_are_the_installed_versions():
    distributions = importlib.metadata.packages_distributions()
    plain = dict(r.split("==") for r in pinned_requirements([], distributions))
    assert plain["keras"] == importlib.metadata.version("keras")
    assert plain["numpy"] == importlib.metadata.version("numpy")
    assert {name for name in plain if name.startswith("tensorflow")} in (
        {"tensorflow"},
        {"tensorflow-cpu"},
    )
    assert "cloudpickle" not in plain
    with_custom = pinned_requirements([cloudpickle.dumps, Scale], distributions)
    assert f"cloudpickle=={cloudpickle.__version__}" in with_custom
