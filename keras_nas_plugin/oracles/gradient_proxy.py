"""Search guided by zero-cost proxies as a KerasTuner oracle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Unpack

import keras
import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.evaluation.flops import count_flops
from keras_nas_plugin.oracles.base import NASOracle, OracleOptions
from keras_nas_plugin.oracles.lock import synchronized
from keras_nas_plugin.oracles.objectives import Objectives
from keras_nas_plugin.oracles.proxy_scores import Build, Proxy, ProxyScores
from keras_nas_plugin.space.fidelity import configuration
from keras_nas_plugin.space.spec import Values
from keras_nas_plugin.strategies.gradient_ascent import GradientAscentSearch
from keras_nas_plugin.strategies.proxy_guided import ProxyGuidedSearch


def flops(model: keras.Model) -> float:
    """FLOPs of the inference graph, as a proxy: the more, the better."""
    return float(count_flops(model))


#: The default proxies: three with high published rank correlations, and two counts that cost
#: almost nothing. See "The default of the oracle" in docs/proxies.md.
DEFAULT_PROXIES: tuple[Proxy, ...] = ("synflow", "naswot", "jacob_cov", "params", flops)
#: Prefix of the proxies among a trial's metrics.
PREFIX = "proxy/"

_STRATEGIES = {"ranker": ProxyGuidedSearch, "gradient": GradientAscentSearch}


class GradientProxyOracle(NASOracle):
    """Scores candidates without training, tries the best first, and learns each proxy's weight.

    A pool of candidates is built and scored on one batch: see `keras_nas_plugin.proxies`. The
    first trials are the best of the pool. A candidate that cannot be scored, or that the
    oracle's screen rejects (see `NASOracle.set_screen`), is not in the pool. Afterwards the
    weight of each proxy is learned from the finished trials; a proxy that does not correlate
    with their scores loses its weight. Proxies are stored by architecture in ``proxies.jsonl``
    in the project folder, so that none is computed twice.

    ```python
    oracle = GradientProxyOracle("val_accuracy", max_trials=25)
    tuner = NASTuner(build_model, oracle=oracle)
    tuner.search(x, y, epochs=10, validation_data=(x_val, y_val))
    ```

    Args:
        objective: See `NASOracle`.
        max_trials: See `NASOracle`.
        hypermodel: Builds the candidates; `NASTuner` sets its own.
        batch: ``(x, y)``, 16 to 64 rows of the training data; `NASTuner` takes them from the
            arguments of `search`.
        proxies: Names of proxies (see `keras_nas_plugin.proxies.names`), or functions of a
            model that return a number, the larger the better.
        pool_size: Number of candidates that are scored before the first trial, at least 2.
            None starts with 16 and adds four per trial that ends, up to 50 to 200 in all
            (four per trial of ``max_trials``). In a search with a ``budget``, scoring takes a
            twentieth of it before the first trial, and a fifth of it altogether, at most.
        strategy: ``"ranker"`` for Bayesian optimisation over the encoding and the proxies
            (`ProxyGuidedSearch`), ``"gradient"`` for gradient ascent on the encoding
            (`GradientAscentSearch`).
        initialisations: Number of random initialisations over which a proxy is averaged, at
            least 1.
        initial_trials: Number of trials before the learned weights are used. None takes a
            fifth of ``max_trials``, between 4 and 10.
        kappa: See `SurrogateOracle`.
        **options: The other arguments of `NASOracle`.

    Raises:
        StrategyError: An argument is invalid.
        ProxyError: A proxy name is unknown.
    """

    strategy: ProxyGuidedSearch

    def __init__(
        self,
        objective: Objectives = None,
        max_trials: int | None = 100,
        *,
        hypermodel: keras_tuner.HyperModel | Build | None = None,
        batch: tuple[Any, Any] | None = None,
        proxies: Sequence[Proxy] = DEFAULT_PROXIES,
        pool_size: int | None = None,
        strategy: str = "ranker",
        initialisations: int = 1,
        initial_trials: int | None = None,
        kappa: float | None = None,
        **options: Unpack[OracleOptions],
    ) -> None:
        if strategy not in _STRATEGIES:
            raise StrategyError(
                f"`strategy` must be one of {', '.join(_STRATEGIES)}; got {strategy!r}"
            )
        self.scores = ProxyScores(proxies, initialisations)
        search = _STRATEGIES[strategy].for_budget(
            max_trials,
            scorer=self.scores,
            pool_size=pool_size,
            initial_trials=initial_trials,
            kappa=kappa,
        )
        super().__init__(search, objective, max_trials, **options)
        self.scores.attach(self._state, self.constraints)
        self.scores.prepare(hypermodel, batch)

    @synchronized
    def create_trial(self, tuner_id: str) -> Trial:
        """See `NASOracle`; the metrics of the trial include its proxies."""
        trial = super().create_trial(tuner_id)
        entered = any(name.startswith(PREFIX) for name in trial.metrics.metrics)
        if trial.status == TrialStatus.RUNNING and not entered:
            for name, value in self._proxies_of(trial).items():
                trial.metrics.register(name, direction="max")
                trial.metrics.update(name, value)
        return trial

    def _proxies_of(self, trial: Trial) -> dict[str, float]:
        """The finite proxies of a trial, and the rank that the model predicts for it."""
        values = configuration(trial.hyperparameters.values)
        proxies = {PREFIX + name: value for name, value in self.scores(values).items()}
        rank = self._predicted_rank(values)
        if rank is not None:
            proxies[f"{PREFIX}predicted_rank"] = rank
        return {name: value for name, value in proxies.items() if math.isfinite(value)}

    def _predicted_rank(self, values: Values) -> float | None:
        """Rank among the trials that finished, 1 for the best; None before the model is used."""
        predicted = self.strategy.predicted(self.spec, values)
        if predicted is None:
            return None
        observed = self.strategy.observed_scores(self.spec)
        return 1.0 + float(np.sum(observed > predicted))
