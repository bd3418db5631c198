"""Trains the sub-supernets of a search, and scores architectures with them."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.oracles.one_shot import OneShotOracle
from keras_nas_plugin.records.trial import part_id
from keras_nas_plugin.space.spec import Values
from keras_nas_plugin.supernet.splitting import split_decision
from keras_nas_plugin.supernet.supernet import Supernet
from keras_nas_plugin.supernet.training import SupernetTrainer
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.fit_arguments import FitArguments
from keras_nas_plugin.training.supernet_run import PathRun
from keras_nas_plugin.training.weights import load_weights

logger = logging.getLogger("keras_nas_plugin")


class SplitRun:
    """The sub-supernets of a search: a `oracles.supernet_scores.SplitEvaluator`.

    Each has one option of a decision, and all other decisions. It starts with the weights of the
    whole supernet and a new optimizer, and is trained when the first architecture with its
    option is scored. All have the same Keras model, into which the weights of one are loaded, so
    that they need no more memory than the whole supernet and nothing is traced again.

    Source: Zhao et al. 2021, "Few-shot Neural Architecture Search", section 3.

    Args:
        context: The search.
        oracle: Its oracle.
        fit: Arguments of `search`.
    """

    def __init__(self, context: SearchContext, oracle: OneShotOracle, fit: FitArguments) -> None:
        self._context, self._oracle, self._fit = context, oracle, fit
        self._whole = PathRun(context, oracle, fit)
        self._decision: tuple[str | None] | None = None
        self._loaded: _Part | None = None

    @property
    def decision(self) -> str | None:
        """See `SplitEvaluator.decision`."""
        if self._decision is None:
            self._decision = (split_decision(self._whole.built()),)
            if self._decision[0] is None:
                logger.info(
                    "The supernet cannot be split: no decision that each architecture makes has "
                    "two to eight options."
                )
        return self._decision[0]

    @property
    def fixed(self) -> Mapping[str, Any]:
        """See `SupernetEvaluator.fixed`."""
        return self._whole.fixed

    def evaluate(self, values: Values, costs: Sequence[str]) -> dict[str, float]:
        """See `SupernetEvaluator.evaluate`; the sub-supernet is that of its option.

        Raises:
            StateError: The supernet cannot be split.
        """
        if self.decision is None:
            raise StateError("`decision` must not be None to score with sub-supernets")
        number = self._whole.built().layout.index(self.decision, values[self.decision])
        if self._loaded is None or self._loaded.number != number:
            # Until its weights are loaded, those in the model belong to none.
            self._loaded = None
            part = _Part(
                self._context, self._oracle, self._fit, self._whole, self.decision, number
            )
            part.prepare()
            self._loaded = part
        return self._loaded.evaluate(values, costs)

    def release(self) -> None:
        """See `SupernetEvaluator.release`."""
        self._loaded = None
        self._whole.release()


class _Part(PathRun):
    """The sub-supernet with one option of a decision, in the model of the whole supernet."""

    def __init__(
        self,
        context: SearchContext,
        oracle: OneShotOracle,
        fit: FitArguments,
        whole: PathRun,
        decision: str,
        number: int,
    ) -> None:
        super().__init__(context, oracle, fit)
        self._shortened = False
        self.number = number
        self._whole = whole
        options = whole.built().layout.options[decision]
        self._options = {**whole.options, "decision": decision, "option": options[number]}
        self._run_id = part_id(number)
        self._folder = context.layout.sub_supernet(number)
        self._restriction = {decision: options[number]}
        if oracle.few_shot:
            self._epochs = oracle.few_shot
        else:
            self._epochs = math.ceil(whole.epochs / len(options))

    @property
    def options(self) -> Mapping[str, Any]:
        """See `SupernetRun.options`."""
        return self._options

    def built(self) -> Supernet:
        """See `SupernetRun.built`."""
        return self._whole.built()

    def prepare(self) -> None:
        """Load its weights; the first time, train them."""
        trainer, _ = self._whole.trained()
        trainer.sampler = trainer.sampler.within(self.built().spec.fixed_at(self._restriction))
        trainer.rng = np.random.default_rng([self._seed, 1 + self.number])
        with self._scope():
            self._trained = trainer, self._train(trainer)

    def _start(self, trainer: SupernetTrainer) -> None:
        """Start with the weights of the whole supernet and a new optimizer."""
        load_weights(self.built().model, self._whole.weights_file)
        trainer.reset_optimizer()

    def _notes(self) -> Sequence[str]:
        """What is split, once."""
        name, option = next(iter(self._restriction.items()))
        return [f"split by {name}: the part with {option!r} is trained for {self._epochs} epochs."]
