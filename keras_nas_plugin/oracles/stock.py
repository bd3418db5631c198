"""KerasTuner's oracles as baselines, which can be killed and resumed safely.

These faults of KerasTuner 1.4.8 are fixed without changing the proposals of the oracles:

- State files are written in place: a process that is killed while writing leaves a partial file.
- If a process is killed between writing a trial and writing the oracle, the trial stays
  ``RUNNING`` forever and counts as a trial; the Gaussian process uses the score of another trial
  for it.
- `GridSearchOracle` saves neither its order of trials nor its queue: a resumed search ends at
  once, or with a KeyError.
- `BayesianOptimizationOracle` does not save its generator, and reads trials in the order in
  which the file system lists them: a resumed search makes different proposals.
- ``seed=0`` is treated as no seed.
- Three failed trials in a row end the search before the third is saved, so that it also ends
  whenever it is resumed.

An oracle that a user created from KerasTuner's own class gets the same fixes (`make_resumable`),
except for its seed.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import SearchSpaceError, StateError
from keras_nas_plugin.files import remove_leftovers, write_json
from keras_nas_plugin.oracles.failure_policy import FailurePolicy
from keras_nas_plugin.oracles.objectives import Objectives, checked_objective
from keras_nas_plugin.oracles.store import different_search, search_description
from keras_nas_plugin.project import TrialLayout
from keras_nas_plugin.space.hyperparameters import completed, spec_of

# Most values of a hyperparameter in a grid.
_MAX_GRID_VALUES = 100_000

_IDENTITY = "keras_nas_plugin"

# Replaces seed 0. KerasTuner increments the seed for each hyperparameter and trial, so that nearby
# seeds share random numbers; no search counts up to this seed.
_SEED_FOR_ZERO = 2**31 - 1


def nonzero_seed(seed: int | None) -> int | None:
    """Replace seed 0, which KerasTuner treats as no seed.

    >>> nonzero_seed(0), nonzero_seed(7), nonzero_seed(None)
    (2147483647, 7, None)
    """
    return _SEED_FOR_ZERO if seed == 0 else seed


class _Resumable(keras_tuner.Oracle):
    """Mixin of the stock oracles; its methods take precedence over those of KerasTuner."""

    trials: dict[str, Trial]
    # Whether the search may have been started by KerasTuner, whose files name no strategy.
    _reads_files_of_keras_tuner = False

    def __init__(
        self, objective: Objectives = None, *, seed: int | None = None, **options: Any
    ) -> None:
        objective = checked_objective(objective)
        super().__init__(objective=objective, seed=nonzero_seed(seed), **options)

    # KerasTuner's `Oracle` has no public methods for saving a trial and checking failures (1.4.8).

    def _check_consecutive_failures(self) -> None:
        """Do nothing: `end_trial` checks after the trial was saved."""

    def end_trial(self, trial: Trial) -> None:
        """End a trial.

        Args:
            trial: The trial with its status and an optional message.

        Raises:
            TooManyFailuresError: Too many trials in a row failed.
        """
        self._end_and_save(trial)
        # Outside `synchronized`, which does not release KerasTuner's lock after an exception.
        policy = FailurePolicy(self.max_retries_per_trial, self.max_consecutive_failed_trials)
        latest = (self.trials[trial_id] for trial_id in reversed(self.end_order))
        policy.check(self.trials[trial.trial_id], latest)

    @keras_tuner.synchronized
    def _end_and_save(self, trial: Trial) -> None:
        super().end_trial(trial)
        # Grid search changes its state after KerasTuner has written it.
        self.save()

    def _save_trial(self, trial: Trial) -> None:
        layout = TrialLayout(Path(self._get_trial_dir(trial.trial_id)))
        write_json(layout.state, trial.get_state())

    def save(self) -> None:
        """Write the state atomically."""
        write_json(self._get_oracle_fname(), self.get_state())

    def reload(self) -> None:
        """Load the saved search; trials that were running are run again.

        Raises:
            StateError: The files cannot be read, or belong to another search.
        """
        remove_leftovers(self._project_dir)
        if not os.path.exists(self._get_oracle_fname()):
            # Killed before the first trial started: there is nothing to resume.
            return
        try:
            super().reload()
        except StateError:
            raise
        except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise StateError(
                f"the files in {self._project_dir!r} cannot be read ({type(error).__name__}: "
                f"{error}). Restore them, or start over with `overwrite=True`."
            ) from error
        for trial_id in self._retry_queue:
            # The metrics of the interrupted run must not be averaged with those of the next.
            trial = self.trials[trial_id]
            trial.metrics = type(trial.metrics)()

    def get_state(self) -> dict[str, Any]:
        """KerasTuner's state, with the strategy and the objectives of the search."""
        return {**super().get_state(), _IDENTITY: self._identity()}

    def _identity(self) -> list[Any]:
        objectives = getattr(self.objective, "objectives", [self.objective])
        pairs = [[objective.name, objective.direction] for objective in objectives]
        return [type(self).__name__, pairs]

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore a saved state, after the trials were loaded.

        Args:
            state: Returned by `get_state`.

        Raises:
            StateError: The state has another strategy or objective.
        """
        saved, current = state.get(_IDENTITY), self._identity()
        by_keras_tuner = saved is None and "start_order" in state
        if saved != current and not (by_keras_tuner and self._reads_files_of_keras_tuner):
            raise different_search(_search_text(saved), _search_text(current))
        # Only the trials that the saved state counts, in the order in which they started.
        self.trials = {trial_id: self.trials[trial_id] for trial_id in state["start_order"]}
        super().set_state(state)


def _search_text(identity: Sequence[Any] | None) -> str:
    return (
        "one of another oracle or version" if identity is None else search_description(*identity)
    )


class _ResumableBayesian(_Resumable):
    """Saves the generator of KerasTuner's Gaussian process."""

    _random_state: np.random.RandomState

    def get_state(self) -> dict[str, Any]:
        """See `keras_tuner.Oracle`; the state includes the generator."""
        state = self._random_state.get_state(legacy=False)
        generator = state["state"]
        keys, position = generator["key"].tolist(), int(generator["pos"])
        return {**super().get_state(), "generator": [state["bit_generator"], keys, position]}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `keras_tuner.Oracle`."""
        super().set_state(state)
        if "generator" not in state:  # written by KerasTuner
            return
        name, keys, position = state["generator"]
        generator = {"key": np.array(keys, np.uint32), "pos": position}
        # KerasTuner's attribute.
        self._random_state = np.random.RandomState()
        self._random_state.set_state({"bit_generator": name, "state": generator})


class BayesianOptimizationOracle(
    _ResumableBayesian, keras_tuner.oracles.BayesianOptimizationOracle
):
    """KerasTuner's Gaussian process; a resumed search makes the same proposals."""


