"""The description of a search that a tuner passes to the code that runs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras_tuner

from keras_nas_plugin import project
from keras_nas_plugin.inheritance.settings import Inheritance
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.roles import Role
from keras_nas_plugin.tracking.composite import CompositeTracker
from keras_nas_plugin.training.bookkeeping import Bookkeeping
from keras_nas_plugin.training.budget import Budget


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchContext:
    """A search as `NASTuner` and `track` describe it to the code that they share.

    Attributes:
        layout: Names of the files in the project folder.
        name: The project's name.
        oracle: The oracle of this process; in a worker, that is not the chief's.
        get_space: Returns the search space as it is now; a worker asks its chief.
        hypermodel: Builds the models; None for a tuner whose `run_trial` builds them.
        trackers: The trackers of the search.
        role: This process's role in the search.
        budget: Wall-clock budget of each call of `search`.
        precision: Keras dtype policy during the search; None for the policy of the process.
        deterministic: Whether executions are seeded; None where only the tuner knows.
        distribution_strategy: The `tf.distribute.Strategy` that trials are trained under, or None.
        executions_per_trial: Number of trainings per trial.
        max_model_size: Maximum number of trainable parameters, or None.
        inheritance: How trials start from the weights of others, or None.
        dataset: Name of the data.
        resume_command: Shell command that resumes the search, or None.
        data_settings: How the data were prepared: further settings of the search, by name.
        bookkeeping: Reports what cannot be recorded.
        on_change: See `NASTuner`.
        space_changes: What the program has changed in the space of a resumed search.
        adapts: Whether trials that do not count any more are excluded in the oracle, too.
    """

    layout: ProjectLayout
    name: str
    oracle: keras_tuner.Oracle
    get_space: Callable[[], keras_tuner.HyperParameters]
    hypermodel: keras_tuner.HyperModel | None
    trackers: CompositeTracker
    role: Role
    budget: Budget = dataclasses.field(default_factory=Budget)
    precision: str | None = None
    deterministic: bool | None = None
    distribution_strategy: object = None
    executions_per_trial: int = 1
    max_model_size: int | None = None
    inheritance: Inheritance | None = None
    dataset: str = "data"
    resume_command: str | None = None
    data_settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    bookkeeping: Bookkeeping = dataclasses.field(default_factory=Bookkeeping)
    on_change: str = "continue"
    space_changes: tuple[str, ...] = ()
    adapts: bool = False

    @property
    def search_id(self) -> str:
        """Unique id of the search; a resumed search keeps it."""
        return project.search_id(self.layout.folder)

    @property
    def objectives(self) -> Sequence[keras_tuner.Objective]:
        """The objectives of a search that has several; empty for one objective."""
        return getattr(self.oracle.objective, "objectives", ())
