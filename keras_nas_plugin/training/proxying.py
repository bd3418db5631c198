"""Prepares an oracle that scores candidates without training them."""

from __future__ import annotations

from keras_tuner.engine.trial import Trial

from keras_nas_plugin.oracles.gradient_proxy import PREFIX
from keras_nas_plugin.oracles.proxy_scores import ProxyScores
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.fit_arguments import FitArguments

# Rows of the batch that candidates are scored on.
_BATCH_ROWS = 32


def prepare_proxies(context: SearchContext, fit: FitArguments) -> None:
    """Give an oracle that scores candidates the hypermodel and the first rows of the data.

    Other oracles are left unchanged.

    Args:
        context: The search.
        fit: Arguments of `search`.
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


def proxies_of(trial: Trial) -> dict[str, float]:
    """The proxies that an oracle stored among a trial's metrics, by name."""
    return {
        name.removeprefix(PREFIX): trial.metrics.get_best_value(name)
        for name in trial.metrics.metrics
        if name.startswith(PREFIX)
    }
