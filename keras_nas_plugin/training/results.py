"""What can be had of a search's trials: models, retrained models, versions in the registry."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import RetrainingError, TrackingError
from keras_nas_plugin.evaluation.datasets import sample_rows
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.tracking.records import SearchInfo, TrialRecord
from keras_nas_plugin.tracking.retraining import RetrainedModel, Retraining
from keras_nas_plugin.training import runtime
from keras_nas_plugin.training.describe import print_summary
from keras_nas_plugin.training.retraining import Wanted, from_scratch, retrain
from keras_nas_plugin.training.trainer import TrialTrainer
from keras_nas_plugin.training.weights import load_weights, with_built_optimizer

if TYPE_CHECKING:
    from keras_nas_plugin.registry import RegisteredModel

logger = logging.getLogger("keras_nas_plugin")


class SearchResults(TrialTrainer):
    """The part of `NASTuner` that deals with trials that have ended."""

    tracker: Tracker | None = None
    # A few input rows, and what `search` was called with last.
    _sample: Any = None
    _searched_with: tuple[Sequence[Any], Mapping[str, Any]] | None = None

    def _best_trials(self, count: int) -> list[Trial]:
        """Completed trials only: stock oracles fill up with failed ones."""
        trials = self.oracle.get_best_trials(count)
        return [trial for trial in trials if trial.status == TrialStatus.COMPLETED]

    def get_best_models(self, num_models: int = 1) -> list[keras.Model]:
        """Trained models of the best trials, best first; fewer when fewer completed."""
        return [self.load_model(trial) for trial in self._best_trials(num_models)]

    def get_best_hyperparameters(self, num_trials: int = 1) -> list[keras_tuner.HyperParameters]:
        """Hyperparameters of the best trials, best first; fewer when fewer completed."""
        return [trial.hyperparameters for trial in self._best_trials(num_trials)]

    def results_summary(self, num_trials: int = 10) -> None:
        """Print the best trials: score, hyperparameters, parameters, seconds."""
        print_summary(self, self._best_trials(num_trials))

    def retrain_best(
        self,
        *fit_args: Any,
        seeds: int = 1,
        seed: int | None = None,
        epochs: int | None = None,
        test_data: Any = None,
        hold_out: float | None = None,
        trial_id: str | None = None,
        overwrite: bool = False,
        **fit_kwargs: Any,
    ) -> Retraining:
        """Train the best trial's model again, on training and validation data together.

        ```python
        tuner.search(x, y, epochs=10, validation_data=(x_val, y_val))
        again = tuner.retrain_best(seeds=3, test_data=(x_test, y_test))
        print(again.searched_scores["accuracy"], again.mean, again.deviation)
        tuner.register_best("fashion-classifier", retrained=True)
        ```

        Weights start afresh, and nothing watches the training: callbacks that need validation
        data are left out. The score of such a model is known on ``test_data`` or on rows held
        out, and nowhere else. What was retrained before with the same settings and data is not
        trained again, also after a process was killed.

        Args:
            *fit_args: As for `search`, if this process has not called it.
            seeds: How many trainings; the first is the one that is kept.
            seed: Of the first; the others count up. None for that of the search, or 0.
            epochs: How long; None for as long as it took the trial to reach its best epoch.
            test_data: ``(x, y)``, ``(x, y, sample_weight)`` or a `tf.data.Dataset` that the
                search never saw.
            hold_out: Without test data, the fraction of the validation rows that is not
                learned from but measured on. The searched model was chosen by these rows.
            trial_id: Another trial than the best.
            overwrite: Whether to delete what was retrained before.
            **fit_kwargs: As for `search`.

        Returns:
            Every training with its scores, beside those of the searched model.

        Raises:
            RetrainingError: The data or the hypermodel do not allow it.
            StateError: Another process does the same, or the disk is full.
        """
        wanted = Wanted(
            seeds=seeds,
            seed=seed,
            epochs=epochs,
            hold_out=hold_out,
            test_data=test_data,
            overwrite=overwrite,
        )
        if not fit_args and "x" not in fit_kwargs:
            if self._searched_with is None:
                raise RetrainingError(
                    "`retrain_best` needs the data of the search, unless `search` was called "
                    "before; received none"
                )
            args, kwargs = self._searched_with
            fit_args, fit_kwargs = tuple(args), {**kwargs, **fit_kwargs}
        trial = self._ended_trial(trial_id)
        self._sample = sample_rows(fit_args[0] if fit_args else fit_kwargs["x"])
        done = retrain(self, trial, wanted, fit_args, fit_kwargs)
        if self.tracker is not None and hasattr(self.tracker, "tracking_uri"):
            from keras_nas_plugin.tracking.retrained import log_retraining

            try:
                done = log_retraining(done, self._record(trial), self._search(), self.tracker)
            except TrackingError as error:
                logger.warning(
                    "The retrained models are kept in %s and not logged: %s. Calling the same "
                    "again logs them without training.",
                    self.project_dir,
                    error,
                )
                done = done.not_logged()
        return done

    def register_best(
        self,
        name: str,
        *,
        alias: str | None = "challenger",
        tags: Mapping[str, str] | None = None,
        retrained: bool = False,
        trial_id: str | None = None,
        sample: Any = None,
        input_example: bool = True,
    ) -> RegisteredModel:
        """Log the best model to its run and register it in MLflow.

        Registering the same model under the same name again returns the version that exists.

        Args:
            name: Name in the model registry.
            alias: Alias of the version; None for none.
            tags: Further tags of a new version.
            retrained: Whether to take the model that `retrain_best` kept.
            trial_id: Another trial than the best.
            sample: A few rows of input, for the signature and the example; None for the first
                rows that this process searched or retrained with.
            input_example: Whether to store these rows with the model, as an example of its
                input. Anyone who may read the model can read them.

        Returns:
            A `keras_nas_plugin.registry.RegisteredModel`.

        Raises:
            TrackingError: There is no MLflow tracker, no finished trial, or the registry
                does not answer.
            RetrainingError: The trial was not retrained.
        """
        from keras_nas_plugin.registry import register_trial

        best = self._best_trials(1)
        if not best and trial_id is None:
            raise TrackingError("`register_best` needs a finished trial; received none")
        trial = self._ended_trial(trial_id)
        retraining = Retraining.load(self.project_dir)
        if retraining is not None and not self._is_of(retraining, trial):
            retraining = None
        if retrained and retraining is None:
            raise RetrainingError(
                f"`retrained=True` needs trial {trial.trial_id} to be retrained; received a "
                "search in which it is not. Call `retrain_best`, or `keras-nas retrain`."
            )

        def model() -> keras.Model:
            if retrained:
                return with_built_optimizer(self.load_retrained(trial, retraining.kept))
            return with_built_optimizer(self.load_model(trial))

        return register_trial(
            model,
            name=name,
            record=self._record(trial),
            search=self._search(),
            tracker=self.tracker,
            alias=alias,
            tags=tags,
            sample=self._sample if sample is None else sample,
            retraining=retraining,
            retrained=retrained,
            input_example=input_example,
        )

    def load_retrained(self, trial: Trial, model: RetrainedModel) -> keras.Model:
        """A retrained model, with the weights of its last epoch."""
        with runtime.precision(self.precision):
            built = self._try_build(from_scratch(trial).hyperparameters)
            self._built = None
            path = Path(self.project_dir) / model.weights
            self._load(built, trial.trial_id, load_weights, path)
        return built

    def _ended_trial(self, trial_id: str | None) -> Trial:
        """The best trial, or one that is asked for.

        Raises:
            RetrainingError: There is no such trial that completed.
        """
        if trial_id is None:
            best = self._best_trials(1)
            if best:
                return best[0]
            raise RetrainingError("`trial_id` needs a finished trial; the search has none")
        trial = self.oracle.trials.get(trial_id)
        if trial is None or trial.status != TrialStatus.COMPLETED:
            done = [
                one.trial_id
                for one in self.oracle.trials.values()
                if one.status == TrialStatus.COMPLETED
            ]
            raise RetrainingError(
                f"`trial_id` needs a trial that finished; received {trial_id!r}. Those that did: "
                f"{', '.join(sorted(done)) or 'none'}"
            )
        return trial

    def _record(self, trial: Trial) -> TrialRecord:
        return TrialRecord.load(self.get_trial_dir(trial.trial_id))

    def _search(self) -> SearchInfo:
        return SearchInfo.load(self.project_dir)

    def _is_of(self, retraining: Retraining, trial: Trial) -> bool:
        """Whether a retraining is of this trial; an id alone is not unique over searches."""
        of = retraining.search_id, retraining.trial_id
        return of == (self._search().search_id, trial.trial_id)
