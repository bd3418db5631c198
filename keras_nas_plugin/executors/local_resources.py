"""How the cores, memory and GPUs of this machine are divided among workers."""

from __future__ import annotations

import math
import os

from keras_nas_plugin.errors import ArgumentError

# Read when TensorFlow, and the libraries below it, are imported.
_THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
# Let processes that share a GPU allocate its memory as they need it.
_MEMORY_GROWTH = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
_NO_GPU = {"CUDA_VISIBLE_DEVICES": "-1"}
# A worker with TensorFlow, a small model and its data.
_WORKER_BYTES = 1_500_000_000


def cores() -> int:
    """The processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Ids of the GPUs that this process may use, as in ``CUDA_VISIBLE_DEVICES``."""
    visible = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    if visible:
        return [] if visible[0] == "-1" else visible
    from keras_nas_plugin.training.runtime import gpu_names

    return [str(index) for index in range(len(gpu_names()))]


def automatic_workers(
    threads: int | None, memory: int | None, gpus_per_worker: float | None
) -> int:
    """As many workers as cores, free memory and GPUs can carry, at least 1.

    Args:
        threads: Threads of each worker; None for one.
        memory: Bytes of each worker; None for 1.5 GB.
        gpus_per_worker: GPUs of each worker; None for one, where there are any.
    """
    from keras_nas_plugin.executors.memory import available_bytes

    limits = [cores() // (threads or 1), available_bytes() // (memory or _WORKER_BYTES)]
    gpus = visible_gpus()
    if gpus and gpus_per_worker != 0:
        limits.append(_places(len(gpus), gpus_per_worker or 1))
    return max(min(limits), 1)


def _places(gpus: int, share: float) -> int:
    """How many workers with a share of a GPU, or with several, there is room for."""
    return gpus * int(1 / share + 1e-9) if share < 1 else gpus // int(share)


def check_gpus_per_worker(value: float | None) -> None:
    """Check a number of GPUs.

    Raises:
        ArgumentError: It is neither a share of one GPU nor a number of GPUs.
    """
    if value is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not value >= 0 or not math.isfinite(value) or (value > 1 and value % 1):
        raise ArgumentError(
            "`gpus_per_worker` must be a share such as 0.5, a number of GPUs, or None; got "
            f"{value!r}"
        )


def environments(
    workers: int, threads: int | None, gpus_per_worker: float | None
) -> list[dict[str, str]]:
    """Environment variables of each worker, which divide cores and GPUs.

    Args:
        workers: How many workers there are.
        threads: Threads of each; None divides the cores.
        gpus_per_worker: GPUs of each; None deals the GPUs in turn.

    Raises:
        ArgumentError: There are fewer GPUs than that.
    """
    each = str(threads or max(cores() // workers, 1))
    return [
        dict.fromkeys(_THREADS, each) | gpus
        for gpus in _gpu_environments(workers, gpus_per_worker)
    ]


def _gpu_environments(workers: int, share: float | None) -> list[dict[str, str]]:
    if share == 0:
        return [_NO_GPU] * workers
    gpus = visible_gpus()
    if share is None:
        growth = _MEMORY_GROWTH if workers > len(gpus) else {}
        dealt = [gpus[number % len(gpus)] for number in range(workers)] if gpus else []
        return [{"CUDA_VISIBLE_DEVICES": gpu, **growth} for gpu in dealt] or [{}] * workers
    if workers > _places(len(gpus), share):
        raise ArgumentError(
            f"`workers` must be at most {_places(len(gpus), share)} with `gpus_per_worker="
            f"{share:g}` on {len(gpus)} GPUs; got {workers}"
        )
    if share < 1:
        sharing = int(1 / share + 1e-9)
        return [
            {"CUDA_VISIBLE_DEVICES": gpus[number // sharing], **_MEMORY_GROWTH}
            for number in range(workers)
        ]
    count = int(share)
    return [
        {"CUDA_VISIBLE_DEVICES": ",".join(gpus[number * count : (number + 1) * count])}
        for number in range(workers)
    ]
