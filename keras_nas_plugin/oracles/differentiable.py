"""Differentiable architecture search as a KerasTuner oracle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, Unpack

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.evaluation.names import FLOPS, canonical
from keras_nas_plugin.oracles.base import OracleOptions
from keras_nas_plugin.oracles.objectives import Objectives
from keras_nas_plugin.oracles.supernet_oracle import SupernetOracle
from keras_nas_plugin.oracles.supernet_scores import SupernetEvaluator, SupernetScores
from keras_nas_plugin.space.spec import Values
from keras_nas_plugin.strategies.differentiable import ArchitectureWeights, DifferentiableSearch
from keras_nas_plugin.strategies.evolution import RegularizedEvolution
from keras_nas_plugin.strategies.nsga2 import NSGA2
from keras_nas_plugin.supernet.relaxation import METHODS

#: How the derived architecture is chosen.
DERIVATIONS = ("discretisation", "perturbation")


class RelaxedEvaluator(SupernetEvaluator, Protocol):
    """A supernet whose architecture is trained with it."""

    def architecture_weights(self) -> ArchitectureWeights:
        """The weights of the options, after training."""

    def perturbed(self) -> Values:
        """The architecture by perturbation: see `keras_nas_plugin.supernet.differentiable`."""


class RelaxedScores(SupernetScores):
    """Scores of a relaxed supernet: see `strategies.differentiable.RelaxedScorer`.

    Args:
        derivation: One of `DERIVATIONS`.
    """

    evaluator: RelaxedEvaluator | None

    def __init__(self, derivation: str) -> None:
        super().__init__()
        self._derivation = derivation

    def architecture_weights(self) -> ArchitectureWeights:
        """See `RelaxedScorer.architecture_weights`."""
        return self._relaxed().architecture_weights()

    def perturbed(self) -> Values | None:
        """See `RelaxedScorer.perturbed`."""
        return None if self._derivation == DERIVATIONS[0] else self._relaxed().perturbed()

    def _relaxed(self) -> RelaxedEvaluator:
        evaluator: Any = self._ready()
        relaxed: RelaxedEvaluator = evaluator
        return relaxed


class DifferentiableOracle(SupernetOracle):
    """Trains a supernet together with its architecture, and trains what it derives alone.

    The architecture is a differentiable parameter: alphas, one number for each option of each
    decision. `NASTuner` trains them on the validation data and the weights on the training data,
    in turns, before the first trial. The trials are ordinary ones: the derived architecture,
    then samples from the weights of the options, ordered by their scores with the supernet, and
    random controls. Their scores decide. If the derived architecture is worse than the median of
    the first others, a sentence says so, and evolution proposes the remaining trials from the
    scores of the trials alone.

    ```python
    oracle = DifferentiableOracle("val_accuracy", max_trials=8, method="gdas")
    tuner = NASTuner(hypermodel, oracle=oracle)  # a SpaceHyperModel
    tuner.search(x, y, epochs=10, validation_data=(x_val, y_val))
    ```

    The hypermodel has to be a `SpaceHyperModel`, and the Keras backend TensorFlow. Guards end the
    training of the supernet at its last good state, with a sentence, if its weights collapse to
    options that compute nothing: see `keras_nas_plugin.supernet.Guards`.

    The validation data train the alphas. Scores of trials on the same data are optimistic; keep a
    test set.

    Args:
        objective: See `NASOracle`. The alphas minimise the loss that the model is compiled with;
            the objective ranks the finalists.
        max_trials: See `NASOracle`; the supernet is not a trial.
        method: ``"darts"`` (first order), ``"darts-second-order"`` (Liu et al. 2019), ``"gdas"``
            (Dong & Yang 2019) or ``"drnas"`` (Chen et al. 2021).
        derivation: ``"discretisation"``, the option with the largest weight, or
            ``"perturbation"``, the option that the supernet misses most (Wang et al. 2021).
        cost: What the loss of the alphas contains besides: ``"flops"``, the expected
            multiply-adds; a `keras_nas_plugin.export.LatencyTable` or another function of a model
            that is the sum over its layers; None for nothing. With a constraint on this cost, the
            excess over the limit counts; otherwise the cost relative to that of equal weights.
        cost_weight: Factor of the cost in the loss. None takes 1 with a limit, and 0.1 without.
        supernet_epochs: See `OneShotOracle`.
        warmup_epochs: First epochs of the supernet that train the weights alone, because options
            without weights have an advantage over untrained operations. None takes a fifth, as
            DrNAS does; the papers of DARTS and GDAS take 0.
        learning_rate: Learning rate of the alphas. None takes that with which they can move as
            far as in the paper of DARTS.
        skip_limit: See `keras_nas_plugin.supernet.Guards`.
        evaluations: Number of architectures that are scored with the supernet. None takes two for
            each trial, 12 to 60.
        calibration_trials: See `OneShotOracle`.
        evaluator: Scores architectures; `NASTuner` sets its own.
        **options: The other arguments of `NASOracle`.

    Raises:
        StrategyError: An argument is invalid.
    """

    strategy: DifferentiableSearch

    def __init__(
        self,
        objective: Objectives = None,
        max_trials: int | None = 100,
        *,
        method: str = "darts",
        derivation: str = "discretisation",
        cost: str | Callable[[Any], float] | None = None,
        cost_weight: float | None = None,
        supernet_epochs: int | None = None,
        warmup_epochs: int | None = None,
        learning_rate: float | None = None,
        skip_limit: float = 0.5,
        evaluations: int | None = None,
        calibration_trials: int | None = None,
        evaluator: RelaxedEvaluator | None = None,
        **options: Unpack[OracleOptions],
    ) -> None:
        for name, value, names in (
            ("method", method, METHODS),
            ("derivation", derivation, DERIVATIONS),
        ):
            if value not in names:
                raise StrategyError(f"`{name}` must be one of {', '.join(names)}; got {value!r}")
        if not (cost is None or callable(cost) or canonical(str(cost)) == FLOPS):
            raise StrategyError(
                f"`cost` must be 'flops', a LatencyTable or None; got {cost!r}. A constraint on "
                "any other cost is checked before an architecture is proposed."
            )
        if cost_weight is not None and not cost_weight >= 0:
            raise StrategyError(f"`cost_weight` must be at least 0, or None; got {cost_weight}")
        if learning_rate is not None and not learning_rate > 0:
            raise StrategyError(f"`learning_rate` must be positive, or None; got {learning_rate}")
        if not 0 <= skip_limit <= 1:
            raise StrategyError(f"`skip_limit` must be between 0 and 1; got {skip_limit}")
        self.method, self.derivation = method, derivation
        self.cost, self.cost_weight = cost, cost_weight
        if warmup_epochs is not None and warmup_epochs < 0:
            raise StrategyError(
                f"`warmup_epochs` must be at least 0, or None; got {warmup_epochs}"
            )
        self.warmup_epochs = warmup_epochs
        self.learning_rate, self.skip_limit = learning_rate, skip_limit
        several = isinstance(objective, list | tuple) and len(objective) > 1
        scores = RelaxedScores(derivation)
        scores.evaluator = evaluator
        strategy = DifferentiableSearch.for_budget(
            max_trials,
            scorer=scores,
            base=(NSGA2 if several else RegularizedEvolution).for_budget(max_trials),
            evaluations=evaluations,
            calibration_trials=calibration_trials,
        )
        super().__init__(strategy, scores, objective, max_trials, supernet_epochs, **options)
