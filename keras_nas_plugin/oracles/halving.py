"""Asynchronous successive halving (ASHA) as a KerasTuner oracle around any other."""

from __future__ import annotations

import itertools
import logging
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Unpack, cast

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import StateError, StrategyError
from keras_nas_plugin.oracles.base import NASOracle, OracleOptions
from keras_nas_plugin.oracles.lock import synchronized
from keras_nas_plugin.oracles.objectives import Objectives, checked_objective
from keras_nas_plugin.oracles.proxy_scores import ProxyScores
from keras_nas_plugin.oracles.scoring import rung_of
from keras_nas_plugin.oracles.store import objectives_description
from keras_nas_plugin.pareto import non_dominated_ranks
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.space.fidelity import Fidelity, configuration, fidelity_of
from keras_nas_plugin.strategies.base import Observation, Strategy
from keras_nas_plugin.strategies.halving import Rungs, first_rung, rung_epochs
from keras_nas_plugin.strategies.random import RandomSearch
from keras_nas_plugin.wording import counted

logger = logging.getLogger("keras_nas_plugin")

# Settings that are taken from a source oracle unless the caller passes them.
_INHERITED = (
    "seed",
    "hyperparameters",
    "allow_new_entries",
    "tune_new_entries",
    "max_retries_per_trial",
    "max_consecutive_failed_trials",
    "max_consecutive_infeasible",
    "constraints",
)
_DEFAULT_TRIALS = 100
_NOT_GIVEN: Any = object()


