"""Workers of a pool that are actors of a Ray cluster."""

from __future__ import annotations

import contextlib
import os
import pickle
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import cloudpickle
import numpy as np
import ray
import ray.exceptions

from keras_nas_plugin.errors import StateError, WorkerError
from keras_nas_plugin.executors.ray.actor import Shipment, TrialActor
from keras_nas_plugin.executors.ray.cluster import RayCluster
from keras_nas_plugin.executors.ray.project_files import needed_files, write_files
from keras_nas_plugin.executors.shipping import Recipe, StoreArray
from keras_nas_plugin.executors.worker_types import Worker, WorkerFactory
from keras_nas_plugin.project import ProjectLayout

# Settings of the driver that a worker's numbers depend on. Ray passes on no others.
_PASSED_ON = (
    "KERAS_BACKEND",
    "TF_CPP_MIN_LOG_LEVEL",
    "TF_DETERMINISTIC_OPS",
    "TF_ENABLE_ONEDNN_OPTS",
    "XLA_FLAGS",
)
_THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
# Threads of the actor for calls while it trains; one of them waits for messages.
_GROUPS = {"messages": 2}
# In Ray's message about a worker that it has ended because its node had no memory left.
_OUT_OF_MEMORY = "node running low on memory"
# Seconds that an actor may take to delete its files.
_LEAVE_SECONDS = 1.0
# Pause between two calls to an actor that cannot be reached.
_UNREACHABLE_SECONDS = 0.2


class RayWorker(Worker):
    """A worker that has been requested from the cluster.

    Args:
        actor: The actor.
        shipment: What workers load.
        cluster: The cluster.
        layout: The project folder.
        inherits: Whether trials start from the weights of others.
    """

    def __init__(
        self,
        actor: Any,
        shipment: Shipment,
        cluster: RayCluster,
        layout: ProjectLayout,
        *,
        inherits: bool,
    ) -> None:
        super().__init__()
        self._actor = actor
        self._cluster = cluster
        self._layout = layout
        self._inherits = inherits
        self._node: str | None = None
        self._shares_folder = True
        self._cause = "was ended"
        self._displaced = False
        self._out_of_memory = False
        # What Ray returns for a call, by what the result is for.
        self._calls = {
            "node": self._call("node"),
            "fetch": self._call("fetch"),
            "run": actor.run.remote(shipment),
        }
        self._deliveries: list[Any] = []

    def _call(self, method: str, *args: Any) -> Any:
        return getattr(self._actor, method).options(concurrency_group="messages").remote(*args)

    @property
    def calls(self) -> list[Any]:
        """Calls whose results say that something has happened."""
        return [*self._calls.values(), *self._deliveries]

    @property
    def unplaced(self) -> bool:
        return self._node is None

    @property
    def displaced(self) -> bool:
        return self._displaced

    @property
    def out_of_memory(self) -> bool:
        return self._out_of_memory

    def send(self, *message: Any) -> None:
        if message[0] == "trial" and not self._shares_folder:
            state = message[1]
            values = state["hyperparameters"]["values"]
            trial_id, inherits = state["trial_id"], self._inherits
            files = needed_files(self._layout, trial_id, values, inherits=inherits)
            self._deliver("files", files)
        self._deliver(*message)

    def _deliver(self, *message: Any) -> None:
        self._deliveries.append(self._call("deliver", cloudpickle.dumps(message)))

    def messages(self) -> list[tuple[Any, ...]]:
        arrived: list[tuple[Any, ...]] = []
        try:
            for name in [name for name, call in self._calls.items() if _has_ended(call)]:
                result = ray.get(self._calls.pop(name))
                if name == "node":
                    self._node = result
                    self._cluster.placed()
                elif name == "fetch":
                    arrived = [pickle.loads(message) for message in result]
                    self._calls["fetch"] = self._call("fetch")
                elif name == "answer":
                    self._cause = "could not be reached for a while"
                    raise EOFError
            ended = [call for call in self._deliveries if _has_ended(call)]
            self._deliveries = [call for call in self._deliveries if call not in ended]
            ray.get(ended)
        except ray.exceptions.ActorUnavailableError:
            self._ask_again()
        except ray.exceptions.RayError as error:
            if not arrived:
                self._displaced = self._has_left(error)
                self._cause = "left with its node" if self._displaced else _cause(error)
                self._out_of_memory = _OUT_OF_MEMORY in str(error)
                raise EOFError from error
        return [message for message in arrived if not self._takes(message)]

    def _has_left(self, error: Exception) -> bool:
        """Whether the actor has ended with its node."""
        if self._node is not None and not self._cluster.has_node(self._node):
            return True
        return "its node has died" in str(error)

    def _ask_again(self) -> None:
        """Find out whether an actor that cannot be reached lives; what was sent to it is lost."""
        time.sleep(_UNREACHABLE_SECONDS)
        self._calls, self._deliveries = {"answer": self._call("node")}, []

    def _takes(self, message: tuple[Any, ...]) -> bool:
        """Handle a message that is not for the pool."""
        if message[0] == "placed":
            self._shares_folder = message[1]
        elif message[0] == "files":
            try:
                write_files(self._layout, message[1])
            except OSError as error:
                raise StateError(
                    f"`directory` must have space for the files of trials; writing to "
                    f"{str(self._layout.folder)!r} failed: {error.strerror or error}"
                ) from error
        else:
            return False
        return True

    def stop(self) -> str:
        return self.kill()

    def kill(self) -> str:
        """End the actor at once, after it has deleted its files."""
        if not self._shares_folder:
            self._deliver("leave")
            ray.wait(self._deliveries, num_returns=len(self._deliveries), timeout=_LEAVE_SECONDS)
        with contextlib.suppress(ray.exceptions.RayError):
            ray.kill(self._actor, no_restart=True)
        return self._cause


