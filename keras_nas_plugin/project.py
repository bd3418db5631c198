"""The project folder of a search: the paths of its files, its id and its lock."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.files import (
    TEMPORARY_PREFIX,
    file_lock,
    remove_leftovers,
    temporary_neighbour,
)

_TRIAL_PREFIX = "trial_"
_LAST_EPOCH = "last_{}.weights.h5"
_locked_folders: contextvars.ContextVar[frozenset[str]] = contextvars.ContextVar(
    "locked_folders", default=frozenset()
)


#: Folder of all searches where no other is given, and name of a search without one.
SEARCHES, UNTITLED = "searches", "untitled_project"


@dataclasses.dataclass(frozen=True)
class TrialLayout:
    """Paths of the files in the folder of a trial.

    Attributes:
        folder: The trial's folder.
    """

    folder: Path

    @property
    def trial_id(self) -> str:
        """KerasTuner's id of the trial."""
        return self.folder.name.removeprefix(_TRIAL_PREFIX)

    @property
    def state(self) -> Path:
        """The oracle's state of the trial."""
        return self.folder / "trial.json"

    @property
    def record(self) -> Path:
        """The record of the finished trial: see `keras_nas_plugin.records.trial`."""
        return self.folder / "record.json"

    @property
    def run(self) -> Path:
        """The id of the trial's run in the tracking store."""
        return self.folder / "run.json"

    @property
    def traceback(self) -> Path:
        """The whole traceback of a failed trial."""
        return self.folder / "traceback.txt"

    @property
    def architecture(self) -> Path:
        """The architecture as JSON, if the hypermodel describes it."""
        return self.folder / "architecture.json"

    @property
    def picture(self) -> Path:
        """The architecture, or the layers of the model, as a picture."""
        return self.folder / "architecture.svg"

    @property
    def model_summary(self) -> Path:
        """The layers of the model as text."""
        return self.folder / "model_summary.txt"

    def last_epoch(self, execution: int) -> Path:
        """Weights and optimizer state after the last epoch, from which a promotion continues."""
        return self.folder / _LAST_EPOCH.format(execution)

    def discard_last_epochs(self) -> None:
        """Delete the files of `last_epoch` of all executions."""
        for path in self.folder.glob(_LAST_EPOCH.format("*")):
            path.unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True)
class ProjectLayout:
    """Paths of the files in a project folder.

    Attributes:
        folder: The project folder: ``directory/project_name`` of a tuner.
    """

    folder: Path

    @classmethod
    def of(cls, folder: str | os.PathLike[str]) -> ProjectLayout:
        """The layout of a folder.

        Args:
            folder: The project folder; it need not exist.
        """
        return cls(Path(folder))

    @property
    def search(self) -> Path:
        """Description of the search: its space, strategy, objectives and data."""
        return self.folder / "search.json"

    @property
    def search_id(self) -> Path:
        """The search's id."""
        return self.folder / "search_id"

    @property
    def oracle(self) -> Path:
        """The oracle's state, except for the trials."""
        return self.folder / "oracle.json"

    @property
    def warm_start(self) -> Path:
        """Trials of earlier searches that the oracle learned from."""
        return self.folder / "earlier.json"

    @property
    def infeasible_log(self) -> Path:
        """Candidates that broke a constraint before training, one JSON object per line."""
        return self.folder / "infeasible.jsonl"

    @property
    def infeasible_summary(self) -> Path:
        """How many candidates broke which constraint."""
        return self.folder / "infeasible.json"

    @property
    def proxy_scores(self) -> Path:
        """Zero-cost proxies by architecture, one JSON object per line."""
        return self.folder / "proxies.jsonl"

    @property
    def supernet(self) -> Path:
        """Folder of the supernet: its checkpoint, its record, its scores and its figure."""
        return self.folder / "supernet"

    @property
    def supernet_state(self) -> Path:
        """How far the training of the supernet is: its settings, and its metrics by epoch."""
        return self.supernet / "state.json"

    @property
    def supernet_weights(self) -> Path:
        """A picture of the weights of the options by epoch, of a differentiable search."""
        return self.supernet / "weights.svg"

    @property
    def supernet_scores(self) -> Path:
        """Scores of architectures with the supernet, one JSON object per line."""
        return self.supernet / "scores.jsonl"

    @property
    def split_scores(self) -> Path:
        """Scores of architectures with sub-supernets, as in `supernet_scores`."""
        return self.supernet / "split_scores.jsonl"

    def sub_supernet(self, number: int) -> Path:
        """Folder of a sub-supernet, with what `supernet` has.

        Args:
            number: Index of the option that it has.
        """
        return self.supernet / f"part_{number}"

    @property
    def recipe(self) -> Path:
        """The recipe that the command line searched with."""
        return self.folder / "recipe.json"

    @property
    def tracking(self) -> Path:
        """The tracking store and the run of the search."""
        return self.folder / "tracking.json"

    @property
    def overwritten(self) -> Path:
        """Searches that this one replaced, and whose runs are not marked as overwritten yet."""
        return self.folder / "overwritten.json"

    @property
    def importance(self) -> Path:
        """Importance of the decisions, as in the report of the search."""
        return self.folder / "importance.json"

    @property
    def outbox(self) -> Path:
        """Folder of the records that the tracking store has not accepted yet."""
        return self.folder / "outbox"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    @property
    def registration(self) -> Path:
        """The last model that was registered."""
        return self.folder / "registered_model.json"

    @property
    def retraining(self) -> Path:
        """The summary of the last retraining."""
        return self.retrained / "retraining.json"

    @property
    def retrained(self) -> Path:
        """Folder of the retrained models."""
        return self.folder / "retrained"

    @property
    def search_lock(self) -> Path:
        """Held by the process that runs the search."""
        return self.folder / ".search.lock"

    @property
    def sending_lock(self) -> Path:
        """Held by the process that sends trials to the tracking store."""
        return self.folder / ".sending.lock"

    @property
    def mlflow_lock(self) -> Path:
        """Held while the MLflow run of the search is looked up or created."""
        return self.folder / ".mlflow.lock"

    @property
    def retraining_lock(self) -> Path:
        """Held by the process that retrains."""
        return self.folder / ".retrained.lock"

    @property
    def registration_lock(self) -> Path:
        """Held by the process that registers a model of the search."""
        return self.folder / ".registered.lock"

    def trial(self, trial_id: str) -> TrialLayout:
        """The files of a trial, which need not exist."""
        return TrialLayout(self.folder / f"{_TRIAL_PREFIX}{trial_id}")

    def trials(self) -> list[TrialLayout]:
        """The trials that have a folder, in the order of their ids.

        Ids are padded with zeros. Shorter ids come first, because ids become longer when
        ``max_trials`` is raised.
        """
        folders = self.folder.glob(f"{_TRIAL_PREFIX}*")
        return [TrialLayout(path) for path in sorted(folders, key=_by_length_and_name)]


