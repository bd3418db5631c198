"""`LocalExecutor`: the choice of several worker processes on this machine."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
from typing import Literal

from keras_nas_plugin.errors import ArgumentError
from keras_nas_plugin.executors.base import Executor
from keras_nas_plugin.executors.local_resources import (
    automatic_workers,
    check_gpus_per_worker,
    environments,
)
from keras_nas_plugin.executors.memory import parse_bytes
from keras_nas_plugin.executors.shipping import pickled
from keras_nas_plugin.executors.substitutes import check_search, substitutes
from keras_nas_plugin.executors.worker_pool import Supervision, WorkerPool
from keras_nas_plugin.executors.worker_process import LocalWorkers
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.fit_arguments import FitArguments

logger = logging.getLogger("keras_nas_plugin")


@dataclasses.dataclass(frozen=True)
class LocalExecutor:
    """Runs several trials at once, each in a worker process on this machine.

    ```python
    tuner = NASTuner(build_model, oracle=oracle, executor=LocalExecutor(workers=4))
    ```

    Workers load what `NASTuner` was given from a pickle, so that hypermodels of a script or a
    notebook need no module. A trial whose worker dies (killed, out of memory, `os._exit`) runs
    again on a new one. Workers end with the process that searches.

    Args:
        workers: Number of processes, at least 1; ``"auto"`` for as many as the cores, the free
            memory and the GPUs of the machine can carry.
        threads_per_worker: Threads of each process for TensorFlow's operations; None divides the
            processor cores among the workers.
        trial_timeout: Seconds that a trial may train. Its worker is then ended, and the trial has
            failed. None for no limit.
        max_retries_per_trial: How often a trial is run again whose worker died while it trained.
        memory_per_worker: Bytes of memory that a process may use alone, or text such as ``"2GB"``;
            None for no limit. A trial that exceeds it, or that the system ends because memory ran
            out, runs again once while no other trial runs, and then has failed.
        gpus_per_worker: A share of a GPU, such as 0.5, or a number of GPUs for each process; 0
            hides the GPUs. None deals the GPUs in turn.

    Raises:
        ArgumentError: An argument is out of range, or the system is Windows.
    """

    workers: int | Literal["auto"] = 2
    threads_per_worker: int | None = None
    trial_timeout: float | None = None
    max_retries_per_trial: int = 1
    memory_per_worker: int | str | None = None
    gpus_per_worker: float | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("workers", 1),
            ("threads_per_worker", 1),
            ("max_retries_per_trial", 0),
        ):
            value = getattr(self, name)
            if (name, value) in (("threads_per_worker", None), ("workers", "auto")):
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ArgumentError(
                    f"`{name}` must be an integer of at least {least}; got {value!r}"
                )
        if self.trial_timeout is not None and not self.trial_timeout > 0:
            raise ArgumentError(
                f"`trial_timeout` must be a number of seconds above 0, or None; got "
                f"{self.trial_timeout!r}"
            )
        if self.memory_per_worker is not None:
            parse_bytes(self.memory_per_worker, "memory_per_worker")
        check_gpus_per_worker(self.gpus_per_worker)
        if os.name == "nt":
            raise ArgumentError("`executor` must be None on Windows; got a LocalExecutor")

    def start(self, trainer: object, fit: FitArguments, context: SearchContext) -> Executor:
        """The executor of a search.

        Args:
            trainer: Trains a trial.
            fit: What `search` was called with.
            context: The search.

        Raises:
            ArgumentError: The search has a distribution strategy, or runs in KerasTuner's service,
                or there are fewer GPUs than the workers need.
        """
        check_search(context, self)
        memory = self.memory_per_worker
        limit = None if memory is None else parse_bytes(memory, "memory_per_worker")
        workers = self.workers
        if workers == "auto":
            workers = automatic_workers(self.threads_per_worker, limit, self.gpus_per_worker)
        logger.info("Starting %d worker processes.", workers)
        divided = environments(workers, self.threads_per_worker, self.gpus_per_worker)
        ship = functools.partial(pickled, trainer, fit, context, substitutes(context))
        return WorkerPool(
            context,
            LocalWorkers(ship, divided),
            Supervision(
                trial_timeout=self.trial_timeout,
                max_retries=self.max_retries_per_trial,
                memory_limit=limit,
            ),
        )