class _ResumableGrid(_Resumable):
    """Saves the order and the queue of KerasTuner's grid search."""

    _ordered_ids: Any
    _populate_next: list[str]
    _compare: Callable[[Mapping[str, Any], Mapping[str, Any]], int]

    # The first trial of the grid, unless it is the first trial of the search.
    _head: str | None = None
    # Whether the default values of a changed space are the next trial.
    _starts_again = False

    def get_state(self) -> dict[str, Any]:
        """See `keras_tuner.Oracle`; the state includes the order of the grid."""
        return {
            **super().get_state(),
            "order": self._order(),
            "queue": list(self._populate_next),
            "starts_again": self._starts_again,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `keras_tuner.Oracle`."""
        super().set_state(state)
        self._set_order(state.get("order") or self._sorted(self.start_order))
        self._populate_next = list(state.get("queue") or self.end_order)
        self._starts_again = state.get("starts_again", False)

    def _check_size(self) -> None:
        """Reject a grid whose values KerasTuner (1.4.8) cannot list.

        Raises:
            SearchSpaceError: A hyperparameter has too many values.
        """
        space = self.get_space()
        sizes = {decision.name: decision.domain.size for decision in spec_of(space).decisions}
        for item in space.space:
            size = sizes[item.name]
            stepped = getattr(item, "step", None) is not None  # else ten values are taken
            if stepped and size is not None and size > _MAX_GRID_VALUES:
                raise SearchSpaceError(
                    f"`{item.name}` must have at most {_MAX_GRID_VALUES:,} values for a grid "
                    f"search, which lists them; got {size:,}. Pass a larger `step`, or use "
                    "another strategy."
                )

    def restart(self) -> None:
        """Begin the grid again in a changed space; its points that were tried are not repeated."""
        self._check_size()
        self._set_order(self._sorted(self._tried_points()))
        self._populate_next = self._order()
        first = self._populate_next[0] if self._populate_next else None
        self._starts_again = first is None or self._values(first) != self._default_values()

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """See `keras_tuner.Oracle`; the default values are the first point of a grid.

        Raises:
            SearchSpaceError: A hyperparameter has more values than can be listed.
        """
        self._check_size()
        if self._starts_again:
            self._starts_again = False
            self._set_order([trial_id, *self._order()])
            self._populate_next.insert(0, trial_id)
            return {"status": TrialStatus.RUNNING, "values": self._default_values()}
        if self._head is not None:
            # A trial of an earlier space may be run again that is no point of this grid.
            points = set(self._order())
            self._populate_next = [point for point in self._populate_next if point in points]
        proposal: dict[str, Any] = super().populate_space(trial_id)
        return proposal

    def _set_order(self, ids: Sequence[str]) -> None:
        # KerasTuner's linked list, whose class is not public.
        self._ordered_ids = keras_tuner.oracles.GridSearchOracle()._ordered_ids
        for trial_id in ids:
            self._ordered_ids.insert(trial_id)
        self._head = ids[0] if ids else None

    def _order(self) -> list[str]:
        """Ids in the order of the grid; KerasTuner's linked list cannot be iterated."""
        first = self.start_order[:1] if self._head is None else [self._head]
        # An empty grid begins again in a changed space.
        ids = [trial_id for trial_id in first if trial_id in self._ordered_ids._data_to_index]
        while ids and (following := self._ordered_ids.next(ids[-1])) is not None:
            ids.append(following)
        return ids

    def _values(self, trial_id: str) -> dict[str, Any]:
        values: dict[str, Any] = self.trials[trial_id].hyperparameters.values
        return values

    def _sorted(self, ids: Iterable[str]) -> list[str]:
        """Ids in the order of the grid, from the values of the trials."""

        def compare(first: str, second: str) -> int:
            return self._compare(self._values(first), self._values(second))

        return sorted(ids, key=functools.cmp_to_key(compare))

    def _default_values(self) -> dict[str, Any]:
        values: dict[str, Any] = completed(self.get_space(), {}).values
        return values

    def _tried_points(self) -> list[str]:
        """Ids of the trials that are points of the grid."""
        points = []
        for trial_id, trial in self.trials.items():
            space = self.get_space()
            space.values = dict(trial.hyperparameters.values)
            active = [item for item in space.space if space.is_active(item)]
            on_grid = space.values.keys() == {item.name for item in active} and all(
                space.values[item.name] in (item.default, *item.values) for item in active
            )
            if on_grid and trial.status != TrialStatus.INVALID:
                points.append(trial_id)
        return points


class GridSearchOracle(_ResumableGrid, keras_tuner.oracles.GridSearchOracle):
    """KerasTuner's grid search; a resumed search continues where it stopped."""


class _ResumableHyperband(_Resumable):
    """Refuses a search with other brackets, which KerasTuner would continue with its own."""

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `keras_tuner.Oracle`.

        Raises:
            StateError: The saved search has other epochs, by which its brackets were computed.
        """
        given = self._brackets_of(vars(self))
        super().set_state(state)
        saved = self._brackets_of(state)
        if saved != given:
            raise StateError(
                f"`max_epochs` and `factor` must be those of the saved search, {saved}; got "
                f"{given}. Choose another `project_name`, or start over with `overwrite=True`."
            )

    @staticmethod
    def _brackets_of(source: Mapping[str, Any]) -> dict[str, int]:
        return {name: source[name] for name in ("max_epochs", "factor")}


class HyperbandOracle(_ResumableHyperband, keras_tuner.oracles.HyperbandOracle):
    """KerasTuner's Hyperband; its number of trials follows from ``max_epochs``."""


#: The fixes for each of KerasTuner's classes.
_FIXES: tuple[tuple[type[keras_tuner.Oracle], type[_Resumable]], ...] = (
    (keras_tuner.oracles.BayesianOptimizationOracle, _ResumableBayesian),
    (keras_tuner.oracles.GridSearchOracle, _ResumableGrid),
    (keras_tuner.oracles.HyperbandOracle, _ResumableHyperband),
    (keras_tuner.oracles.RandomSearchOracle, _Resumable),
)


def make_resumable(oracle: keras_tuner.Oracle) -> None:
    """Let an oracle of KerasTuner's own classes, or derived from them, resume after a kill.

    The object stays the same: its class is replaced by a subclass of the same name. It also
    resumes a search that KerasTuner has saved.

    Args:
        oracle: Changed if it is one of KerasTuner's oracles; any other is left unchanged.
    """
    if isinstance(oracle, _Resumable):
        return
    for base, fixes in _FIXES:
        if isinstance(oracle, base):
            own = type(oracle)
            names = {
                "__module__": own.__module__,
                "__doc__": own.__doc__,
                "_reads_files_of_keras_tuner": True,
            }
            if not oracle.start_order:
                oracle.given_hyperparameters = oracle.hyperparameters.copy()
            oracle.__class__ = type(own.__name__, (fixes, own), names)
            return
