"""Makers of oracles that need a tuner's models or data, with stand-ins for these."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from keras_nas_plugin.oracles import STRATEGIES

_STAND_INS = {
    "differentiable": "keras_nas_plugin.testing.differentiable:make",
    "gradient-proxy": "keras_nas_plugin.testing.proxied:make",
    "one-shot": "keras_nas_plugin.testing.one_shot:make",
}
#: Strategies that propose nothing without a tuner.
NEED_A_TUNER = frozenset(_STAND_INS)


def target_of(strategy: str) -> str:
    """The maker of a built-in strategy's oracle, as ``module:name``.

    Args:
        strategy: A key of `keras_nas_plugin.oracles.STRATEGIES`.
    """
    return _STAND_INS.get(strategy, f"keras_nas_plugin.oracles:{STRATEGIES[strategy]}")


def maker_of(strategy: str) -> Callable[..., Any]:
    """The maker of a built-in strategy's oracle.

    Args:
        strategy: A key of `keras_nas_plugin.oracles.STRATEGIES`.
    """
    module, _, name = target_of(strategy).partition(":")
    maker: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return maker
