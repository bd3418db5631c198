"""What is known of a search and of its trials, as plain data that outlives the process.

The tuner writes one `TrialRecord` beside each trial's checkpoint and one `SearchInfo` in the
project folder; trackers, the command line and reports read them without TensorFlow.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.files import read_json, write_json

#: What a trial's folder holds of its architecture, where the hypermodel describes it.
ARCHITECTURE, PICTURE = "architecture.json", "architecture.svg"
#: What a project folder holds for people, once a search has ended.
REPORT = "report.html"
FINISHED, FAILED, KILLED = "FINISHED", "FAILED", "KILLED"
Status = Literal["FINISHED", "FAILED", "KILLED"]

_SEARCH_FILE = "search.json"
_RECORD_FILE = "record.json"
_RUN_FILE = "run.json"
_MODEL_FILE = "registered_model.json"
_REFUSED_FILE = "infeasible.json"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """One data set that a search trained or validated on.

    Attributes:
        name: What people call it, for example ``"digits"``.
        context: ``"training"``, ``"validation"`` or ``"test"``.
        digest: Eight or more hexadecimal characters of a hash over the content, or
            over the element structure where the content is not at hand (`tf.data`).
        profile: Shapes, types and row counts, JSON-able.
    """

    name: str
    context: str
    digest: str
    profile: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchInfo:
    """A search: what is searched, how, on what and where.

    Attributes:
        search_id: Unique over all searches; a resumed search keeps it.
        name: The project's name.
        objective: Metric that is searched for, for example ``"val_accuracy"``.
        direction: ``"max"`` or ``"min"``.
        objectives: Name and direction of each, where there are several; `objective` is then
            KerasTuner's sum of them, ``"multi_objective"``.
        strategy: Class name of the oracle.
        max_trials: Most trials the search may run, or None.
        space: One mapping per hyperparameter: ``name``, ``type`` and its domain.
        settings: Arguments worth comparing between searches (epochs, seed, ...).
        environment: Device, precision, library versions.
        datasets: What the search trained and validated on.
        constraints: Limits that the best trial keeps: ``name``, ``max`` and ``min`` of each.
        directory: The project folder.
        resume_command: Shell command that goes on with this search, or None.
    """

    search_id: str
    name: str
    objective: str
    direction: str
    strategy: str
    max_trials: int | None
    space: tuple[Mapping[str, Any], ...] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    datasets: tuple[DatasetInfo, ...] = ()
    constraints: tuple[Mapping[str, Any], ...] = ()
    directory: str = "."
    resume_command: str | None = None
    objectives: tuple[tuple[str, str], ...] = ()

    def save(self) -> None:
        """Write this to the project folder."""
        write_json(Path(self.directory) / _SEARCH_FILE, dataclasses.asdict(self))

    @classmethod
    def load(cls, directory: str | os.PathLike) -> SearchInfo | None:
        """Read the search of a project folder; None when there is none.

        Raises:
            StateError: The file holds something else; the message names it.
        """
        try:
            data = read_json(Path(directory) / _SEARCH_FILE)
        except FileNotFoundError:
            return None
        with fields_of(directory, _SEARCH_FILE):
            data["datasets"] = tuple(DatasetInfo(**item) for item in data["datasets"])
            data["space"] = tuple(data["space"])
            data["constraints"] = tuple(data.get("constraints", ()))
            data["objectives"] = tuple(map(tuple, data.get("objectives", ())))
            return cls(**{**data, "directory": str(directory)})

    def breaks(self, record: TrialRecord) -> bool:
        """Whether a finished trial breaks a constraint: then it is never the best."""
        known = {**record.costs, **record.metrics}
        limits = [Constraint(**limit) for limit in self.constraints]
        values = ((limit, limit.value(known)) for limit in limits)
        return any(value is None or limit.violation(value) > 0 for limit, value in values)

    def standing(self, record: TrialRecord) -> tuple[int, float] | None:
        """Sorts trials from the best to the worst; None for one that is not ranked.

        What a multi-fidelity search trained longer stands before what it trained less.
        """
        if record.status != FINISHED or record.score is None or self.breaks(record):
            return None
        return -record.length, -record.score if self.direction == "max" else record.score


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """One trial as it ended.

    Attributes:
        trial_id: KerasTuner's id, for example ``"07"``.
        values: Hyperparameters that were active.
        status: ``"FINISHED"``, ``"FAILED"`` or ``"KILLED"``.
        score: Value of the objective, or None unless finished.
        metrics: Metrics at the best epoch, averaged over executions.
        best_step: The best epoch, counted from 0.
        curves: Per execution, per epoch, the metrics that Keras logged.
        first_epoch: The epoch that the curves begin with. Not 0 for a trial that went on with
            another one's training, whose best epoch may lie before it.
        costs: What the model costs and its training took: ``parameters``, ``flops``,
            ``peak_memory_bytes``, ``train_seconds``, and what was measured on request.
        proxies: Scores of the untrained model by proxy, and what rank they predicted.
        parents: Ids of the trials that its values were derived from by a mutation or a
            crossover; none for a random proposal, and for strategies without parents.
        error: The traceback's last line of a failed trial, or None.
        hyperparameters: KerasTuner's configuration of the space, when the trial asked for
            hyperparameters that were not known before.
        started_ms: Start in milliseconds since 1970 (UTC).
        ended_ms: End in milliseconds since 1970 (UTC).
    """

    trial_id: str
    values: Mapping[str, Any]
    status: Status
    score: float | None = None
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    best_step: int = 0
    curves: tuple[tuple[Mapping[str, float], ...], ...] = ()
    first_epoch: int = 0
    costs: Mapping[str, float] = dataclasses.field(default_factory=dict)
    proxies: Mapping[str, float] = dataclasses.field(default_factory=dict)
    parents: tuple[str, ...] = ()
    error: str | None = None
    hyperparameters: Mapping[str, Any] | None = None
    started_ms: int = 0
    ended_ms: int = 0

    @property
    def rung(self) -> int:
        """Its round in a multi-fidelity search, from 0; each bracket of Hyperband begins anew."""
        fidelity = self._fidelity()
        return fidelity.rung if fidelity else 0

    @property
    def length(self) -> int:
        """Epochs that a multi-fidelity search trained it in all; 0 in other searches."""
        fidelity = self._fidelity()
        return fidelity.epochs if fidelity else 0

    def _fidelity(self) -> Any:
        # Imports numpy, which a command that only prints its help must not wait for.
        from keras_nas_plugin.space.fidelity import fidelity_of

        return fidelity_of(self.values)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds from start to end."""
        return (self.ended_ms - self.started_ms) / 1e3

    def save(self, directory: str | os.PathLike) -> None:
        """Write this to the folder of its trial."""
        write_json(Path(directory) / _RECORD_FILE, dataclasses.asdict(self))

    @classmethod
    def load(cls, directory: str | os.PathLike) -> TrialRecord | None:
        """Read the record of a trial's folder; None when the trial has not ended.

        Raises:
            StateError: The file holds something else; the message names it.
        """
        try:
            data = read_json(Path(directory) / _RECORD_FILE)
        except FileNotFoundError:
            return None
        with fields_of(directory, _RECORD_FILE):
            return cls.of(data)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> TrialRecord:
        """From the fields as JSON has them.

        Raises:
            KeyError: A field is missing that every record has.
            TypeError: There is one that no record has.
        """
        curves = tuple(tuple(curve) for curve in data["curves"])
        return cls(**{**data, "curves": curves, "parents": tuple(data.get("parents", ()))})

    @staticmethod
    def changed(directory: str | os.PathLike) -> int | None:
        """When the record was written, to be compared only; None where there is none."""
        try:
            return os.stat(Path(directory) / _RECORD_FILE).st_mtime_ns
        except FileNotFoundError:
            return None

    @staticmethod
    def discard(directory: str | os.PathLike) -> None:
        """Forget the record of an earlier attempt, if there is one."""
        (Path(directory) / _RECORD_FILE).unlink(missing_ok=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refused:
    """Candidates that broke a constraint before training, and became no trials.

    Attributes:
        count: How many.
        by_constraint: How many broke each constraint; one may break several.
        reason: Why the search ended for want of others, or None.
    """

    count: int = 0
    by_constraint: Mapping[str, int] = dataclasses.field(default_factory=dict)
    reason: str | None = None

    def __str__(self) -> str:
        names = ", ".join(f"{name} {count:,}" for name, count in self.by_constraint.items())
        candidates = "candidate was" if self.count == 1 else "candidates were"
        return f"{self.count:,} {candidates} infeasible and not trained ({names})."

    def save(self, directory: str | os.PathLike) -> None:
        """Write this to the project folder."""
        write_json(Path(directory) / _REFUSED_FILE, dataclasses.asdict(self))


def load_refusals(directory: str | os.PathLike) -> Refused:
    """The account of candidates that were not trained; an empty one where there were none."""
    try:
        return Refused(**read_json(Path(directory) / _REFUSED_FILE))
    except FileNotFoundError:
        return Refused()


def load_records(directory: str | os.PathLike) -> Iterator[TrialRecord]:
    """The records of a project folder's trials, in the order of their ids."""
    folders = Path(directory).glob("trial_*")
    # Ids are padded with zeros, yet a search that was enlarged has longer ones at its end.
    for folder in sorted(folders, key=lambda path: (len(path.name), path.name)):
        record = TrialRecord.load(folder)
        if record is not None:
            yield record


def ranked(search: SearchInfo, records: Iterable[TrialRecord]) -> list[TrialRecord]:
    """Ranked trials from the best to the worst; equal scores in the order of their ends."""
    standings = ((search.standing(record), record) for record in records)
    found = [(standing, record) for standing, record in standings if standing is not None]
    return [one for _, one in sorted(found, key=lambda pair: (pair[0], pair[1].ended_ms))]


def save_run_id(directory: str | os.PathLike, run_id: str) -> None:
    """Note the tracker's run of a trial in the trial's folder."""
    write_json(Path(directory) / _RUN_FILE, {"run_id": run_id})


def load_run_id(directory: str | os.PathLike) -> str | None:
    """The tracker's run of a trial; None when it was not tracked."""
    try:
        return read_json(Path(directory) / _RUN_FILE)["run_id"]
    except FileNotFoundError:
        return None


def save_registration(directory: str | os.PathLike, registration: Mapping[str, Any]) -> None:
    """Note the registered model in the project folder."""
    write_json(Path(directory) / _MODEL_FILE, dict(registration))


def load_registration(directory: str | os.PathLike) -> dict[str, Any] | None:
    """The model that a search registered last; None when it registered none."""
    try:
        return read_json(Path(directory) / _MODEL_FILE)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def fields_of(directory: str | os.PathLike, name: str) -> Iterator[None]:
    """Name the file whose JSON has not the fields that it needs."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise StateError(
            f"`{Path(directory) / name}` needs the fields that this version writes; received "
            f"others ({type(error).__name__}: {error}). Restore the file, or start over with "
            "`overwrite=True`."
        ) from error
