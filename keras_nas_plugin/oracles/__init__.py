"""Search strategies as KerasTuner oracles, loaded on first use.

To add an oracle, add a module and one line to each table below; the contract suite in
`keras_nas_plugin.testing` then covers it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nas_plugin.lazy import attach

_MODULES = {
    "DifferentiableOracle": "differentiable",
    "GradientProxyOracle": "gradient_proxy",
    "LocalSearchOracle": "local_search",
    "NASOracle": "base",
    "NSGA2Oracle": "nsga2",
    "OneShotOracle": "one_shot",
    "PPOOracle": "ppo",
    "RandomOracle": "random",
    "RegularizedEvolutionOracle": "evolution",
    "ReinforceOracle": "reinforce",
    "SuccessiveHalvingOracle": "halving",
    "SurrogateOracle": "surrogate",
    "make_oracle": "registry",
}

#: Oracle classes by strategy name, as used by `make_oracle` and the command line.
STRATEGIES = {
    "differentiable": "DifferentiableOracle",
    "evolution": "RegularizedEvolutionOracle",
    "gradient-proxy": "GradientProxyOracle",
    "halving": "SuccessiveHalvingOracle",
    "local-search": "LocalSearchOracle",
    "nsga2": "NSGA2Oracle",
    "one-shot": "OneShotOracle",
    "ppo": "PPOOracle",
    "random": "RandomOracle",
    "reinforce": "ReinforceOracle",
    "surrogate": "SurrogateOracle",
}

__all__ = ["STRATEGIES", *_MODULES]

if TYPE_CHECKING:
    from keras_nas_plugin.oracles.base import NASOracle as NASOracle
    from keras_nas_plugin.oracles.differentiable import (
        DifferentiableOracle as DifferentiableOracle,
    )
    from keras_nas_plugin.oracles.evolution import (
        RegularizedEvolutionOracle as RegularizedEvolutionOracle,
    )
    from keras_nas_plugin.oracles.gradient_proxy import (
        GradientProxyOracle as GradientProxyOracle,
    )
    from keras_nas_plugin.oracles.halving import (
        SuccessiveHalvingOracle as SuccessiveHalvingOracle,
    )
    from keras_nas_plugin.oracles.local_search import LocalSearchOracle as LocalSearchOracle
    from keras_nas_plugin.oracles.nsga2 import NSGA2Oracle as NSGA2Oracle
    from keras_nas_plugin.oracles.one_shot import OneShotOracle as OneShotOracle
    from keras_nas_plugin.oracles.ppo import PPOOracle as PPOOracle
    from keras_nas_plugin.oracles.random import RandomOracle as RandomOracle
    from keras_nas_plugin.oracles.registry import make_oracle as make_oracle
    from keras_nas_plugin.oracles.reinforce import ReinforceOracle as ReinforceOracle
    from keras_nas_plugin.oracles.surrogate import SurrogateOracle as SurrogateOracle

__getattr__, __dir__ = attach(__name__, _MODULES)
