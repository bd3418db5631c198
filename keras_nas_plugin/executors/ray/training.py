"""The training of trials in an actor."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import ray

from keras_nas_plugin.executors.driver_link import DriverLink
from keras_nas_plugin.executors.ray.actor import Mailbox, Shipment
from keras_nas_plugin.executors.ray.project_files import read_trial, write_files
from keras_nas_plugin.executors.worker import serve
from keras_nas_plugin.project import ProjectLayout

# The arrays of the search that this process trains for.
_arrays: list[np.ndarray] = []


def stored_array(number: int) -> np.ndarray:
    """An array in the object store, which is read-only: all workers of a node share it.

    Args:
        number: Its position among the arrays of the search.
    """
    return _arrays[number]


class ActorLink(DriverLink):
    """An actor's connection to its driver.

    Args:
        mailbox: The messages of the actor.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__()
        self._mailbox = mailbox
        #: Where trials write, if it is not the folder of the driver.
        self.project: ProjectLayout | None = None
        mailbox.handler = self._delivered

    def send(self, *message: Any) -> None:
        if message[0] == "outcome" and self.project is not None:
            self._put("files", read_trial(self.project, message[1].trial_id))
        self._put(*message)

    def _put(self, *message: Any) -> None:
        self._mailbox.put(cloudpickle.dumps(message))

    def _delivered(self, pickled: bytes) -> None:
        message = pickle.loads(pickled)
        if self.project is None or message[0] not in ("files", "leave"):
            self.received(message)
        elif message[0] == "files":
            write_files(self.project, message[1])
        else:
            shutil.rmtree(self.project.folder.parent, ignore_errors=True)


def _load(link: ActorLink, shipment: Shipment) -> dict[str, Any]:
    project = Path(shipment.project)
    shared = (project / shipment.marker).exists()
    if shared:
        with contextlib.suppress(OSError):
            os.chdir(shipment.directory)  # relative paths are those of the driver
    else:
        project = Path(tempfile.mkdtemp(prefix="keras-nas-")) / project.name
        link.project = ProjectLayout.of(project)
    sys.path.extend(path for path in shipment.paths if path not in sys.path)
    _arrays[:] = ray.get(list(shipment.arrays))
    content: dict[str, Any] = pickle.loads(ray.get(shipment.content))
    content["trainer"].move_project(project)
    link.send("placed", shared)
    return content


def train(mailbox: Mailbox, shipment: Shipment) -> None:
    """Train trials until the driver ends this process.

    Args:
        mailbox: The messages of this actor.
        shipment: What the driver has made ready.
    """
    link = ActorLink(mailbox)
    serve(link, lambda: _load(link, shipment))
