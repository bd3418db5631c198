"""Prepares an oracle that scores candidates without training them."""

from __future__ import annotations

from keras_tuner.engine.trial import Trial

from keras_nas_plugin.oracles.gradient_proxy import PREFIX
from keras_nas_plugin.oracles.proxy_scores import ProxyScores
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.fit_arguments import FitArguments
from keras_nas_plugin.training.supernet_run import prepare_supernet

# Rows of the batch that candidates are scored on.
_BATCH_ROWS = 32


def prepare_scoring(context: SearchContext, fit: FitArguments) -> None:
    """Give an oracle that scores candidates what it needs for that.

    One with zero-cost proxies gets the hypermodel and the first rows of the data, a
    `OneShotOracle` a supernet. Other oracles are left unchanged.

    Args:
        context: The search.
        fit: Arguments of `search`.

    Raises:
        SearchSpaceError: See `prepare_supernet`.
        FitArgumentsError: See `prepare_supernet`.
    """
    scorer = getattr(getattr(context.oracle, "strategy", None), "scorer", None)
    if isinstance(scorer, ProxyScores):
        batch = context.bookkeeping.value(
            "the first rows cannot be read, so that proxies have no data",
            lambda: fit.sample_batch(_BATCH_ROWS),
            None,
        )
        scorer.prepare(context.hypermodel, batch)
        scorer.check = lambda: context.budget.check("scored")
    prepare_supernet(context, fit)


def proxies_of(trial: Trial) -> dict[str, float]:
    """The proxies that an oracle stored among a trial's metrics, by name."""
    return {
        name.removeprefix(PREFIX): trial.metrics.get_best_value(name)
        for name in trial.metrics.metrics
        if name.startswith(PREFIX)
    }
