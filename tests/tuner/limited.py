"""An oracle with a limit on parameters, for processes that import it by name."""

from keras_nas_plugin import Constraint, RandomOracle

MOST = 400


class LimitedOracle(RandomOracle):
    """Of the contract suite's models, those with five hidden units at most, and no linear one."""

    def __init__(self, *positional, **options):
        super().__init__(*positional, constraints=[Constraint("params", max=MOST)], **options)