def _by_length_and_name(path: Path) -> tuple[int, str]:
    return len(path.name), path.name


def default_directory(project_name: str | None) -> str:
    """The folder of searches where no `directory` is given.

    It is `SEARCHES`, as on the command line. Earlier versions used the working directory: a search
    that is there is resumed there.

    Args:
        project_name: Name of the search, or None.
    """
    here = ProjectLayout.of(project_name or UNTITLED)
    return "." if here.search.exists() or here.oracle.exists() else SEARCHES


def check_writable(directory: str | os.PathLike[str], project_name: str) -> Path:
    """Create the project folder, check that it can be written, and delete temporary files.

    Args:
        directory: Parent of the project folder.
        project_name: Name of the project folder.

    Returns:
        The project folder.

    Raises:
        StateError: The folder cannot be created or written.
    """
    folder = Path(directory) / project_name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder, prefix=TEMPORARY_PREFIX):
            remove_leftovers(folder)
            return folder
    except OSError as error:
        raise StateError(
            f"`directory` must be a writable folder; got {str(directory)!r}, where "
            f"{str(folder)!r} cannot be written: {error.strerror or error}"
        ) from error


def search_id(folder: Path) -> str:
    """The id of the search in a project folder, created on first use.

    Several workers may call this at the same time; all of them get the id that is written first.

    Args:
        folder: The project folder, which must exist.
    """
    path = ProjectLayout(folder).search_id
    if not path.exists():
        draft = temporary_neighbour(path)
        draft.write_text(secrets.token_hex(8), encoding="utf-8")
        try:
            # Fails if the file exists, and never leaves a partial file.
            os.link(draft, path)
        except FileExistsError:
            pass  # another worker was first; its id is read below
        except OSError:
            # No hard links (FAT, many network drives): here a kill may leave a partial id.
            with contextlib.suppress(FileExistsError), open(path, "x", encoding="utf-8") as file:
                file.write(draft.read_text(encoding="utf-8"))
        finally:
            draft.unlink()
    return path.read_text(encoding="utf-8")


@contextlib.contextmanager
def exclusive_search_lock(
    folder: str | os.PathLike[str], *, exclusive: bool = True
) -> Iterator[None]:
    """Hold the lock of a search while the block runs, so that no second process runs it.

    Args:
        folder: The project folder.
        exclusive: False takes no lock: a search may have several workers.

    Raises:
        StateError: Another process of this machine runs the search.
    """
    with contextlib.ExitStack() as stack:
        if exclusive:
            try:
                lock = ProjectLayout.of(folder).search_lock
                stack.enter_context(file_lock(lock, wait=False))
            except BlockingIOError as error:
                raise StateError(
                    "`project_name` must be a search that no other process is running; got "
                    f"{str(folder)!r}, which another process is running. Wait for it, stop it, "
                    "or choose another `project_name`."
                ) from error
            folders = _locked_folders.get() | {os.path.realpath(folder)}
            stack.callback(_locked_folders.reset, _locked_folders.set(folders))
        yield


def holds_search_lock(folder: str | os.PathLike[str]) -> bool:
    """Whether the caller runs inside `exclusive_search_lock` of this search.

    Args:
        folder: The project folder.
    """
    return os.path.realpath(folder) in _locked_folders.get()