class SuccessiveHalvingOracle(NASOracle):
    """Trains every configuration a little, and the promising ones further.

    With 27 epochs and a factor of 3, each configuration trains for 3 epochs; the best third of
    those continue to 9, and the best third of these to 27. A trial is
    promoted as soon as it ranks high enough, no worker waits for a round to end, and training
    continues from its own last epoch, optimizer included: 3 and then 6 epochs give the same
    model as 9. With random proposals, the search takes about 0.3 of the epochs of full
    training; with a source that learns, more of the later candidates are promoted.

    ```python
    source = RegularizedEvolutionOracle("val_accuracy", max_trials=100)
    tuner = NASTuner(build_model, oracle=SuccessiveHalvingOracle(source=source))
    tuner.search(x, y, epochs=27, validation_data=(x_val, y_val))
    ```

    As in KerasTuner's Hyperband, a promotion is a new trial with the same values; the entries
    ``tuner/epochs``, ``tuner/initial_epoch``, ``tuner/round`` and ``tuner/trial_id`` describe
    which epochs it trains. Promotions do not count towards ``max_trials``. The score and the
    weights of a trial are those of the best epoch of its configuration so far. A failed trial is
    never promoted and ranks last in its rung; several objectives are ranked by non-dominated
    front and crowding distance. When all configurations have been started and none can be
    promoted, the best one continues until one trial has been trained in full. In a search with a
    ``budget``, rungs are skipped where shorter trainings would save no time: see `record_times`.

    `NASTuner` supports this without further settings. A plain `keras_tuner.Tuner` would ignore
    ``tuner/epochs``: with it, all configurations are trained in full and a warning is logged,
    or an error is raised if ``max_epochs`` is set. A custom tuner must call `train_in_rungs`
    before its first trial and train from ``tuner/initial_epoch`` to ``tuner/epochs``.
    Callbacks start from scratch with each promotion: a trial that was stopped early may still
    be promoted.

    Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning",
    algorithm 2.

    Args:
        objective: See `NASOracle`. None takes that of the source.
        max_trials: Number of configurations to start, at least 1; None starts them until the
            space is exhausted. Default: that of the source oracle, or 100.
        source: Proposes the configurations: a `Strategy`, or another oracle of this package,
            whose objective, seed, constraints and other settings are the defaults of this
            oracle. None proposes at random.
        min_epochs: Epochs of the shortest training. None takes a ninth of the full one (with
            the default factor), at least 1.
        max_epochs: Epochs of a full training. None takes the ``epochs`` of `NASTuner.search`.
        factor: The best 1/factor of a rung are promoted, and trained about factor times as
            long; at least 2.
        **options: The other arguments of `NASOracle`.

    Raises:
        StrategyError: An argument is invalid.
    """

    def __init__(
        self,
        objective: Objectives = None,
        max_trials: int | None = _NOT_GIVEN,
        *,
        source: NASOracle | Strategy | None = None,
        min_epochs: int | None = None,
        max_epochs: int | None = None,
        factor: int = 3,
        **options: Unpack[OracleOptions],
    ) -> None:
        _check_epochs(min_epochs=min_epochs, max_epochs=max_epochs, factor=factor)
        if isinstance(source, NASOracle):
            _check_source(source, objective)
            strategy, objective = source.strategy, _objective_of(source)
            max_trials = source.max_trials if max_trials is _NOT_GIVEN else max_trials
            inherited = {name: getattr(source, name) for name in _INHERITED}
            settings = cast(OracleOptions, {**inherited, **options})
        else:
            strategy, settings = _source_strategy(source), options
        max_trials = _DEFAULT_TRIALS if max_trials is _NOT_GIVEN else max_trials
        super().__init__(strategy, objective, max_trials, **settings)
        scorer = getattr(strategy, "scorer", None)
        if isinstance(scorer, ProxyScores):
            scorer.attach(self._state, self.constraints)
        if isinstance(source, NASOracle) and not {"warm_start", "initial"} & options.keys():
            self._state.warm_start = source._state.warm_start
        self.min_epochs, self.max_epochs, self.factor = min_epochs, max_epochs, factor
        #: The trials of each rung; None until a tuner calls `train_in_rungs`.
        self.rungs: Rungs | None = None
        self._warned = False
        # Seconds of the trials so far: besides their epochs, and of one epoch.
        self._fixed_seconds: list[float] = []
        self._epoch_seconds: list[float] = []
        # First rungs that a line on the terminal has named.
        self._announced: set[int] = set()

    @property
    def strategy_name(self) -> str:
        return f"successive halving of {super().strategy_name}"

    @synchronized
    def train_in_rungs(self, epochs: int | None = None) -> int:
        """Declare that trials are trained for ``tuner/epochs`` epochs.

        A tuner calls this before a search.

        Args:
            epochs: Epochs of a full training, as passed to `search`; None if not passed.

        Returns:
            Epochs of a full training.

        Raises:
            StrategyError: Neither ``epochs`` nor ``max_epochs`` is given, or they differ.
            StateError: The saved search has different rungs.
        """
        full = self.max_epochs or epochs
        if full is None or (epochs is not None and epochs != full):
            raise StrategyError(
                "`max_epochs` must equal the `epochs` of `search`, or only one of them may be "
                f"given; got {self.max_epochs} and {epochs}"
            )
        _check_epochs(min_epochs=self.min_epochs, max_epochs=full, factor=self.factor)
        rungs = Rungs(rung_epochs(full, self.factor, self.min_epochs), self.factor)
        if self._state.started == 0 and self.rungs is None:
            self._set_rungs(rungs)
            if len(rungs.epochs) == 1:
                logger.warning(
                    "All trials train in full: %s cannot be halved.", counted(full, "epoch")
                )
        saved = self.rungs.epochs if self.rungs else ()
        if (saved, self.rungs and self.rungs.factor) != (rungs.epochs, rungs.factor):
            raise StateError(
                "`max_epochs`, `min_epochs` and `factor` must result in the rungs of the saved "
                f"search, {saved or 'none'}; got {rungs.epochs}. Choose another `project_name`, "
                "or pass `overwrite=True` to start over."
            )
        return full

    def _set_rungs(self, rungs: Rungs) -> None:
        self.rungs = rungs
        if self.max_trials is not None:
            # Ids are padded for one trial of each configuration at each rung.
            self._state.id_width = len(str(self.max_trials * len(rungs.epochs)))

    @synchronized
    def record_times(self, fixed_seconds: float, epoch_seconds: float) -> None:
        """Skip rungs that save no time, in a search that ends by time.

        Where building and tracing a model take longer than its epochs, a short training costs
        nearly as much as a full one. `NASTuner` calls this after each trial of a search with a
        ``budget``. New configurations then start at the rung that `first_rung` returns; promotions
        of earlier trials remain possible.

        Args:
            fixed_seconds: Seconds of the trial that do not depend on its number of epochs.
            epoch_seconds: Seconds of one of its epochs.
        """
        self._fixed_seconds.append(fixed_seconds)
        self._epoch_seconds.append(epoch_seconds)
        rungs = self.rungs
        # The first trial takes longer, until TensorFlow has initialized; one epoch tells nothing.
        if rungs is None or self._state.started <= rungs.factor:
            return
        # Times of epochs differ by the size of the models, of which the large ones count more.
        fixed = statistics.median(self._fixed_seconds)
        epoch = statistics.fmean(self._epoch_seconds)
        first = first_rung(rungs.epochs, rungs.factor, fixed, epoch)
        if first != rungs.first and first not in self._announced:
            self._announced.add(first)
            logger.warning(
                "New configurations train for %s at first: an epoch takes %.2g s, and a trial "
                "%.2g s besides its epochs.",
                *(counted(rungs.epochs[first], "epoch"), epoch, fixed),
            )
        rungs.first = first

    # ------------------------------------------------------------------ proposals

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Promote a trial, or ask the source for the next configuration.

        Args:
            trial_id: Id of the next trial.

        Returns:
            See `NASOracle.populate_space`; status ``"IDLE"`` while running trials may
            still lead to a promotion.

        Raises:
            StrategyError: See `NASOracle`; or the tuner did not call `train_in_rungs`.
        """
        if self.rungs is None:
            self._warn_or_raise()
            return super().populate_space(trial_id)
        promotion = self.rungs.promotable()
        if promotion is None:
            proposal = self._new_configuration(trial_id, self.rungs)
            if proposal is not None:
                return proposal
            if self.ongoing_trials:
                return {"status": TrialStatus.IDLE, "values": None}
            promotion = self.rungs.unfinished()
        if promotion is None:
            self._discard_last_epochs(self.trials)
            return {"status": TrialStatus.STOPPED, "values": None}
        return {"status": TrialStatus.RUNNING, "values": self._promoted(*promotion, self.rungs)}

    def _new_configuration(self, trial_id: str, rungs: Rungs) -> dict[str, Any] | None:
        if self.remaining_trials() == 0:
            return None
        proposal = super().populate_space(trial_id)
        if proposal["status"] != TrialStatus.RUNNING:
            return None
        fidelity = Fidelity(rungs.epochs[rungs.first], rung=rungs.first)
        return {**proposal, "values": {**proposal["values"], **fidelity.to_values()}}

    def _promoted(self, parent: str, rung: int, rungs: Rungs) -> dict[str, Any]:
        """Values of the trial that continues ``parent`` up to a rung."""
        values = configuration(self.trials[parent].hyperparameters.values)
        fidelity = Fidelity(rungs.epochs[rung], rungs.epochs[rung - 1], rung, parent)
        # A hyperparameter that was discovered since then had its default in the parent.
        return {**values, **self.spec.fill(values), **fidelity.to_values()}

    def _warn_or_raise(self) -> None:
        problem = (
            "`SuccessiveHalvingOracle` needs a tuner that trains `tuner/epochs` epochs and calls "
            "`train_in_rungs`, as NASTuner does; keras_tuner.Tuner trains all trials in full"
        )
        if self.max_epochs is not None:
            raise StrategyError(f"{problem}; got `max_epochs={self.max_epochs}`")
        if not self._warned:
            self._warned = True
            logger.warning("%s. No training is shortened.", problem)

    def trials_used_up(self) -> bool:
        """Whether ``max_trials`` allows no further trial; with rungs, `populate_space` decides."""
        return self.rungs is None and super().trials_used_up()

    def remaining_trials(self) -> int | None:
        """Number of configurations that may still be started; None without ``max_trials``."""
        if self.rungs is None:
            return super().remaining_trials()
        if self.max_trials is None:
            return None
        return max(0, self.max_trials - self.rungs.configurations)

    # ------------------------------------------------------------------ bookkeeping

    def _on_trial_started(self, trial: Trial) -> None:
        fidelity = fidelity_of(trial.hyperparameters.values)
        if self.rungs is None or fidelity is None:
            return
        self.rungs.start(trial.trial_id, fidelity.rung, fidelity.parent)
        if fidelity.parent is not None:
            # The model is that of the parent, which was screened.
            screened, parents = self._state.screened, self.ledger.parents
            screened[trial.trial_id] = dict(self.screened_metrics(fidelity.parent))
            parents[trial.trial_id] = parents.get(fidelity.parent, ())

    def _on_trial_ended(self, trial: Trial) -> None:
        if self.rungs is not None:
            self.rungs.end(self._scoring.observation(trial))

    @synchronized
    def end_trial(self, trial: Trial) -> None:
        """See `NASOracle.end_trial`; deletes the weights that no promotion needs."""
        try:
            super().end_trial(trial)
        finally:
            if self.rungs is not None and self.ledger.ended(trial.trial_id) is not None:
                self._discard_unneeded(trial.trial_id, self.rungs)

    def _discard_unneeded(self, trial_id: str, rungs: Rungs) -> None:
        """Delete the weights that are no longer needed after the end of a trial."""
        fidelity = fidelity_of(self.trials[trial_id].hyperparameters.values)
        lineage = [trial_id]
        if fidelity is not None and fidelity.parent is not None:
            lineage.append(fidelity.parent)
        unneeded = [ancestor for ancestor in lineage if not rungs.needed(ancestor)]
        outranked = rungs.eliminated(self.max_trials) if self.max_trials else []
        self._discard_last_epochs([*unneeded, *outranked])

    def _discard_last_epochs(self, trial_ids: Iterable[str]) -> None:
        """Delete the weights and optimizer states from which promotions would continue."""
        if self._state.folder is None:
            return
        layout = ProjectLayout(self._state.folder)
        for trial_id in trial_ids:
            layout.trial(trial_id).discard_last_epochs()

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """The best configurations, best first, each by its longest-trained trial.

        Trials with more epochs come first, because scores after few epochs are unreliable.
        Several objectives are ordered by non-dominated front, and within a front by the first
        objective.

        Args:
            num_trials: Maximum number of trials.
        """
        best: list[Trial] = []
        for _, rung in itertools.groupby(self._longest_trained(), rung_of):
            trials = list(rung)
            best += self._by_front(trials) if self.strategy.multi_objective else trials
            if len(best) >= num_trials:
                break
        return best[:num_trials]

    def _longest_trained(self) -> Iterator[Trial]:
        """The longest-trained trial of each configuration, by rung and score."""
        seen: set[str] = set()
        for trial_id in self.ledger.best():
            key = self.ledger.key(trial_id)
            if key not in seen:
                seen.add(key)
                yield self.trials[trial_id]

    def _by_front(self, trials: Sequence[Trial]) -> Iterator[Trial]:
        scores = np.array([self._scoring.observation(trial).scores for trial in trials])
        # A stable sort keeps the order within a front.
        return (trials[index] for index in np.argsort(non_dominated_ranks(scores), kind="stable"))

    def get_state(self) -> dict[str, Any]:
        """See `NASOracle.get_state`; the rung of a trial is stored with its values."""
        rungs = self.rungs and {
            "epochs": list(self.rungs.epochs),
            "factor": self.rungs.factor,
            "first": self.rungs.first,
        }
        return {**super().get_state(), "rungs": rungs}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `NASOracle.set_state`."""
        super().set_state(state)
        self._restore_rungs(Rungs(**state["rungs"]) if state["rungs"] else None)

    def _restart_strategy(self, history: Sequence[Observation]) -> None:
        super()._restart_strategy(history)
        rungs = self.rungs
        self._restore_rungs(rungs and Rungs(rungs.epochs, rungs.factor, rungs.first))

    def _restore_rungs(self, rungs: Rungs | None) -> None:
        """Fill empty rungs with the trials that count."""
        self.rungs = rungs
        for trial_id in self.start_order:
            self._on_trial_started(self.trials[trial_id])
        if self.rungs is not None:
            for trial_id in self.end_order:
                self._on_trial_ended(self.trials[trial_id])
            unneeded = [trial for trial in self.end_order if not self.rungs.needed(trial)]
            self._discard_last_epochs(unneeded)


