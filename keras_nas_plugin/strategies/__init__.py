"""Search algorithms with an ask-and-tell interface, which depend on numpy and scipy alone."""

from keras_nas_plugin.strategies.base import Observation, Proposal, Strategy
from keras_nas_plugin.strategies.evolution import RegularizedEvolution
from keras_nas_plugin.strategies.local_search import LocalSearch
from keras_nas_plugin.strategies.nsga2 import NSGA2
from keras_nas_plugin.strategies.ppo import PPO
from keras_nas_plugin.strategies.random import RandomSearch
from keras_nas_plugin.strategies.reinforce import Reinforce
from keras_nas_plugin.strategies.surrogate import SurrogateSearch

__all__ = [
    "LocalSearch",
    "NSGA2",
    "Observation",
    "PPO",
    "Proposal",
    "RandomSearch",
    "RegularizedEvolution",
    "Reinforce",
    "Strategy",
    "SurrogateSearch",
]
