"""Files of trials on their way between a driver and nodes that do not have its project folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from keras_nas_plugin.oracles.store import load_parents
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.trial import TrialRecord
from keras_nas_plugin.space.fidelity import fidelity_of
from keras_nas_plugin.space.spec import Values

#: Contents of files, by their path in the project folder.
Files = dict[str, bytes]


def _parents(layout: ProjectLayout, values: Values) -> Iterator[str]:
    """The trial that a trial continues, the one that this continues, and so on."""
    fidelity = fidelity_of(values)
    while fidelity is not None and fidelity.parent is not None:
        yield fidelity.parent
        record = TrialRecord.load(layout.trial(fidelity.parent).folder)
        fidelity = None if record is None else fidelity_of(record.values)


def needed_files(
    layout: ProjectLayout, trial_id: str, values: Values, *, inherits: bool = False
) -> Files:
    """What a worker without the project folder needs to train a trial.

    Args:
        layout: The project folder.
        trial_id: The trial.
        values: Its hyperparameters.
        inherits: Whether trials start from the weights of the trials that they were bred from.

    Returns:
        The files of the trial and of the trials that it continues or was bred from, and the
        records of those that are continued before.
    """
    files = _read(layout, layout.trial(trial_id).folder.rglob("*"))
    for generation, parent in enumerate(_parents(layout, values)):
        trial = layout.trial(parent)
        files |= _read(layout, [trial.record] if generation else trial.folder.rglob("*"))
    for parent in load_parents(layout.trial(trial_id).folder) if inherits else ():
        files |= _read(layout, layout.trial(parent).folder.rglob("*"))
    return files


def _read(layout: ProjectLayout, paths: Iterator[Path] | list[Path]) -> Files:
    return {
        path.relative_to(layout.folder).as_posix(): path.read_bytes()
        for path in paths
        if path.is_file()
    }


def read_trial(layout: ProjectLayout, trial_id: str) -> Files:
    """Read what a trial has written, and delete the files of all trials.

    Args:
        layout: The project folder of this worker.
        trial_id: The trial.
    """
    files = _read(layout, layout.trial(trial_id).folder.rglob("*"))
    shutil.rmtree(layout.folder, ignore_errors=True)
    return files


def write_files(layout: ProjectLayout, files: Mapping[str, bytes]) -> None:
    """Write files.

    Args:
        layout: The project folder.
        files: Contents by path.
    """
    for name, content in files.items():
        path = layout.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
