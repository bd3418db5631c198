"""Search strategies as KerasTuner oracles, loaded on first use.

A new oracle is one new file and one line in each table below; the contract suite in
`keras_nas_plugin.testing` then covers it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras_nas_plugin.lazy import load

_MODULES = {
    "NASOracle": "base",
    "RandomOracle": "random",
    "RegularizedEvolutionOracle": "evolution",
}

#: Oracle classes by the name that the command line knows them by.
STRATEGIES = {
    "evolution": "RegularizedEvolutionOracle",
    "random": "RandomOracle",
}

__all__ = ["STRATEGIES", *_MODULES]

if TYPE_CHECKING:
    from keras_nas_plugin.oracles.base import NASOracle as NASOracle
    from keras_nas_plugin.oracles.evolution import (
        RegularizedEvolutionOracle as RegularizedEvolutionOracle,
    )
    from keras_nas_plugin.oracles.random import RandomOracle as RandomOracle


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = load(f"{__name__}.{_MODULES[name]}", name)
    globals()[name] = value
    return value
