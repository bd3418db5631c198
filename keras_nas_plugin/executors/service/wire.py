"""What chief and workers send each other beside the messages of KerasTuner."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

from keras_tuner.engine.hyperparameters import HyperParameter, deserialize, serialize

#: The service beside KerasTuner's, and its methods.
SERVICE, RENEW, DECLARE = "keras_nas_plugin.Leases", "Renew", "Declare"
#: Keys of the metadata in which a worker states its id and its process in each call.
WORKER_KEY, SESSION_KEY = "keras-nas-worker", "keras-nas-session"
#: Answers to a renewal: the trial is the worker's own, or is not any more.
HELD, LOST = b"held", b"lost"
#: Answers to a declaration: whether the search continues in the declared range.
AGREED, CHANGED = b"agreed", b"changed"


def chief_address() -> str:
    """Host and port of the chief, from KerasTuner's environment variables."""
    return f"{os.environ['KERASTUNER_ORACLE_IP']}:{os.environ['KERASTUNER_ORACLE_PORT']}"


@dataclasses.dataclass(frozen=True)
class Renewal:
    """What a worker sends to renew its lease.

    Attributes:
        worker: Its id.
        session: Identifies its process; a worker that was restarted has another.
        trial_id: The trial that it trains; None between trials.
        leaves: Whether the worker ends, and its lease with it.
    """

    worker: str
    session: str
    trial_id: str | None = None
    leaves: bool = False

    def to_bytes(self) -> bytes:
        """The message."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def from_bytes(cls, message: bytes) -> Renewal:
        """Read a message."""
        return cls(**json.loads(message))


@dataclasses.dataclass(frozen=True)
class Declaration:
    """A hyperparameter as a trial of a worker declares it.

    Attributes:
        config: KerasTuner's serialized configuration of the hyperparameter.
        same: Whether the space of the worker's trial has the same range.
    """

    config: Mapping[str, Any]
    same: bool

    @classmethod
    def of(cls, declared: HyperParameter, *, same: bool) -> Declaration:
        """The declaration of a hyperparameter."""
        return cls(serialize(declared), same)

    @property
    def hyperparameter(self) -> HyperParameter:
        """The hyperparameter."""
        return deserialize(dict(self.config))

    def to_bytes(self) -> bytes:
        """The message."""
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def from_bytes(cls, message: bytes) -> Declaration:
        """Read a message."""
        return cls(**json.loads(message))
