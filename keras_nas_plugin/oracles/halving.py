"""Asynchronous successive halving (ASHA) as a KerasTuner oracle around any other."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Unpack

import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import StateError, StrategyError
from keras_nas_plugin.oracles.base import NASOracle, OracleOptions
from keras_nas_plugin.oracles.lock import synchronized
from keras_nas_plugin.oracles.objectives import checked_objective
from keras_nas_plugin.oracles.proxy_scores import ProxyScores
from keras_nas_plugin.oracles.scoring import observation_of, rung_of
from keras_nas_plugin.oracles.store import project_path
from keras_nas_plugin.project import discard_last_epochs
from keras_nas_plugin.space.fidelity import Fidelity, configuration, fidelity_of
from keras_nas_plugin.strategies.base import Strategy
from keras_nas_plugin.strategies.halving import Rungs, rung_epochs
from keras_nas_plugin.strategies.pareto import non_dominated_ranks
from keras_nas_plugin.strategies.random import RandomSearch

logger = logging.getLogger("keras_nas_plugin")

# What an oracle that is the source decides, unless the wrapping one is told otherwise.
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

    With 27 epochs and a factor of 3, each configuration trains for 3 epochs; whoever is among
    the best third of those goes on to 9, and the best third of these to 27. A trial is
    promoted as soon as it has earned it, no worker waits for a round to end, and it goes on
    from its own last epoch, optimizer included: 3 and 6 epochs are the same as 9. With random
    proposals the search takes about 0.3 of the epochs that training all in full would; a
    source that learns proposes better and better, and more of that earns promotions.

    ```python
    source = RegularizedEvolutionOracle("val_accuracy", max_trials=100)
    tuner = NASTuner(build_model, oracle=SuccessiveHalvingOracle(source=source))
    tuner.search(x, y, epochs=27, validation_data=(x_val, y_val))
    ```

    A promotion is a trial of its own with the same values, as in KerasTuner's Hyperband, which
    says how far it trains in ``tuner/epochs``, ``tuner/initial_epoch``, ``tuner/round`` and
    ``tuner/trial_id`` among its values. Promotions come on top of ``max_trials``. Its score
    and its weights are those of the best epoch since the configuration's first. A trial that
    failed is never promoted and counts as its rung's worst; several objectives are ranked by
    non-dominated front and crowding distance. When all configurations are started and nothing
    is left to promote, the best goes on until one trial has all epochs.

    `NASTuner` does all that is needed. A plain `keras_tuner.Tuner` would ignore
    ``tuner/epochs``: with it the source's configurations are all trained in full, and a warning
    says so; with ``max_epochs`` given, it is refused. A tuner of your own calls
    `train_in_rungs` before its first trial and trains from ``tuner/initial_epoch`` to
    ``tuner/epochs``. Callbacks begin anew with each promotion: one that stopped a trial early
    does not keep it from being promoted.

    Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning",
    algorithm 2.

    Args:
        objective: See `NASOracle`. None takes the source's.
        max_trials: Configurations to start, at least 1; None until the space is exhausted.
            Not given, the source's, else 100.
        source: Where configurations come from: another oracle of this package, whose
            objective, seed, constraints and other settings hold where none are given here, or
            a `Strategy`. None draws at random.
        min_epochs: Epochs of the shortest training. None takes a ninth of the full one (with
            the default factor), at least 1.
        max_epochs: Epochs of a full training. None takes the ``epochs`` of `NASTuner.search`.
        factor: The best 1/factor of a rung are promoted, and trained about factor times as
            long; at least 2.
        **options: The other arguments of `NASOracle`.

    Raises:
        StrategyError: An argument is not what it needs to be.
    """

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = _NOT_GIVEN,
        *,
        source: NASOracle | Strategy | None = None,
        min_epochs: int | None = None,
        max_epochs: int | None = None,
        factor: int = 3,
        **options: Unpack[OracleOptions],
    ) -> None:
        _check(min_epochs=min_epochs, max_epochs=max_epochs, factor=factor)
        if isinstance(source, NASOracle):
            _check_source(source, objective)
            strategy, objective = source.strategy, _objective_of(source)
            max_trials = source.max_trials if max_trials is _NOT_GIVEN else max_trials
            inherited = {name: getattr(source, name) for name in _INHERITED}
            given, options = options, {**inherited, **options}
        else:
            strategy, given = _strategy(source), options
        max_trials = _DEFAULT_TRIALS if max_trials is _NOT_GIVEN else max_trials
        super().__init__(strategy, objective, max_trials, **options)
        if isinstance(getattr(strategy, "scorer", None), ProxyScores):
            strategy.scorer.attach(self)
        if isinstance(source, NASOracle) and not {"warm_start", "initial"} & given.keys():
            self._warm_start = source._warm_start
        self.min_epochs, self.max_epochs, self.factor = min_epochs, max_epochs, factor
        #: Who is trained how far; None until a tuner calls `train_in_rungs`.
        self.rungs: Rungs | None = None
        self._warned = False

    @property
    def strategy_name(self) -> str:
        return f"successive halving of {super().strategy_name}"

    @synchronized
    def train_in_rungs(self, epochs: int | None = None) -> int:
        """Say that trials are trained for ``tuner/epochs`` epochs; for tuners, before a search.

        Args:
            epochs: Epochs of a full training, as the user gave them to `search`; None if not.

        Returns:
            Epochs of a full training.

        Raises:
            StrategyError: Neither ``epochs`` nor ``max_epochs`` is given, or they differ.
            StateError: The saved search has other rungs.
        """
        most = self.max_epochs or epochs
        if most is None or (epochs is not None and epochs != most):
            raise StrategyError(
                "`max_epochs` needs to be the `epochs` of `search`, or one of them not given; "
                f"received {self.max_epochs} and {epochs}"
            )
        _check(min_epochs=self.min_epochs, max_epochs=most, factor=self.factor)
        rungs = Rungs(rung_epochs(most, self.factor, self.min_epochs), self.factor)
        if self._started == 0 and self.rungs is None:
            self._use(rungs)
            if len(rungs.epochs) == 1:
                logger.warning("%d epochs are too few to halve: all trials train in full.", most)
        known = self.rungs.epochs if self.rungs else ()
        if (known, self.rungs and self.rungs.factor) != (rungs.epochs, rungs.factor):
            raise StateError(
                f"`max_epochs`, `min_epochs` and `factor` need to give the saved search's rungs, "
                f"{known or 'none'}; received {rungs.epochs}. Choose another `project_name`, or "
                "pass `overwrite=True` to start over."
            )
        return most

    def _use(self, rungs: Rungs) -> None:
        self.rungs = rungs
        if self.max_trials is not None:
            # Each configuration may have a trial on each rung, and ids have to sort.
            self._id_width = len(str(self.max_trials * len(rungs.epochs)))

    # ------------------------------------------------------------------ proposals

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """Promote a trial that has earned it, or ask the source for the next configuration.

        Args:
            trial_id: Id of the trial to come.

        Returns:
            See `NASOracle.populate_space`; status ``"IDLE"`` while others still run whose
            results may earn a promotion.

        Raises:
            StrategyError: See `NASOracle`; or the tuner did not call `train_in_rungs`.
        """
        if self.rungs is None:
            self._warn_or_refuse()
            return super().populate_space(trial_id)
        job = self.rungs.promotable()
        if job is None:
            proposal = self._new_configuration(trial_id)
            if proposal is not None:
                return proposal
            if self.ongoing_trials:
                return {"status": TrialStatus.IDLE, "values": None}
            job = self.rungs.unfinished()
        if job is None:
            self._forget(self.trials)
            return {"status": TrialStatus.STOPPED, "values": None}
        return {"status": TrialStatus.RUNNING, "values": self._promoted(*job)}

    def _new_configuration(self, trial_id: str) -> dict[str, Any] | None:
        if self.remaining_trials() == 0:
            return None
        proposal = super().populate_space(trial_id)
        if proposal["status"] != TrialStatus.RUNNING:
            return None
        fidelity = Fidelity(self.rungs.epochs[0])
        return {**proposal, "values": {**proposal["values"], **fidelity.to_values()}}

    def _promoted(self, parent: str, rung: int) -> dict[str, Any]:
        """Values of the trial that goes on with ``parent``."""
        values = configuration(self.trials[parent].hyperparameters.values)
        epochs = self.rungs.epochs
        fidelity = Fidelity(epochs[rung], epochs[rung - 1], rung, parent)
        # A hyperparameter that was found meanwhile had its default while the parent trained.
        return {**values, **self.spec.fill(values), **fidelity.to_values()}

    def _warn_or_refuse(self) -> None:
        problem = (
            "`SuccessiveHalvingOracle` needs a tuner that trains `tuner/epochs` epochs and says "
            "so by calling `train_in_rungs`, as NASTuner does; keras_tuner.Tuner trains all "
            "trials in full"
        )
        if self.max_epochs is not None:
            raise StrategyError(f"{problem}; received `max_epochs={self.max_epochs}`")
        if not self._warned:
            self._warned = True
            logger.warning("%s: none is trained shorter.", problem)

    def trials_used_up(self) -> bool:
        """Whether ``max_trials`` ends the search; with rungs `populate_space` decides."""
        return self.rungs is None and super().trials_used_up()

    def remaining_trials(self) -> int | None:
        """Configurations that are still to be started; None without ``max_trials``."""
        if self.rungs is None:
            return super().remaining_trials()
        if self.max_trials is None:
            return None
        return max(0, self.max_trials - self.rungs.configurations)

    # ------------------------------------------------------------------ bookkeeping

    def _new_trial(self) -> Trial:
        trial = super()._new_trial()
        if trial.status == TrialStatus.RUNNING:
            self._enter(trial)
        return trial

    def _enter(self, trial: Trial) -> None:
        fidelity = fidelity_of(trial.hyperparameters.values)
        if self.rungs is not None and fidelity is not None:
            self.rungs.start(trial.trial_id, fidelity.rung, fidelity.parent)
            if fidelity.parent is not None:
                # The same model: nothing is found out anew.
                self._screened[trial.trial_id] = dict(self.screened_metrics(fidelity.parent))
                parents = self.ledger.parents
                parents[trial.trial_id] = parents.get(fidelity.parent, ())

    def _end(self, trial: Trial) -> None:
        super()._end(trial)
        if self.rungs is not None:
            self.rungs.end(observation_of(self, trial))

    @synchronized
    def end_trial(self, trial: Trial) -> None:
        """See `NASOracle.end_trial`; states that nobody goes on from any more are deleted."""
        try:
            super().end_trial(trial)
        finally:
            if self.rungs is not None and self.ledger.ended(trial.trial_id) is not None:
                fidelity = fidelity_of(self.trials[trial.trial_id].hyperparameters.values)
                ids = [trial.trial_id, fidelity.parent if fidelity else None]
                over = [one for one in ids if one is not None and not self.rungs.needed(one)]
                hopeless = self.rungs.without_hope(self.max_trials) if self.max_trials else []
                self._forget([*over, *hopeless])

    def _forget(self, trial_ids: Iterable[str]) -> None:
        """Delete the states after the last epoch, from which a promotion would go on."""
        project = project_path(self)
        for trial_id in trial_ids if project is not None else ():
            discard_last_epochs(project / f"trial_{trial_id}")

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """The best configurations, each as the trial that trained it longest, best first.

        Longer trained ones come first: a lucky score after few epochs says less. Several
        objectives are ordered by non-dominated front and, within one, by the first of them.
        """
        found: list[Trial] = []
        for _, rung in itertools.groupby(self._longest(), rung_of):
            trials = list(rung)
            found += self._by_front(trials) if self.strategy.multi_objective else trials
            if len(found) >= num_trials:
                break
        return found[:num_trials]

    def _longest(self) -> Iterator[Trial]:
        """Of each configuration, the trial that trained longest, by rung and score."""
        seen: set[str] = set()
        for trial_id in self.ledger.best():
            key = self.ledger.key(trial_id)
            if key not in seen:
                seen.add(key)
                yield self.trials[trial_id]

    def _by_front(self, trials: Sequence[Trial]) -> Iterator[Trial]:
        scores = np.array([observation_of(self, trial).scores for trial in trials])
        # A stable sort: within a front they stay in their order.
        return (trials[i] for i in np.argsort(non_dominated_ranks(scores), kind="stable"))

    def get_state(self) -> dict[str, Any]:
        """See `NASOracle.get_state`; which trial is where stands in the trials' own values."""
        rungs = self.rungs and {"epochs": list(self.rungs.epochs), "factor": self.rungs.factor}
        return {**super().get_state(), "rungs": rungs}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `NASOracle.set_state`."""
        super().set_state(state)
        self.rungs = Rungs(**state["rungs"]) if state["rungs"] else None
        for trial_id in self.start_order:
            self._enter(self.trials[trial_id])
        if self.rungs is not None:
            for trial_id in self.end_order:
                self.rungs.end(observation_of(self, self.trials[trial_id]))
            self._forget(one for one in self.end_order if not self.rungs.needed(one))


def _check(*, min_epochs: int | None, max_epochs: int | None, factor: int) -> None:
    if factor < 2:
        raise StrategyError(f"`factor` needs at least 2; received {factor}")
    if min_epochs is not None and min_epochs < 1:
        raise StrategyError(f"`min_epochs` needs at least 1 or None; received {min_epochs}")
    if max_epochs is not None and max_epochs < (min_epochs or 1):
        raise StrategyError(
            f"`max_epochs` needs at least {min_epochs or 1}, the shortest training; "
            f"received {max_epochs}"
        )


def _strategy(source: Any) -> Strategy:
    strategy = RandomSearch() if source is None else source
    if not isinstance(strategy, Strategy):
        raise StrategyError(
            "`source` needs an oracle of this package, for example "
            "RegularizedEvolutionOracle('val_accuracy', max_trials=50), a Strategy or None; "
            f"received {type(source).__name__}"
        )
    return strategy


def _check_source(source: NASOracle, objective: Any) -> None:
    name = type(source).__name__
    if type(source).populate_space is not NASOracle.populate_space:
        raise StrategyError(
            f"`source` needs an oracle whose proposals are those of its strategy; received {name}"
        )
    if source.start_order or project_path(source) is not None:
        raise StrategyError(f"`source` needs an oracle of its own; this {name} runs a search")
    theirs = _names(_objective_of(source))
    if objective is not None and _names(checked_objective(objective)) != theirs:
        raise StrategyError(
            f"`objective` needs to be the source's, {theirs}, or None; "
            f"received {_names(checked_objective(objective))}"
        )


def _objective_of(source: NASOracle) -> Any:
    return source.objectives if len(source.objectives) > 1 else source.objectives[0]


def _names(objective: Any) -> str:
    several = objective if isinstance(objective, list) else [objective]
    return " and ".join(f"{one.name} ({one.direction})" for one in several)
