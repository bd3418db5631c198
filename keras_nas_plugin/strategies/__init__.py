"""Search algorithms as pure ask and tell: numpy only."""

from keras_nas_plugin.strategies.base import Observation, Strategy
from keras_nas_plugin.strategies.evolution import RegularizedEvolution
from keras_nas_plugin.strategies.random import RandomSearch

__all__ = ["Observation", "RandomSearch", "RegularizedEvolution", "Strategy"]
