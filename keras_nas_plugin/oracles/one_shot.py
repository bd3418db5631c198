"""One-shot search, on the scores of a supernet, as a KerasTuner oracle."""

from __future__ import annotations

from typing import Any, Unpack

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.oracles.base import OracleOptions
from keras_nas_plugin.oracles.supernet_oracle import SupernetOracle
from keras_nas_plugin.oracles.supernet_scores import SplitScores, SupernetEvaluator, SupernetScores
from keras_nas_plugin.strategies.base import Strategy
from keras_nas_plugin.strategies.evolution import RegularizedEvolution
from keras_nas_plugin.strategies.nsga2 import NSGA2
from keras_nas_plugin.strategies.one_shot import OneShotSearch, default_evaluations
from keras_nas_plugin.strategies.random import RandomSearch
from keras_nas_plugin.strategies.surrogate import SurrogateSearch
from keras_nas_plugin.supernet.sampling import SAMPLERS

_SEARCHES: dict[str, type[Strategy]] = {
    "evolution": RegularizedEvolution,
    "surrogate": SurrogateSearch,
    "nsga2": NSGA2,
    "random": RandomSearch,
}


class OneShotOracle(SupernetOracle):
    """Trains one supernet, searches on its validation scores, and trains the best alone.

    `NASTuner` trains the supernet before the first proposal, on the training data of `search`,
    and tracks it as a run of its own. A strategy then searches on its scores, with batch
    normalisation recalibrated for each architecture. The trials are the best architectures that
    it found, trained alone from new weights as in any other search: their scores decide.

    After the first of them, their ranks are compared with those of the supernet. If these are
    not better than the ranks by the number of parameters, a sentence says so, and the supernet is
    split into sub-supernets (``few_shot``), which rank the same finalists. If that is not better
    either, the same strategy proposes the remaining trials from the scores of the trials alone.

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
        supernet_epochs: Epochs of the supernet. None takes four times the ``epochs`` of `search`,
            in a search with a ``budget`` at most a third of the time.
        sampling: Paths of each step: ``"uniform"`` (`UniformSampler`), ``"fair"``
            (`FairSampler`), or ``"sandwich"`` (`SandwichSampler`).
        distill: Whether the paths of a step after the largest are trained on its predictions, in
            place of labels: see `SupernetTrainer`. None does so with ``"sandwich"``.
        search: Strategy on the supernet: ``"evolution"``, ``"surrogate"``, ``"nsga2"`` or
            ``"random"``. None takes NSGA-II for several objectives, and evolution for one.
        evaluations: Number of architectures that are scored with the supernet. None takes ten
            for each trial, 50 to 200. In a search with a ``budget``, scoring ends after half of
            it.
        calibration_trials: Number of finalists after which the ranks are compared, at least 2.
            None takes a third of ``max_trials``, 5 to 10.
        few_shot: Epochs of each sub-supernet, into which the supernet is split if its ranks are
            poor: one for each option of one decision (Zhao et al. 2021). 0 never splits. None
            takes the epochs of the supernet divided by the number of sub-supernets, so that all
            of them together take as long as the supernet.
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
        distill: bool | None = None,
        search: str | None = None,
        evaluations: int | None = None,
        calibration_trials: int | None = None,
        few_shot: int | None = None,
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
        if distill and sampling != "sandwich":
            raise StrategyError(
                f"`distill` may be True only with `sampling='sandwich'`; got {sampling!r}"
            )
        if few_shot is not None and few_shot < 0:
            raise StrategyError(
                f"`few_shot` must be a number of epochs, at least 0, or None; got {few_shot}"
            )
        self.sampling, self.distill, self.few_shot = sampling, distill, few_shot
        scores, self.split_scores = SupernetScores(), SplitScores()
        scores.evaluator = evaluator
        count = default_evaluations(max_trials) if evaluations is None else evaluations
        strategy = OneShotSearch.for_budget(
            max_trials,
            scorer=scores,
            search=lambda: _SEARCHES[search].for_budget(count),
            base=_SEARCHES[search].for_budget(max_trials),
            evaluations=evaluations,
            calibration_trials=calibration_trials,
            split=self.split_scores,
        )
        super().__init__(strategy, scores, objective, max_trials, supernet_epochs, **options)
        self._attach(self.split_scores)
