import logging

import keras_tuner
import pytest

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.discovery import discover


def explore(build, hp=None):
    """The discovered names in order, and the values of each build."""
    declared = hp or keras_tuner.HyperParameters()
    builds = []

    def counted(hyperparameters):
        assert len(builds) < 50, "discovery does not end"
        builds.append(dict(hyperparameters.values))
        build(hyperparameters)
        builds[-1] = dict(hyperparameters.values)

    def update(hyperparameters):
        new = [i for i in hyperparameters.space if not declared._exists(i.name, i.conditions)]
        declared.merge(new)

    discover(counted, declared.copy, update)
    return [item.name for item in declared.space], builds


def nested(hp):
    kind = hp.Choice("kind", ["a", "b", "c"])
    with hp.conditional_scope("kind", ["b"]):
        if kind == "b":
            inner = hp.Choice("inner", ["x", "y"])
            with hp.conditional_scope("inner", ["y"]):
                if inner == "y":
                    hp.Int("deep", 1, 3)
    with hp.conditional_scope("kind", ["c"]):
        if kind == "c":
            hp.Boolean("other")


def test_nested_scopes_are_discovered_with_one_build_per_value():
    names, builds = explore(nested)
    assert sorted(names) == ["deep", "inner", "kind", "other"]
    assert len(builds) == 4
    assert all(set(values) <= set(names) for values in builds)


def test_discovery_is_deterministic():
    assert explore(nested) == explore(nested)


def test_discovery_ends_with_a_scope_that_no_value_activates():
    def build(hp):
        kind = hp.Choice("kind", ["a", "b"])
        with hp.conditional_scope("kind", ["neither"]):
            if kind == "neither":
                raise ValueError("this cannot be built")
            hp.Boolean("never")

    names, builds = explore(build)
    assert names == ["kind", "never"] and len(builds) == 2


def test_discovery_ends_with_an_inactive_scope_of_a_fixed_parent():
    def build(hp):
        hp.values["kind"] = "a"
        hp.Choice("kind", ["a", "b"])
        with hp.conditional_scope("kind", ["b"]):
            hp.Boolean("never")

    names, builds = explore(build)
    assert names == ["kind", "never"] and len(builds) == 2


def test_discovery_continues_after_a_configuration_that_cannot_be_built(caplog):
    def build(hp):
        kind = hp.Choice("kind", ["a", "b", "c"])
        with hp.conditional_scope("kind", ["b"]):
            if kind == "b":
                hp.Int("found", 1, 3)
                raise ValueError("b cannot be built")
        with hp.conditional_scope("kind", ["c"]):
            if kind == "c":
                hp.Int("later", 1, 3)

    with caplog.at_level(logging.WARNING):
        names, _ = explore(build)
    assert set(names) == {"kind", "found", "later"}
    assert "b cannot be built" in caplog.text


def test_a_model_that_never_builds_is_an_error_with_its_cause():
    def build(hp):
        raise ZeroDivisionError("no layers")

    with pytest.raises(SearchSpaceError, match="ZeroDivisionError: no layers") as raised:
        explore(build)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_fixed_hyperparameters_are_kept():
    hp = keras_tuner.HyperParameters()
    hp.Fixed("kind", "b")
    names, builds = explore(nested, hp)
    assert builds[0]["kind"] == "b"
    assert "inner" in names
