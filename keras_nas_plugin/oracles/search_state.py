"""The state of a search: its space, its trials and their results."""

from __future__ import annotations

import collections
import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.oracles.infeasible_log import (
    InfeasibleLog,
    constraint_data,
    rejected_observations,
)
from keras_nas_plugin.oracles.ledger import Ledger
from keras_nas_plugin.oracles.opening import Opening
from keras_nas_plugin.oracles.proposer import Candidate
from keras_nas_plugin.oracles.scoring import Scoring
from keras_nas_plugin.oracles.screening import Screen
from keras_nas_plugin.oracles.search_space import SearchSpace
from keras_nas_plugin.oracles.trial_report import reset_trial
from keras_nas_plugin.oracles.warm_start import WarmStart
from keras_nas_plugin.records.exclusions import Exclusions
from keras_nas_plugin.space.fidelity import configuration
from keras_nas_plugin.space.hyperparameters import completed, copy_of
from keras_nas_plugin.space.spec import SearchSpec, Values
from keras_nas_plugin.strategies.base import Observation

# Trials that end before the number that a time budget allows is no longer adjusted.
_ADJUSTED_ENDS = 10


class SearchState:
    """The state of a search, and its transitions.

    It neither calls the strategy nor writes the files of trials; both are left to the oracle. The
    cost of a transition does not depend on the number of trials.

    Args:
        space: The search space, owned by the state from now on.
        warm_start: Trials of earlier searches and configurations to try first.
        infeasible: The log of candidates that a screen rejected.
        seed: Seed of the generator.
        max_trials: Number of trials for which ids are padded with zeros; None for no padding.

    Attributes:
        space: The search space, which may only grow.
        warm_start: See above.
        infeasible: See above.
        seed: Seed of the generator.
        generator: The only source of randomness of the search.
        folder: Project folder; None until a tuner sets it.
        screen: Judges candidates before they become trials; None accepts all.
        trials: Trials by id.
        start_order: Ids in the order in which trials were created, without those that do not
            count.
        end_order: Ids in the order in which trials ended, without those that do not count. A
            restored state has a new list.
        running: Running trials by the id of the tuner that runs them.
        started: Number of trials that were created.
        id_width: Number of digits of a trial id.
        ledger: Ranking, tried configurations, number of runs and parents of trials.
        screened: Metrics that the screen computed, by trial id.
        retries: Ids of the trials that are queued for a retry.
        unreported: Observations that have not been passed to the strategy yet, in order.
        stop_reason: Why the search ended before ``max_trials``; None otherwise.
        exclusions: Trials that do not count, because the program was changed.
        expected_trials: How many trials a time budget allows; None where that is not known.
        opening: Proposes the first trials of a search by time; None leaves them to the strategy.
    """

    def __init__(
        self,
        space: SearchSpace,
        warm_start: WarmStart,
        infeasible: InfeasibleLog,
        *,
        seed: int,
        max_trials: int | None,
    ) -> None:
        self.space = space
        self.warm_start = warm_start
        self.infeasible = infeasible
        self.seed = seed
        self.generator = np.random.default_rng(seed)
        self.folder: Path | None = None
        self.screen: Screen | None = None
        self.trials: dict[str, Trial] = {}
        self.start_order: list[str] = []
        self.end_order: list[str] = []
        self.running: dict[str, Trial] = {}
        # By id of a running trial: its values, their number, and the configuration in them.
        self._configurations: dict[str, tuple[Values, int, Values]] = {}
        self.started = 0
        self.id_width = len(str(max_trials or 0))
        self.ledger = Ledger()
        self.screened: dict[str, dict[str, float]] = {}
        self.retries: list[str] = []
        self.unreported: list[Observation] = []
        self.stop_reason: str | None = None
        self.exclusions = Exclusions()
        self.expected_trials: int | None = None
        self.opening: Opening | None = None
        # When the program changed the space last: trials that had ended, rejected candidates.
        self._ends_before_change = 0
        self._rejected_before_change = 0
        # The constraints under which candidates were rejected.
        self._limits: Sequence[Mapping[str, Any]] = ()

    # ------------------------------------------------------------------ queries

    @property
    def counted(self) -> int:
        """Number of trials that were created and count towards ``max_trials``."""
        return self.started - len(self.exclusions)

    @property
    def spec(self) -> SearchSpec:
        """The search space as strategies see it."""
        return self.space.spec

    @property
    def hyperparameters(self) -> keras_tuner.HyperParameters:
        """The search space as KerasTuner collects it."""
        return self.space.hyperparameters

    @hyperparameters.setter
    def hyperparameters(self, hyperparameters: keras_tuner.HyperParameters) -> None:
        self.space.hyperparameters = hyperparameters

    def trial_id(self, number: int) -> str:
        """Id of the trial with index ``number``, from 0, padded with zeros so that ids sort."""
        return str(number).zfill(self.id_width)

    def tried(self, values: Mapping[str, Any]) -> bool:
        """Whether a configuration was tried in this search or in a trial of the warm start."""
        key = self.spec.key(values)
        return self.ledger.tried(key) or self.warm_start.tried(self.spec, key)

    def pending(self) -> dict[str, Values]:
        """Configurations of the running trials, by trial id; not to be changed.

        The configuration of a trial is the same object in every call, until building its model
        has added a value: a strategy may keep what it computes from it.
        """
        configurations = {}
        for trial in self.running.values():
            values = trial.hyperparameters.values
            previous = self._configurations.get(trial.trial_id)
            if previous is None or previous[0] is not values or previous[1] != len(values):
                previous = values, len(values), configuration(values)
            configurations[trial.trial_id] = previous
        self._configurations = configurations
        return {trial_id: entry[2] for trial_id, entry in configurations.items()}

    def next_initial(self) -> Values | None:
        """The next configuration that the strategy is not asked for; None when all were tried."""
        initial = self.warm_start.next_initial(self.spec, self.ledger.tried)
        if initial is not None or self.opening is None or self.warm_start.observations:
            return initial
        if len(self.start_order) >= self.opening.length(self.expected_trials):
            return None
        configurations = [
            self.spec.restrict(self.trials[trial_id].hyperparameters.values)
            for trial_id in self.start_order
        ]
        return self.opening.propose(
            self.space, self.generator, tried=self.tried, trials=configurations
        )

    def trial_data(self, trial: Trial) -> dict[str, Any]:
        """Content of a trial's file: KerasTuner's state, and additions under ``nas``."""
        trial_id = trial.trial_id
        extra: dict[str, Any] = {
            "ended": self.ledger.ended(trial_id),
            "runs": self.ledger.runs[trial_id],
        }
        if screened := self.screened.get(trial_id):
            extra["screened"] = dict(screened)
        if parents := self.ledger.parents.get(trial_id):
            extra["parents"] = list(parents)
        return {**trial.get_state(), "nas": extra}

    # ------------------------------------------------------------------ transitions

    def next_retry(self) -> Trial | None:
        """Remove and return the first trial of the retry queue; None if it is empty."""
        return reset_trial(self.trials[self.retries.pop(0)]) if self.retries else None

    def accept(self, trial_id: str, candidate: Candidate) -> None:
        """Record metrics and parents of the trial that a feasible candidate becomes."""
        self.infeasible.reset_consecutive()
        self.screened[trial_id] = dict(candidate.screening.metrics)
        self.ledger.parents[trial_id] = candidate.parents

    def reject(self, candidate: Candidate) -> None:
        """Log an infeasible candidate and queue its observation.

        Raises:
            OSError: The log cannot be written; then nothing is changed.
        """
        observation = self.infeasible.append(
            self.folder, candidate.values, candidate.screening, self.ledger.ends
        )
        self.ledger.record_key(observation.trial_id, self.spec.key(candidate.values))
        self.unreported.append(observation)

    def start(self, trial: Trial) -> None:
        """Add a new trial."""
        self.trials[trial.trial_id] = trial
        self.start_order.append(trial.trial_id)
        self.record_values(trial)
        self.started += 1

    def record_values(self, trial: Trial) -> None:
        """Record the values of a trial as tried, in place of its previous values."""
        self.ledger.record_key(trial.trial_id, self.spec.key(trial.hyperparameters.values))

    def end(self, trial: Trial, scoring: Scoring) -> None:
        """Record the end of a trial, which may have failed."""
        if trial.status == TrialStatus.INVALID:
            trial.status = TrialStatus.FAILED
        scoring.rank(self.ledger, trial)
        self.end_order.append(trial.trial_id)

    def expect(self, remaining: int, max_trials: int | None) -> int | None:
        """Record how many trials the search is going to have.

        Args:
            remaining: How many trials are going to end from now on.
            max_trials: The largest number of trials; None for no limit.

        Returns:
            The number; None if it is the same as before, or has been settled.
        """
        ends = len(self.end_order)
        expected = min(ends + remaining, max_trials or ends + remaining)
        before = max_trials if self.expected_trials is None else self.expected_trials
        if ends > _ADJUSTED_ENDS or expected == before:
            return None
        self.expected_trials = expected
        return expected

    def release(self, trial_id: str) -> None:
        """Mark a trial as no longer running."""
        for tuner_id, trial in list(self.running.items()):
            if trial.trial_id == trial_id:
                del self.running[tuner_id]

    # ------------------------------------------------------------------ saving and resuming

    def to_dict(self) -> dict[str, Any]:
        """The state that is not in the trials' files or the infeasible log.

        It is of constant size, except for the trials that do not count.
        """
        saved: dict[str, Any] = {
            "seed": self.seed,
            "generator": self.generator.bit_generator.state,
            "started": self.started,
            "id_width": self.id_width,
            "hyperparameters": self.hyperparameters.get_config(),
        }
        if self.expected_trials is not None:
            saved["expected_trials"] = self.expected_trials
        changed = {
            "ended": self._ends_before_change,
            "rejected": self._rejected_before_change,
            "excluded": self.exclusions.to_dict(),
        }
        return {**saved, "changed": changed} if any(changed.values()) else saved

    def load_trials(self, saved: Sequence[Mapping[str, Any]]) -> None:
        """Load the trials; to be called before `restore`.

        Args:
            saved: Content of the trials' files: see `trial_data`.
        """
        ended = []
        for data, trial in zip(saved, trials_from(saved), strict=True):
            self.trials[trial.trial_id] = trial
            extra = data.get("nas", {})
            self.ledger.runs[trial.trial_id] = extra.get("runs", 0)
            self.screened[trial.trial_id] = extra.get("screened", {})
            self.ledger.parents[trial.trial_id] = tuple(extra.get("parents", ()))
            if extra.get("ended") is not None:
                ended.append((extra["ended"], trial.trial_id))
        for index, trial_id in sorted(ended):
            self.ledger.restore_end(trial_id, index)

    def restore(self, saved: Mapping[str, Any], scoring: Scoring) -> list[Observation]:
        """Restore a saved state, after `load_trials`.

        Args:
            saved: Returned by `to_dict`, with the state of the infeasible log and its
                constraints under ``refused``.
            scoring: How trials are ranked and observed.

        Returns:
            All observations so far, in the order of arrival.

        Raises:
            StateError: Files are missing.
        """
        self.expected_trials = saved.get("expected_trials")
        self.seed = saved["seed"]
        self.generator.bit_generator.state = saved["generator"]
        self.started, self.id_width = saved["started"], saved["id_width"]
        self.hyperparameters = keras_tuner.HyperParameters.from_config(saved["hyperparameters"])
        changed = saved.get("changed", {})
        self._ends_before_change = changed.get("ended", 0)
        self._rejected_before_change = changed.get("rejected", 0)
        self.exclusions = Exclusions.from_dict(changed.get("excluded", {}))
        self.running = {}
        self._check_trials()
        logged = saved.get("refused", {})
        self.infeasible.restore(logged)
        self._limits = logged.get("limits", [])
        return self._rebuild(scoring)

    def change(
        self,
        space: keras_tuner.HyperParameters,
        exclusions: Exclusions,
        fits: Callable[[Mapping[str, Any]], bool] | None,
        scoring: Scoring,
    ) -> list[Observation]:
        """Continue in another space, or with other trials that count, after `restore`.

        Args:
            space: The space from now on.
            exclusions: The trials that do not count from now on.
            fits: Whether values of the earlier space are in ``space``; None if the space is the
                same.
            scoring: How trials are ranked and observed.

        Returns:
            All observations that count, in the order of arrival.
        """
        self.exclusions = exclusions
        if fits is not None:
            self.hyperparameters = space
            self._ends_before_change = self.ledger.ends
            self._rejected_before_change = self.infeasible.count
            self.warm_start.drop_unless(fits)
            for trial_id, trial in self.trials.items():
                if self.ledger.ended(trial_id) is None:
                    values = trial.hyperparameters.values
                    trial.hyperparameters = completed(self.hyperparameters, values)
        self.infeasible.reset_consecutive()
        return self._rebuild(scoring)

    def reopen_failed(self, scoring: Scoring) -> tuple[list[str], list[Observation]]:
        """Queue the failed trials for another run, as if they had not been run yet.

        Returns:
            Their ids, and all observations of the other trials, in the order of arrival.
        """
        failed = [
            trial_id
            for trial_id in self.end_order
            if self.trials[trial_id].status == TrialStatus.FAILED
        ]
        for trial_id in failed:
            self.ledger.reopen(trial_id)
            reset_trial(self.trials[trial_id])
        return failed, self._rebuild(scoring)

    def _check_trials(self) -> None:
        """Drop trials that were not counted, and check that all others were read.

        Raises:
            StateError: The file of a trial is missing.
        """
        # A process that was killed may have written a trial that it did not count yet.
        counted = {self.trial_id(number) for number in range(self.started)}
        self.trials = {key: trial for key, trial in self.trials.items() if key in counted}
        missing = sorted(counted - self.trials.keys())
        if missing:
            raise StateError(
                "the project folder must have a readable `trial.json` for each started trial; "
                f"there is none for {missing}"
            )

    def _rebuild(self, scoring: Scoring) -> list[Observation]:
        """Rebuild everything that follows from the trials that count.

        Returns:
            All observations of these trials, in the order of arrival.
        """
        excluded = self.exclusions
        started = (self.trial_id(number) for number in range(self.started))
        self.start_order = [trial_id for trial_id in started if trial_id not in excluded]
        ends = {
            trial_id: index
            for trial_id in self.trials
            if (index := self.ledger.ended(trial_id)) is not None
        }
        all_ended = sorted(ends, key=ends.__getitem__)
        # A new list, by which others notice that the trials were restored.
        self.end_order = [trial_id for trial_id in all_ended if trial_id not in excluded]
        self.retries = [trial_id for trial_id in self.start_order if trial_id not in ends]
        self.unreported = []
        for trial_id in self.end_order if self.space.allow_new_entries else ():
            # A process that was killed may have written the trial, but not the larger space.
            if ends[trial_id] >= self._ends_before_change:
                self.space.extend(self.trials[trial_id].hyperparameters)
        self.ledger.clear()
        for trial_id in self.start_order:
            self.record_values(self.trials[trial_id])
        for trial_id in self.end_order:
            scoring.rank(self.ledger, self.trials[trial_id])
        rejected = self._rejected(scoring.constraints)
        history = list(self.warm_start.observations)
        for trial_id in self.end_order:
            while rejected and rejected[0][0] <= ends[trial_id]:
                history.append(rejected.popleft()[1])
            history.append(scoring.observation(self.trials[trial_id]))
        history += [observation for _, observation in rejected]
        return history

    def _rejected(
        self, constraints: Sequence[Constraint]
    ) -> collections.deque[tuple[int, Observation]]:
        """Observations of rejected candidates, with the number of trials that had ended."""
        if self._limits != constraint_data(constraints):
            # Other constraints may allow candidates that were rejected before.
            self.infeasible.reset_consecutive()
        self.stop_reason = None
        candidates = self.infeasible.read(self.folder)
        observations = list(rejected_observations(candidates, constraints, self._limits))
        observations = observations[self._rejected_before_change :]
        for _, observation in observations:
            if observation.violation > 0:
                key = self.spec.key(observation.values)
                self.ledger.record_key(observation.trial_id, key)
        return collections.deque(observations)


def trials_from(states: Sequence[Mapping[str, Any]]) -> list[Trial]:
    """Trials with the states that `keras_tuner.engine.trial.Trial.get_state` returned.

    Nearly all trials of a search declare the same hyperparameters, which are created once.

    Args:
        states: The states of the trials of a search.
    """
    trials = []
    declared, space = None, keras_tuner.HyperParameters()
    for state in states:
        hyperparameters = state["hyperparameters"]
        if hyperparameters["space"] != declared:
            declared = hyperparameters["space"]
            # Copied, as KerasTuner (1.4.8) changes conditions in place.
            config = {"space": copy.deepcopy(declared), "values": {}}
            space = keras_tuner.HyperParameters.from_config(config)
        trial = Trial.from_state({**state, "hyperparameters": {"space": [], "values": {}}})
        trial.hyperparameters = copy_of(space)
        trial.hyperparameters.values = dict(hyperparameters["values"])
        trials.append(trial)
    return trials
