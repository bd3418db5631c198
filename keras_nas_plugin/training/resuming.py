"""Saves the search of a tuner, and resumes it in the space that its program declares now."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import keras_tuner

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


class ResumableSearch:
    """The files of a tuner and its oracle, and what a program has changed since they were written.

    KerasTuner calls hooks of the tuner, which call these methods.

    Args:
        tuner: The tuner; it may not be initialised yet.
        oracle: Its oracle, which a worker of KerasTuner's service replaces by a client.
        role: Role of this process.
        on_change: See `keras_nas_plugin.NASTuner`.
        tuner_id: The argument of the tuner, which KerasTuner (1.4.8) sets after it has looked for
            the tuner's file.

    Attributes:
        space_changes: What the program has changed in the space of a resumed search.
    """

    def __init__(
        self,
        tuner: keras_tuner.Tuner,
        oracle: keras_tuner.Oracle,
        *,
        role: Role,
        on_change: str,
        tuner_id: str | None,
    ) -> None:
        self._tuner = tuner
        self._oracle = oracle
        self._role = role
        self._on_change = on_change
        self._tuner_id = tuner_id
        self._unconfirmed = UnconfirmedRanges()
        self.space_changes: tuple[str, ...] = ()

    @property
    def range_checks(self) -> RangeChecks:
        """Recognizes ranges that were changed before the search was resumed.

        In a worker of KerasTuner's service, the chief does.
        """
        return getattr(self._tuner.oracle, "range_checks", self._unconfirmed)

    def reload(
        self,
        load: Callable[[], None],
        populate: Callable[[], None],
        *,
        declares_while_training: bool,
    ) -> None:
        """Load the saved search, and continue it in the space that the program declares now.

        Args:
            load: KerasTuner's `Tuner.reload`.
            populate: The tuner's hook that adds what the hypermodel declares to the space of the
                oracle; a subclass may have overridden it.
            declares_while_training: Whether training may declare hyperparameters that building
                the model does not.

        Raises:
            StateError: The search cannot be read, or its space was changed and ``on_change`` is
                ``"error"``.
        """
        read_only = getattr(self._oracle, "read_only", False)
        if read_only or not self._role.owns_search:
            load()
            return
        hypermodel = self._tuner.hypermodel
        self.space_changes, unconfirmed = resume(
            self._oracle,
            Path(self._tuner.project_dir),
            load=load,
            populate=populate,
            build=hypermodel.build if hypermodel is not None else None,
            on_change=self._on_change,
            declares_while_training=declares_while_training,
        )
        self._unconfirmed.names |= unconfirmed

    def continue_in_range(self, change: ChangedRangeError) -> None:
        """Continue the search in a range that training declares, as after a restart.

        Args:
            change: What interrupted the search.

        Raises:
            StateError: ``on_change`` is ``"error"``.
        """
        if not self._role.owns_search:
            return  # the chief does, to which the worker has reported the range
        self._unconfirmed.names.discard(change.declared.name)
        self.space_changes += change_range(
            self._oracle, change.declared, on_change=self._on_change
        )

    def save_new(self) -> None:
        """Write the state of a search that has no files yet.

        KerasTuner resumes if the tuner's file exists, but writes it only after the first trial.
        """
        if not Path(self.file).exists():
            self._tuner.save()

    def save(self) -> None:
        """Write the state of the oracle and, the first time, of the tuner."""
        path = Path(self.file)
        first = not path.exists()
        # Oracles of this package save themselves, and a worker's oracle is the chief's.
        saves_itself = isinstance(self._oracle, NASOracle)
        if self._role.owns_search and (first or not saves_itself):
            self._oracle.save()
        if first:
            write_json(path, self._tuner.get_state())

    def populate_space(self) -> None:
        """Add what the hypermodel declares to the space of the oracle."""
        hypermodel, oracle = self._tuner.hypermodel, self._tuner.oracle
        if hypermodel is None:
            return
        hyperparameters = oracle.get_space()
        hypermodel.declare_hyperparameters(hyperparameters)
        oracle.update_space(hyperparameters)
        discover(hypermodel.build, oracle.get_space, oracle.update_space)

    @property
    def file(self) -> str:
        """The file with the state of the tuner, by which a search is recognised."""
        own, *alternatives = (
            os.path.join(str(self._tuner.project_dir), f"{name}.json")
            for name in (self._tuner_id or self._tuner.tuner_id, "chief", "tuner0")
        )
        if self._role.owns_search and not os.path.exists(own):
            # A chief resumes the search of a single process, and the other way round.
            return next((path for path in alternatives if os.path.exists(path)), own)
        return own
