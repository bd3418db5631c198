"""`LocalExecutor`: the choice of several worker processes on this machine."""

from __future__ import annotations

import dataclasses
import functools
import os

from keras_nas_plugin.errors import ArgumentError
from keras_nas_plugin.executors.base import Executor
from keras_nas_plugin.executors.shipping import pickled
from keras_nas_plugin.executors.substitutes import check_search, substitutes
from keras_nas_plugin.executors.worker_pool import Supervision, WorkerPool
from keras_nas_plugin.executors.worker_process import LocalWorkers
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.fit_arguments import FitArguments


def _cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
        workers: Number of processes, at least 1.
        threads_per_worker: Threads of each process for TensorFlow's operations; None divides the
            processor cores among the workers.
        trial_timeout: Seconds that a trial may train. Its worker is then ended, and the trial has
            failed. None for no limit.
        max_retries_per_trial: How often a trial is run again whose worker died while it trained.

    Raises:
        ArgumentError: An argument is out of range, or the system is Windows.
    """

    workers: int = 2
    threads_per_worker: int | None = None
    trial_timeout: float | None = None
    max_retries_per_trial: int = 1

    def __post_init__(self) -> None:
        for name, least in (
            ("workers", 1),
            ("threads_per_worker", 1),
            ("max_retries_per_trial", 0),
        ):
            value = getattr(self, name)
            if value is None and name == "threads_per_worker":
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
        if os.name == "nt":
            raise ArgumentError("`executor` must be None on Windows; got a LocalExecutor")

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
        environments = [self._environment(number) for number in range(self.workers)]
        ship = functools.partial(pickled, trainer, fit, context, substitutes(context))
        return WorkerPool(
            context,
            LocalWorkers(ship, environments),
            Supervision(trial_timeout=self.trial_timeout, max_retries=self.max_retries_per_trial),
        )

    def _environment(self, number: int) -> dict[str, str]:
        """What divides the cores and GPUs among workers; read when TensorFlow is imported."""
        threads = self.threads_per_worker or max(_cores() // self.workers, 1)
        names = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
        return dict.fromkeys(names, str(threads)) | self._gpu(number)

    def _gpu(self, number: int) -> dict[str, str]:
        visible = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
        if not visible:
            from keras_nas_plugin.training.runtime import gpu_names

            visible = [str(index) for index in range(len(gpu_names()))]
        return {"CUDA_VISIBLE_DEVICES": visible[number % len(visible)]} if visible else {}
