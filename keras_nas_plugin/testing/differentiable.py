"""A `DifferentiableOracle` for the contract suite, whose architectures cost nothing to score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_nas_plugin.oracles.differentiable import DifferentiableOracle
from keras_nas_plugin.oracles.objectives import Objectives
from keras_nas_plugin.testing.one_shot import DigestEvaluator

# The base strategy has to propose most of the trials.
_EVALUATIONS = 6


class EvenEvaluator(DigestEvaluator):
    """The weights of a supernet that searches no decision: all are drawn from the space."""

    def architecture_weights(self) -> Mapping[str, Sequence[tuple[Any, float]]]:
        """There are no decisions with weights."""
        return {}

    def perturbed(self) -> dict[str, Any]:
        """The defaults of all decisions."""
        return {}


def make(objective: Objectives = None, *args: Any, **options: Any) -> DifferentiableOracle:
    """An oracle whose supernet is a function of the values."""
    return DifferentiableOracle(
        objective, *args, evaluator=EvenEvaluator(), evaluations=_EVALUATIONS, **options
    )
