"""Results of a search: its best trials, retraining and registration."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import RetrainingError, StateError, TrackingError
from keras_nas_plugin.evaluation.datasets import example_rows
from keras_nas_plugin.records.retraining import RetrainConfig, Retraining
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import TrialRecord
from keras_nas_plugin.retraining.retrain import FinishedTrials, retrain
from keras_nas_plugin.tracking.base import Tracker
from keras_nas_plugin.training.bookkeeping import Bookkeeping
from keras_nas_plugin.training.fit_arguments import DataSplit, FitArguments
from keras_nas_plugin.training.weights import with_built_optimizer

if TYPE_CHECKING:
    from keras_nas_plugin.tracking.model_registry import RegisteredModel

logger = logging.getLogger("keras_nas_plugin")


class SearchedTuner(FinishedTrials, Protocol):
    """The part of a tuner that `SearchResults` uses."""

    oracle: keras_tuner.Oracle


class SearchResults:
    """The completed trials of a search: loading, retraining and registering their models.

    Args:
        tuner: Builds, trains and loads models of trials; its oracle has the trials.
        tracker: Where the trials are logged, or None.
    """

    def __init__(self, tuner: SearchedTuner, tracker: Tracker | None) -> None:
        self._tuner = tuner
        self._tracker = tracker
        self._searched_with: FitArguments | None = None
        # A few input rows of the last search or retraining.
        self._sample: object = None

    def remember(self, fit: FitArguments, x: object, sample: object) -> None:
        """Store the arguments of a search, for retraining and registration.

        Args:
            fit: What `search` was called with.
            x: Its inputs.
            sample: The first rows of these; None if they cannot be read.
        """
        self._searched_with, self._sample = fit, example_rows(x, sample)

    # ------------------------------------------------------------------ trials

    def best_trials(self, count: int) -> list[Trial]:
        """The best completed trials.

        KerasTuner's oracles return failed trials if too few completed; these are omitted here.

        Args:
            count: Maximum number of trials.
        """
        trials = self._tuner.oracle.get_best_trials(count)
        return [trial for trial in trials if trial.status == TrialStatus.COMPLETED]

    def finished_trial(self, trial_id: str | None) -> Trial:
        """A trial that finished.

        Args:
            trial_id: Its id; None for the best trial.

        Raises:
            RetrainingError: There is no such trial, or it did not finish.
        """
        if trial_id is None:
            best = self.best_trials(1)
            if best:
                return best[0]
        finished = {
            trial.trial_id: trial
            for trial in self._tuner.oracle.trials.values()
            if trial.status == TrialStatus.COMPLETED
        }
        if trial_id is None or not finished:
            raise RetrainingError("`trial_id` must be a finished trial; the search has none")
        if trial_id not in finished:
            raise RetrainingError(
                f"`trial_id` must be a finished trial, one of {', '.join(sorted(finished))}; "
                f"got {trial_id!r}"
            )
        return finished[trial_id]

    # ------------------------------------------------------------------ retraining

    def retrain(
        self, trial_id: str | None, config: RetrainConfig, fit: FitArguments, test_data: object
    ) -> Retraining:
        """Retrain the model of a trial, and log it: see `NASTuner.retrain_best`.

        Args:
            trial_id: The trial; None for the best.
            config: How to retrain.
            fit: Arguments of `fit`. Without data, they override those of the last search.
            test_data: Rows that the search never saw, or None.

        Raises:
            RetrainingError: The data or the hypermodel do not allow it.
            StateError: Another process is retraining, or the disk is full.
        """
        if fit.x is None:
            if self._searched_with is None:
                raise RetrainingError(
                    "`x` must be the training data of the search, unless this process has called "
                    "`search`; got None"
                )
            fit = self._searched_with.replace(**fit.values)
        fit = fit.made()
        trial = self.finished_trial(trial_id)
        sample = Bookkeeping().value(
            "the first rows cannot be read, so that `register_best` needs `sample`",
            fit.sample,
            None,
        )
        self._sample = example_rows(fit.x, sample)
        retraining = retrain(self._tuner, trial, config, fit, test_data)
        if self._tracker is None:
            return retraining
        record, search = self._record(trial), self._search()
        try:
            return self._tracker.retraining_finished(retraining, record, search)
        except TrackingError as error:
            logger.warning(
                "The retrained models are saved in %s but not logged: %s. Repeat the call to log "
                "them without training.",
                self._tuner.project_dir,
                error,
            )
            return retraining.not_logged()

    # ------------------------------------------------------------------ registration

    def register(
        self,
        name: str,
        *,
        trial_id: str | None,
        alias: str | None,
        tags: Mapping[str, str] | None,
        retrained: bool,
        sample: object,
        input_example: bool,
        class_names: Sequence[str] | None,
        validation_data: object,
    ) -> RegisteredModel:
        """Register the model of a trial: see `NASTuner.register_best`.

        Raises:
            TrackingError: There is no tracker with a model registry, no finished trial, or the
                registry does not answer.
            RetrainingError: The trial was not retrained.
        """
        from keras_nas_plugin.registry import register_trial

        if trial_id is None and not self.best_trials(1):
            raise TrackingError("`trial_id` must be a finished trial; the search has none")
        trial = self.finished_trial(trial_id)
        if not retrained and self._record(trial).inherited_epochs:
            self._retrain_from_scratch(trial)
            retrained = True
        retraining = self._retraining_of(trial)
        if retrained and retraining is None:
            raise RetrainingError(
                f"`retrained` must be False unless trial {trial.trial_id} was retrained; got "
                "True. Call `retrain_best`, or `keras-nas retrain`."
            )

        def load() -> keras.Model:
            if retrained and retraining is not None:
                return with_built_optimizer(self._tuner.load_retrained(trial, retraining.kept))
            return with_built_optimizer(self._tuner.load_model(trial))

        return register_trial(
            load,
            name=name,
            record=self._record(trial),
            search=self._search(),
            tracker=self._tracker,
            alias=alias,
            tags=tags,
            sample=self._sample if sample is None else sample,
            retraining=retraining,
            retrained=retrained,
            input_example=input_example,
            class_names=class_names,
            validation=self._validation(validation_data),
        )

    def _retrain_from_scratch(self, trial: Trial) -> None:
        """Train a trial that inherited weights anew, unless that was done before.

        Its score is that of a longer training than that of other trials, which nobody could
        repeat.
        """
        if self._retraining_of(trial) is not None:
            return
        if self._searched_with is None:
            raise RetrainingError(
                f"`retrained` must be True for trial {trial.trial_id}, which started from the "
                "weights of another trial and must be trained from scratch before it is "
                "registered; got False. Call `retrain_best`, or `keras-nas retrain`."
            )
        logger.warning(
            "Trial %s started from the weights of another trial: it is trained from scratch "
            "before it is registered.",
            trial.trial_id,
        )
        fit = FitArguments.bind((), {}, self._tuner.hypermodel)
        self.retrain(trial.trial_id, RetrainConfig(), fit, None)

    def _validation(self, data: object) -> tuple[object, object] | None:
        """Inputs and labels of validation data, or else of those of the last search."""
        split, fit = DataSplit.of(data, "validation_data"), self._searched_with
        if split is None and fit is not None:
            with Bookkeeping().step("the model card has no scores by class"):
                split = fit.made().splits()[1]
        return None if split is None else (split.x, split.y)

    def _retraining_of(self, trial: Trial) -> Retraining | None:
        """The last retraining, if it is of this trial; ids are not unique between searches."""
        retraining = Retraining.load(self._tuner.project_dir)
        if retraining is None:
            return None
        retrained = retraining.search_id, retraining.trial_id
        return retraining if retrained == (self._search().search_id, trial.trial_id) else None

    def _record(self, trial: Trial) -> TrialRecord:
        folder = self._tuner.get_trial_dir(trial.trial_id)
        record = TrialRecord.load(folder)
        if record is None:
            raise StateError(
                f"`directory` must have the record of trial {trial.trial_id}; {folder!r} has none"
            )
        return record

    def _search(self) -> SearchInfo:
        search = SearchInfo.load(self._tuner.project_dir)
        if search is None:
            raise StateError(
                "`directory` must have the description of the search; "
                f"{self._tuner.project_dir!r} has none"
            )
        return search
