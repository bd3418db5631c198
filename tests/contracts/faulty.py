"""An oracle whose strategy raises once both workers have a trial."""

from keras_nas_plugin.oracles.base import NASOracle
from keras_nas_plugin.strategies import RandomSearch


class FaultyStrategy(RandomSearch):
    asked = 0

    def ask(self, *args, **kwargs):
        self.asked += 1
        if self.asked > 2:
            raise ZeroDivisionError("the strategy is broken")
        return super().ask(*args, **kwargs)


class FaultyOracle(NASOracle):
    def __init__(self, objective, max_trials, **options):
        super().__init__(FaultyStrategy(), objective, max_trials, **options)
