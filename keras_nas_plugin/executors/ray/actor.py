"""The actor that trains trials on a node of a Ray cluster.

It is imported before the actor has its environment, so that it must not import TensorFlow.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Mapping, Sequence

import ray

# Seconds after which a call for messages returns without any.
_POLL_SECONDS = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shipment:
    """What a driver has made ready for its workers.

    Attributes:
        content: In the object store: what `shipping.pickled` returned.
        arrays: In the object store: the arrays that belong to it.
        paths: Where the driver imports modules from.
        directory: The driver's working directory.
        project: The project folder.
        marker: A file in the project folder, by which a worker sees whether it has that folder.
    """

    content: ray.ObjectRef
    arrays: Sequence[ray.ObjectRef]
    paths: Sequence[str]
    directory: str
    project: str
    marker: str


class Mailbox:
    """Messages between an actor and its driver, which calls to fetch and to deliver them."""

    def __init__(self) -> None:
        #: Called with each message of the driver.
        self.handler: Callable[[bytes], None] | None = None
        self._outbox: list[bytes] = []
        self._changed = threading.Condition()

    def put(self, message: bytes) -> None:
        """Keep a message for the driver."""
        with self._changed:
            self._outbox.append(message)
            self._changed.notify_all()

    def fetch(self) -> list[bytes]:
        """Wait for messages to the driver."""
        with self._changed:
            self._changed.wait_for(lambda: self._outbox, timeout=_POLL_SECONDS)
            fetched, self._outbox = self._outbox, []
            return fetched

    def deliver(self, message: bytes) -> None:
        """A message of the driver, which sends none before the actor is ready."""
        if self.handler is not None:
            self.handler(message)


class TrialActor:
    """Trains the trials that its driver sends, while its driver calls for messages.

    Args:
        variables: Environment variables.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        os.environ.update(variables)
        self._mailbox = Mailbox()

    def node(self) -> str:
        """The id of the node that it runs on."""
        return str(ray.get_runtime_context().get_node_id())

    def fetch(self) -> list[bytes]:
        """See `Mailbox.fetch`."""
        return self._mailbox.fetch()

    def deliver(self, message: bytes) -> None:
        """See `Mailbox.deliver`."""
        self._mailbox.deliver(message)

    def run(self, shipment: Shipment) -> None:
        """Train trials until the driver ends this actor.

        Args:
            shipment: What the driver has made ready.
        """
        from keras_nas_plugin.executors.ray.training import train

        train(self._mailbox, shipment)
