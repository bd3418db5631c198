"""Between an oracle and its strategy: what is proposed, and what a trial was worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import ObjectiveError, SearchSpaceError, StrategyError
from keras_nas_plugin.evaluation.names import canonical
from keras_nas_plugin.space.fidelity import configuration, fidelity_of
from keras_nas_plugin.space.spec import SearchSpec, Tried, Values
from keras_nas_plugin.strategies.base import Observation, Strategy

if TYPE_CHECKING:
    from keras_nas_plugin.oracles.base import NASOracle


def check_proposal(strategy: Strategy, spec: SearchSpec, values: Values, tried: Tried) -> None:
    """Refuse what a strategy must not propose.

    Raises:
        StrategyError: The values are inactive, invalid or were tried before.
    """
    name = type(strategy).__name__
    try:
        spec.validate(values)
    except SearchSpaceError as error:
        raise StrategyError(f"{name} proposed invalid values: {error}") from error
    if tried(values):
        raise StrategyError(f"{name} proposed values that were tried before: {values}")


def metric_of(trial: Trial, name: str) -> float:
    """A metric at the trial's best epoch; its last value where that epoch has none.

    A cost may be named shortly (``"params"``).

    Raises:
        ObjectiveError: The trial did not report it: it ended before it was asked for.
    """
    name = name if trial.metrics.exists(name) else canonical(name)
    if not trial.metrics.exists(name):
        raise ObjectiveError(
            f"`constraints` needs metrics that every completed trial reported; received one on "
            f"{name!r}, which trial {trial.trial_id} did not report"
        )
    history = trial.metrics.get_history(name)
    at_best = [one.mean() for one in history if one.step == trial.best_step]
    return float(at_best[-1] if at_best else history[-1].mean())


def violation_of(oracle: NASOracle, trial: Trial) -> float:
    """By how much a completed trial breaks the oracle's constraints; 0 when it keeps them."""
    return sum(c.violation(metric_of(trial, c.name)) for c in oracle.constraints)


def ranked_score(oracle: NASOracle, trial: Trial) -> float | None:
    """The score that a trial is ranked by; None for one that is never among the best."""
    if trial.status != TrialStatus.COMPLETED or violation_of(oracle, trial) > 0:
        return None
    return trial.score


def rung_of(trial: Trial) -> int:
    """How far a multi-fidelity search trained a trial, from 0; 0 in any other."""
    fidelity = fidelity_of(trial.hyperparameters.values)
    return fidelity.rung if fidelity else 0


def enter_ranking(oracle: NASOracle, trial: Trial) -> None:
    """Give a trial that ended its place in the order of ends and among the best.

    What a multi-fidelity search trained further stands before what it trained less.
    """
    fidelity = fidelity_of(trial.hyperparameters.values)
    oracle.ledger.end(
        trial.trial_id,
        ranked_score(oracle, trial),
        maximise=oracle.objective.direction == "max",
        length=fidelity.epochs if fidelity else 0,
    )


def oriented(value: float, direction: str) -> float:
    """A metric as a score: the larger the better."""
    return float(value) if direction == "max" else -float(value)


def observation_of(oracle: NASOracle, trial: Trial) -> Observation:
    """What the strategy learns of a trial that ended."""
    values = configuration(trial.hyperparameters.values)
    if trial.status != TrialStatus.COMPLETED:
        return Observation(trial.trial_id, values, None)
    if oracle.strategy.multi_objective:
        scores = tuple(
            oriented(metric_of(trial, objective.name), objective.direction)
            for objective in oracle.objectives
        )
    else:
        scores = (oriented(trial.score, oracle.objective.direction),)
    return Observation(trial.trial_id, values, scores, violation_of(oracle, trial))
