"""`RayExecutor`: the choice of workers on the nodes of a Ray cluster."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
from collections.abc import Mapping
from typing import Any, Literal

from keras_nas_plugin.errors import ArgumentError
from keras_nas_plugin.executors.base import Executor
from keras_nas_plugin.executors.ray.environment import defaults_of_environment
from keras_nas_plugin.executors.shipping import pickled
from keras_nas_plugin.executors.substitutes import check_search, substitutes
from keras_nas_plugin.executors.worker_pool import Supervision, WorkerPool
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.fit_arguments import FitArguments

# Ray reads these when it is imported: no stack trace of C++ when this process is ended by SIGTERM,
# and no reports of nodes and workers, which the executor makes itself.
_QUIET = {"RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1", "RAY_DEDUP_LOGS_SKIP_REGEX": "."}


def _check_number(name: str, value: object, kinds: type | tuple[type, ...], least: float) -> None:
    if not isinstance(value, kinds) or isinstance(value, bool) or not value >= least:  # type: ignore[operator]
        kind = "an integer" if kinds is int else "a number"
        raise ArgumentError(f"`{name}` must be {kind} of at least {least}; got {value!r}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RayExecutor:
    """Runs several trials at once, each in an actor of a Ray cluster.

    ```python
    executor = RayExecutor(address="auto", workers=8, cpus_per_trial=2, gpus_per_trial=0.5)
    tuner = NASTuner(build_model, oracle=oracle, executor=executor)
    ```

    The oracle, the records and MLflow stay with the process that searches. Nodes may leave and
    join during the search: a trial whose node left runs again elsewhere, and a worker for which no
    node has room waits without blocking the others. A trial whose worker dies otherwise (killed,
    out of memory, `os._exit`) runs again as well, ``max_retries_per_trial`` times.

    Args:
        address: ``"auto"`` or the address of a running cluster (``"10.0.0.1:6379"``) to join; None
            for the cluster that this process has joined or that ``RAY_ADDRESS`` names, or else a
            new one on this machine, which ends with the search.
        workers: Number of trials at once; ``"auto"`` for as many as the nodes have room for when
            the search starts. Of a larger number, the others wait for nodes that join.
        cpus_per_trial: Processor cores that Ray reserves for each worker, which are also its
            threads.
        gpus_per_trial: GPUs that Ray reserves for each worker: a share such as 0.5, or a whole
            number. 0 hides the GPUs.
        trial_timeout: Seconds that a trial may train. Its worker is then ended, and the trial has
            failed. None for no limit.
        max_retries_per_trial: How often a trial is run again whose worker died while it trained,
            not counting workers whose node left.
        wait_for_nodes: Seconds to wait for a node that is large enough, where no node is: for
            clusters that grow on demand. 0 raises at once.
        runtime_env: Ray's runtime environment of the workers, for clusters that are joined. By
            default it has this package and the modules next to the program in ``"py_modules"``;
            other entries are added. Without effect where the program has called `ray.init`.

    Raises:
        ArgumentError: An argument is out of range, or Ray is not installed.
    """

    address: str | None = None
    workers: int | Literal["auto"] = "auto"
    cpus_per_trial: float = 1
    gpus_per_trial: float = 0
    trial_timeout: float | None = None
    max_retries_per_trial: int = 1
    wait_for_nodes: float = 0
    runtime_env: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.workers != "auto":
            _check_number("workers", self.workers, int, 1)
        _check_number("max_retries_per_trial", self.max_retries_per_trial, int, 0)
        for name in ("cpus_per_trial", "gpus_per_trial", "wait_for_nodes"):
            _check_number(name, getattr(self, name), (int, float), 0)
        if self.gpus_per_trial > 1 and self.gpus_per_trial % 1:
            raise ArgumentError(
                "`gpus_per_trial` must be at most 1, or a whole number; got "
                f"{self.gpus_per_trial!r}"
            )
        if self.trial_timeout is not None and not self.trial_timeout > 0:
            raise ArgumentError(
                f"`trial_timeout` must be a number of seconds above 0, or None; got "
                f"{self.trial_timeout!r}"
            )
        if self.address is not None and self.address.startswith("ray://"):
            raise ArgumentError(
                "`address` must be that of the cluster and not of Ray Client: run the search on a "
                f"node, for example with `ray job submit`; got {self.address!r}"
            )
        if importlib.util.find_spec("ray") is None:
            raise ArgumentError(
                "`executor` may be a RayExecutor only where Ray is installed: "
                "pip install 'keras-nas-plugin[ray]'"
            )

    def start(self, trainer: object, fit: FitArguments, context: SearchContext) -> Executor:
        """The executor of a search.

        Args:
            trainer: Trains a trial.
            fit: What `search` was called with.
            context: The search.

        Raises:
            ArgumentError: The search has a distribution strategy, or runs in KerasTuner's service.
        """
        check_search(context, self)
        with defaults_of_environment(_QUIET):
            from keras_nas_plugin.executors.ray.cluster import RayCluster, Request
            from keras_nas_plugin.executors.ray.workers import RayWorkers
        request = Request(self.cpus_per_trial, self.gpus_per_trial)
        return WorkerPool(
            context,
            RayWorkers(
                RayCluster(self.address, self.runtime_env, request, self.wait_for_nodes),
                functools.partial(pickled, trainer, fit, context, substitutes(context)),
                context.layout,
                self.workers,
                inherits=context.inheritance is not None,
            ),
            Supervision(trial_timeout=self.trial_timeout, max_retries=self.max_retries_per_trial),
        )
