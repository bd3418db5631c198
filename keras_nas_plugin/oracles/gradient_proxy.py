"""Search guided by gradient proxies as a KerasTuner oracle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.evaluation.flops import count_flops
from keras_nas_plugin.oracles.base import NASOracle, OracleOptions
from keras_nas_plugin.oracles.lock import synchronized
from keras_nas_plugin.oracles.proxy_scores import Proxy, ProxyScores
from keras_nas_plugin.space.fidelity import configuration
from keras_nas_plugin.strategies.gradient_ascent import GradientAscentSearch
from keras_nas_plugin.strategies.proxy_guided import ProxyGuidedSearch
from keras_nas_plugin.strategies.surrogate import DEFAULT_KAPPA, default_initial


def flops(model: Any) -> float:
    """Multiply-adds of the inference graph: as a proxy, the more the better."""
    return float(count_flops(model))


#: What is scored by default: three proxies with high published rank correlations, and two counts
#: that cost next to nothing. See "The default of the oracle" in docs/proxies.md.
DEFAULT_PROXIES: tuple[Proxy, ...] = ("synflow", "naswot", "jacob_cov", "params", flops)
#: What a trial's proxies are called among its metrics.
PREFIX = "proxy/"

_STRATEGIES = {"ranker": ProxyGuidedSearch, "gradient": GradientAscentSearch}
_LEAST_POOL, _LARGEST_POOL, _POOL_PER_TRIAL = 50, 200, 4
_FIRST_POOL = 16


def default_pool(max_trials: int | None) -> int:
    """Candidates in the pool: four per trial, 50 to 200.

    >>> default_pool(None), default_pool(100), default_pool(25), default_pool(5)
    (200, 200, 100, 50)
    """
    if max_trials is None:
        return _LARGEST_POOL
    return min(_LARGEST_POOL, max(_LEAST_POOL, _POOL_PER_TRIAL * max_trials))


class GradientProxyOracle(NASOracle):
    """Scores candidates without training, starts from the best, and learns whom to believe.

    A pool of candidates is built and scored on one batch: see `keras_nas_plugin.proxies`. The
    first trials are the best of it. A candidate that cannot be scored, or that the oracle's
    screen refuses (see `NASOracle.set_screen`), is not in the pool. How much each proxy counts
    afterwards is learned from the trials that have finished; one that does not rank loses its
    say. Scores are kept by architecture in ``proxies.jsonl`` beside the search, so that none is
    computed twice.

    ```python
    oracle = GradientProxyOracle("val_accuracy", max_trials=25)
    tuner = NASTuner(build_model, oracle=oracle)
    tuner.search(x, y, epochs=10, validation_data=(x_val, y_val))
    ```

    Args:
        objective: See `NASOracle`.
        max_trials: See `NASOracle`.
        hypermodel: Builds the candidates; `NASTuner` gives its own.
        batch: ``(x, y)``, 16 to 64 rows of the training data; `NASTuner` takes them from
            `search`.
        proxies: Names of proxies (see `keras_nas_plugin.proxies.names`), or functions of a
            model that return a number, the larger the better.
        pool_size: Candidates that are scored before the first trial, at least 2. None starts
            with 16 and adds four per trial that ends, up to 50 to 200 in all (four per trial
            of ``max_trials``).
        strategy: ``"ranker"`` for Bayesian optimisation over the encoding and the proxies
            (`ProxyGuidedSearch`), ``"gradient"`` for gradient ascent on the encoding
            (`GradientAscentSearch`).
        initialisations: Draws of the weights that a score is the mean of, at least 1.
        initial_trials: Trials before what is learned counts. None takes a fifth of
            ``max_trials``, between 4 and 10.
        kappa: See `SurrogateOracle`.
        **options: The other arguments of `NASOracle`.

    Raises:
        StrategyError: An argument is not what it needs to be.
        ProxyError: There is no proxy of that name.
    """

    strategy: ProxyGuidedSearch

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = 100,
        *,
        hypermodel: Any = None,
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
                f"`strategy` needs one of {', '.join(_STRATEGIES)}; received {strategy!r}"
            )
        self.scores = ProxyScores(proxies, initialisations)
        search = _STRATEGIES[strategy](
            self.scores,
            pool_size=default_pool(max_trials) if pool_size is None else pool_size,
            first_pool=_FIRST_POOL if pool_size is None else pool_size,
            initial_trials=(
                default_initial(max_trials) if initial_trials is None else initial_trials
            ),
            kappa=DEFAULT_KAPPA if kappa is None else kappa,
        )
        super().__init__(search, objective, max_trials, **options)
        self.scores.attach(self)
        self.scores.prepare(hypermodel, batch)

    @synchronized
    def create_trial(self, tuner_id: str) -> Trial:
        """See `NASOracle`; the trial has its proxies among its metrics."""
        trial = super().create_trial(tuner_id)
        noted = any(name.startswith(PREFIX) for name in trial.metrics.metrics)
        if trial.status == TrialStatus.RUNNING and not noted:
            for name, value in self._proxies_of(trial).items():
                trial.metrics.register(name, direction="max")
                trial.metrics.update(name, value)
        return trial

    def _proxies_of(self, trial: Trial) -> dict[str, float]:
        """The finite proxies of a trial, and the place that the model expects of it."""
        values = configuration(trial.hyperparameters.values)
        found = {PREFIX + name: value for name, value in self.scores(values).items()}
        place = self._expected_place(values)
        if place is not None:
            found[f"{PREFIX}predicted_rank"] = place
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def _expected_place(self, values: dict[str, Any]) -> float | None:
        """Place among the trials that finished, 1 for the best; None before there are some."""
        expected = self.strategy.predicted(self.spec, values)
        if expected is None:
            return None
        known = self.strategy.known_scores(self.spec)
        return 1.0 + float(np.sum(known > expected))
