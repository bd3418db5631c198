"""How one trial is built, checked, trained and measured."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial
from keras_tuner.engine.tuner import maybe_distribute

from keras_nas_plugin.errors import (
    BudgetExhaustedError,
    HyperModelError,
    SearchSpaceError,
    StateError,
)
from keras_nas_plugin.files import read_json, write_json
from keras_nas_plugin.tracking.fanout import Fanout
from keras_nas_plugin.training import runtime, session
from keras_nas_plugin.training.budget import Budget
from keras_nas_plugin.training.callbacks import (
    BatchTrialCallback,
    BestWeights,
    Deadline,
    TrialCallback,
)
from keras_nas_plugin.training.running import RunningTrial
from keras_nas_plugin.training.tracing import create_variables
from keras_nas_plugin.training.weights import load_weights


class TrialTrainer(keras_tuner.Tuner):
    """The part of `NASTuner` that trains one trial; it knows no search.

    KerasTuner's own hooks keep their names, so that subclasses written for
    `keras_tuner.Tuner` (AutoKeras overrides `_build_and_fit_model`) work.

    Args:
        precision: Keras dtype policy of models that are loaded, or None.
        deterministic: Whether each execution is seeded.
        listeners: Who is told of epochs.
        **tuner_options: Arguments of `keras_tuner.Tuner`.
    """

    def __init__(
        self,
        *,
        precision: str | None,
        deterministic: bool,
        listeners: Fanout,
        **tuner_options: Any,
    ) -> None:
        self.precision = precision
        self.deterministic = deterministic
        self._trackers = listeners
        self._limit = Budget(None)
        self._running: RunningTrial | None = None
        # The model that `_try_build` made last, and when.
        self._built: tuple[keras.Model, float] | None = None
        # In a worker process `self.oracle` becomes a client with seven methods.
        self._local_oracle = tuner_options["oracle"]
        super().__init__(**tuner_options)

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> Any:
        """Build and train the model of a trial, once per execution.

        Args:
            trial: The trial.
            *args: Positional arguments of `model.fit`.
            **kwargs: Keyword arguments of `model.fit`.

        Returns:
            What `HyperModel.fit` returned, per execution.
        """
        original = list(kwargs.pop("callbacks", None) or [])
        kwargs.update(_fidelity(trial))
        best = BestWeights(self.oracle.objective, self._get_checkpoint_fname(trial.trial_id))
        results = []
        for execution in range(self.executions_per_trial):
            if self.deterministic:
                keras.utils.set_random_seed(self._execution_seed(trial, execution))
            callbacks = self._deepcopy_callbacks(original)
            if any(type(callback).__name__ == "TensorBoard" for callback in callbacks):
                self._configure_tensorboard_dir(callbacks, trial, execution)
            callbacks += [*self._own_callbacks(trial), best]
            results.append(self._execute(trial, best, args, {**kwargs, "callbacks": callbacks}))
        return results

    def _execute(
        self, trial: Trial, best: BestWeights, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """One training, around the hook that subclasses may override."""
        deadlines = [one for one in kwargs["callbacks"] if isinstance(one, Deadline)]
        began = time.monotonic()
        try:
            results = self._build_and_fit_model(trial, *args, **kwargs)
        finally:
            for deadline in deadlines:
                # Keras leaves `on_train_end` out after an exception.
                deadline.on_train_end()
            built, self._built = self._built, None
        if any(deadline.fired for deadline in deadlines):
            raise BudgetExhaustedError(f"`budget` of {self.budget} seconds ended during the trial")
        model, began = built or (best.model, began)
        seconds = time.monotonic() - began
        if model is not None:
            self._save_model(model, trial, best)
        if self._running is not None:
            self._running.ran(model, seconds)
        return results

    def _own_callbacks(self, trial: Trial) -> list[keras.callbacks.Callback]:
        hooks = ("on_batch_begin", "on_batch_end")
        overridden = any(
            getattr(type(self), hook) is not getattr(keras_tuner.Tuner, hook) for hook in hooks
        )
        callback = (BatchTrialCallback if overridden else TrialCallback)(
            self,
            trial,
            lambda epoch, logs: self._trackers.epoch_ended(trial.trial_id, epoch, logs),
        )
        if self._running is not None:
            self._running.curves.append(callback.curve)
        deadline = self._limit.deadline
        return [callback] if deadline is None else [callback, Deadline(deadline)]

    def _execution_seed(self, trial: Trial, execution: int) -> int:
        """A seed for one execution that does not depend on what ran before."""
        seed = getattr(self._local_oracle, "seed", None) or 0
        return (seed * 1_000_003 + zlib.crc32(trial.trial_id.encode()) + execution) % 2**31

    def _build_and_fit_model(self, trial: Trial, *args: Any, **kwargs: Any) -> Any:
        model = self._try_build(trial.hyperparameters)
        self._continue_from(model, trial)
        create_variables(model, args, kwargs)
        return self.hypermodel.fit(trial.hyperparameters, model, *args, **kwargs)

    def _save_model(self, model: keras.Model, trial: Trial, best: BestWeights) -> None:
        try:
            best.save(model)
            write_json(self._get_build_config_fname(trial.trial_id), model.get_build_config())
        except OSError as error:
            # A full disk is no fault of the model: the trial runs again on resume.
            raise StateError(
                f"`directory` needs room for the model of trial {trial.trial_id}; writing to "
                f"{self.get_trial_dir(trial.trial_id)!r} gave: {error.strerror or error}"
            ) from error

    def _try_build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        session.forget_models()
        known = len(hp.space)
        model = self._build_hypermodel(hp)
        if not isinstance(model, keras.Model):
            raise HyperModelError(
                "`hypermodel` needs build(hp) to return a compiled keras.Model; "
                f"received {type(model).__name__}"
            )
        if not self.oracle.allow_new_entries and len(hp.space) > known:
            new = [item.name for item in hp.space[known:]]
            raise SearchSpaceError(
                "`allow_new_entries=False` needs all hyperparameters in `hyperparameters=`; "
                f"received new ones: {new}"
            )
        if self.max_model_size is not None and model.built:
            size = sum(math.prod(weight.shape) for weight in model.trainable_weights)
            if size > self.max_model_size:
                raise keras_tuner.errors.FailedTrialError(
                    f"`max_model_size` allows {self.max_model_size:,} trainable parameters; "
                    f"this model has {size:,}"
                )
        self._built = model, time.monotonic()
        return model

    def _continue_from(self, model: keras.Model, trial: Trial) -> None:
        """Take over the weights of the trial that Hyperband promoted, if it did."""
        source = trial.hyperparameters.values.get("tuner/trial_id")
        if source:
            self._load_weights(model, source)

    def _load_weights(self, model: keras.Model, trial_id: str) -> None:
        if not model.built:
            model.build_from_config(read_json(self._get_build_config_fname(trial_id)))
        with maybe_distribute(self.distribution_strategy):
            load_weights(model, self._get_checkpoint_fname(trial_id))

    def load_model(self, trial: Trial) -> keras.Model:
        """The trained model of a trial, with the weights of its best epoch."""
        with runtime.precision(self.precision):
            model = self._try_build(trial.hyperparameters.copy())
            self._built = None
            self._load_weights(model, trial.trial_id)
        return model


def _fidelity(trial: Trial) -> dict[str, Any]:
    """Epochs that a multi-fidelity oracle such as KerasTuner's Hyperband gave the trial."""
    values = trial.hyperparameters.values
    if "tuner/epochs" not in values:
        return {}
    return {"epochs": values["tuner/epochs"], "initial_epoch": values["tuner/initial_epoch"]}
