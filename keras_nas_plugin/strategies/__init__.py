"""Search algorithms as pure ask and tell: numpy only."""

from keras_nas_plugin.strategies.base import Observation, Strategy
from keras_nas_plugin.strategies.evolution import RegularizedEvolution
from keras_nas_plugin.strategies.nsga2 import NSGA2
from keras_nas_plugin.strategies.random import RandomSearch

__all__ = ["NSGA2", "Observation", "RandomSearch", "RegularizedEvolution", "Strategy"]
