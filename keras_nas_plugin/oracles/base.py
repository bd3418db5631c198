"""`NASOracle`: the adapter between a search strategy and KerasTuner."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import InfeasibleError, SearchSpaceError, unknown_argument
from keras_nas_plugin.evaluation.constraints import Constraint, with_exportability
from keras_nas_plugin.oracles.failure_policy import FailurePolicy, called_by_remote_worker
from keras_nas_plugin.oracles.infeasible_log import InfeasibleLog, constraint_data
from keras_nas_plugin.oracles.ledger import Ledger
from keras_nas_plugin.oracles.lock import OracleLock, synchronized
from keras_nas_plugin.oracles.objectives import Objectives, ParetoObjective, checked_objective
from keras_nas_plugin.oracles.opening import Opening
from keras_nas_plugin.oracles.oracle_options import OracleOptions as OracleOptions
from keras_nas_plugin.oracles.proposer import Candidate, Proposer
from keras_nas_plugin.oracles.scoring import Scoring
from keras_nas_plugin.oracles.screening import Screen
from keras_nas_plugin.oracles.search_space import SearchSpace
from keras_nas_plugin.oracles.search_state import SearchState
from keras_nas_plugin.oracles.state_attribute import StateAttribute
from keras_nas_plugin.oracles.store import (
    FORMAT,
    Storage,
    check_format,
    different_search,
    search_description,
)
from keras_nas_plugin.oracles.trial_report import (
    TrialReport,
    enter_metrics,
    reject_useless_score,
)
from keras_nas_plugin.oracles.warm_start import WarmStart, WarmStartReport
from keras_nas_plugin.records.exclusions import Exclusions
from keras_nas_plugin.space.spec import SearchSpec
from keras_nas_plugin.strategies.base import Observation, Strategy

logger = logging.getLogger("keras_nas_plugin")


class NASOracle(keras_tuner.Oracle):
    """A KerasTuner oracle whose proposals come from a `Strategy`.

    Works with `keras_tuner.Tuner`, with `NASTuner`, and behind KerasTuner's chief/worker
    service. State is written atomically: a search that was killed at any moment resumes with
    the proposals that it would have made without the kill. The cost per trial does not depend
    on the number of trials.

    The state of the search is a `SearchState` (``_state``). Subclasses may read and change it in
    the methods that they override, in particular `_on_trial_started` and `_on_trial_ended`.

    Args:
        strategy: Proposes configurations.
        objective: Name of a metric whose direction is known, a `keras_tuner.Objective`,
            a list of these, or None for a hypermodel that returns one number to minimise.
            A multi-objective strategy ranks a list by Pareto dominance; other strategies
            optimise the signed sum of its objectives, as KerasTuner does.
        max_trials: Maximum number of trials, at least 1; None runs until the space is
            exhausted.
        seed: Seed of the oracle's own generator. 0 is a seed; None draws one.
        hyperparameters: Hyperparameters that override those of the hypermodel, or are known
            before it is built.
        allow_new_entries: Whether the hypermodel may ask for hyperparameters that
            ``hyperparameters`` does not list.
        tune_new_entries: Whether hyperparameters that ``hyperparameters`` does not list are
            searched; otherwise they keep their default.
        max_retries_per_trial: How often a trial that crashed or returned no finite score
            is run again before it counts as failed.
        max_consecutive_failed_trials: Number of consecutive failed trials after which the
            search ends with a `TooManyFailuresError`; 0 for no limit.
        max_consecutive_infeasible: Number of consecutive candidates that a screen rejects
            before the search ends, at least 1; None for no limit. See `set_screen`.
        constraints: Limits. Limits on the cost of a model are checked before training if the
            tuner installs a screen, as `NASTuner` does. A trial that violates another limit
            is completed but never among the best, and the strategy learns to avoid it.
        exportable: Formats that models must be exportable to, such as ``"litert"``: a candidate
            that is not is infeasible, and not trained.
        warm_start: Earlier trials to learn from, as pairs of values and score in the
            objective's own direction (None for a failed trial), for example from
            `keras_nas_plugin.earlier_trials`. `warm_start_report` counts the trials that do
            not fit the space. Their configurations are not proposed again.
        initial: Configurations to try before the first proposal of the strategy, even if
            ``warm_start`` contains them. ``{}`` is the default of each hyperparameter.

    Raises:
        ArgumentError: There is no argument of that name.
        ObjectiveError: The direction of the objective cannot be inferred.
        SearchSpaceError: ``max_trials`` is below 1, or ``seed`` is below 0.
        WarmStartError: An entry of ``warm_start`` or ``initial`` has the wrong type.
    """

    #: Trials by id.
    trials = StateAttribute[dict[str, Trial]]("trials")
    #: Running trials by the id of the tuner that runs them.
    ongoing_trials = StateAttribute[dict[str, Trial]]("running")
    #: Ids in the order in which trials were created.
    start_order = StateAttribute[list[str]]("start_order")
    #: Ids in the order in which trials ended.
    end_order = StateAttribute[list[str]]("end_order")
    #: The search space as far as it has been discovered.
    hyperparameters = StateAttribute[keras_tuner.HyperParameters]("hyperparameters")
    #: Seed of the oracle's own generator.
    seed = StateAttribute[int]("seed")
    #: Trials that do not count, because the program was changed after them.
    exclusions = StateAttribute[Exclusions]("exclusions")
    #: Proposes the first trials of a search by time; None leaves them to the strategy.
    opening = StateAttribute[Opening | None]("opening")

    objective: keras_tuner.Objective
    max_trials: int | None

    def __init__(
        self,
        strategy: Strategy,
        objective: Objectives = None,
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
        exportable: str | Sequence[str] = (),
        warm_start: Iterable[tuple[Mapping[str, Any], Any]] = (),
        initial: Iterable[Mapping[str, Any]] = (),
        **unknown: Any,
    ) -> None:
        if unknown:
            raise unknown_argument(type(self), unknown)
        if max_trials is not None and max_trials < 1:
            raise SearchSpaceError(f"`max_trials` must be at least 1, or None; got {max_trials}")
        if seed is not None and seed < 0:
            raise SearchSpaceError(f"`seed` must be 0 or more, or None; got {seed}")
        objective = checked_objective(objective)
        seed = int(np.random.default_rng().integers(2**31)) if seed is None else int(seed)
        scores = len(objective) if strategy.multi_objective and isinstance(objective, list) else 1
        self.lock = OracleLock()
        # Before KerasTuner's initialisation, which sets attributes that are stored in the state.
        self._state = SearchState(
            SearchSpace(self.update_space, allow_new_entries=allow_new_entries),
            WarmStart(warm_start, initial, scores),
            InfeasibleLog(max_consecutive_infeasible),
            seed=seed,
            max_trials=max_trials,
        )
        super().__init__(
            objective=objective,
            max_trials=max_trials,
            hyperparameters=hyperparameters,
            allow_new_entries=allow_new_entries,
            tune_new_entries=tune_new_entries,
            max_retries_per_trial=max_retries_per_trial,
            max_consecutive_failed_trials=max_consecutive_failed_trials,
        )
        #: The hyperparameters that the caller passed: they override those of the hypermodel.
        self.given_hyperparameters = self.hyperparameters.copy()
        # KerasTuner treats seed=0 as no seed.
        self.seed = seed
        self.strategy = strategy
        # The state of a strategy that has learned nothing, to start again after a change.
        self._new_strategy_state = strategy.get_state()
        self._proposer = Proposer(strategy)
        objectives = tuple(getattr(self.objective, "objectives", [self.objective]))
        if strategy.multi_objective and len(objectives) > 1:
            self.objective = ParetoObjective(objectives)
        limits = with_exportability(
            constraints, [item.name for item in objectives if item is not None], exportable
        )
        self._scoring = Scoring(self.objective, objectives, limits, strategy.multi_objective)
        self._storage: Storage | None = None
        self.max_consecutive_infeasible = max_consecutive_infeasible
        #: The error that ended the search, in a process that serves it to workers.
        self.fatal_error: Exception | None = None
        #: Whether the caller will raise that error: then it is logged without a traceback.
        self.fatal_error_is_raised = False

    # ------------------------------------------------------------------ settings

    @property
    def strategy_name(self) -> str:
        """Name of the strategy, which must be the same when the search is resumed."""
        return type(self.strategy).__name__

    @property
    def objectives(self) -> list[keras_tuner.Objective]:
        """The objectives that the user gave."""
        return list(self._scoring.objectives)

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """The limits that a trial must keep to be among the best."""
        return self._scoring.constraints

    @property
    def scored_objectives(self) -> list[keras_tuner.Objective]:
        """The objectives whose scores the strategy gets: each of them, or their sum."""
        return self._scoring.scored_objectives

    @property
    def spec(self) -> SearchSpec:
        """The space as far as it has been discovered; it never shrinks."""
        return self._state.spec

    # ------------------------------------------------------------------ progress

    @property
    def ledger(self) -> Ledger:
        """Ranking, tried configurations, number of runs and parents of the trials."""
        return self._state.ledger

    @property
    def infeasible(self) -> InfeasibleLog:
        """The log of the candidates that the screen rejected."""
        return self._state.infeasible

    @property
    def stop_reason(self) -> str | None:
        """Why the search ended before ``max_trials``; None otherwise."""
        return self._state.stop_reason

    @property
    def warm_start_report(self) -> WarmStartReport | None:
        """How much of ``warm_start`` and ``initial`` fits; None before the first trial."""
        return self._state.warm_start.report

    @property
    def screen(self) -> Screen | None:
        """The function that judges candidates: see `set_screen`."""
        return self._state.screen

    def set_screen(self, screen: Screen | None) -> None:
        """Judge each proposal before it becomes a trial.

        A rejected candidate does not count as a trial: it is logged, the strategy learns from
        it and proposes another one. Rejections survive a reload. See `screening`.

        Args:
            screen: Called with the candidate's `keras_tuner.HyperParameters`, under the
                oracle's lock and in the process that proposes (a chief, not its workers);
                None accepts all candidates.
        """
        self._state.screen = screen

    def screened_metrics(self, trial_id: str) -> Mapping[str, float]:
        """Metrics that the screen computed before a trial started; empty without a screen."""
        return self._state.screened.get(trial_id, {})

    @synchronized
    def expect_trials(self, remaining: int) -> None:
        """Adjust the strategy to the number of trials that a time budget allows.

        It has an effect until the first trials have ended; `Strategy.expect_trials` says which.

        Args:
            remaining: How many trials are going to end from now on.
        """
        if (trials := self._state.expect(remaining, self.max_trials)) is not None:
            self.strategy.expect_trials(trials)

    # ------------------------------------------------------------------ proposals

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Ask the strategy for the next configuration that the screen accepts.

        Args:
            trial_id: Id of the next trial.

        Returns:
            ``{"status": "RUNNING", "values": ...}``, or status ``"STOPPED"`` and no values
            when the space is exhausted, or too many candidates in a row were rejected.

        Raises:
            StrategyError: The strategy proposed inactive, invalid or repeated values.
            InfeasibleError: All candidates were rejected before the first trial.
        """
        candidate = self._next_feasible()
        if candidate is None:
            if self.infeasible.consecutive:
                self._end_without_candidates()
            return {"status": TrialStatus.STOPPED, "values": None}
        self._state.accept(trial_id, candidate)
        return {"status": TrialStatus.RUNNING, "values": candidate.values}

    def _next_feasible(self) -> Candidate | None:
        """Propose until the screen accepts a candidate; None if there is no further candidate."""
        state = self._state
        while not state.infeasible.limit_reached:
            before = state.generator.bit_generator.state
            try:
                candidate = self._proposer.propose(
                    state.space,
                    state.generator,
                    initial=state.next_initial(),
                    tried=state.tried,
                    pending=state.pending(),
                    screen=state.screen,
                )
                if candidate is not None and not candidate.feasible:
                    state.reject(candidate)
            except BaseException:
                # Once the cause is fixed, the next call must make the same proposal.
                state.generator.bit_generator.state = before
                raise
            if candidate is None:
                # Asking an exhausted space must not change later proposals.
                state.generator.bit_generator.state = before
                return None
            if candidate.feasible:
                return candidate
            self._report_observations()
            self.save()
        return None

    def _end_without_candidates(self) -> None:
        """End the search because no candidate is feasible.

        Raises:
            InfeasibleError: There has been no trial.
        """
        reason = self.infeasible.stop_reason()
        if not self.start_order:
            raise InfeasibleError(f"{reason} Relax the constraint, or search smaller models.")
        if self.stop_reason != reason:
            self._state.stop_reason = reason
            logger.warning("The search ends: %s", reason)

    # ------------------------------------------------------------------ trials

    @synchronized
    def create_trial(self, tuner_id: str) -> Trial:
        """Assign a trial to a tuner: its running trial, a trial to retry, or a new trial.

        Args:
            tuner_id: Id of the tuner; it gets the same trial until that trial has ended.

        Returns:
            The trial to run; its status is ``"STOPPED"`` when the search has ended.
        """
        state = self._state
        if tuner_id in state.running:
            return state.running[tuner_id]
        self.tuner_ids.add(tuner_id)
        if self.fatal_error is not None:
            return self._stopped(tuner_id)
        try:
            trial = state.next_retry() or self._new_trial()
        except Exception as error:
            self._end_with(error)
            return self._stopped(tuner_id)
        if trial.status == TrialStatus.STOPPED:
            return self._stopped(tuner_id)
        if trial.status != TrialStatus.RUNNING:
            return trial
        state.running[tuner_id] = trial
        self._save_trial_file(trial)
        self.save()
        # KerasTuner has no public method that prints (1.4.8); `verbose` switches it off.
        self._display.on_trial_begin(trial)
        return trial

    def _new_trial(self) -> Trial:
        state = self._state
        if self.trials_used_up():
            return Trial(self._state.space.copy(), status=TrialStatus.STOPPED)
        self._begin()
        self._report_observations()
        trial_id = state.trial_id(state.started)
        proposal = self.populate_space(trial_id)
        # Copied after the proposal, because screening may have discovered hyperparameters.
        hyperparameters = self._state.space.copy()
        if proposal["status"] != TrialStatus.RUNNING:
            return Trial(hyperparameters, status=proposal["status"])
        hyperparameters.values = dict(proposal["values"])
        trial = Trial(hyperparameters, trial_id=trial_id, status=TrialStatus.RUNNING)
        state.start(trial)
        self._on_trial_started(trial)
        return trial

    def trials_used_up(self) -> bool:
        """Whether ``max_trials`` allows no further trial."""
        return self.max_trials is not None and self._state.counted >= self.max_trials

    def remaining_trials(self) -> int | None:
        """Number of trials that ``max_trials`` still allows; None without a limit."""
        return None if self.max_trials is None else max(0, self.max_trials - self._state.counted)

    def trial_id(self, number: int) -> str:
        """Id of the trial with index ``number``, from 0, padded with zeros so that ids sort."""
        return self._state.trial_id(number)

    def _begin(self) -> None:
        """Pass the earlier trials to the strategy once, when the space is known."""
        warm_start = self._state.warm_start
        if warm_start.report is None:
            warm_start.fit(self.spec, self._scoring)
            warm_start.save(self._state.folder)
            self.strategy.set_state(self.strategy.get_state(), warm_start.observations)

    def _stopped(self, tuner_id: str) -> Trial:
        self.tuner_ids.discard(tuner_id)
        return Trial(self._state.space.copy(), status=TrialStatus.STOPPED)

    @synchronized
    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> Trial:
        """Record metrics of a running trial.

        Nothing is written to disk: a search that is killed before `end_trial` runs the trial
        again.

        Args:
            trial_id: A running trial.
            metrics: Metric values; the objective must be among them.
            step: The epoch of the metrics.

        Raises:
            ObjectiveError: The objective is not among the metrics.
        """
        trial = self.trials[trial_id]
        if self.ledger.ended(trial_id) is None:
            metrics = {**metrics, **self.screened_metrics(trial_id)}
            enter_metrics(trial, metrics, step, self._scoring)
        return trial

    @synchronized
    def end_trial(self, trial: Trial) -> None:
        """End a trial, or queue it for a retry.

        Args:
            trial: The trial with status ``"COMPLETED"``, ``"INVALID"`` (crashed; may be
                retried) or ``"FAILED"`` (not retried), and an optional message.

        Raises:
            TooManyFailuresError: Too many trials in a row failed.
            SearchSpaceError: The model has a new hyperparameter, but ``allow_new_entries`` is
                False.
        """
        state, report = self._state, TrialReport.of(trial)
        trial = self.trials[trial.trial_id]
        trial_id = trial.trial_id
        if self.ledger.ended(trial_id) is not None:
            return
        if trial_id in state.retries:
            if report.status == TrialStatus.INVALID:
                return
            # A worker that outlived its chief has finished the trial.
            state.retries.remove(trial_id)
        problem = report.apply(trial, state.space)
        state.record_values(trial)
        if trial.status == TrialStatus.COMPLETED:
            self.score_trial(trial)
            reject_useless_score(trial, self.objective.name)
        self.ledger.runs[trial_id] += 1
        policy = FailurePolicy(self.max_retries_per_trial, self.max_consecutive_failed_trials)
        retried = policy.allows_retry(trial, self.ledger.runs[trial_id])
        if retried:
            state.retries.append(trial_id)
        else:
            state.end(trial, self._scoring)
            self._on_trial_ended(trial)
        state.release(trial_id)
        # The result is on disk before `tell`, which may raise.
        self._save_trial_file(trial)
        try:
            if not retried:
                state.unreported.append(self._scoring.observation(trial))
            self._report_observations()
            self.save()
            self._display.on_trial_end(trial)
            if problem is not None:
                raise problem
            policy.check(trial, (self.trials[ended] for ended in reversed(self.end_order)))
        except Exception as error:
            self._end_with(error)

    def _report_observations(self) -> None:
        """Pass new observations to the strategy; one for which `tell` raises stays queued."""
        unreported = self._state.unreported
        while unreported:
            observation = unreported[0]
            self.strategy.tell(
                observation.trial_id,
                observation.values,
                observation.scores,
                violation=observation.violation,
            )
            del unreported[0]

    def _end_with(self, error: Exception) -> None:
        """Raise an error; if the caller is a remote worker, end the search instead."""
        if not called_by_remote_worker():
            raise error
        if self.fatal_error is None:
            traceback = None if self.fatal_error_is_raised else error
            logger.error("The search ends: %s", error, exc_info=traceback)
            self.fatal_error = error

    # ------------------------------------------------------------------ for subclasses

    def _on_trial_started(self, trial: Trial) -> None:
        """Called with each new trial, before it is saved and assigned."""

    def _on_trial_ended(self, trial: Trial) -> None:
        """Called with each trial that has ended and is not retried, before it is saved."""

    # ------------------------------------------------------------------ results and state

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """The best trials that completed with a finite score, best first.

        Args:
            num_trials: Maximum number of trials; failed trials never fill it up.
        """
        return [self.trials[trial_id] for trial_id in self.ledger.best(num_trials)]

    def get_state(self) -> dict[str, Any]:
        """The state without the trials, which have files of their own; of constant size."""
        return {
            "format": FORMAT,
            "search": self._identity(),
            **self._state.to_dict(),
            "strategy": self.strategy.get_state(),
            "refused": {
                **self.infeasible.state(),
                "limits": constraint_data(self.constraints),
            },
        }

    def _identity(self) -> dict[str, Any]:
        """What must be the same to resume a search: strategy and objectives."""
        objectives = [[objective.name, objective.direction] for objective in self.objectives]
        return {"strategy": self.strategy_name, "objectives": objectives}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state, after the trials were loaded.

        Args:
            state: Returned by `get_state`.

        Raises:
            StateError: The state has another format, strategy or objective.
        """
        check_format(state)
        saved, current = state["search"], self._identity()
        if saved != current:
            raise different_search(
                search_description(saved["strategy"], saved["objectives"]),
                search_description(current["strategy"], current["objectives"]),
            )
        history = self._state.restore(state, self._scoring)
        if self._state.expected_trials is not None:
            self.strategy.expect_trials(self._state.expected_trials)
        self.strategy.set_state(state["strategy"], history)

    def _restart_strategy(self, history: Sequence[Observation]) -> None:
        """Let the strategy learn these observations only."""
        self.strategy.set_state(self._new_strategy_state, history)

    def _set_project_dir(self, directory: str | Path, project_name: str) -> None:
        # KerasTuner 1.4.8 passes the project folder to an oracle only through this method.
        super()._set_project_dir(directory, project_name)
        self._state.folder = Path(str(directory)) / project_name
        self._storage = Storage(self._state.folder)

    def _save_trial_file(self, trial: Trial) -> None:
        if self._storage is not None:
            self._storage.save_trial(trial.trial_id, self._state.trial_data(trial))

    @synchronized
    def save(self) -> None:
        """Write the state; does nothing before a tuner has set the project folder."""
        if self._storage is not None:
            # Written first: a process that is killed in between drops the same trials again.
            self._state.warm_start.save_dropped(self._state.folder)
            self._storage.save(self.get_state())

    @synchronized
    def reload(self) -> None:
        """Load the saved search; trials that were running are run again.

        Raises:
            StateError: The files cannot be read, or belong to another search.
        """
        saved = None if self._storage is None else self._storage.load()
        if saved is None or self._state.folder is None:
            return
        begun = saved.state.get("started", 0) > 0
        self._state.warm_start.load(self._state.folder, begun=begun)
        self._state.load_trials(saved.trials)
        self.set_state(saved.state)
