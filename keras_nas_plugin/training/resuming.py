"""The part of a tuner that saves its search and resumes it."""

from __future__ import annotations

import functools
import os
from pathlib import Path

import keras_tuner

from keras_nas_plugin import project
from keras_nas_plugin.files import write_json
from keras_nas_plugin.oracles.base import NASOracle
from keras_nas_plugin.roles import Role
from keras_nas_plugin.space.declarations import (
    ChangedRangeError,
    RangeChecks,
    UnconfirmedRanges,
)
from keras_nas_plugin.space.discovery import discover
from keras_nas_plugin.training.changes import change_range, resume


class ResumableTuner(keras_tuner.Tuner):
    """A tuner that resumes its search in the space that its program declares now.

    Attributes:
        on_change: See `keras_nas_plugin.NASTuner`.
        space_changes: What the program has changed in the space of a resumed search.
    """

    on_change: str
    _role: Role
    # In a worker process `self.oracle` becomes a client with seven methods.
    _local_oracle: keras_tuner.Oracle
    _own_tuner_id: str | None
    space_changes: tuple[str, ...] = ()

    @property
    def declares_while_training(self) -> bool:
        """Whether training may declare hyperparameters that building the model does not."""
        return False

    @functools.cached_property
    def unconfirmed(self) -> UnconfirmedRanges:
        """The hyperparameters of a resumed search that the program has not declared yet."""
        return UnconfirmedRanges()

    @property
    def range_checks(self) -> RangeChecks:
        """Recognizes ranges that were changed before the search was resumed.

        In a worker of KerasTuner's service, the chief does.
        """
        return getattr(self.oracle, "range_checks", self.unconfirmed)

    @property
    def search_id(self) -> str:
        """Unique id of this search; a resumed search keeps it."""
        return project.search_id(Path(self.project_dir))

    def reload(self) -> None:
        """Load the saved search, and continue it in the space that the program declares now.

        Raises:
            StateError: The search cannot be read, or its space was changed and ``on_change`` is
                ``"error"``.
        """
        read_only = getattr(self._local_oracle, "read_only", False)
        if read_only or not self._role.owns_search:
            super().reload()
            return
        self.space_changes, unconfirmed = resume(
            self._local_oracle,
            Path(self.project_dir),
            load=super().reload,
            populate=self._populate_initial_space,
            build=self.hypermodel.build if self.hypermodel is not None else None,
            on_change=self.on_change,
            declares_while_training=self.declares_while_training,
        )
        self.unconfirmed.names |= unconfirmed

    def continue_in_range(self, change: ChangedRangeError) -> None:
        """Continue the search in a range that training declares, as after a restart.

        Args:
            change: What interrupted the search.

        Raises:
            StateError: ``on_change`` is ``"error"``.
        """
        if not self._role.owns_search:
            return  # the chief does, to which the worker has reported the range
        self.unconfirmed.names.discard(change.declared.name)
        self.space_changes += change_range(
            self._local_oracle, change.declared, on_change=self.on_change
        )

    def save_new(self) -> None:
        """Write the state of a search that has no files yet.

        KerasTuner resumes if the tuner's file exists, but writes it only after the first trial.
        """
        if not Path(self._get_tuner_fname()).exists():
            self.save()

    def save(self) -> None:
        """Write the state of the oracle and, the first time, of the tuner."""
        path = Path(self._get_tuner_fname())
        first = not path.exists()
        # Oracles of this package save themselves, and a worker's oracle is the chief's.
        saves_itself = isinstance(self._local_oracle, NASOracle)
        if self._role.owns_search and (first or not saves_itself):
            self._local_oracle.save()
        if first:
            write_json(path, self.get_state())

    def _populate_initial_space(self) -> None:
        if self.hypermodel is None:
            return
        hyperparameters = self.oracle.get_space()
        self.hypermodel.declare_hyperparameters(hyperparameters)
        self.oracle.update_space(hyperparameters)
        discover(self.hypermodel.build, self.oracle.get_space, self.oracle.update_space)

    def _get_tuner_fname(self) -> str:
        # KerasTuner (1.4.8) looks for the file before it knows `tuner_id`, and never finds it.
        own, *alternatives = (
            os.path.join(str(self.project_dir), f"{name}.json")
            for name in (self._own_tuner_id or self.tuner_id, "chief", "tuner0")
        )
        if self._role.owns_search and not os.path.exists(own):
            # A chief resumes the search of a single process, and the other way round.
            return next((path for path in alternatives if os.path.exists(path)), own)
        return own
