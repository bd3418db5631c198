"""Search strategies as KerasTuner oracles."""

from keras_nas_plugin.oracles.base import NASOracle
from keras_nas_plugin.oracles.evolution import RegularizedEvolutionOracle
from keras_nas_plugin.oracles.random import RandomOracle

__all__ = ["NASOracle", "RandomOracle", "RegularizedEvolutionOracle"]
