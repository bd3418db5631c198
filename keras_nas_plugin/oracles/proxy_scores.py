"""Scores without training, computed once for each architecture and kept beside the search."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import keras_tuner

from keras_nas_plugin import proxies as proxy_room
from keras_nas_plugin.errors import StrategyError
from keras_nas_plugin.oracles.proposing import screened
from keras_nas_plugin.oracles.screening import limits_of
from keras_nas_plugin.oracles.store import project_path
from keras_nas_plugin.proxies import table
from keras_nas_plugin.space.spec import Values

if TYPE_CHECKING:
    from keras_nas_plugin.oracles.base import NASOracle

logger = logging.getLogger("keras_nas_plugin")

_FILE = "proxies.jsonl"
# Models between two collections of what their graphs leave behind.
_COLLECT_EVERY = 10
_SAY_EVERY = 50
# So many candidates that all fail are no accident.
_HOPELESS = 10

#: A proxy's name, or a function of the model.
Proxy = str | Callable[[Any], float]


def _nothing() -> None:
    """The check of a search that may take as long as it likes."""


class ProxyScores:
    """Builds models and scores them untrained, each architecture once.

    Scores are appended to a file as they come, so that a search that was killed does not
    compute them again. A model that the oracle's screen refuses, or that cannot be built or
    scored, is the worst by every proxy.

    Args:
        proxies: Names of proxies (see `keras_nas_plugin.proxies.names`) or functions of a
            model that return a number.
        initialisations: Draws of the weights that a score is the mean of.

    Raises:
        StrategyError: There is no proxy, or no draw.
        ProxyError: There is no proxy of that name.
    """

    def __init__(self, proxies: Sequence[Proxy], initialisations: int) -> None:
        if isinstance(proxies, str) or not proxies:
            raise StrategyError(f"`proxies` needs a list of at least one; received {proxies!r}")
        if initialisations < 1:
            raise StrategyError(f"`initialisations` needs at least 1; received {initialisations}")
        self.proxies = tuple(proxies)
        for one in self.proxies:
            if isinstance(one, str):
                table.get(one)
        self.names = tuple(one if isinstance(one, str) else one.__name__ for one in self.proxies)
        self.initialisations = initialisations
        self.hypermodel: Any = None
        self.batch: tuple[Any, Any] | None = None
        self._oracle: NASOracle | None = None
        self._known: dict[str, dict[str, float]] | None = None
        self._computed = 0
        self._failed = 0
        #: Called before a model is scored; what it raises ends the search's asking.
        self.check: Callable[[], None] = _nothing

    def attach(self, oracle: NASOracle) -> None:
        """Say whose search this is: it has the space, the seed and the folder."""
        self._oracle, self._known = oracle, None

    def prepare(self, hypermodel: Any, batch: tuple[Any, Any] | None) -> None:
        """Say how candidates are built and what they are scored on, unless it was said before.

        Args:
            hypermodel: A `keras_tuner.HyperModel`, or a function ``build(hp)``; None to leave
                it open.
            batch: ``(x, y)``; None to leave it open.

        Raises:
            StrategyError: It is something else.
        """
        if hypermodel is not None and not callable(getattr(hypermodel, "build", hypermodel)):
            raise StrategyError(
                "`hypermodel` needs a function build(hp) or a keras_tuner.HyperModel; "
                f"received {hypermodel!r}"
            )
        if batch is not None and not (isinstance(batch, tuple | list) and len(batch) == 2):
            raise StrategyError(f"`batch` needs a pair (x, y); received {type(batch).__name__}")
        self.hypermodel = hypermodel if self.hypermodel is None else self.hypermodel
        self.batch = batch if self.batch is None else self.batch

    @property
    def ready(self) -> bool:
        """Whether there is a hypermodel and a batch."""
        return self.hypermodel is not None and self.batch is not None

    def __call__(self, values: Values) -> dict[str, float]:
        """The proxies of a configuration, the larger the better.

        Raises:
            StrategyError: There is no hypermodel or no batch.
        """
        if not self.ready:
            missing = "hypermodel" if self.hypermodel is None else "batch"
            raise StrategyError(
                "GradientProxyOracle needs `hypermodel` and `batch` to score candidates; received "
                f"no `{missing}`. `NASTuner` gives both by itself; for another tuner, hand them "
                "to the oracle."
            )
        known, key = self._load(), self._key(values)
        if key not in known:
            self.check()
            # Values drawn before a hyperparameter was known lack it.
            whole = self._oracle.spec.fill(values)
            refused = not screened(self._oracle, whole)[1].feasible
            known[key] = dict.fromkeys(self.names, -math.inf) if refused else self._compute(whole)
            self._append({"architecture": key, "scores": _plain(known[key])})
        return known[key]

    def _key(self, values: Values) -> str:
        """The architecture's hash where the hypermodel knows it, else one of the values."""
        if hasattr(self.hypermodel, "architecture"):
            return self.hypermodel.architecture(values).hash()
        text = json.dumps(values, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _compute(self, values: Values) -> dict[str, float]:
        hyperparameters = self._oracle.hyperparameters.copy()
        hyperparameters.values = dict(values)
        build = getattr(self.hypermodel, "build", self.hypermodel)
        x, y = self.batch
        model: Any = None
        try:
            model = build(hyperparameters)
            self._discover(hyperparameters)
            found = proxy_room.score(
                model,
                x,
                y,
                self.proxies,
                initialisations=self.initialisations,
                seed=self._oracle.seed,
                unsupported="skip",
            )
        except Exception as error:
            self._failed += 1
            if self._failed == 1:
                logger.warning("A candidate cannot be scored and counts as the worst: %s", error)
            if self._failed == self._computed + 1 == _HOPELESS:
                raise StrategyError(
                    f"none of the first {_HOPELESS} candidates can be scored: {error}. "
                    "`batch` and `proxies` need to suit the models of `hypermodel`."
                ) from error
            found = {}
        self._computed += 1
        if self._computed % _COLLECT_EVERY == 0 and isinstance(model, keras.Model):
            gc.collect()
        if self._computed % _SAY_EVERY == 0:
            logger.info("%d candidates were scored without training.", self._computed)
        return {name: found.get(name, -math.inf) for name in self.names}

    def _discover(self, hyperparameters: keras_tuner.HyperParameters) -> None:
        """What a candidate's model asked for joins the space."""
        known = len(self._oracle.hyperparameters.space)
        if self._oracle.allow_new_entries and len(hyperparameters.space) > known:
            self._oracle.update_space(hyperparameters)

    # ------------------------------------------------------------------ the file

    def _settings(self) -> dict[str, Any]:
        return {
            "proxies": list(self.names),
            "initialisations": self.initialisations,
            "seed": self._oracle.seed,
            "constraints": limits_of(self._oracle.constraints),
        }

    def _load(self) -> dict[str, dict[str, float]]:
        """What is known; the first time, from the file, if it was made with these settings."""
        if self._known is None:
            self._known = {}
            folder = project_path(self._oracle)
            path = None if folder is None else folder / _FILE
            lines = path.read_bytes().splitlines(keepends=True) if path and path.exists() else []
            # A process that was killed leaves half a line.
            whole = [json.loads(line) for line in lines if line.endswith(b"\n")]
            settings = self._settings()
            limits = settings["constraints"]
            if whole and {**whole[0], "constraints": limits} == settings:
                same = whole[0].get("constraints") == limits
                for line in whole[1:]:
                    # What other constraints refused may have scores now.
                    if same or any(value is not None for value in line["scores"].values()):
                        self._known[line["architecture"]] = _numbers(line["scores"])
            if path is not None:
                self._rewrite(path)
        return self._known

    def _rewrite(self, path: Path) -> None:
        from keras_nas_plugin.files import write_atomic

        lines = [self._settings()]
        lines += [{"architecture": k, "scores": _plain(v)} for k, v in self._known.items()]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, lambda name: Path(name).write_text(text, "utf-8"))

    def _append(self, line: Mapping[str, Any]) -> None:
        folder = project_path(self._oracle)
        if folder is None:
            return
        try:
            with open(folder / _FILE, "ab") as file:
                file.write((json.dumps(line) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            # A full disk: the score is computed again by whoever resumes.
            logger.warning("Proxies of a candidate were not written: %s", error)


def _plain(scores: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no infinity."""
    return {name: value if math.isfinite(value) else None for name, value in scores.items()}


def _numbers(scores: Mapping[str, float | None]) -> dict[str, float]:
    return {name: -math.inf if value is None else value for name, value in scores.items()}
