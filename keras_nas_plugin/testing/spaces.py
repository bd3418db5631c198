"""Search spaces that the contract suite searches, as KerasTuner collects them."""

from __future__ import annotations

import itertools
from typing import Any

import keras_tuner


def small_space() -> keras_tuner.HyperParameters:
    """A conditional space of twelve configurations: see `small_configurations`.

    ``units`` occurs twice, under different conditions and with different values; ``bias``
    depends on the second of them.
    """
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["dense", "conv"])
    with hp.conditional_scope("kind", ["dense"]):
        hp.Int("units", 1, 3)
    with hp.conditional_scope("kind", ["conv"]):
        hp.Choice("units", [16, 32])
        with hp.conditional_scope("units", [32]):
            hp.Boolean("bias")
    hp.Boolean("pool")
    return hp


def small_configurations() -> list[dict[str, Any]]:
    """All configurations of `small_space`, written down independently of any oracle."""
    heads: list[dict[str, Any]] = [{"kind": "dense", "units": units} for units in (1, 2, 3)]
    heads.append({"kind": "conv", "units": 16})
    heads += [{"kind": "conv", "units": 32, "bias": bias} for bias in (False, True)]
    return [{**head, "pool": pool} for head, pool in itertools.product(heads, (False, True))]


def wide_space() -> keras_tuner.HyperParameters:
    """Every type, step and sampling that KerasTuner has, in nested conditional scopes.

    Uncountably many configurations: no oracle exhausts it.
    """
    hp = keras_tuner.HyperParameters()
    hp.Fixed("version", 3)
    hp.Choice("block", ["plain", "residual", "separable"])
    hp.Float("rate", 1e-5, 1e-1, sampling="log")
    hp.Float("dropout", 0.0, 0.5, step=0.1)
    hp.Float("momentum", 0.5, 0.99, sampling="reverse_log")
    hp.Int("depth", 1, 6)
    hp.Int("width", 8, 128, step=2, sampling="log")
    with hp.conditional_scope("block", ["residual", "separable"]):
        hp.Int("repeats", 1, 900, sampling="log")
        hp.Boolean("shortcut", default=True)
        with hp.conditional_scope("shortcut", [True]):
            hp.Float("scale", 0.25, 1.0)
    with hp.conditional_scope("block", ["plain"]):
        hp.Int("repeats", 2, 30, step=4)
    with hp.conditional_scope("depth", [1, 2]):
        hp.Choice("pooling", [0.5, 0.1], ordered=True)
        with hp.conditional_scope("pooling", [0.1]):
            hp.Int("stride", 1, 64, sampling="reverse_log")
    return hp
