"""Reading and writing the files of a search, so that a kill at any moment loses nothing.

Each trial has a file with its result. ``oracle.json`` has the number of started trials, the
number of rejected candidates (see `infeasible_log`) and the state of the generator. Each file is
replaced atomically, that of the trial first. A kill between the two leaves either a started trial
that ``oracle.json`` does not count, which is proposed again with the same values, or an ended
trial that it does not know, whose file counts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.files import read_json, remove_leftovers, write_json
from keras_nas_plugin.project import ProjectLayout, TrialLayout

#: Version of ``oracle.json``.
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class SavedSearch:
    """Content of the files of a search.

    Attributes:
        state: Content of ``oracle.json``.
        trials: Content of each trial's file, in no particular order.
    """

    state: Mapping[str, Any]
    trials: Sequence[Mapping[str, Any]]


class Storage:
    """Reads and writes the files of a search, without interpreting their content.

    Args:
        folder: The project folder; created by the first write.
    """

    def __init__(self, folder: Path) -> None:
        self._layout = ProjectLayout(folder)
        # Trials whose last write failed, for example on a full disk.
        self._unsaved: dict[str, Mapping[str, Any]] = {}

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state of the oracle.

        Args:
            state: Content of the file, as JSON data.

        Raises:
            OSError: The folder cannot be written.
        """
        self._layout.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._layout.oracle, state)

    def save_trial(self, trial_id: str, data: Mapping[str, Any]) -> None:
        """Write the file of a trial, and those of trials whose last write failed.

        Args:
            trial_id: Id of the trial.
            data: Content of the file, as JSON data.

        Raises:
            OSError: The folder cannot be written.
        """
        self._unsaved[trial_id] = data
        for unsaved_id, unsaved in list(self._unsaved.items()):
            layout = self._layout.trial(unsaved_id)
            layout.folder.mkdir(parents=True, exist_ok=True)
            write_json(layout.state, unsaved)
            del self._unsaved[unsaved_id]

    def load(self) -> SavedSearch | None:
        """Read the saved search, and delete temporary files that killed processes left.

        Returns:
            The search; None if it was killed before its first trial started.

        Raises:
            StateError: A file cannot be read.
        """
        try:
            state = read_json(self._layout.oracle)
        except FileNotFoundError:
            return None
        remove_leftovers(self._layout.folder)
        paths = (trial.state for trial in self._layout.trials())
        return SavedSearch(state, [read_json(path) for path in paths if path.exists()])


def load_parents(folder: Path) -> tuple[str, ...]:
    """The parents of a trial: the trials from which it was derived by mutation or crossover.

    Args:
        folder: The trial's folder.

    Returns:
        Ids of the parents; empty if none are recorded.
    """
    try:
        return tuple(read_json(TrialLayout(folder).state).get("nas", {}).get("parents", ()))
    except FileNotFoundError:
        return ()


def check_format(state: Mapping[str, Any]) -> None:
    """Check the format of ``oracle.json``.

    Args:
        state: Content of the file.

    Raises:
        StateError: Another oracle or version wrote the file.
    """
    if state.get("format") != FORMAT:
        raise StateError(
            f"`oracle.json` must have format {FORMAT}; got {state.get('format')!r}. Another "
            "version or another oracle wrote it: choose another `project_name`, or pass "
            "`overwrite=True` to start over."
        )


def different_search(saved: str, current: str) -> StateError:
    """The error for a project folder that has the search of another oracle.

    Args:
        saved: The saved search: see `search_description`.
        current: The search of the oracle.

    Returns:
        The error, to be raised by the caller.
    """
    return StateError(
        f"`oracle` must be that of the saved search, {saved}; got {current}. Choose another "
        "`project_name` (`--project-name`), or start over with `overwrite=True` "
        "(`--overwrite`)."
    )


def search_description(strategy: str, objectives: Sequence[Sequence[str]]) -> str:
    """A strategy and its objectives, for messages.

    Args:
        strategy: Name of the strategy.
        objectives: Name and direction of each objective.

    >>> search_description("RandomSearch", [["val_loss", "min"]])
    'RandomSearch for val_loss (min)'
    """
    return f"{strategy} for {objectives_description(objectives)}"


def objectives_description(objectives: Iterable[Sequence[str]]) -> str:
    """Objectives with their directions, for messages.

    Args:
        objectives: Name and direction of each objective.

    >>> objectives_description([("val_accuracy", "max"), ("params", "min")])
    'val_accuracy (max) and params (min)'
    """
    return " and ".join(f"{name} ({direction})" for name, direction in objectives)
