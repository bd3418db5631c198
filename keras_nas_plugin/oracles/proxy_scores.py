"""Zero-cost proxies of configurations, computed once per architecture and saved to a file."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import keras
import keras_tuner

from keras_nas_plugin import proxies as zero_cost
from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.files import write_atomic
from keras_nas_plugin.oracles.infeasible_log import constraint_data
from keras_nas_plugin.oracles.screening import Screen, screened
from keras_nas_plugin.oracles.search_space import SearchSpace
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.proxies import table
from keras_nas_plugin.space.spec import Values

logger = logging.getLogger("keras_nas_plugin")

# Number of scored models between two garbage collections, which free their graphs.
_COLLECT_EVERY = 10
_LOG_EVERY = 50
# If this many candidates fail before the first success, the settings are at fault.
_MAX_FIRST_FAILURES = 10

#: Name of a proxy, or a function of the model.
Proxy = str | Callable[[Any], float]
#: Builds a model: a function ``build(hp)``, or the method of a `keras_tuner.HyperModel`.
Build = Callable[[keras_tuner.HyperParameters], keras.Model]


class ScoredSearch(Protocol):
    """The part of a `SearchState` that is needed to score candidates."""

    @property
    def seed(self) -> int:
        """Seed of the random initial weights."""

    @property
    def folder(self) -> Path | None:
        """Project folder, where proxies are saved; None keeps them in memory."""

    @property
    def screen(self) -> Screen | None:
        """Judges candidates; None accepts all."""

    @property
    def space(self) -> SearchSpace:
        """The search space, to which hyperparameters are added that scored models discover."""


def _no_check() -> None:
    """The check of a search that may score without limit."""


class ProxyScores:
    """Builds models and scores them untrained, each architecture once.

    Scores are appended to a file as they are computed, so that a resumed search does not compute
    them again. A model that the oracle's screen rejects, or that cannot be built or scored, gets
    the score minus infinity from every proxy.

    Args:
        proxies: Names of proxies (see `keras_nas_plugin.proxies.names`) or functions of a
            model that return a number.
        initialisations: Number of random initialisations over which a score is averaged.

    Raises:
        StrategyError: ``proxies`` is empty, or ``initialisations`` is below 1.
        ProxyError: A proxy name is unknown.
    """

    def __init__(self, proxies: Sequence[Proxy], initialisations: int) -> None:
        if isinstance(proxies, str) or not proxies:
            raise StrategyError(f"`proxies` must be a list of at least one proxy; got {proxies!r}")
        if initialisations < 1:
            raise StrategyError(f"`initialisations` must be at least 1; got {initialisations}")
        self.proxies = tuple(proxies)
        for proxy in self.proxies:
            if isinstance(proxy, str):
                table.get(proxy)
        self.names = tuple(
            proxy if isinstance(proxy, str) else proxy.__name__ for proxy in self.proxies
        )
        self.initialisations = initialisations
        self.hypermodel: Any = None
        self.batch: tuple[Any, Any] | None = None
        self._search: ScoredSearch | None = None
        self._constraints: tuple[Constraint, ...] = ()
        self._scores: dict[str, dict[str, float]] | None = None
        self._computed = 0
        self._failed = 0
        #: Seconds that building and scoring models have taken.
        self.seconds = 0.0
        #: Called before a model is scored; an exception that it raises ends the proposal.
        self.check: Callable[[], None] = _no_check

    def attach(self, search: ScoredSearch, constraints: Sequence[Constraint]) -> None:
        """Set the search whose candidates are scored.

        Args:
            search: State of the search: its space, seed, screen and folder.
            constraints: Constraints of the search; saved scores of candidates that were
                rejected under other constraints are computed again.
        """
        self._search, self._constraints, self._scores = search, tuple(constraints), None

    def prepare(
        self,
        hypermodel: keras_tuner.HyperModel | Build | None,
        batch: tuple[Any, Any] | None,
    ) -> None:
        """Set the hypermodel and the batch, unless they are set already.

        Args:
            hypermodel: A `keras_tuner.HyperModel`, or a function ``build(hp)``; None
                changes nothing.
            batch: ``(x, y)``; None changes nothing.

        Raises:
            StrategyError: An argument has the wrong type.
        """
        if hypermodel is not None and not callable(getattr(hypermodel, "build", hypermodel)):
            raise StrategyError(
                "`hypermodel` must be a function build(hp) or a keras_tuner.HyperModel; "
                f"got {hypermodel!r}"
            )
        if batch is not None and not (isinstance(batch, tuple | list) and len(batch) == 2):
            raise StrategyError(f"`batch` must be a pair (x, y); got {type(batch).__name__}")
        self.hypermodel = hypermodel if self.hypermodel is None else self.hypermodel
        self.batch = batch if self.batch is None else self.batch

    @property
    def ready(self) -> bool:
        """Whether the hypermodel and the batch are set."""
        return self.hypermodel is not None and self.batch is not None

    def __call__(self, values: Values) -> dict[str, float]:
        """The proxies of a configuration, the larger the better.

        Args:
            values: Active values of the configuration.

        Returns:
            Score by proxy; minus infinity if the configuration is infeasible or cannot be
            scored.

        Raises:
            StrategyError: The hypermodel, the batch or the search is not set.
        """
        if self.hypermodel is None or self.batch is None or self._search is None:
            missing = "hypermodel" if self.hypermodel is None else "batch"
            raise StrategyError(
                f"`{missing}` must be set before candidates can be scored; got None. `NASTuner` "
                "sets `hypermodel` and `batch`; with another tuner, pass them to the oracle."
            )
        search, scores, key = self._search, self._load(self._search), self._key(values)
        if key not in scores:
            self.check()
            # Values that were drawn before a hyperparameter was discovered lack it.
            filled = search.space.spec.fill(values)
            feasible = screened(search.space, search.screen, filled)[1].feasible
            scores[key] = (
                self._compute(filled, self.batch, search)
                if feasible
                else dict.fromkeys(self.names, -math.inf)
            )
            self._append(search, {"architecture": key, "scores": _to_json(scores[key])})
        return scores[key]

    def _key(self, values: Values) -> str:
        """Hash of the architecture if the hypermodel describes it, else of the values."""
        if hasattr(self.hypermodel, "architecture"):
            return self.hypermodel.architecture(values).hash()
        text = json.dumps(values, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _compute(
        self, values: Values, batch: tuple[Any, Any], search: ScoredSearch
    ) -> dict[str, float]:
        space = search.space
        hyperparameters = space.with_values(values)
        size = len(space.hyperparameters.space)
        build: Build = getattr(self.hypermodel, "build", self.hypermodel)
        x, y = batch
        start = time.monotonic()
        model: keras.Model | None = None
        computed: Mapping[str, float]
        try:
            model = build(hyperparameters)
            space.discover(hyperparameters, size)
            computed = zero_cost.score(
                model,
                x,
                y,
                self.proxies,
                initialisations=self.initialisations,
                seed=search.seed,
                unsupported="skip",
            )
        except Exception as error:
            self._failed += 1
            if self._failed == 1:
                logger.warning("A candidate cannot be scored and counts as the worst: %s", error)
            if self._failed == self._computed + 1 == _MAX_FIRST_FAILURES:
                raise StrategyError(
                    f"none of the first {_MAX_FIRST_FAILURES} candidates can be scored: {error}. "
                    "`batch` and `proxies` must suit the models of `hypermodel`."
                ) from error
            computed = {}
        self._computed += 1
        self.seconds += time.monotonic() - start
        if self._computed % _COLLECT_EVERY == 0 and isinstance(model, keras.Model):
            gc.collect()
        if self._computed % _LOG_EVERY == 0:
            logger.info("%d candidates were scored without training.", self._computed)
        return {name: computed.get(name, -math.inf) for name in self.names}

    # ------------------------------------------------------------------ the file

    def _settings(self, search: ScoredSearch) -> dict[str, Any]:
        return {
            "proxies": list(self.names),
            "initialisations": self.initialisations,
            "seed": search.seed,
            "constraints": constraint_data(self._constraints),
        }

    def _load(self, search: ScoredSearch) -> dict[str, dict[str, float]]:
        """All scores; the first call reads those in the file, if it has the same settings."""
        if self._scores is None:
            path = None
            if search.folder is not None:
                path = ProjectLayout(search.folder).proxy_scores
            settings = self._settings(search)
            content = path.read_bytes() if path is not None and path.exists() else b""
            self._scores = _read_scores(content, settings)
            if path is not None:
                self._rewrite(path, settings, self._scores)
        return self._scores

    def _rewrite(
        self, path: Path, settings: Mapping[str, Any], scores: Mapping[str, dict[str, float]]
    ) -> None:
        lines: list[Mapping[str, Any]] = [settings]
        lines += [
            {"architecture": key, "scores": _to_json(values)} for key, values in scores.items()
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        path.parent.mkdir(parents=True, exist_ok=True)

        def write(temporary: str) -> None:
            Path(temporary).write_text(text, "utf-8")

        write_atomic(path, write)

    def _append(self, search: ScoredSearch, line: Mapping[str, Any]) -> None:
        if search.folder is None:
            return
        try:
            with open(ProjectLayout(search.folder).proxy_scores, "ab") as file:
                file.write((json.dumps(line) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            # Not fatal, for example on a full disk: a resumed search computes the score again.
            logger.warning("Proxies of a candidate were not written: %s", error)


def _read_scores(content: bytes, settings: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Scores by architecture from the content of a file; empty if its settings differ.

    Args:
        content: A line of settings, followed by a line per architecture.
        settings: The current settings.
    """
    # A killed process may leave a partial line.
    complete = [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
    if not complete:
        return {}
    saved, *lines = [json.loads(line) for line in complete]
    constraints = settings["constraints"]
    if {**saved, "constraints": constraints} != settings:
        return {}
    same_constraints = saved.get("constraints") == constraints
    return {
        line["architecture"]: _from_json(line["scores"])
        for line in lines
        # A candidate that was rejected under other constraints may be feasible now.
        if same_constraints or any(value is not None for value in line["scores"].values())
    }


def _to_json(scores: Mapping[str, float]) -> dict[str, float | None]:
    """Replace infinities, which JSON lacks, by None."""
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}


def _from_json(scores: Mapping[str, float | None]) -> dict[str, float]:
    return {name: -math.inf if value is None else value for name, value in scores.items()}
