"""The hooks of KerasTuner's tuner that this package calls, under KerasTuner's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial


class TunerHooks(Protocol):
    """The side of a `keras_tuner.Tuner` (1.4.8) that trains trials and loads their models.

    Users' subclasses override these methods (AutoKeras overrides `_build_and_fit_model`), so the
    parts of `NASTuner` always call them on the tuner. The names with an underscore are
    KerasTuner's; they are declared only here.
    """

    oracle: keras_tuner.Oracle
    hypermodel: keras_tuner.HyperModel
    distribution_strategy: object
    executions_per_trial: int
    max_model_size: int | None
    directory: str
    project_name: str

    @property
    def project_dir(self) -> str:
        """The project folder."""

    def get_trial_dir(self, trial_id: str) -> str:
        """The folder of a trial, which is created."""

    def run_trial(self, trial: Trial, *args: Any, **kwargs: Any) -> Any:
        """Train a trial, once per execution; what it returns has a value of the objective."""

    def load_model(self, trial: Trial) -> keras.Model:
        """The trained model of a trial."""

    def on_batch_begin(
        self, trial: Trial, model: keras.Model, batch: int, logs: Mapping[str, float] | None
    ) -> None:
        """A batch starts."""

    def on_batch_end(
        self,
        trial: Trial,
        model: keras.Model,
        batch: int,
        logs: Mapping[str, float] | None = None,
    ) -> None:
        """A batch ended."""

    def on_epoch_begin(
        self,
        trial: Trial,
        model: keras.Model,
        epoch: int,
        logs: Mapping[str, float] | None = None,
    ) -> None:
        """An epoch starts."""

    def on_epoch_end(
        self,
        trial: Trial,
        model: keras.Model,
        epoch: int,
        logs: Mapping[str, float] | None = None,
    ) -> None:
        """An epoch ended."""

    def _build_and_fit_model(self, trial: Trial, *args: Any, **kwargs: Any) -> Any: ...

    def _try_build(self, hp: keras_tuner.HyperParameters) -> keras.Model: ...

    def _build_hypermodel(self, hp: keras_tuner.HyperParameters) -> keras.Model: ...

    def _get_checkpoint_fname(self, trial_id: str) -> str: ...

    def _get_build_config_fname(self, trial_id: str) -> str: ...

    def _deepcopy_callbacks(
        self, callbacks: Sequence[keras.callbacks.Callback]
    ) -> list[keras.callbacks.Callback]: ...

    def _configure_tensorboard_dir(
        self, callbacks: Sequence[keras.callbacks.Callback], trial: Trial, execution: int = 0
    ) -> None: ...
