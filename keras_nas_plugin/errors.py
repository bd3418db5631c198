"""The errors of the package: each names the argument, what it needs and what came."""

from __future__ import annotations


class NASError(Exception):
    """Base class of every error that this package raises on purpose."""


class SearchSpaceError(NASError, ValueError):
    """A search space, or values for it, that cannot be searched."""


class ObjectiveError(NASError, ValueError):
    """An objective that is unknown, has no safe direction, or that no epoch reported."""


class StrategyError(NASError, RuntimeError):
    """A strategy broke its contract, for example by proposing values outside the space."""


class StateError(NASError, RuntimeError):
    """The saved state of a search cannot be read, or belongs to another search."""


class TooManyFailuresError(NASError, RuntimeError):
    """So many trials in a row failed that going on would waste time."""


class CostError(NASError, ValueError):
    """What a model costs cannot be found out."""


class InfeasibleError(NASError, RuntimeError):
    """No configuration that was looked at keeps the constraints."""


class InvalidResultError(NASError, RuntimeError):
    """A trial gave no usable score: missing, None, NaN or infinite."""


class BackendError(NASError, ImportError):
    """No Keras backend is installed, or it lacks what was asked of it."""


class TrackingError(NASError, RuntimeError):
    """The tracking server or the model registry refused or did not answer."""


class RecipeError(NASError, ValueError):
    """A user's file does not hold what a search needs."""


class HyperModelError(NASError, TypeError):
    """A hypermodel does not return what a tuner needs."""


class BudgetExhaustedError(NASError, RuntimeError):
    """The wall-clock budget ended while a trial was training."""


class WarmStartError(NASError, ValueError):
    """Earlier trials that a search was to start from cannot be read."""


class RetrainingError(NASError, ValueError):
    """A retraining that cannot be done as asked: its data, its settings or its trial."""
