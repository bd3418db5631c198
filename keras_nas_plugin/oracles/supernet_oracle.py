"""What the oracles have in common that train a supernet before the first trial."""

from __future__ import annotations

import logging
import math
from typing import Unpack

from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.oracles.base import NASOracle, OracleOptions
from keras_nas_plugin.oracles.gradient_proxy import PREFIX
from keras_nas_plugin.oracles.lock import synchronized
from keras_nas_plugin.oracles.objectives import Objectives
from keras_nas_plugin.oracles.supernet_scores import PARAMETERS, SupernetScores
from keras_nas_plugin.space.fidelity import configuration
from keras_nas_plugin.strategies.finalists import FinalistSearch, SupernetCalibration

logger = logging.getLogger("keras_nas_plugin")


class SupernetOracle(NASOracle):
    """Trains one supernet, and tries the architectures that it proposes as trials.

    `NASTuner` trains the supernet before the first proposal and tracks it as a run of its own.

    Args:
        strategy: Proposes the trials.
        scores: The scores of the supernet, which ``strategy`` uses.
        objective: See `NASOracle`.
        max_trials: See `NASOracle`; the supernet is not a trial.
        supernet_epochs: Epochs of the supernet. None takes four times the ``epochs`` of `search`.
        **options: The other arguments of `NASOracle`.

    Attributes:
        scores: The scores of the supernet.
        supernet_epochs: Epochs of the supernet, or None.

    Raises:
        StrategyError: ``supernet_epochs`` is less than 1.
    """

    strategy: FinalistSearch

    def __init__(
        self,
        strategy: FinalistSearch,
        scores: SupernetScores,
        objective: Objectives,
        max_trials: int | None,
        supernet_epochs: int | None,
        **options: Unpack[OracleOptions],
    ) -> None:
        if supernet_epochs is not None and supernet_epochs < 1:
            raise StrategyError(
                f"`supernet_epochs` must be at least 1, or None; got {supernet_epochs}"
            )
        self.supernet_epochs, self.scores = supernet_epochs, scores
        super().__init__(strategy, objective, max_trials, **options)
        self._attach(scores)
        self._said = False

    def _attach(self, scores: SupernetScores) -> None:
        """Let scores be those of this search."""
        summed = not self.strategy.multi_objective and len(self.objectives) > 1
        scores.attach(self._state, self.objectives, self.objective if summed else None)

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
        scorer = self.strategy.current_scorer
        scores, parameters = scorer(values), scorer.parameters(values)
        scores_by_name = {f"{PREFIX}{scorer.name}": None if scores is None else scores[0]}
        scores_by_name[f"{PREFIX}{PARAMETERS}"] = parameters
        return {
            name: value
            for name, value in scores_by_name.items()
            if value is not None and math.isfinite(value)
        }

    def _say(self) -> None:
        """Log once how well the supernet ranked the finalists."""
        calibration = None if self._said else self.calibration
        if calibration is not None:
            self._said = True
            before, trials = self.strategy.calibration_before, calibration.supernet.trials
            if before is not None:
                logger.warning(
                    "After %d trials, %s: it is not better than the number of parameters, so "
                    "that it was split.",
                    trials,
                    before.ranks,
                )
            level = logging.INFO if calibration.better else logging.WARNING
            logger.log(level, "After %d trials, %s.", trials, calibration)
