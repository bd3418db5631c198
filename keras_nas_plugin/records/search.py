"""A search as plain data: its definition, its infeasible candidates, its registered model.

The tuner writes one `SearchInfo` to the project folder and one `TrialRecord` beside the
checkpoint of each trial; trackers, the command line and reports read them without TensorFlow.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.files import read_json, write_json
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.exclusions import Exclusions
from keras_nas_plugin.records.fields import reading_fields

# Several objectives in `settings["objectives"]`: "val_accuracy (max), flops (min)".
_DISPLAYED_OBJECTIVE = re.compile(r"(.+?) \((max|min)\)(?:, |$)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """A dataset that a search used for training, validation or testing.

    Attributes:
        name: Display name, for example ``"digits"``.
        context: ``"training"``, ``"validation"`` or ``"test"``.
        digest: Eight or more hexadecimal characters of a hash of the content, or of the
            element structure if the content is not in memory (`tf.data`).
        profile: Shapes, types and row counts as JSON types.
    """

    name: str
    context: str
    digest: str
    profile: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchInfo:
    """The definition of a search.

    Attributes:
        search_id: Unique over all searches; a resumed search keeps it.
        name: The project name.
        objective: Name of the objective, for example ``"val_accuracy"``; KerasTuner's
            ``"multi_objective"`` for several.
        direction: ``"max"`` or ``"min"``.
        strategy: Class name of the oracle.
        max_trials: Maximum number of trials, or None.
        space: One mapping per hyperparameter: ``name``, ``type`` and its domain.
        settings: Arguments to compare between searches (epochs, seed, ...).
        environment: Device, precision, library versions.
        datasets: Training and validation data.
        constraints: ``name``, ``max`` and ``min`` of each constraint.
        directory: The project folder.
        resume_command: Shell command that resumes this search, or None.
        objectives: Name and direction of each objective if there are several, otherwise empty.
            To read the objectives of any search, use `directions`.
        exclusions: Trials that do not count, because the program was changed after them.
        changes: What was changed whenever the search was resumed, the latest last.
        unrecorded_epochs: Epochs of the trials whose records do not state them, which the first
            versions wrote; None if they are unknown.
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
    exclusions: Exclusions = dataclasses.field(default_factory=Exclusions)
    changes: tuple[str, ...] = ()
    unrecorded_epochs: int | None = None

    @property
    def directions(self) -> dict[str, str]:
        """Direction of every objective by name, in the order of the search.

        Records of the first versions have several objectives in their settings only.

        >>> search = SearchInfo(
        ...     search_id="s", name="s", objective="multi_objective", direction="max",
        ...     strategy="NSGA2Oracle", max_trials=1,
        ...     settings={"objectives": "val_accuracy (max), flops (min)"},
        ... )
        >>> search.directions
        {'val_accuracy': 'max', 'flops': 'min'}
        """
        if self.objectives:
            return dict(self.objectives)
        displayed = str(self.settings.get("objectives", ""))
        return dict(_DISPLAYED_OBJECTIVE.findall(displayed)) or {self.objective: self.direction}

    @property
    def limits(self) -> tuple[Constraint, ...]:
        """The constraints as objects."""
        return tuple(Constraint(**limit) for limit in self.constraints)

    def save(self) -> None:
        """Write this to the project folder."""
        write_json(ProjectLayout.of(self.directory).search, dataclasses.asdict(self))

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> SearchInfo | None:
        """Read the search of a project folder; None if there is none.

        Raises:
            StateError: The file has other fields; the message names it.
        """
        path = ProjectLayout.of(directory).search
        try:
            data = read_json(path)
        except FileNotFoundError:
            return None
        with reading_fields(path):
            data["datasets"] = tuple(DatasetInfo(**item) for item in data["datasets"])
            data["space"] = tuple(data["space"])
            data["constraints"] = tuple(data.get("constraints", ()))
            data["objectives"] = tuple(map(tuple, data.get("objectives", ())))
            data["exclusions"] = Exclusions(**data.get("exclusions", {}))
            data["changes"] = tuple(data.get("changes", ()))
            return cls(**{**data, "directory": str(directory)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class InfeasibleSummary:
    """Candidates that violated a constraint before training, and so did not become trials.

    Attributes:
        count: Number of candidates.
        by_constraint: How many violated each constraint; a candidate may violate several.
        reason: Why the search stopped because of them, or None.
    """

    count: int = 0
    by_constraint: Mapping[str, int] = dataclasses.field(default_factory=dict)
    reason: str | None = None

    def __str__(self) -> str:
        names = ", ".join(f"{name} {count:,}" for name, count in self.by_constraint.items())
        candidates = "candidate was" if self.count == 1 else "candidates were"
        return f"{self.count:,} {candidates} infeasible and not trained ({names})."

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write this to the project folder."""
        write_json(ProjectLayout.of(directory).infeasible_summary, dataclasses.asdict(self))

    @classmethod
    def load(cls, directory: str | os.PathLike[str]) -> InfeasibleSummary:
        """Read the summary of a project folder; an empty one if every candidate was trained."""
        try:
            return cls(**read_json(ProjectLayout.of(directory).infeasible_summary))
        except FileNotFoundError:
            return cls()


def save_registration(directory: str | os.PathLike[str], registration: Mapping[str, Any]) -> None:
    """Store the registered model in the project folder."""
    write_json(ProjectLayout.of(directory).registration, dict(registration))


def load_registration(directory: str | os.PathLike[str]) -> dict[str, Any] | None:
    """The model that a search registered last; None if it registered none."""
    try:
        return read_json(ProjectLayout.of(directory).registration)
    except FileNotFoundError:
        return None
