"""Driving an oracle directly, as a tuner would."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine import hyperparameters as kt_types
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.space.fidelity import configuration, fidelity_of
from keras_nas_plugin.testing.spaces import wide_space

#: Called with keyword arguments of `NASOracle`; an oracle class is one.
MakeOracle = Callable[..., keras_tuner.Oracle]

#: Name of the objective in every search of the suite.
SCORE = "score"

# Epochs of a full training, for multi-fidelity oracles: three rungs.
_EPOCHS = 9

# Longer than a thread ever waits for a free lock.
_PATIENCE_SECONDS = 30.0


class Search:
    """One search: an oracle, its folder, and what a tuner does with it.

    Args:
        make_oracle: Makes the oracle.
        folder: Project folder; an existing search is resumed.
        space: Makes the hyperparameters to search.
        **options: Further arguments of the oracle.
    """

    def __init__(
        self,
        make_oracle: MakeOracle,
        folder: Path,
        space: Callable[[], keras_tuner.HyperParameters] = wide_space,
        **options: Any,
    ) -> None:
        self._make_oracle = make_oracle
        self.folder = Path(folder)
        self.space = space
        self.options = {
            "objective": keras_tuner.Objective(SCORE, "max"),
            "max_trials": 40,
            "seed": 0,
            "max_consecutive_failed_trials": 0,
            **options,
        }
        self.oracle = self._open()

    def _open(self) -> keras_tuner.Oracle:
        oracle = self._make_oracle(hyperparameters=self.space(), **self.options)
        oracle.verbose = 0
        # KerasTuner 1.4.8 has no public method that sets the folder of an oracle.
        oracle._set_project_dir(str(self.folder.parent), self.folder.name)
        if ProjectLayout(self.folder).oracle.exists():
            oracle.reload()
        if hasattr(oracle, "train_in_rungs"):
            # As a tuner that supports multi-fidelity oracles does.
            oracle.train_in_rungs(_EPOCHS)
        return oracle

    def reopened(self) -> Search:
        """The same search with a new oracle, which resumes from the files of this one."""
        return Search(self._make_oracle, self.folder, self.space, **self.options)

    def start(self, tuner_id: str = "tuner0") -> Trial:
        """Ask for a trial, which may have the status ``"STOPPED"``."""
        return self.oracle.create_trial(tuner_id)

    def finish(self, trial: Trial, score: float | None) -> None:
        """Report a score, or a crash if the score is None."""
        if score is None:
            trial.status, trial.message = TrialStatus.INVALID, "a crash of the contract suite"
        else:
            self.oracle.update_trial(trial.trial_id, {SCORE: score, "loss": 1.0})
            trial.status = TrialStatus.COMPLETED
        self.oracle.end_trial(trial)

    def run(
        self, count: int, outcome: Callable[[Mapping[str, Any]], float | None] | None = None
    ) -> list[dict[str, Any]]:
        """Run up to ``count`` attempts one after the other.

        Args:
            count: Maximum number of attempts.
            outcome: Score by values, where None is a crash; `mixed_outcome` by default.

        Returns:
            The values of each, as they were proposed.
        """
        proposals = []
        for _ in range(count):
            trial = self.start()
            if trial.status == TrialStatus.STOPPED:
                break
            proposals.append(dict(trial.hyperparameters.values))
            self.finish(trial, (outcome or mixed_outcome)(trial.hyperparameters.values))
        return proposals

    def best_ids(self) -> list[str]:
        """Ids of the best trials, best first."""
        return [trial.trial_id for trial in self.oracle.get_best_trials(10_000)]


def is_new(values: Mapping[str, Any]) -> bool:
    """Whether a trial is a new configuration rather than a promotion."""
    fidelity = fidelity_of(values)
    return fidelity is None or fidelity.parent is None


def proposal_key(values: Mapping[str, Any]) -> str:
    """Equal for proposals that no search may make twice: the same values and epochs."""
    fidelity = fidelity_of(values)
    return json.dumps([configuration(values), fidelity and fidelity.epochs], sort_keys=True)


def hashed_score(values: Mapping[str, Any]) -> float:
    """A number in [0, 1) that depends on the values and on nothing else."""
    text = json.dumps(dict(values), sort_keys=True)
    digest = hashlib.blake2b(text.encode(), digest_size=6).digest()
    return int.from_bytes(digest) / 256**6


def mixed_outcome(values: Mapping[str, Any]) -> float | None:
    """A score, and for about one configuration in seven a crash."""
    score = hashed_score(values)
    return None if score < 1 / 7 else score


class InjectedError(Exception):
    """Raised by a strategy that the contract suite has broken."""


@contextlib.contextmanager
def broken(owner: object, method: str) -> Iterator[InjectedError]:
    """Let ``owner.method`` raise; yields the exception that it raises."""
    error = InjectedError(f"{method} was broken by the contract suite")

    def fail(*_: Any, **__: Any) -> None:
        raise error

    setattr(owner, method, fail)
    try:
        yield error
    finally:
        delattr(owner, method)


def in_another_thread(function: Callable[[], Any]) -> Any:
    """Run a function in another thread; fails if it does not return."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()
    thread.join(_PATIENCE_SECONDS)
    assert not thread.is_alive(), "another thread waits forever: a lock is still held"
    assert results, "a call from another thread raised an exception"
    return results[0]


def check_values(hyperparameters: keras_tuner.HyperParameters) -> None:
    """Check that values are complete, active, valid and of plain JSON types.

    By KerasTuner's own conditions and ranges. The epochs of a trial (``tuner/epochs``, ...)
    are no hyperparameters.

    Raises:
        AssertionError: Naming the hyperparameter that is wrong.
    """
    values = configuration(hyperparameters.values)
    active: dict[str, list[Any]] = {}
    for item in hyperparameters.space:
        if hyperparameters.is_active(item):
            active.setdefault(item.name, []).append(item)
    assert set(values) == set(active), (
        f"there must be values of all active hyperparameters {sorted(active)}; "
        f"got {sorted(values)}"
    )
    for name, value in values.items():
        assert type(value) in (bool, int, float, str), (
            f"{name!r} must be a plain bool, int, float or str; got {type(value)}"
        )
        assert any(_allows(item, value) for item in active[name]), (
            f"{name!r} must be a value of {active[name]}; got {value!r}"
        )


def _allows(item: Any, value: Any) -> bool:
    if isinstance(item, kt_types.Int | kt_types.Float):
        return _numeric_allows(item, value)
    return any(type(value) is type(choice) and value == choice for choice in item.values)


def _numeric_allows(item: Any, value: Any) -> bool:
    if type(value) is not (int if isinstance(item, kt_types.Int) else float):
        return False
    if not item.min_value <= value <= item.max_value:
        return False
    if item.step is None:
        return True
    # KerasTuner 1.4.8 loses the last value of Float(0.0, 1.0, step=0.2) to rounding.
    return any(math.isclose(value, step) for step in [*item.values, item.max_value])
