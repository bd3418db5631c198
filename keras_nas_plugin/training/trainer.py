"""How one trial is built, checked, trained and measured."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
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
from keras_nas_plugin.evaluation.results import trained_part
from keras_nas_plugin.files import read_json, write_json
from keras_nas_plugin.project import last_epoch_file
from keras_nas_plugin.space.fidelity import configuration, fidelity_of
from keras_nas_plugin.tracking.fanout import Fanout
from keras_nas_plugin.training import runtime, session
from keras_nas_plugin.training.architectures import save_architecture
from keras_nas_plugin.training.budget import Budget
from keras_nas_plugin.training.callbacks import (
    BatchTrialCallback,
    BestWeights,
    Deadline,
    LastEpoch,
    TrialCallback,
)
from keras_nas_plugin.training.continuation import (
    Continuation,
    continuation_of,
    fit_arguments,
    full_training,
)
from keras_nas_plugin.training.running import RunningTrial
from keras_nas_plugin.training.tracing import create_variables
from keras_nas_plugin.training.weights import load_state, load_weights


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
        # Epochs of a full training, where the oracle trains some trials shorter.
        self._full_epochs: int | None = None
        # The state that the next model goes on from.
        self._state: Path | None = None
        # The model that `_try_build` made last, and when.
        self._built: tuple[keras.Model, float] | None = None
        # In a worker process `self.oracle` becomes a client with seven methods.
        self._local_oracle = tuner_options["oracle"]
        super().__init__(**tuner_options)

    def _plan_epochs(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Agree with the oracle on how long a full training is, before a search."""
        self._full_epochs = full_training(self._local_oracle, args, kwargs)

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
        objective = trained_part(self.oracle.objective)
        checkpoint = self._get_checkpoint_fname(trial.trial_id)
        before, args, kwargs = self._before(trial, args, kwargs)
        best = BestWeights(objective, checkpoint, before and before.best(objective))
        results = []
        for execution in range(self.executions_per_trial):
            if self.deterministic:
                keras.utils.set_random_seed(self._execution_seed(trial, execution))
            callbacks = self._deepcopy_callbacks(original)
            if any(type(callback).__name__ == "TensorBoard" for callback in callbacks):
                self._configure_tensorboard_dir(callbacks, trial, execution)
            for callback in callbacks:
                if hasattr(callback, "set_project"):
                    callback.set_project(self.project_dir, before and before.epochs[execution])
            callbacks += [*self._own_callbacks(trial), best, *self._last_epoch(trial, execution)]
            self._state = before and before.states[execution]
            result = self._execute(trial, best, args, {**kwargs, "callbacks": callbacks})
            results.append(before.whole(result, execution) if before else result)
        return results

    def _before(
        self, trial: Trial, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[Continuation | None, Sequence[Any], Mapping[str, Any]]:
        """What a trial goes on with, and the arguments of `fit` with its epochs."""
        fidelity, before = fidelity_of(trial.hyperparameters.values), None
        first_epoch = int(kwargs.get("initial_epoch") or 0)
        if fidelity is not None:
            first_epoch = fidelity.initial_epoch
            if self._full_epochs is not None:
                before = continuation_of(fidelity, self)
                first_epoch = first_epoch if before else 0
            args, kwargs = fit_arguments(
                args, kwargs, first_epoch=first_epoch, epochs=fidelity.epochs
            )
        if self._running is not None:
            self._running.first_epoch = first_epoch
        return before, args, kwargs

    def _last_epoch(self, trial: Trial, execution: int) -> list[keras.callbacks.Callback]:
        """Keeps what a promotion goes on from, where there may be one."""
        fidelity = fidelity_of(trial.hyperparameters.values)
        if fidelity is None or fidelity.epochs >= (self._full_epochs or 0):
            return []
        return [LastEpoch(last_epoch_file(self.get_trial_dir(trial.trial_id), execution))]

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
        values = configuration(trial.hyperparameters.values)
        save_architecture(self.hypermodel, values, Path(self.get_trial_dir(trial.trial_id)))
        return self.hypermodel.fit(trial.hyperparameters, model, *args, **kwargs)

    def fit_from_scratch(
        self, trial: Trial, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> keras.Model | None:
        """Build and fit the model of a trial, outside of any search.

        Returns:
            The model after its last epoch; None where a subclass built it elsewhere.
        """
        try:
            self._build_and_fit_model(trial, *args, **kwargs)
        finally:
            built, self._built = self._built, None
        return built[0] if built else None

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
        """Take over what the trial had that was promoted, if this one is a promotion.

        Of KerasTuner's Hyperband the best weights, as in its own tuner; of a multi-fidelity
        oracle of this package all that training goes on with.
        """
        fidelity = fidelity_of(trial.hyperparameters.values)
        if fidelity is None or fidelity.parent is None:
            return
        if self._full_epochs is None:
            self._load_weights(model, fidelity.parent)
        elif self._state is not None:
            self._load(model, fidelity.parent, load_state, self._state)

    def _load_weights(self, model: keras.Model, trial_id: str) -> None:
        self._load(model, trial_id, load_weights, self._get_checkpoint_fname(trial_id))

    def _load(self, model: keras.Model, trial_id: str, load: Callable, path: str | Path) -> None:
        if not model.built:
            model.build_from_config(read_json(self._get_build_config_fname(trial_id)))
        with maybe_distribute(self.distribution_strategy):
            load(model, path)

    def load_model(self, trial: Trial) -> keras.Model:
        """The trained model of a trial, with the weights of its best epoch."""
        with runtime.precision(self.precision):
            model = self._try_build(trial.hyperparameters.copy())
            self._built = None
            self._load_weights(model, trial.trial_id)
        return model