def _check_epochs(*, min_epochs: int | None, max_epochs: int | None, factor: int) -> None:
    if factor < 2:
        raise StrategyError(f"`factor` must be at least 2; got {factor}")
    if min_epochs is not None and min_epochs < 1:
        raise StrategyError(f"`min_epochs` must be at least 1, or None; got {min_epochs}")
    if max_epochs is not None and max_epochs < (min_epochs or 1):
        raise StrategyError(
            f"`max_epochs` must be at least {min_epochs or 1}, the shortest training; "
            f"got {max_epochs}"
        )


def _source_strategy(source: object) -> Strategy:
    strategy = RandomSearch() if source is None else source
    if not isinstance(strategy, Strategy):
        raise StrategyError(
            "`source` must be an oracle of this package, for example "
            "RegularizedEvolutionOracle('val_accuracy', max_trials=50), a Strategy or None; "
            f"got {type(source).__name__}"
        )
    return strategy


def _check_source(source: NASOracle, objective: Objectives) -> None:
    name = type(source).__name__
    if type(source).populate_space is not NASOracle.populate_space:
        raise StrategyError(
            "`source` must be an oracle whose proposals are those of its strategy; "
            f"got {name}, which overrides `populate_space`"
        )
    if source.start_order or source._state.folder is not None:
        raise StrategyError(
            f"`source` must be an oracle that runs no search itself; got a {name} that does"
        )
    expected = _objectives_text(source.objectives)
    if objective is None:
        return
    checked = checked_objective(objective)
    actual = _objectives_text(checked if isinstance(checked, list) else [checked])
    if actual != expected:
        raise StrategyError(
            f"`objective` must be that of the source, {expected}, or None; got {actual}"
        )


def _objective_of(source: NASOracle) -> Any:
    return source.objectives if len(source.objectives) > 1 else source.objectives[0]


def _objectives_text(objectives: Iterable[keras_tuner.Objective]) -> str:
    return objectives_description(
        (objective.name, objective.direction) for objective in objectives
    )
