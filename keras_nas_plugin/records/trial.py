"""A trial as plain data: the record beside its checkpoint, and the id of its run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from keras_nas_plugin.files import read_json, write_json
from keras_nas_plugin.html import html_summary, html_table
from keras_nas_plugin.project import ProjectLayout, TrialLayout
from keras_nas_plugin.records.fields import reading_fields
from keras_nas_plugin.records.placement import Placement

if TYPE_CHECKING:
    from keras_nas_plugin.space.fidelity import Fidelity

FINISHED: Final = "FINISHED"
FAILED: Final = "FAILED"
KILLED: Final = "KILLED"
#: Id of the run in which the supernet of a search is trained. It is not a trial: it has no score,
#: and its record is in a folder of its own.
SUPERNET: Final = "supernet"
# A supernet that was split has a run for each of its parts: ``supernet-0``.
_PART: Final = f"{SUPERNET}-"
#: Prefix of the metrics of a supernet that are weights of options: ``weight/DECISION/OPTION``.
WEIGHT: Final = "weight/"
Status = Literal["FINISHED", "FAILED", "KILLED"]


def part_id(number: int) -> str:
    """Id of the run in which a sub-supernet is trained, for the index of the option it has."""
    return f"{_PART}{number}"


def is_supernet(trial_id: str) -> bool:
    """Whether the id is that of a supernet or a sub-supernet.

    >>> is_supernet("supernet"), is_supernet(part_id(3)), is_supernet("07")
    (True, True, False)
    """
    return trial_id == SUPERNET or trial_id.startswith(_PART)


@dataclasses.dataclass(frozen=True)
class Location:
    """A line of code.

    Attributes:
        file: Its file, or the name that Python gives code without a file.
        line: Its number, from 1.
        code: Its text, without indentation; empty if the file cannot be read.
    """

    file: str
    line: int
    code: str = ""

    def __str__(self) -> str:
        position = f"{self.file}:{self.line}"
        return f"{position}: {self.code}" if self.code else position


@dataclasses.dataclass(frozen=True)
class Lineage:
    """Where the weights come from that a training starts with.

    Attributes:
        trial_id: The trial whose weights they are; None for random weights.
        epochs: Epochs that they were trained for, in this trial and those before it.
    """

    trial_id: str | None = None
    epochs: int = 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """A trial that ended.

    Attributes:
        trial_id: KerasTuner's id, for example ``"07"``.
        values: The active hyperparameters.
        status: ``"FINISHED"``, ``"FAILED"`` or ``"KILLED"``.
        score: Value of the objective; None unless the trial finished.
        metrics: Metrics at the best epoch, averaged over executions.
        best_step: The best epoch, counted from 0.
        curves: For each execution and epoch, the metrics that Keras logged.
        first_epoch: The epoch at which the curves begin. It is not 0 for a trial that continued
            the training of another trial, whose best epoch may be an earlier one.
        epochs: The epoch that `fit` was told to train to; None in records of the first versions.
            The epochs of a trial in a multi-fidelity search are among its values: see `length`.
        costs: Costs of the model and of its training: ``parameters``, ``flops``,
            ``peak_memory_bytes``, ``train_seconds``, and those measured on request.
        proxies: Zero-cost scores of the untrained model, and the rank that they predicted.
        parents: Ids of the trials whose values were mutated or crossed over; empty for random
            proposals and for strategies without parents.
        inherited_from: The trial whose weights the training started from; None for random weights.
        inherited_epochs: Epochs that these weights had been trained for.
        error: Last line of the traceback of a failed trial, or None. The whole traceback is in
            `TrialLayout.traceback`.
        location: The innermost line of the user's code in that traceback, or None.
        redeclared: Names of hyperparameters that the trial declared with another range than the
            search, because the range depends on other values.
        hyperparameters: KerasTuner's configuration of the space, if the trial declared
            hyperparameters that were unknown before.
        placement: Where the trial trained; None in records of the first versions.
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
    epochs: int | None = None
    costs: Mapping[str, float] = dataclasses.field(default_factory=dict)
    proxies: Mapping[str, float] = dataclasses.field(default_factory=dict)
    parents: tuple[str, ...] = ()
    inherited_from: str | None = None
    inherited_epochs: int = 0
    error: str | None = None
    location: Location | None = None
    redeclared: tuple[str, ...] = ()
    hyperparameters: Mapping[str, Any] | None = None
    placement: Placement | None = None
    started_ms: int = 0
    ended_ms: int = 0

    @property
    def rung(self) -> int:
        """Rung of a multi-fidelity search, from 0 in each bracket; 0 in other searches."""
        fidelity = self._fidelity()
        return fidelity.rung if fidelity else 0

    @property
    def length(self) -> int:
        """Total epochs in a multi-fidelity search; 0 in other searches."""
        fidelity = self._fidelity()
        return fidelity.epochs if fidelity else 0

    @property
    def lineage_epochs(self) -> int:
        """Epochs that the trial's weights were trained for, in it and the trials before it."""
        own = max((len(curve) for curve in self.curves), default=0)
        return self.inherited_epochs + self.first_epoch + own

    def _fidelity(self) -> Fidelity | None:
        # Imports numpy, which a command that only prints its help must not wait for.
        from keras_nas_plugin.space.fidelity import fidelity_of

        return fidelity_of(self.values)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds from start to end."""
        return (self.ended_ms - self.started_ms) / 1e3

    def _repr_html_(self) -> str:
        """The trial in a notebook."""
        score = "" if self.score is None else f", score {self.score:.6g}"
        title = f"Trial {self.trial_id}, {self.status.lower()}{score}"
        facts: dict[str, object] = {"seconds": self.seconds}
        if self.error:
            facts["error"] = self.error
        if self.location:
            facts["at"] = self.location
        rows = [
            (kind, name, value)
            for kind, values in (
                ("value", self.values),
                ("metric", self.metrics),
                ("cost", self.costs),
                ("proxy", self.proxies),
            )
            for name, value in values.items()
        ]
        return html_summary(title, facts, html_table(("kind", "name", "value"), rows))

    @property
    def measurements(self) -> dict[str, float]:
        """Metrics and costs together, by name: objectives and constraints may be either."""
        return {**self.costs, **self.metrics}

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write this to the trial's folder."""
        write_json(TrialLayout(Path(directory)).record, dataclasses.asdict(self))

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> TrialRecord | None:
        """Read the record in a trial's folder; None if the trial has not ended.

        Raises:
            StateError: The file has other fields; the message names it.
        """
        path = TrialLayout(Path(directory)).record
        try:
            data = read_json(path)
        except FileNotFoundError:
            return None
        with reading_fields(path):
            return cls.of(data)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> TrialRecord:
        """Create a record from its JSON fields.

        Raises:
            KeyError: A required field is missing.
            TypeError: A field is unknown.
        """
        location, placement = data.get("location"), data.get("placement")
        read = {
            "curves": tuple(tuple(curve) for curve in data["curves"]),
            "parents": tuple(data.get("parents", ())),
            "redeclared": tuple(data.get("redeclared", ())),
            "location": None if location is None else Location(**location),
            "placement": None if placement is None else Placement(**placement),
        }
        return cls(**{**data, **read})

    @staticmethod
    def modified_ns(directory: str | os.PathLike[str]) -> int | None:
        """Modification time of the record in nanoseconds; None if there is no record."""
        try:
            return os.stat(TrialLayout(Path(directory)).record).st_mtime_ns
        except FileNotFoundError:
            return None

    @staticmethod
    def discard(directory: str | os.PathLike[str]) -> None:
        """Delete the record of an earlier attempt, if there is one, and its traceback."""
        layout = TrialLayout(Path(directory))
        layout.record.unlink(missing_ok=True)
        layout.traceback.unlink(missing_ok=True)


def load_records(directory: str | os.PathLike[str]) -> Iterator[TrialRecord]:
    """Yield the records of a project folder in the order of their ids.

    Args:
        directory: The project folder, for example ``tuner.project_dir``.

    Yields:
        The record of each trial that has ended.
    """
    for trial in ProjectLayout.of(directory).trials():
        record = TrialRecord.load(trial.folder)
        if record is not None:
            yield record


def save_run_id(directory: str | os.PathLike[str], run_id: str) -> None:
    """Store the id of the tracker's run in the trial's folder."""
    write_json(TrialLayout(Path(directory)).run, {"run_id": run_id})


def load_run_id(directory: str | os.PathLike[str]) -> str | None:
    """Id of the tracker's run of a trial; None if the trial was not tracked."""
    try:
        return read_json(TrialLayout(Path(directory)).run)["run_id"]
    except FileNotFoundError:
        return None
