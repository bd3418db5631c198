"""What a `WorkerPool` needs to know of its workers, wherever they run."""

from __future__ import annotations

import abc
import dataclasses
import time
from collections.abc import Sequence
from typing import Any

from keras_tuner.engine.trial import Trial

from keras_nas_plugin.records.placement import Placement


@dataclasses.dataclass
class Assignment:
    """A trial that a worker trains.

    Attributes:
        trial: The trial.
        losses: How many workers have died in its training.
        sent: Whether its worker has it.
        alone: Whether no other trial may train beside it, because it ran out of memory before.
        started_ms: When its last training began, in milliseconds since 1970; before, when it was
            submitted.
        began: When its training began, in seconds of `time.monotonic`; None before.
        placement: The process that trains it; None before.
    """

    trial: Trial
    losses: int = 0
    sent: bool = False
    alone: bool = False
    started_ms: int = dataclasses.field(default_factory=lambda: time.time_ns() // 1_000_000)
    began: float | None = None
    placement: Placement | None = None

    def begin(self, placement: Placement | None) -> None:
        """Training begins now.

        Args:
            placement: The process that trains.
        """
        self.began, self.placement = time.monotonic(), placement
        self.started_ms = time.time_ns() // 1_000_000


class Worker(abc.ABC):
    """A worker that has been started."""

    def __init__(self) -> None:
        #: What it has told about itself; None until it has loaded what it needs.
        self.placement: Placement | None = None

    @property
    def ready(self) -> bool:
        """Whether it has loaded what it needs."""
        return self.placement is not None

    @property
    def unplaced(self) -> bool:
        """Whether it still waits for a machine to run on."""
        return False

    @property
    def displaced(self) -> bool:
        """Whether it has ended because its machine left, and not because of its trial."""
        return False

    @property
    def memory(self) -> int | None:
        """Bytes of memory that it uses alone; None if that is not known."""
        return None

    @property
    def out_of_memory(self) -> bool:
        """Whether the system has ended it because memory ran out."""
        return False

    @abc.abstractmethod
    def send(self, *message: Any) -> None:
        """Send a message; one to a worker that has died is lost."""

    @abc.abstractmethod
    def messages(self) -> list[tuple[Any, ...]]:
        """The messages that have arrived.

        Raises:
            EOFError: None has, and none will.
        """

    @abc.abstractmethod
    def stop(self) -> str:
        """End the worker, which has nothing more to send.

        Returns:
            How it had ended before: "was ended by SIGKILL", "ended with exit code 3".
        """

    @abc.abstractmethod
    def kill(self) -> str:
        """End the worker at once; see `stop`."""


class WorkerFactory(abc.ABC):
    """Starts the workers of a pool, each for one slot.

    Args:
        slots: Names of the slots; the same in every process that resumes the search.
    """

    def __init__(self, slots: Sequence[str]) -> None:
        self.slots = tuple(slots)

    @abc.abstractmethod
    def open(self) -> None:
        """Make ready what workers load.

        Raises:
            WorkerError: It cannot be shipped to workers, or none can run.
        """

    @abc.abstractmethod
    def start(self, slot: str) -> Worker:
        """Start a worker for a slot, without waiting until it is ready."""

    @abc.abstractmethod
    def arrived(self, workers: Sequence[Worker]) -> Sequence[Worker]:
        """The workers that have sent a message or ended, after a wait of at most a second.

        Args:
            workers: Workers of this factory.

        Raises:
            WorkerError: None of them can run.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Release what `open` made; all workers have ended. It may be called without `open`."""
