"""Trains the supernet of a differentiable search together with its architecture."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_nas_plugin.errors import CostError, StrategyError
from keras_nas_plugin.evaluation.flops import count_flops
from keras_nas_plugin.evaluation.names import canonical
from keras_nas_plugin.oracles.differentiable import DifferentiableOracle
from keras_nas_plugin.records.trial import WEIGHT
from keras_nas_plugin.space.spec import Values
from keras_nas_plugin.strategies.differentiable import ArchitectureWeights
from keras_nas_plugin.supernet.differentiable import (
    CostTerm,
    DifferentiableTrainer,
    check_backend,
    perturbed,
)
from keras_nas_plugin.supernet.expected_cost import ExpectedCost
from keras_nas_plugin.supernet.guards import Guards, Verdict
from keras_nas_plugin.supernet.relaxation import METHODS
from keras_nas_plugin.supernet.supernet import Supernet
from keras_nas_plugin.training import runtime
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.fit_arguments import FitArguments
from keras_nas_plugin.training.supernet_run import SupernetRun

logger = logging.getLogger("keras_nas_plugin")

# One of this many epochs trains the weights alone: 10 of 50 in Chen et al. 2021, appendix A.1.
_WARMUP = 5


class RelaxedRun(SupernetRun[DifferentiableTrainer]):
    """The supernet of a `DifferentiableOracle`: see `RelaxedEvaluator`.

    Args:
        context: The search.
        oracle: Its oracle.
        fit: Arguments of `search`.

    Raises:
        BackendError: The backend cannot differentiate the architecture.
    """

    def __init__(
        self, context: SearchContext, oracle: DifferentiableOracle, fit: FitArguments
    ) -> None:
        check_backend()
        super().__init__(context, oracle, fit)
        self._oracle = oracle
        self._warmup = (
            self._epochs // _WARMUP if oracle.warmup_epochs is None else oracle.warmup_epochs
        )
        if self._warmup >= self._epochs:
            raise StrategyError(
                f"`warmup_epochs` must be less than the {self._epochs} epochs of the supernet; "
                f"got {self._warmup}"
            )
        self._cost_name = ""
        if oracle.cost is not None:
            own = getattr(oracle.cost, "name", getattr(oracle.cost, "__name__", "cost"))
            self._cost_name = canonical(oracle.cost if isinstance(oracle.cost, str) else str(own))

    @property
    def options(self) -> Mapping[str, Any]:
        """See `SupernetRun.options`."""
        oracle = self._oracle
        options: dict[str, Any] = {
            "method": oracle.method,
            "warmup_epochs": self._warmup,
            "skip_limit": oracle.skip_limit,
        }
        if oracle.learning_rate is not None:
            options["learning_rate"] = oracle.learning_rate
        if self._cost_name:
            options |= {"cost": self._cost_name, "cost_weight": self._cost_weight}
            limit = self._limit()
            options |= {} if limit is None else {"cost_limit": limit}
        return options

    # ------------------------------------------------------------------ the architecture

    def architecture_weights(self) -> ArchitectureWeights:
        """See `RelaxedEvaluator.architecture_weights`."""
        trainer, _ = self.trained()
        weights, layout = trainer.weights, self.built().layout
        return {
            name: list(zip(options, weights[layout.slice(name)].tolist(), strict=True))
            for name, options in layout.options.items()
        }

    def perturbed(self) -> Values:
        """See `RelaxedEvaluator.perturbed`; the result is saved."""
        trainer, progress = self.trained()
        if progress.derived is None:

            def check() -> None:
                self._context.budget.check("chosen by perturbation")

            def loss_of(mask: np.ndarray) -> float:
                check()
                inputs, batches = self._data.first_inputs(), self._data.validation()
                return trainer.score_mask(mask, inputs, batches)["loss"]

            def tune(mask: np.ndarray) -> None:
                check()
                trainer.train_mask(mask, self._data.training(trainer.rng))

            with runtime.precision(self._context.precision):
                progress.derived = dict(perturbed(trainer, loss_of, tune))
            # Scores are those of the supernet before it was trained for the decisions.
            self._load(trainer, progress)
            self._write(progress)
        return dict(progress.derived)

    # ------------------------------------------------------------------ training

    def _new_trainer(self, supernet: Supernet, rng: np.random.Generator) -> DifferentiableTrainer:
        with runtime.precision(self._context.precision):
            return DifferentiableTrainer(
                supernet,
                METHODS[self._oracle.method](supernet.layout),
                rng,
                epochs=self._epochs,
                steps=self._data.steps,
                warmup=self._warmup,
                learning_rate=self._oracle.learning_rate,
                cost=self._cost_term(supernet),
                class_weight=self._class_weight,
            )

    def _epoch(
        self, trainer: DifferentiableTrainer, check: Callable[[], None]
    ) -> dict[str, float]:
        rng = trainer.rng
        logs = trainer.epoch(self._data.training(rng), self._data.validation_cycle(rng), check)
        guards, weights = self._guards(), trainer.weights
        if self._cost_name:
            logs[f"expected_{self._cost_name}"] = (trainer.expected_cost or 0.0) + self._overhead
        logs |= {"entropy": guards.entropy(weights), "skips": guards.skips(weights)[0]}
        return logs | dict(zip(self._names(), weights.tolist(), strict=True))

    @property
    def _fewest_epochs(self) -> int:
        """See `SupernetRun`: the alphas need epochs after the warm-up."""
        return 2 * self._warmup + 1

    def _judge(
        self,
        trainer: DifferentiableTrainer,
        curve: Sequence[Mapping[str, float]],
        logs: Mapping[str, float],
    ) -> Verdict | None:
        names, guards = self._names(), self._guards()
        history = [np.array([epoch[name] for name in names]) for epoch in (*curve, logs)]
        verdict = guards.check(history, logs)
        undecided = guards.undecided(history[-1]) if len(history) == self._epochs else None
        if undecided is not None:
            logger.warning("Supernet: %s.", undecided)
        return verdict

    def _notes(self) -> Sequence[str]:
        supernet = self.built()
        if self._oracle.method == "gdas":  # every mask is one architecture
            return supernet.notes
        relaxed = (
            f"{name} is relaxed as the expected channels or positions of the largest layer, which "
            "is not the weighted sum of its options."
            for name in supernet.sliced
        )
        return (*supernet.notes, *relaxed)

    def _draw(self) -> None:
        from keras_nas_plugin.reports.supernet_weights import write_weights

        write_weights(self._context.layout.folder)

    def _guards(self) -> Guards:
        supernet = self.built()
        return Guards(supernet.layout, supernet.empty, self._epochs, self._oracle.skip_limit)

    def _names(self) -> list[str]:
        """Names of the metrics with the weights of the options."""
        return [
            f"{WEIGHT}{name}/{option}"
            for name, options in self.built().layout.options.items()
            for option in options
        ]

    # ------------------------------------------------------------------ the cost

    def _cost_term(self, supernet: Supernet) -> CostTerm | None:
        """The cost in the loss of the alphas.

        Raises:
            CostError: The cost of a part of the supernet cannot be determined.
        """
        cost: Any = self._oracle.cost
        if cost is None:
            return None
        overhead = self._overhead
        count = count_flops if isinstance(cost, str) else cost
        try:
            expected = ExpectedCost(
                supernet.graph, supernet.layout, lambda model: count(model) - overhead, count_flops
            )
        except CostError as error:
            raise CostError(f"`cost` must know every layer of the space: {error}") from error
        uniform = float(expected(ops.convert_to_tensor(supernet.layout.uniform())))
        limit = self._limit()
        limit = None if limit is None else limit - overhead
        return CostTerm(expected, self._cost_weight, limit, uniform)

    @property
    def _overhead(self) -> float:
        """Milliseconds of any network in a table of latencies, whatever its layers are."""
        return float(getattr(self._oracle.cost, "overhead_ms", 0.0))

    @property
    def _cost_weight(self) -> float:
        """Factor of the cost: an excess over a limit counts more than the cost itself."""
        if self._oracle.cost_weight is not None:
            return self._oracle.cost_weight
        return 0.1 if self._limit() is None else 1.0

    def _limit(self) -> float | None:
        """The smallest upper limit of the constraints on the cost."""
        limits = [
            constraint.max
            for constraint in self._oracle.constraints
            if canonical(constraint.name) == self._cost_name and constraint.max is not None
        ]
        return min(limits, default=None)
