"""KerasTuner's own oracles as baselines, with what a killed and resumed search needs.

Seen in KerasTuner 1.4.8, and mended here without a change to what they propose:

- State files are written in place: a process killed meanwhile leaves half of one.
- A trial whose file was written, but not yet the oracle's, stays ``RUNNING`` for ever and counts
  as a trial; the Gaussian process then takes another trial's score for its own.
- `GridSearchOracle` saves neither its order of trials nor its queue: a resumed search ends at
  once, or with a KeyError.
- `BayesianOptimizationOracle` does not save its generator, and reads trials in the order in
  which the file system lists them: a resumed search proposes something else.
- ``seed=0`` is taken for no seed.
- Three failed trials in a row end the search before the third is saved, and each later
  resume again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.trial import Trial

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.files import remove_leftovers, write_json
from keras_nas_plugin.oracles.failing import check_failures
from keras_nas_plugin.oracles.objectives import checked_objective

_IDENTITY = "keras_nas_plugin"

# What stands for seed 0. KerasTuner counts upwards from a seed, once per hyperparameter and
# trial, so that near seeds share numbers; nobody counts up to here.
_ZERO = 2**31 - 1


def nonzero_seed(seed: int | None) -> int | None:
    """A seed that KerasTuner does not take for none.

    >>> nonzero_seed(0), nonzero_seed(7), nonzero_seed(None)
    (2147483647, 7, None)
    """
    return _ZERO if seed == 0 else seed


class _Resumable(keras_tuner.Oracle):
    """What the stock oracles share; placed before theirs in the order of classes."""

    def __init__(self, objective: Any = None, *, seed: int | None = None, **options: Any) -> None:
        objective = checked_objective(objective)
        super().__init__(objective=objective, seed=nonzero_seed(seed), **options)

    # KerasTuner's `Oracle` has no public names for writing and checking (1.4.8).

    def _check_consecutive_failures(self) -> None:
        """Nothing yet: `end_trial` checks when the trial is on disk."""

    def end_trial(self, trial: Trial) -> None:
        """End a trial.

        Args:
            trial: With its status and an optional message.

        Raises:
            TooManyFailuresError: So many trials failed in a row that the search ends.
        """
        self._end_and_save(trial)
        # KerasTuner's lock stays held after an exception, so none is raised inside.
        check_failures(self, self.trials[trial.trial_id])

    @keras_tuner.synchronized
    def _end_and_save(self, trial: Trial) -> None:
        super().end_trial(trial)
        # Grid search changes its state after KerasTuner has written it.
        self.save()

    def _save_trial(self, trial: Trial) -> None:
        write_json(
            os.path.join(self._get_trial_dir(trial.trial_id), "trial.json"), trial.get_state()
        )

    def save(self) -> None:
        """Write the state in one piece."""
        write_json(self._get_oracle_fname(), self.get_state())

    def reload(self) -> None:
        """Read the state of an earlier process; trials that were running run again.

        Raises:
            StateError: The files cannot be read, or belong to another search.
        """
        remove_leftovers(self._project_dir)
        if not os.path.exists(self._get_oracle_fname()):
            # Killed before the first trial was handed out: nothing to go on with.
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
            # What an attempt reported that came to nothing must not be averaged in.
            waiting = self.trials[trial_id]
            waiting.metrics = type(waiting.metrics)()

    def get_state(self) -> dict[str, Any]:
        """KerasTuner's state, and whose it is."""
        return {**super().get_state(), _IDENTITY: self._identity()}

    def _identity(self) -> list[Any]:
        objectives = getattr(self.objective, "objectives", [self.objective])
        return [type(self).__name__, [[one.name, one.direction] for one in objectives]]

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take a state over; trials must be loaded before.

        Raises:
            StateError: Another strategy or objective was searched for.
        """
        saved, own = state.get(_IDENTITY), self._identity()
        if saved != own:
            raise StateError(
                f"the saved search is {_in_words(saved)}, and `oracle` is {_in_words(own)}. "
                "Choose another `project_name` (`--project-name`), or start over with "
                "`overwrite=True` (`--overwrite`)."
            )
        # Without trials that no saved state knows, and in the order of their starts.
        self.trials = {trial_id: self.trials[trial_id] for trial_id in state["start_order"]}
        super().set_state(state)


def _in_words(identity: Any) -> str:
    if identity is None:
        return "of another oracle or version"
    name, objectives = identity
    return f"{name} for " + " and ".join(f"{metric} ({way})" for metric, way in objectives)


class BayesianOptimizationOracle(_Resumable, keras_tuner.oracles.BayesianOptimizationOracle):
    """KerasTuner's Gaussian process; a resumed search goes on as it would have."""

    def get_state(self) -> dict[str, Any]:
        """See `keras_tuner.Oracle`; the generator belongs to it."""
        kind, keys, position, *_ = self._random_state.get_state()
        return {**super().get_state(), "generator": [kind, keys.tolist(), int(position)]}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `keras_tuner.Oracle`."""
        super().set_state(state)
        kind, keys, position = state["generator"]
        # KerasTuner's own attribute, of this type.
        self._random_state = np.random.RandomState()
        self._random_state.set_state((kind, np.array(keys, np.uint32), position))


class GridSearchOracle(_Resumable, keras_tuner.oracles.GridSearchOracle):
    """KerasTuner's grid search; a resumed search goes on where it ended."""

    def get_state(self) -> dict[str, Any]:
        """See `keras_tuner.Oracle`; the order of the grid belongs to it."""
        return {**super().get_state(), "order": self._order(), "queue": list(self._populate_next)}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `keras_tuner.Oracle`."""
        super().set_state(state)
        fresh = keras_tuner.oracles.GridSearchOracle(objective=self.objective)
        self._ordered_ids = fresh._ordered_ids
        for trial_id in state["order"]:
            self._ordered_ids.insert(trial_id)
        self._populate_next = list(state["queue"])

    def _order(self) -> list[str]:
        """Ids along the grid; KerasTuner's linked list cannot be iterated."""
        ids = list(self.start_order[:1])
        while ids and (following := self._ordered_ids.next(ids[-1])) is not None:
            ids.append(following)
        return ids


class HyperbandOracle(_Resumable, keras_tuner.oracles.HyperbandOracle):
    """KerasTuner's Hyperband; its number of trials follows from ``max_epochs``."""
