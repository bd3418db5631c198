"""The searches that a project folder held before they were overwritten."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Sequence

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.files import read_json, write_json
from keras_nas_plugin.project import ProjectLayout

logger = logging.getLogger("keras_nas_plugin")


@dataclasses.dataclass(frozen=True)
class OverwrittenSearch:
    """A search whose project folder was deleted, and whose runs may still exist.

    Attributes:
        search_id: Its id.
        experiment: The experiment that it was logged to; None if it is not known.
    """

    search_id: str
    experiment: str | None = None

    @classmethod
    def of(cls, directory: str | os.PathLike[str]) -> tuple[OverwrittenSearch, ...]:
        """The search in a project folder, and those that it has overwritten.

        To be called before the folder is deleted. What cannot be read is left out.

        Args:
            directory: The project folder; it need not exist.
        """
        layout = ProjectLayout.of(directory)
        try:
            search_id = layout.search_id.read_text(encoding="utf-8").strip()
        except OSError:
            return cls.load(directory)
        try:
            experiment = read_json(layout.tracking)["settings"]["experiment"]
        except (OSError, StateError, KeyError, TypeError):
            experiment = None
        current = cls(search_id, experiment)
        return (*cls.load(directory), *([current] if search_id else []))

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> tuple[OverwrittenSearch, ...]:
        """The searches that `save` wrote; empty if there are none that can be read."""
        try:
            entries = read_json(ProjectLayout.of(directory).overwritten)
            return tuple(cls(**entry) for entry in entries)
        except (OSError, StateError, TypeError):
            return ()

    @staticmethod
    def save(directory: str | os.PathLike[str], searches: Sequence[OverwrittenSearch]) -> None:
        """Write searches to the folder of the search that replaced them; a failure is logged.

        Args:
            directory: The project folder, which must exist.
            searches: The searches; nothing is written if there are none.
        """
        if not searches:
            return
        try:
            entries = [dataclasses.asdict(search) for search in searches]
            write_json(ProjectLayout.of(directory).overwritten, entries)
        except OSError as error:
            logger.warning("The runs of the overwritten search are not marked: %s", error)

    @staticmethod
    def clear(directory: str | os.PathLike[str]) -> None:
        """Delete what `save` wrote; a failure is logged."""
        try:
            ProjectLayout.of(directory).overwritten.unlink(missing_ok=True)
        except OSError as error:  # the runs are marked once more, which changes nothing
            logger.debug("The list of overwritten searches was not deleted: %s", error)
