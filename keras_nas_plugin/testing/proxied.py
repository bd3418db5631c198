"""A `GradientProxyOracle` for the contract suite, whose candidates cost nothing to score."""

from __future__ import annotations

import zlib
from typing import Any

import keras_tuner

from keras_nas_plugin.oracles.gradient_proxy import GradientProxyOracle
from keras_nas_plugin.oracles.objectives import Objectives

_POOL = 20


class Values(keras_tuner.HyperModel):
    """Builds, in place of a model, the values of its hyperparameters."""

    def build(self, hp: keras_tuner.HyperParameters) -> dict[str, Any]:
        """See `keras_tuner.HyperModel`."""
        return dict(hp.values)


def digest(model: dict[str, Any]) -> float:
    """A number that says nothing about a configuration, but is always the same."""
    return float(zlib.crc32(repr(sorted(model.items())).encode()))


def active(model: dict[str, Any]) -> float:
    """How many decisions a configuration has."""
    return float(len(model))


def make(objective: Objectives = None, *args: Any, **options: Any) -> GradientProxyOracle:
    """An oracle whose proxies are functions of the values."""
    return GradientProxyOracle(
        objective,
        *args,
        hypermodel=Values(),
        batch=(None, None),
        proxies=(digest, active),
        pool_size=_POOL,
        **options,
    )


def make_gradient(objective: Objectives = None, *args: Any, **options: Any) -> GradientProxyOracle:
    """The same with gradient ascent."""
    return make(objective, *args, strategy="gradient", **options)
