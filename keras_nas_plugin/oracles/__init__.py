"""Search strategies as KerasTuner oracles, loaded on first use.

A new oracle is one new file and one line in each table below; the contract suite in
`keras_nas_plugin.testing` then covers it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras_nas_plugin.lazy import load

_MODULES = {
    "NASOracle": "base",
    "NSGA2Oracle": "nsga2",
    "RandomOracle": "random",
    "RegularizedEvolutionOracle": "evolution",
    "SuccessiveHalvingOracle": "halving",
    "make_oracle": "registry",
}

#: Oracle classes by the name that the command line knows them by.
STRATEGIES = {
    "evolution": "RegularizedEvolutionOracle",
    "halving": "SuccessiveHalvingOracle",
    "nsga2": "NSGA2Oracle",
    "random": "RandomOracle",
}

__all__ = ["STRATEGIES", *_MODULES]

if TYPE_CHECKING:
    from keras_nas_plugin.oracles.base import NASOracle as NASOracle
    from keras_nas_plugin.oracles.evolution import (
        RegularizedEvolutionOracle as RegularizedEvolutionOracle,
    )
    from keras_nas_plugin.oracles.halving import (
        SuccessiveHalvingOracle as SuccessiveHalvingOracle,
    )
    from keras_nas_plugin.oracles.nsga2 import NSGA2Oracle as NSGA2Oracle
    from keras_nas_plugin.oracles.random import RandomOracle as RandomOracle
    from keras_nas_plugin.oracles.registry import make_oracle as make_oracle


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = load(f"{__name__}.{_MODULES[name]}", name)
    globals()[name] = value
    return value
