"""Search spaces: what may vary, and under which conditions."""

from keras_nas_plugin.space.domains import Categorical, Domain, Integer, Real
from keras_nas_plugin.space.spec import Condition, Decision, SearchSpec

__all__ = ["Categorical", "Condition", "Decision", "Domain", "Integer", "Real", "SearchSpec"]
