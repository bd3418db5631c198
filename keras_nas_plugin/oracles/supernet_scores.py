"""Scores of architectures from a supernet, computed once each and saved to a file."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import keras_tuner

from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.evaluation.names import canonical
from keras_nas_plugin.files import write_text
from keras_nas_plugin.oracles.proxy_scores import ScoredSearch
from keras_nas_plugin.oracles.scoring import oriented
from keras_nas_plugin.oracles.screening import screened
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.space.spec import SearchSpec, Values

logger = logging.getLogger("keras_nas_plugin")

#: The number of parameters among the metrics that a `SupernetEvaluator` returns.
PARAMETERS = "parameters"


class SupernetEvaluator(Protocol):
    """A supernet that is trained when it is first needed."""

    @property
    def fixed(self) -> Mapping[str, Any]:
        """Decisions that the supernet does not search, with the values that they have in it."""

    def evaluate(self, values: Values, costs: Sequence[str]) -> Mapping[str, float]:
        """Validation metrics of an architecture by name (``"val_accuracy"``), and its costs.

        Args:
            values: Values of the active decisions.
            costs: Names of the costs to determine, ``"parameters"`` among them.
        """

    def release(self) -> None:
        """Free the memory of the supernet; it is loaded again when it is needed."""


class SupernetScores:
    """Scores architectures with a supernet: see `strategies.one_shot.SupernetScorer`.

    Metrics are appended to a file as they are determined, so that a resumed search proposes the
    same finalists. An architecture that the oracle's screen rejects has no score.

    Attributes:
        name: Name of the scores among the proxies of a trial.
        evaluator: The supernet; None until a tuner sets it.
    """

    name = "supernet"

    def __init__(self) -> None:
        self.evaluator: SupernetEvaluator | None = None
        self._search: ScoredSearch | None = None
        self._objectives: tuple[keras_tuner.Objective, ...] = ()
        self._total: keras_tuner.Objective | None = None
        self._metrics: dict[str, dict[str, float] | None] | None = None

    def attach(
        self,
        search: ScoredSearch,
        objectives: Sequence[keras_tuner.Objective],
        total: keras_tuner.Objective | None,
    ) -> None:
        """Set the search whose architectures are scored.

        Args:
            search: State of the search: its space, seed, screen and folder.
            objectives: Its objectives.
            total: The sum of several objectives, if the strategy gets that; None otherwise.
        """
        self._search, self._objectives, self._total = search, tuple(objectives), total

    def restricted(self, spec: SearchSpec) -> SearchSpec:
        """See `SupernetScorer.restricted`."""
        fixed = self._ready().fixed
        return spec.fixed_at(fixed) if fixed else spec

    def __call__(self, values: Values) -> tuple[float, ...] | None:
        """See `SupernetScorer`."""
        metrics = self.metrics(values)
        if metrics is None:
            return None
        if self._total is not None:
            sums = {
                objective.name: self._metric(metrics, objective) for objective in self._objectives
            }
            return (oriented(self._total.get_value(sums), self._total.direction),)
        return tuple(
            oriented(self._metric(metrics, objective), objective.direction)
            for objective in self._objectives
        )

    def parameters(self, values: Values) -> float | None:
        """See `SupernetScorer.parameters`."""
        metrics = self.metrics(values)
        return None if metrics is None else metrics.get(PARAMETERS)

    def release(self) -> None:
        """See `SupernetScorer.release`."""
        if self.evaluator is not None:
            self.evaluator.release()

    def metrics(self, values: Values) -> dict[str, float] | None:
        """Metrics and costs of an architecture; None if the oracle's screen rejects it.

        Raises:
            StrategyError: The supernet or the search is not set.
        """
        evaluator, search = self._ready(), self._search
        if search is None:
            raise StrategyError("`attach` must be called before architectures are scored")
        saved = self._load(search)
        key = search.space.spec.key(values)
        if key not in saved:
            filled = search.space.spec.fill(values)
            screening = screened(search.space, search.screen, filled)[1]
            metrics = None
            if screening.feasible:
                names = [canonical(objective.name) for objective in self._objectives]
                metrics = {
                    **screening.metrics,
                    **evaluator.evaluate(filled, sorted({PARAMETERS, *names})),
                }
            saved[key] = metrics
            self._append(search, {"architecture": key, "metrics": metrics})
        return saved[key]

    def _ready(self) -> SupernetEvaluator:
        if self.evaluator is None:
            raise StrategyError(
                "`evaluator` must be set before architectures can be scored; got None. `NASTuner` "
                "trains the supernet; with another tuner, pass an evaluator to the oracle."
            )
        return self.evaluator

    @staticmethod
    def _metric(metrics: Mapping[str, float], objective: keras_tuner.Objective) -> float:
        for name in (objective.name, canonical(objective.name)):
            if name in metrics:
                value = float(metrics[name])
                worst = -math.inf if objective.direction == "max" else math.inf
                return worst if math.isnan(value) else value
        raise StrategyError(
            f"`objective` must be a metric of the validation data, or a cost of the model, to be "
            f"scored with a supernet; got {objective.name!r}, and the metrics {sorted(metrics)}"
        )

    # ------------------------------------------------------------------ the file

    def _load(self, search: ScoredSearch) -> dict[str, dict[str, float] | None]:
        """All metrics; the first call reads those in the file."""
        if self._metrics is None:
            path = self._path(search)
            content = path.read_bytes() if path is not None and path.exists() else b""
            # A killed process may leave a partial line.
            complete = [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
            lines = [json.loads(line) for line in complete]
            self._metrics = {line["architecture"]: line["metrics"] for line in lines}
            if path is not None and len(b"".join(complete)) < len(content):
                write_text(path, b"".join(complete).decode())
        return self._metrics

    def _append(self, search: ScoredSearch, line: Mapping[str, Any]) -> None:
        path = self._path(search)
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(path, "ab") as file:
                file.write((json.dumps(line) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            # Not fatal, for example on a full disk: a resumed search scores it again.
            logger.warning("A score of the supernet was not written: %s", error)

    @staticmethod
    def _file(layout: ProjectLayout) -> Path:
        """The file with the scores."""
        return layout.supernet_scores

    def _path(self, search: ScoredSearch) -> Path | None:
        return None if search.folder is None else self._file(ProjectLayout(search.folder))


class SplitEvaluator(SupernetEvaluator, Protocol):
    """Sub-supernets, each of which has one option of a decision."""

    @property
    def decision(self) -> str | None:
        """The decision; None if the supernet cannot be split."""


class SplitScores(SupernetScores):
    """Scores architectures with the sub-supernet that contains each: see `SplitScorer`.

    Attributes:
        evaluator: The sub-supernets; None if the supernet is not to be split.
    """

    name = "sub_supernets"
    evaluator: SplitEvaluator | None

    @property
    def decision(self) -> str | None:
        """See `keras_nas_plugin.strategies.one_shot.SplitScorer`."""
        return None if self.evaluator is None else self.evaluator.decision

    @staticmethod
    def _file(layout: ProjectLayout) -> Path:
        """See `SupernetScores`."""
        return layout.split_scores
