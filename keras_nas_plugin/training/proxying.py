"""What an oracle needs to score candidates without training, taken from the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_tuner.engine.trial import Trial

from keras_nas_plugin.evaluation.datasets import sample_batch
from keras_nas_plugin.oracles.gradient_proxy import PREFIX
from keras_nas_plugin.oracles.proxy_scores import ProxyScores

# Rows that candidates are scored on.
_ROWS = 32


def prepare_proxies(tuner: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Give the oracle of a `NASTuner` its hypermodel and the first rows of the data.

    Args:
        tuner: The tuner; with any other oracle nothing happens.
        args: Positional arguments of `model.fit`.
        kwargs: Keyword arguments of `model.fit`.
    """
    scorer = getattr(getattr(tuner._local_oracle, "strategy", None), "scorer", None)
    if isinstance(scorer, ProxyScores):
        x = args[0] if args else kwargs.get("x")
        y = args[1] if len(args) > 1 else kwargs.get("y")
        scorer.prepare(tuner.hypermodel, sample_batch(x, y, _ROWS))
        scorer.check = lambda: tuner._limit.check("scored")


def proxies_of(trial: Trial) -> dict[str, float]:
    """The proxies that an oracle entered among a trial's metrics, by their names."""
    return {
        name.removeprefix(PREFIX): trial.metrics.get_best_value(name)
        for name in trial.metrics.metrics
        if name.startswith(PREFIX)
    }
