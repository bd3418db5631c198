"""Errors of this package that are errors of KerasTuner as well.

A `keras_tuner.Tuner` ends the search at a `keras_tuner.errors.FatalError`, and records any other
exception as a failed trial; programs catch `FatalError` around `search`. So the errors that every
further trial would raise as well derive from it. `keras_nas_plugin.errors` cannot import
KerasTuner, which loads TensorFlow: the bases are added when this module is imported, which every
module that searches does.
"""

from __future__ import annotations

from collections.abc import Mapping

from keras_tuner import errors as keras_tuner_errors

from keras_nas_plugin import errors

#: KerasTuner's class for each error that ends a search.
FATAL_BASES: Mapping[type[Exception], type[Exception]] = {
    errors.CostError: keras_tuner_errors.FatalValueError,
    errors.HyperModelError: keras_tuner_errors.FatalTypeError,
    errors.ObjectiveError: keras_tuner_errors.FatalValueError,
    errors.UnnamedObjectiveError: keras_tuner_errors.FatalTypeError,
    errors.SearchSpaceError: keras_tuner_errors.FatalValueError,
    errors.NewEntriesError: keras_tuner_errors.FatalRuntimeError,
    errors.StateError: keras_tuner_errors.FatalRuntimeError,
    errors.InfeasibleError: keras_tuner_errors.FatalRuntimeError,
    errors.TooManyFailuresError: keras_tuner_errors.FatalRuntimeError,
}


def _add_fatal_bases() -> None:
    """Replace the built-in base of each error by KerasTuner's class that derives from it."""
    for error, fatal in FATAL_BASES.items():
        if not issubclass(error, fatal):
            remaining = (base for base in error.__bases__ if not issubclass(fatal, base))
            type.__setattr__(error, "__bases__", (*remaining, fatal))


_add_fatal_bases()
