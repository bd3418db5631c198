"""`NASOracle`: the one adapter between a strategy and KerasTuner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.oracles import store
from keras_nas_plugin.oracles.failing import check_failures, report_fatal
from keras_nas_plugin.oracles.intake import run_again, take_metrics, take_report
from keras_nas_plugin.oracles.ledger import Ledger
from keras_nas_plugin.oracles.lock import OracleLock, synchronized
from keras_nas_plugin.oracles.objectives import ParetoObjective, checked_objective
from keras_nas_plugin.oracles.proposing import next_values
from keras_nas_plugin.oracles.scoring import enter_ranking, observation_of
from keras_nas_plugin.oracles.screening import Refusals, Screen
from keras_nas_plugin.oracles.warm_start import WarmStart, WarmStartReport
from keras_nas_plugin.space.fidelity import configuration
from keras_nas_plugin.space.hyperparameters import spec_of
from keras_nas_plugin.space.spec import SearchSpec, Values
from keras_nas_plugin.strategies.base import Observation, Strategy


class OracleOptions(TypedDict, total=False):
    """Keyword arguments that every oracle of this package takes: see `NASOracle`."""

    seed: int | None
    hyperparameters: keras_tuner.HyperParameters | None
    allow_new_entries: bool
    tune_new_entries: bool
    max_retries_per_trial: int
    max_consecutive_failed_trials: int
    max_consecutive_infeasible: int | None
    constraints: Sequence[Constraint]
    warm_start: Iterable[tuple[Mapping[str, Any], Any]]
    initial: Iterable[Mapping[str, Any]]


class NASOracle(keras_tuner.Oracle):
    """A KerasTuner oracle whose proposals come from a `Strategy`.

    Works with `keras_tuner.Tuner`, with `NASTuner`, and behind KerasTuner's chief/worker
    service. State is written atomically; a search that was killed at any moment goes on
    with the proposals it would have made. The cost per trial does not depend on how many
    trials came before.

    Args:
        strategy: Where values come from.
        objective: Name of a metric with a certain direction, a `keras_tuner.Objective`,
            a list of these, or None for a hypermodel that returns one number to minimise.
            Of a list, a strategy for several objectives ranks by Pareto dominance; for any
            other their signed sum counts, as in KerasTuner.
        max_trials: Most trials to run, at least 1; None to run until the space is
            exhausted.
        seed: Seed of the oracle's own generator. 0 is a seed; None draws one.
        hyperparameters: Hyperparameters to override or to register in advance.
        allow_new_entries: Whether the hypermodel may ask for hyperparameters that
            ``hyperparameters`` does not list.
        tune_new_entries: Whether such entries are searched; else they keep their default.
        max_retries_per_trial: How often a trial that crashed or gave no finite score is
            run again before it counts as failed.
        max_consecutive_failed_trials: Failed trials in a row that end the search with a
            `TooManyFailuresError`; 0 never does.
        max_consecutive_infeasible: Candidates in a row that a screen refuses before the
            search gives up, at least 1; None never does. See `set_screen`.
        constraints: Limits. Those on what a model costs are checked before training where a
            tuner installs a screen, as `NASTuner` does. A trial that breaks any other is
            complete, but never among the best, and the strategy learns to stay away.
        warm_start: Earlier trials to learn from, as pairs of values and score in the
            objective's own direction (None: it failed), for example from
            `keras_nas_plugin.earlier_trials`. What does not fit the space is counted in
            `warm_start_report`. What was tried earlier is not proposed again.
        initial: Configurations to try before any proposal of the strategy, tried earlier
            or not.

    Raises:
        ObjectiveError: The objective's direction is not certain.
        SearchSpaceError: ``max_trials`` below 1, or ``seed`` below 0.
        WarmStartError: An entry of ``warm_start`` or ``initial`` has another form.
    """

    def __init__(
        self,
        strategy: Strategy,
        objective: Any = None,
        max_trials: int | None = 100,
        *,
        seed: int | None = None,
        hyperparameters: keras_tuner.HyperParameters | None = None,
        allow_new_entries: bool = True,
        tune_new_entries: bool = True,
        max_retries_per_trial: int = 0,
        max_consecutive_failed_trials: int = 3,
        max_consecutive_infeasible: int | None = 3_000,
        constraints: Sequence[Constraint] = (),
        warm_start: Iterable[tuple[Mapping[str, Any], Any]] = (),
        initial: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        if max_trials is not None and max_trials < 1:
            raise SearchSpaceError(f"`max_trials` needs at least 1 or None; received {max_trials}")
        if seed is not None and seed < 0:
            raise SearchSpaceError(f"`seed` needs 0 or more, or None; received {seed}")
        super().__init__(
            objective=checked_objective(objective),
            max_trials=max_trials,
            hyperparameters=hyperparameters,
            allow_new_entries=allow_new_entries,
            tune_new_entries=tune_new_entries,
            max_retries_per_trial=max_retries_per_trial,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
        )
        # KerasTuner takes seed=0 for no seed.
        self.seed = int(np.random.default_rng().integers(2**31)) if seed is None else int(seed)
        self.strategy = strategy
        self.constraints = tuple(constraints)
        self.objectives: list[keras_tuner.Objective] = getattr(
            self.objective, "objectives", [self.objective]
        )
        if strategy.multi_objective and len(self.objectives) > 1:
            self.objective = ParetoObjective(self.objectives)
        self.max_consecutive_infeasible = max_consecutive_infeasible
        #: The candidates that the screen refused.
        self.refusals = Refusals(max_consecutive_infeasible)
        self.screen: Screen | None = None
        #: Why the search ended before its trials were used up, where it says so; or None.
        self.stop_reason: str | None = None
        self._warm_start = WarmStart(warm_start, initial, len(self.scored_objectives))
        self.lock = OracleLock()
        self.rng = np.random.default_rng(self.seed)
        self.ledger = Ledger()
        #: The error that ended a search which this process serves to workers.
        self.fatal_error: Exception | None = None
        #: Whether whoever serves it raises that error in the end: no traceback is logged then.
        self.fatal_error_is_raised = False
        self._started = 0
        self._id_width = len(str(max_trials or 0))
        self._waiting: list[str] = []
        self._untold: list[Trial | Observation] = []
        self._unsaved: dict[str, Trial] = {}
        self._spec_cache: tuple[int, SearchSpec] | None = None
        # What the screen found out of each trial.
        self._screened: dict[str, dict[str, float]] = {}

    @property
    def strategy_name(self) -> str:
        """What a resumed search has to be again."""
        return type(self.strategy).__name__

    @property
    def scored_objectives(self) -> list[keras_tuner.Objective]:
        """What the strategy gets scores of: each objective, or their sum."""
        return self.objectives if self.strategy.multi_objective else [self.objective]

    @property
    def warm_start_report(self) -> WarmStartReport | None:
        """What became of ``warm_start`` and ``initial``; None before the first trial."""
        return self._warm_start.report

    # ------------------------------------------------------------------ proposals

    @property
    def spec(self) -> SearchSpec:
        """The space as far as it is known; it only ever grows."""
        count = len(self.hyperparameters.space)
        if self._spec_cache is None or self._spec_cache[0] != count:
            self._spec_cache = count, spec_of(self.hyperparameters)
        return self._spec_cache[1]

    def set_screen(self, screen: Screen | None) -> None:
        """Let a function judge each proposal before it becomes a trial.

        A candidate that breaks a limit costs no trial: it is written down, the strategy is
        told, and asked for another. Nothing of this is undone by a reload. See `screening`.

        Args:
            screen: Called with the candidate's `keras_tuner.HyperParameters`, under the
                oracle's lock and in the process that proposes (a chief, not its workers);
                None lets every candidate pass.
        """
        self.screen = screen

    def screened_metrics(self, trial_id: str) -> Mapping[str, float]:
        """What the screen found out of a trial before it began; empty without a screen."""
        return self._screened.get(trial_id, {})

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Ask the strategy for the next configuration that the screen lets pass.

        Args:
            trial_id: Id of the trial to come.

        Returns:
            ``{"status": "RUNNING", "values": ...}``, or status ``"STOPPED"`` and no values
            when every configuration was tried, or too many in a row were refused.

        Raises:
            StrategyError: The strategy proposed inactive, invalid or repeated values.
            InfeasibleError: Candidates were refused, and there has not been any trial.
        """
        values = next_values(self, trial_id)
        status = TrialStatus.STOPPED if values is None else TrialStatus.RUNNING
        return {"status": status, "values": values}

    def _tried(self, values: Mapping[str, Any]) -> bool:
        key = self.spec.key(values)
        return self.ledger.tried(key) or self._warm_start.tried(self.spec, key)

    def _pending(self) -> dict[str, Values]:
        running = self.ongoing_trials.values()
        return {t.trial_id: configuration(t.hyperparameters.values) for t in running}

    # ------------------------------------------------------------------ trials

    @synchronized
    def create_trial(self, tuner_id: str) -> Trial:
        """Hand out a trial: the tuner's own, one to run again, or a new one.

        Args:
            tuner_id: Who asks; the same id gets the same trial until it ended.

        Returns:
            The trial to run, or one with status ``"STOPPED"`` when there is none.
        """
        if tuner_id in self.ongoing_trials:
            return self.ongoing_trials[tuner_id]
        self.tuner_ids.add(tuner_id)
        if self.fatal_error is not None:
            return self._stop(tuner_id)
        try:
            waiting = self.trials[self._waiting.pop(0)] if self._waiting else None
            trial = run_again(waiting) if waiting else self._new_trial()
        except Exception as error:
            report_fatal(self, error)
            return self._stop(tuner_id)
        if trial.status == TrialStatus.STOPPED:
            return self._stop(tuner_id)
        if trial.status != TrialStatus.RUNNING:
            return trial
        self.ongoing_trials[tuner_id] = trial
        store.save_trial(self, trial)
        self.save()
        # The public switch is `verbose`; printing itself has no public name (1.4.8).
        self._display.on_trial_begin(trial)
        return trial

    def _new_trial(self) -> Trial:
        if self.trials_used_up():
            return Trial(self.hyperparameters.copy(), status=TrialStatus.STOPPED)
        self._learn_earlier()
        self._tell()
        trial_id = self.trial_id(self._started)
        proposal = self.populate_space(trial_id)
        # Screening may have found new ones.
        hyperparameters = self.hyperparameters.copy()
        if proposal["status"] != TrialStatus.RUNNING:
            return Trial(hyperparameters, status=proposal["status"])
        hyperparameters.values = dict(proposal["values"])
        trial = Trial(hyperparameters, trial_id=trial_id, status=TrialStatus.RUNNING)
        self.ledger.record_key(trial_id, self.spec.key(hyperparameters.values))
        self.trials[trial_id] = trial
        self.start_order.append(trial_id)
        self._started += 1
        return trial

    def trials_used_up(self) -> bool:
        """Whether ``max_trials`` allows no further trial."""
        return self.max_trials is not None and self._started >= self.max_trials

    def _learn_earlier(self) -> None:
        """Tell the strategy of earlier trials, once, now that the space is known."""
        if self._warm_start.report is None:
            self._warm_start.fit(self)
            self._warm_start.save(store.project_path(self))
            self.strategy.set_state(self.strategy.get_state(), self._warm_start.observations)

    def trial_id(self, number: int) -> str:
        """Id of the ``number``-th trial, from 0, padded so that ids sort."""
        return str(number).zfill(self._id_width)

    def _stop(self, tuner_id: str) -> Trial:
        self.tuner_ids.discard(tuner_id)
        return Trial(self.hyperparameters.copy(), status=TrialStatus.STOPPED)

    @synchronized
    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> Trial:
        """Take the metrics of a running trial.

        Nothing is written: until `end_trial`, a killed search runs the trial again.

        Args:
            trial_id: A trial that was handed out.
            metrics: Metric values; the objective must be among them.
            step: The epoch that they belong to.

        Raises:
            ObjectiveError: The objective is not among the metrics.
        """
        trial = self.trials[trial_id]
        if self.ledger.ended(trial_id) is not None:
            return trial
        take_metrics(self, trial, {**metrics, **self.screened_metrics(trial_id)}, step)
        return trial

    @synchronized
    def end_trial(self, trial: Trial) -> None:
        """End a trial, or queue it to run again.

        Args:
            trial: With status ``"COMPLETED"``, ``"INVALID"`` (crashed: may be retried) or
                ``"FAILED"`` (no retry), and an optional message.

        Raises:
            TooManyFailuresError: So many trials failed in a row that the search ends.
            SearchSpaceError: A new hyperparameter although ``allow_new_entries=False``.
        """
        known = self.trials[trial.trial_id]
        if self.ledger.ended(known.trial_id) is not None:
            return
        if known.trial_id in self._waiting:
            if trial.status == TrialStatus.INVALID:
                return
            # A worker that outlived its chief finished the trial meanwhile.
            self._waiting.remove(known.trial_id)
        problem = take_report(self, known, trial)
        self.ledger.runs[known.trial_id] += 1
        again = (
            known.status == TrialStatus.INVALID
            and self.ledger.runs[known.trial_id] <= self.max_retries_per_trial
        )
        if again:
            self._waiting.append(known.trial_id)
        else:
            self._end(known)
        for tuner_id, ongoing in list(self.ongoing_trials.items()):
            if ongoing.trial_id == known.trial_id:
                del self.ongoing_trials[tuner_id]
        # The result reaches the disk before a strategy may fail over it.
        store.save_trial(self, known)
        try:
            if not again:
                self._untold.append(known)
            self._tell()
            self.save()
            self._display.on_trial_end(known)
            if problem is not None:
                raise problem
            check_failures(self, known)
        except Exception as error:
            report_fatal(self, error)

    def _end(self, trial: Trial) -> None:
        if trial.status == TrialStatus.INVALID:
            trial.status = TrialStatus.FAILED
        enter_ranking(self, trial)
        self.end_order.append(trial.trial_id)

    def _tell(self) -> None:
        """Tell the strategy what is new; what it failed over is told again."""
        while self._untold:
            one = self._untold[0]
            one = one if isinstance(one, Observation) else observation_of(self, one)
            self.strategy.tell(one.trial_id, one.values, one.scores, violation=one.violation)
            del self._untold[0]

    # ------------------------------------------------------------------ results and state

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """The best trials that completed with a finite score, best first.

        Fewer than ``num_trials`` when fewer completed: a failed trial is never best.
        """
        return [self.trials[trial_id] for trial_id in self.ledger.best(num_trials)]

    def get_state(self) -> dict[str, Any]:
        """State beside the trials' own files; its size does not depend on their number."""
        return store.oracle_state(self)

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take a state over; `trials` must be loaded before."""
        store.restore_oracle(self, state)

    @synchronized
    def save(self) -> None:
        """Write the state, unless there is no project folder yet."""
        store.save_oracle(self)

    @synchronized
    def reload(self) -> None:
        """Read the state of an earlier process; trials that were running run again.

        Raises:
            StateError: The files cannot be read, or belong to another search.
        """
        store.reload_oracle(self)