def _has_ended(call: Any) -> bool:
    return bool(ray.wait([call], timeout=0, fetch_local=False)[0])


def _cause(error: Exception) -> str:
    """How an actor has ended, in words."""
    text = " ".join(str(error).split())
    if _OUT_OF_MEMORY in text:
        return "was ended by Ray's memory monitor"
    if isinstance(error, ray.exceptions.RuntimeEnvSetupError):
        return f"could not get its runtime environment ({text})"
    if "connection error code 2" in text:  # the end of its socket, and no word before
        return "died (killed, out of memory, a crash in native code, or `os._exit`)"
    return f"died ({text.partition(' because ')[2] or text})"


class RayWorkers(WorkerFactory):
    """Starts the workers of a pool as actors.

    Args:
        cluster: The cluster.
        ship: Pickles what workers need; it is given a function that stores arrays.
        layout: The project folder.
        workers: How many; ``"auto"`` for as many as the cluster has room for.
        inherits: Whether trials start from the weights of others.
    """

    def __init__(
        self,
        cluster: RayCluster,
        ship: Callable[[StoreArray], bytes],
        layout: ProjectLayout,
        workers: int | Literal["auto"],
        *,
        inherits: bool,
    ) -> None:
        super().__init__(())
        self._inherits = inherits
        self._cluster = cluster
        self._ship = ship
        self._layout = layout
        self._workers = workers
        self._marker = layout.folder / f".driver-{secrets.token_hex(8)}"

    def open(self) -> None:
        self._cluster.connect()
        count = self._cluster.room() if self._workers == "auto" else self._workers
        self.slots = tuple(f"worker-{number}" for number in range(count))
        arrays: list[Any] = []

        def store(array: np.ndarray) -> Recipe:
            from keras_nas_plugin.executors.ray.training import stored_array

            arrays.append(_stored(array))
            return stored_array, (len(arrays) - 1,)

        content = self._ship(store)
        self._marker.touch()
        self._shipment = Shipment(
            content=_stored(content),
            arrays=arrays,
            paths=[os.path.abspath(path) for path in sys.path],
            directory=os.getcwd(),
            project=str(self._layout.folder.absolute()),
            marker=self._marker.name,
        )

    def start(self, slot: str) -> RayWorker:
        request = self._cluster.request
        actor = (
            ray.remote(concurrency_groups=_GROUPS)(TrialActor)
            .options(
                num_cpus=request.cpus,
                num_gpus=request.gpus,
                max_restarts=0,
                scheduling_strategy="SPREAD",
            )
            .remote(self._variables())
        )
        return RayWorker(
            actor, self._shipment, self._cluster, self._layout, inherits=self._inherits
        )

    def _variables(self) -> dict[str, str]:
        threads = str(max(int(self._cluster.request.cpus), 1))
        passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        # Ray hides GPUs of others only from workers that have one.
        hidden = {} if self._cluster.request.gpus else {"CUDA_VISIBLE_DEVICES": ""}
        return passed_on | dict.fromkeys(_THREADS, threads) | hidden

    def arrived(self, workers: Sequence[Worker]) -> Sequence[Worker]:
        actors = [worker for worker in workers if isinstance(worker, RayWorker)]
        if all(actor.unplaced for actor in actors):
            self._cluster.none_placed()
        calls = [call for actor in actors for call in actor.calls]
        ray.wait(calls, num_returns=1, timeout=1.0, fetch_local=False)
        ended = set(ray.wait(calls, num_returns=len(calls), timeout=0, fetch_local=False)[0])
        return [actor for actor in actors if ended.intersection(actor.calls)]

    def close(self) -> None:
        self._marker.unlink(missing_ok=True)
        self._cluster.disconnect()


def _stored(value: Any) -> Any:
    """Put a value into the object store.

    Raises:
        WorkerError: It has no room.
    """
    try:
        return ray.put(value)
    except (
        ray.exceptions.ObjectStoreFullError,
        ray.exceptions.OutOfDiskError,
        ray.exceptions.OutOfMemoryError,
    ) as error:
        size = getattr(value, "nbytes", None) or len(value)
        raise WorkerError(
            "the object store of Ray must have room for the data of `search`; it is full, and got "
            f"{size / 1e6:,.0f} MB more ({type(error).__name__})"
        ) from error
