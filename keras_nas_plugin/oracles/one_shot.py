"""One-shot search, on the scores of a supernet, as a KerasTuner oracle."""

from __future__ import annotations

import logging
import math
from typing import Any, Unpack

from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.oracles.base import NASOracle, OracleOptions
from keras_nas_plugin.oracles.gradient_proxy import PREFIX
from keras_nas_plugin.oracles.lock import synchronized
from keras_nas_plugin.oracles.supernet_scores import PARAMETERS, SupernetEvaluator, SupernetScores
from keras_nas_plugin.space.fidelity import configuration
from keras_nas_plugin.strategies.base import Strategy
from keras_nas_plugin.strategies.evolution import RegularizedEvolution
from keras_nas_plugin.strategies.nsga2 import NSGA2
from keras_nas_plugin.strategies.one_shot import (
    OneShotSearch,
    SupernetCalibration,
    default_evaluations,
)
from keras_nas_plugin.strategies.random import RandomSearch
from keras_nas_plugin.strategies.surrogate import SurrogateSearch
from keras_nas_plugin.supernet.sampling import SAMPLERS

logger = logging.getLogger("keras_nas_plugin")

_SEARCHES: dict[str, type[Strategy]] = {
    "evolution": RegularizedEvolution,
    "surrogate": SurrogateSearch,
    "nsga2": NSGA2,
    "random": RandomSearch,
}


class OneShotOracle(NASOracle):
    """Trains one supernet, searches on its validation scores, and trains the best alone.

    `NASTuner` trains the supernet before the first proposal, on the training data of `search`,
    and tracks it as a run of its own. A strategy then searches on its scores, with batch
    normalisation recalibrated for each architecture. The trials are the best architectures that
    it found, trained alone from new weights as in any other search: their scores decide.

    After the first of them, their ranks are compared with those of the supernet. If these are
    not better than the ranks by the number of parameters, a sentence says so, and the same
    strategy proposes the remaining trials from the scores of the trials alone.

    ```python
    oracle = OneShotOracle("val_accuracy", max_trials=12)
    tuner = NASTuner(hypermodel, oracle=oracle)  # a SpaceHyperModel
    tuner.search(x, y, epochs=10, validation_data=(x_val, y_val))
    ```

    The hypermodel has to be a `SpaceHyperModel`. A decision that the supernet cannot search (see
    `Supernet`) has its default in all finalists. Finalists satisfy the constraints on costs; paths
    that violate them may still be trained in the supernet.

    Args:
        objective: See `NASOracle`. Metrics of the validation data and costs of the model.
        max_trials: See `NASOracle`; the supernet is not a trial.
        supernet_epochs: Epochs of the supernet. None takes four times the ``epochs`` of `search`.
        sampling: Paths of each step: ``"uniform"`` (`UniformSampler`), ``"fair"``
            (`FairSampler`), or ``"sandwich"`` (`SandwichSampler`).
        search: Strategy on the supernet: ``"evolution"``, ``"surrogate"``, ``"nsga2"`` or
            ``"random"``. None takes NSGA-II for several objectives, and evolution for one.
        evaluations: Number of architectures that are scored with the supernet. None takes ten
            for each trial, 50 to 200.
        calibration_trials: Number of finalists after which the ranks are compared, at least 2.
            None takes a third of ``max_trials``, 5 to 10.
        evaluator: Scores architectures; `NASTuner` sets its own.
        **options: The other arguments of `NASOracle`.

    Raises:
        StrategyError: An argument is invalid.
    """

    strategy: OneShotSearch

    def __init__(
        self,
        objective: Any = None,
        max_trials: int | None = 100,
        *,
        supernet_epochs: int | None = None,
        sampling: str = "uniform",
        search: str | None = None,
        evaluations: int | None = None,
        calibration_trials: int | None = None,
        evaluator: SupernetEvaluator | None = None,
        **options: Unpack[OracleOptions],
    ) -> None:
        several = isinstance(objective, list | tuple) and len(objective) > 1
        search = ("nsga2" if several else "evolution") if search is None else search
        for name, value, names in (
            ("sampling", sampling, SAMPLERS),
            ("search", search, _SEARCHES),
        ):
            if value not in names:
                raise StrategyError(f"`{name}` must be one of {', '.join(names)}; got {value!r}")
        if supernet_epochs is not None and supernet_epochs < 1:
            raise StrategyError(
                f"`supernet_epochs` must be at least 1, or None; got {supernet_epochs}"
            )
        self.supernet_epochs, self.sampling = supernet_epochs, sampling
        self.scores = SupernetScores()
        self.scores.evaluator = evaluator
        count = default_evaluations(max_trials) if evaluations is None else evaluations
        strategy = OneShotSearch.for_budget(
            max_trials,
            scorer=self.scores,
            search=lambda: _SEARCHES[search].for_budget(count),
            base=_SEARCHES[search].for_budget(max_trials),
            evaluations=evaluations,
            calibration_trials=calibration_trials,
        )
        super().__init__(strategy, objective, max_trials, **options)
        summed = not strategy.multi_objective and len(self.objectives) > 1
        self.scores.attach(self._state, self.objectives, self.objective if summed else None)
        self._said = False

    @property
    def calibration(self) -> SupernetCalibration | None:
        """How well the supernet ranked the first finalists; None before it is known."""
        return self.strategy.calibration

    @synchronized
    def create_trial(self, tuner_id: str) -> Trial:
        """See `NASOracle`; the metrics of a finalist include its score with the supernet."""
        trial = super().create_trial(tuner_id)
        entered = any(name.startswith(PREFIX) for name in trial.metrics.metrics)
        if trial.status == TrialStatus.RUNNING and not entered:
            for name, value in self._scores_of(trial).items():
                trial.metrics.register(name, direction="max")
                trial.metrics.update(name, value)
        self._say()
        return trial

    def _scores_of(self, trial: Trial) -> dict[str, float]:
        values = configuration(trial.hyperparameters.values)
        if not self.strategy.scored(self.spec, values):
            return {}
        scores, parameters = self.scores(values), self.scores.parameters(values)
        found = {f"{PREFIX}supernet": None if scores is None else scores[0]}
        found[f"{PREFIX}{PARAMETERS}"] = parameters
        return {
            name: value
            for name, value in found.items()
            if value is not None and math.isfinite(value)
        }

    def _say(self) -> None:
        """Log once how well the supernet ranked the finalists."""
        calibration = None if self._said else self.calibration
        if calibration is not None:
            self._said = True
            level = logging.INFO if calibration.better else logging.WARNING
            logger.log(level, "After %d trials, %s.", calibration.supernet.trials, calibration)
