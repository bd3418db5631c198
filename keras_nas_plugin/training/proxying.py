"""Prepares an oracle that judges candidates without training them."""

from __future__ import annotations

from typing import Any

from keras_tuner.engine.trial import Trial

from keras_nas_plugin.oracles.base import NASOracle
from keras_nas_plugin.oracles.differentiable import DifferentiableOracle
from keras_nas_plugin.oracles.gradient_proxy import PREFIX
from keras_nas_plugin.oracles.one_shot import OneShotOracle
from keras_nas_plugin.oracles.proxy_scores import ProxyScores
from keras_nas_plugin.oracles.supernet_oracle import SupernetOracle
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.fit_arguments import FitArguments
from keras_nas_plugin.training.opening import opening_of
from keras_nas_plugin.training.relaxed_run import RelaxedRun
from keras_nas_plugin.training.split_run import SplitRun
from keras_nas_plugin.training.supernet_run import PathRun, SupernetRun

# Rows of the batch that candidates are scored on.
_BATCH_ROWS = 32
# Share of the budget of a search by time after which a supernet scores no architectures.
_SCORED_UNTIL = 1 / 2


def prepare_scoring(context: SearchContext, fit: FitArguments) -> None:
    """Give an oracle that judges candidates before their trials what it needs for that.

    One with zero-cost proxies gets the hypermodel and the first rows of the data, one that trains
    a supernet gets that, unless it has an evaluator of its own. In a search by time, an oracle
    that starts at random gets an opening.

    Args:
        context: The search.
        fit: Arguments of `search`.

    Raises:
        SearchSpaceError: See `SupernetRun`.
        FitArgumentsError: See `SupernetRun`.
        BackendError: The backend cannot differentiate the architecture.
    """
    strategy: Any = getattr(context.oracle, "strategy", None)
    scorer = getattr(strategy, "scorer", None)
    if isinstance(scorer, ProxyScores):
        batch = context.bookkeeping.value(
            "the first rows cannot be read, so that proxies have no data",
            lambda: fit.sample_batch(_BATCH_ROWS),
            None,
        )
        scorer.prepare(context.hypermodel, batch)
        scorer.check = lambda: context.budget.check("scored")
        if context.budget.seconds is not None:
            before = scorer.seconds
            strategy.may_score = lambda: scorer.seconds - before < context.budget.scoring_seconds()
    oracle = context.oracle
    if isinstance(oracle, NASOracle) and context.role.owns_search:
        oracle.opening = opening_of(context, oracle)
    if isinstance(oracle, SupernetOracle) and context.budget.seconds is not None:
        oracle.strategy.may_score = lambda: context.budget.used < _SCORED_UNTIL
    if isinstance(oracle, SupernetOracle) and context.role.owns_search:
        _set_supernet(context, oracle, fit)


def _set_supernet(context: SearchContext, oracle: SupernetOracle, fit: FitArguments) -> None:
    """Give an oracle the supernet of this search, unless it has an evaluator of its own."""
    scores = oracle.scores
    if scores.evaluator is not None and not isinstance(scores.evaluator, SupernetRun):
        return
    if isinstance(oracle, DifferentiableOracle):
        oracle.scores.evaluator = RelaxedRun(context, oracle, fit)
    elif isinstance(oracle, OneShotOracle):
        oracle.scores.evaluator = PathRun(context, oracle, fit)
        if oracle.few_shot != 0:
            oracle.split_scores.evaluator = SplitRun(context, oracle, fit)


def proxies_of(trial: Trial) -> dict[str, float]:
    """The proxies that an oracle stored among a trial's metrics, by name."""
    return {
        name.removeprefix(PREFIX): trial.metrics.get_best_value(name)
        for name in trial.metrics.metrics
        if name.startswith(PREFIX)
    }
