"""Exceptions of the package.

Messages name the argument, what it must be, and the value that was passed. Each class derives
from the built-in exception of its kind. Those that end a search derive from KerasTuner's
`FatalError` too once KerasTuner is loaded (`keras_nas_plugin.oracles.fatal`), so that programs
that catch the errors of a `keras_tuner.Tuner` catch these.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping


class NASError(Exception):
    """Base class of all exceptions that this package raises."""


class ArgumentError(NASError, ValueError, TypeError):
    """An argument has the wrong type or value, or there is no argument of that name."""


class SearchSpaceError(NASError, ValueError):
    """A search space, values for it, or a limit of the search is invalid."""


class NewEntriesError(SearchSpaceError, RuntimeError):
    """A hypermodel has hyperparameters that ``allow_new_entries=False`` does not allow."""


class ObjectiveError(NASError, ValueError):
    """An objective is invalid: its direction cannot be inferred, or no epoch reported it."""


class UnnamedObjectiveError(ObjectiveError, TypeError):
    """Training returned metrics instead of a number, but no objective names one of them."""


class StrategyError(NASError, RuntimeError):
    """A strategy broke its contract, for example by proposing values outside the space."""


class StateError(NASError, RuntimeError):
    """The saved state of a search cannot be read, or belongs to another search."""


class TooManyFailuresError(NASError, RuntimeError):
    """Too many trials in a row failed, which ends the search."""


class CostError(NASError, ValueError):
    """The cost of a model cannot be computed or measured."""


class InfeasibleError(NASError, RuntimeError):
    """No candidate satisfied the constraints."""


class InvalidResultError(NASError, RuntimeError):
    """A trial returned no usable score: it is missing, None, NaN or infinite."""


class BackendError(NASError, ImportError):
    """No Keras backend is installed, or the installed one lacks a required feature."""


class TrackingError(NASError, RuntimeError):
    """The tracking server or the model registry rejected a request or did not answer."""


class RecipeError(NASError, ValueError):
    """A recipe file does not define what a search needs."""


class SourceError(RecipeError):
    """No recipe can be written for the given data."""


class HyperModelError(NASError, TypeError):
    """A hypermodel returned an object that a tuner cannot use."""


class BudgetExhaustedError(NASError, RuntimeError):
    """The wall-clock budget ended while a trial was training."""


class WarmStartError(NASError, ValueError):
    """The trials for a warm start are invalid or cannot be read."""


class WorkerError(NASError, RuntimeError):
    """Worker processes cannot be started, or get what they need to train."""


class RetrainingError(NASError, ValueError):
    """A trial cannot be retrained with the given data or settings."""


class ExportError(NASError, ValueError):
    """A model cannot be converted to a format, or the converted model predicts something else."""


class FitArgumentsError(NASError, ValueError):
    """Arguments of `fit` contradict each other, or the data has an unsupported type."""


def brief(error: BaseException, characters: int = 400) -> str:
    r"""Class and message of an error in one line, for the message of another error.

    All lines are joined, because any of them may be the relevant one.

    >>> brief(ValueError("no\n  shape"))
    'ValueError: no shape'

    Args:
        error: The error.
        characters: Length at which the message is cut.
    """
    text = " ".join(str(error).split())
    text = text if len(text) <= characters else text[: characters - 3] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def unknown_argument(owner: type, unknown: Mapping[str, object]) -> ArgumentError:
    """The error for keyword arguments that a class does not have.

    Python's own error names the base class that received them.

    Args:
        owner: The class that was called.
        unknown: The arguments, by name.
    """
    accepted: list[str] = []
    for base in owner.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(vars(base)["__init__"]).parameters.values()
            named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
            accepted += [parameter.name for parameter in parameters if parameter.kind in named]
            if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
                break
    name, value = next(iter(unknown.items()))
    similar = difflib.get_close_matches(name, accepted, 1)
    hint = f" Did you mean `{similar[0]}`?" if similar else ""
    return ArgumentError(f"`{owner.__name__}` has no argument `{name}`; got {value!r}.{hint}")
