"""Loads models of trials that ended: built by the tuner's hooks, with weights from disk."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import keras
from keras_tuner.engine.trial import Trial
from keras_tuner.engine.tuner import maybe_distribute

from keras_nas_plugin.errors import HyperModelError, StateError
from keras_nas_plugin.files import read_json, write_json
from keras_nas_plugin.training import runtime
from keras_nas_plugin.training.bookkeeping import error_line
from keras_nas_plugin.training.continuation import from_scratch
from keras_nas_plugin.training.hooks import TunerHooks
from keras_nas_plugin.training.weights import load_weights, save_weights


def restore(
    hooks: TunerHooks,
    model: keras.Model,
    trial_id: str,
    path: str | Path,
    load: Callable[[keras.Model, str | Path], None] = load_weights,
) -> None:
    """Read a checkpoint into a model, which is built first if necessary.

    Args:
        hooks: The tuner.
        model: A new model of the trial.
        trial_id: The trial that wrote the checkpoint.
        path: The checkpoint.
        load: Reads the checkpoint: `load_weights` or `load_state`.
    """
    config = Path(hooks._get_build_config_fname(trial_id))
    if not model.built and config.exists():
        with warnings.catch_warnings():
            # About a model that cannot be built as a whole: `load` builds its layers.
            warnings.simplefilter("ignore")
            model.build_from_config(read_json(config))
    with maybe_distribute(hooks.distribution_strategy):
        load(model, path)


class TrialModels:
    """Loads the models of a search.

    Args:
        hooks: The tuner.
        precision: Keras dtype policy that models are built under; None for the current one.
    """

    def __init__(self, hooks: TunerHooks, precision: str | None) -> None:
        self._hooks = hooks
        self._precision = precision

    def save(self, trial_id: str, model: keras.Model) -> None:
        """Write what `load` reads, for a tuner whose `run_trial` trains the model itself.

        Args:
            trial_id: The trial.
            model: The model that it trained.
        """
        save_weights(model, Path(self._hooks._get_checkpoint_fname(trial_id)))
        write_json(self._hooks._get_build_config_fname(trial_id), model.get_build_config())

    def load(self, trial: Trial) -> keras.Model:
        """The trained model of a trial, with the weights of its best epoch."""
        checkpoint = self._hooks._get_checkpoint_fname(trial.trial_id)
        with runtime.precision(self._precision):
            model = self._hooks._try_build(trial.hyperparameters.copy())
            self._restore(model, trial, checkpoint)
        return model

    def load_retrained(self, trial: Trial, weights: Path) -> keras.Model:
        """The model of a trial with the weights of a retraining.

        Args:
            trial: The trial that was retrained.
            weights: The file that the retraining wrote.
        """
        with runtime.precision(self._precision):
            model = self._hooks._try_build(from_scratch(trial).hyperparameters)
            self._restore(model, trial, weights)
        return model

    def _restore(self, model: keras.Model, trial: Trial, path: str | Path) -> None:
        try:
            restore(self._hooks, model, trial.trial_id, path)
        except FileNotFoundError as error:
            raise StateError(
                f"`directory` must hold the model of trial {trial.trial_id}; {str(path)!r} does "
                "not exist"
            ) from error
        except ValueError as error:  # Keras's, about variables
            raise HyperModelError(
                f"`hypermodel` must build the model that trial {trial.trial_id} trained; its "
                f"weights do not fit: {error_line(error)} A subclassed model must create its "
                "layers in `__init__` or `build`, and have a `build_from_config` if its `build` "
                "needs more than the shape of the input."
            ) from error
