"""Public names load on first use."""

import sys
import types

import pytest

from keras_nas_plugin.lazy import attach


@pytest.fixture
def package(monkeypatch):
    module = types.ModuleType("keras_nas_plugin.toy_package")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exports = {"NASError": "keras_nas_plugin.errors", "missing": "no_such_module"}
    module.__getattr__, module.__dir__ = attach(module.__name__, exports)
    return module


def test_a_name_loads_on_first_use_and_is_cached(package):
    from keras_nas_plugin.errors import NASError

    assert "NASError" not in vars(package)
    assert package.NASError is NASError
    assert vars(package)["NASError"] is NASError


def test_an_unknown_name_is_an_attribute_error_that_names_the_package(package):
    with pytest.raises(AttributeError, match=r"'keras_nas_plugin.toy_package'.*'unknown'"):
        package.unknown  # noqa: B018


def test_a_module_without_a_dot_is_relative_to_the_package(package):
    with pytest.raises(ModuleNotFoundError, match=r"keras_nas_plugin\.toy_package"):
        package.missing  # noqa: B018


def test_dir_lists_names_that_are_not_loaded_yet(package):
    assert {"NASError", "missing", "__name__"} <= set(dir(package))
