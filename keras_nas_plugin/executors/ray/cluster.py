"""The Ray cluster of a search: started or joined, its nodes, and what they have room for."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray

import keras_nas_plugin
from keras_nas_plugin.errors import WorkerError
from keras_nas_plugin.executors.ray.environment import defaults_of_environment

logger = logging.getLogger("keras_nas_plugin")

# A cluster that this process starts reports no usage statistics, and does not say so. Its workers
# have the priority of other processes; Ray's default is the lowest but four.
_STARTED = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
# Modules that are pickled by value, or sent in any case.
_NOT_SENT = ("__main__", "__mp_main__", "keras_nas_plugin")
# Seconds in which a cluster must accept a connection.
_REACHABLE_SECONDS = 10.0
# Seconds between two looks at the nodes, while no worker has one.
_NODE_SECONDS = 2.0
# Seconds after which the user is told that workers wait for room on the nodes.
_NOTICE_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Request:
    """What each worker needs of its node.

    Attributes:
        cpus: Processor cores.
        gpus: GPUs.
    """

    cpus: float
    gpus: float

    def fits(self, resources: Mapping[str, float]) -> int:
        """How many workers a node has room for.

        Args:
            resources: What the node has in all.
        """
        needed = {"CPU": self.cpus, "GPU": self.gpus}
        rooms = [
            int(resources.get(name, 0.0) / amount + 1e-9)
            for name, amount in needed.items()
            if amount > 0
        ]
        return min(rooms, default=1)

    def __str__(self) -> str:
        return f"{self.cpus:g} CPUs and {self.gpus:g} GPUs"


def _user_modules() -> list[str]:
    """Files and folders of the imported modules beside the program.

    A worker on another machine cannot import them by their names.
    """
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    roots = {Path.cwd().resolve()}
    if main is not None:
        roots.add(Path(main).resolve().parent)
    paths = set()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if "." in name or name in _NOT_SENT or not file:
            continue
        path = Path(file).resolve()
        path = path.parent if path.name == "__init__.py" else path
        if path.parent in roots and (path.is_dir() or path.suffix == ".py"):
            paths.add(str(path))
    return sorted(paths)


def _check_reachable(address: str | None) -> None:
    """Raise an OSError if nothing listens at an address; Ray itself tries for minutes."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit():
        with socket.create_connection((host.strip("[]"), int(port)), _REACHABLE_SECONDS):
            pass


@contextlib.contextmanager
def _kept_signal_handlers() -> Iterator[None]:
    """Restore the handlers of this process, which `ray.init` replaces."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    handlers = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            with contextlib.suppress(ValueError, TypeError):  # not in the main thread
                signal.signal(number, handler)


class RayCluster:
    """The cluster that a search uses.

    Args:
        address: See `RayExecutor`.
        runtime_env: See `RayExecutor`.
        request: What each worker needs.
        wait_for_nodes: See `RayExecutor`.
    """

    def __init__(
        self,
        address: str | None,
        runtime_env: Mapping[str, Any] | None,
        request: Request,
        wait_for_nodes: float,
    ) -> None:
        self._address = address
        self._runtime_env = runtime_env
        self.request = request
        self._wait_for_nodes = wait_for_nodes
        self._connected = False
        self._waiting_since: float | None = None
        self._looked_at = 0.0
        self._sufficed = False
        self._told = False

    def connect(self) -> None:
        """Join the cluster, or start one.

        Raises:
            WorkerError: There is no cluster at the address, or no node is large enough.
        """
        if not ray.is_initialized():
            self._init()
        if self._wait_for_nodes == 0:
            self._check_nodes()
        if self.request.gpus == 0 and any(node.get("GPU") for node in self._resources()):
            logger.warning(
                "The cluster has GPUs, and `gpus_per_trial` is 0: trials run on its CPUs."
            )

    def _init(self) -> None:
        address = self._address or os.environ.get("RAY_ADDRESS")
        joins = address is not None
        loggers = [logging.getLogger(name) for name in ("ray", "ray._private")]
        levels = [each.level for each in loggers]
        for each in loggers:
            each.setLevel(logging.ERROR)
        try:
            _check_reachable(address)
            with _kept_signal_handlers(), defaults_of_environment(_STARTED):
                ray.init(
                    address or "local",
                    runtime_env=self._environment() if joins else self._runtime_env,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                    **({} if joins else {"include_dashboard": False}),
                )
        except Exception as error:  # Ray raises that class itself, too
            reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            if joins:
                raise WorkerError(
                    "`address` must be that of a running Ray cluster, or None; got "
                    f"{address!r} ({reason})"
                ) from error
            raise WorkerError(
                f"`executor` must be able to start Ray on this machine, which failed ({reason})"
            ) from error
        finally:
            for each, level in zip(loggers, levels, strict=True):
                each.setLevel(level)
        self._connected = True

    def _environment(self) -> dict[str, Any]:
        """The runtime environment of the workers of a cluster that is joined."""
        package = str(Path(keras_nas_plugin.__file__).parent)
        return {"py_modules": [package, *_user_modules()], **(self._runtime_env or {})}

    def disconnect(self) -> None:
        """Leave the cluster; one that `connect` has started ends."""
        if self._connected:
            self._connected = False
            with _kept_signal_handlers():
                ray.shutdown()

    def room(self) -> int:
        """How many workers the nodes have room for, at least 1."""
        return max(sum(self.request.fits(resources) for resources in self._resources()), 1)

    def _resources(self) -> list[Mapping[str, float]]:
        return [node["Resources"] for node in ray.nodes() if node["Alive"]]

    def has_node(self, node: str) -> bool:
        """Whether a node is part of the cluster.

        Args:
            node: Its id.
        """
        return any(each["NodeID"] == node and each["Alive"] for each in ray.nodes())

    def placed(self) -> None:
        """A worker runs on a node."""
        self._waiting_since, self._sufficed = None, True

    def none_placed(self) -> None:
        """No worker has a node now.

        Raises:
            WorkerError: No node has ever been large enough, for longer than ``wait_for_nodes``.
        """
        now = time.monotonic()
        if self._waiting_since is None:
            self._waiting_since = now
        waited = now - self._waiting_since
        if waited >= _NOTICE_SECONDS and not self._told:
            self._told = True
            logger.warning("No node has %s free: the search waits for one.", self.request)
        if (
            self._sufficed
            or waited < self._wait_for_nodes
            or now - self._looked_at < _NODE_SECONDS
        ):
            return
        self._looked_at = now
        self._check_nodes()

    def _check_nodes(self) -> None:
        resources = self._resources()
        if any(self.request.fits(each) for each in resources):
            self._sufficed = True
            return
        largest = Request(
            *(max((r.get(n, 0.0) for r in resources), default=0.0) for n in ("CPU", "GPU"))
        )
        raise WorkerError(
            "`cpus_per_trial` and `gpus_per_trial` must be what one node of the cluster has; got "
            f"{self.request}, and the most that any of {len(resources)} nodes has are {largest}"
        )
