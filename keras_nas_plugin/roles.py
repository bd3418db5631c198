"""The role of this process in a search: single process, chief or worker."""

from __future__ import annotations

import enum
import os


class Role(enum.Enum):
    """Role of a process in a search."""

    #: The only process of the search.
    SINGLE = "single"
    #: Owns the search and assigns trials to workers.
    CHIEF = "chief"
    #: Runs trials of a search that a chief owns.
    WORKER = "worker"

    @property
    def owns_search(self) -> bool:
        """Whether the process writes the state of the search and decides when it ends."""
        return self is not Role.WORKER

    @property
    def runs_trials(self) -> bool:
        """Whether the process trains models."""
        return self is not Role.CHIEF

    @classmethod
    def of_process(cls) -> Role:
        """The role that KerasTuner's environment variables assign to this process."""
        if "KERASTUNER_ORACLE_IP" not in os.environ:
            return cls.SINGLE
        return cls.CHIEF if "chief" in os.environ.get("KERASTUNER_TUNER_ID", "") else cls.WORKER


def is_chief() -> bool:
    """Whether this process assigns trials to workers."""
    return Role.of_process() is Role.CHIEF


def is_worker() -> bool:
    """Whether this process gets its trials from a chief."""
    return Role.of_process() is Role.WORKER
