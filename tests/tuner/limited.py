"""An oracle with a limit on parameters, for processes that import it by name."""

from keras_nas_plugin import Constraint, RandomOracle

MAX_PARAMETERS = 400


class LimitedOracle(RandomOracle):
    """Allows models of the contract suite with at most five hidden units, and no linear model."""

    def __init__(self, *positional, **options):
        super().__init__(
            *positional, constraints=[Constraint("params", max=MAX_PARAMETERS)], **options
        )
