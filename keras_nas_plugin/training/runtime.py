"""Devices, precision and reproducibility of the process that trains."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import platform
from collections.abc import Iterator, Sequence
from importlib import metadata
from typing import Any

import keras

from keras_nas_plugin.errors import ArgumentError, BackendError
from keras_nas_plugin.records.placement import Placement

logger = logging.getLogger("keras_nas_plugin")


def gpu_names() -> list[str]:
    """Names of the GPUs that are visible to Keras' backend."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        details = map(tf.config.experimental.get_device_details, _tensorflow_gpus())
        return [detail.get("device_name", "GPU") for detail in details]
    if backend == "jax":
        import jax

        return [device.device_kind for device in jax.devices() if device.platform != "cpu"]
    if backend == "torch":
        import torch

        return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return []


def _tensorflow_gpus() -> list[Any]:
    import tensorflow as tf

    return tf.config.list_physical_devices("GPU")


def prepare_devices() -> list[str]:
    """Let TensorFlow allocate GPU memory as it needs it, and warn if there is no GPU.

    Returns:
        Names of the visible GPUs.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for gpu in _tensorflow_gpus():
            try:
                tf.config.experimental.set_memory_growth(gpu, True)
            except RuntimeError as error:
                # TensorFlow rejects it once a GPU is in use: it was set before, or is too late.
                logger.debug("Memory growth of %s is unchanged: %s", gpu.name, error)
    names = gpu_names()
    if not names:
        logger.warning("No GPU is visible: trials run on the CPU (%d cores).", os.cpu_count())
    return names


class _NoRetracing(logging.Filter):
    """Drops TensorFlow's warning that a function is traced often."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`."""
        return "triggered tf.function retracing" not in record.getMessage()


@contextlib.contextmanager
def no_retracing_warnings() -> Iterator[None]:
    """Drop TensorFlow's warnings that a function is traced often.

    TensorFlow counts the train functions of all models as one function, so that it warns
    whenever several models are trained.
    """
    logger_of_tensorflow, dropped = logging.getLogger("tensorflow"), _NoRetracing()
    logger_of_tensorflow.addFilter(dropped)
    try:
        yield
    finally:
        logger_of_tensorflow.removeFilter(dropped)


@contextlib.contextmanager
def precision(policy: str | None) -> Iterator[None]:
    """Build and train under a Keras dtype policy, and restore the previous one.

    Args:
        policy: ``"float32"``, ``"mixed_float16"``, ``"mixed_bfloat16"``, ``"bfloat16"``, or
            None to leave the policy unchanged.
    """
    if policy is None:
        yield
        return
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


def check_precision(policy: str | None) -> None:
    """Check that Keras knows a dtype policy.

    Args:
        policy: Its name, or None.

    Raises:
        ArgumentError: The name is unknown.
    """
    if policy is None:
        return
    try:
        keras.dtype_policies.get(policy)
    except ValueError as error:
        raise ArgumentError(
            "`precision` must be a Keras dtype policy such as 'float32', 'mixed_float16', "
            f"'mixed_bfloat16' or 'bfloat16'; got {policy!r}"
        ) from error


def distribution(strategy: object) -> object:
    """A `tf.distribute.Strategy` from the argument of a tuner.

    Args:
        strategy: A strategy, None, or ``"mirrored"`` for `tf.distribute.MirroredStrategy`
            over all GPUs (over all logical CPU devices if there is no GPU).

    Returns:
        The strategy, or None.

    Raises:
        BackendError: Keras does not run on TensorFlow.
        ArgumentError: The name is unknown.
    """
    if strategy is None or not isinstance(strategy, str):
        return strategy
    if strategy != "mirrored":
        raise ArgumentError(
            "`distribution_strategy` must be 'mirrored' or a tf.distribute.Strategy; "
            f"got {strategy!r}"
        )
    if keras.backend.backend() != "tensorflow":
        raise BackendError(
            "`distribution_strategy` may be 'mirrored' only if Keras runs on TensorFlow; it "
            f"runs on {keras.backend.backend()}"
        )
    import tensorflow as tf

    kind = "GPU" if _tensorflow_gpus() else "CPU"
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    return tf.distribute.MirroredStrategy(devices=devices)


def make_deterministic() -> None:
    """Enable deterministic operations of the backend, whose results are equal bit for bit.

    TensorFlow cannot undo this within the process, and its random operations raise an error
    from now on where there is no global seed. So there is one: a later search in this process
    that is not deterministic would fail otherwise.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
        tf.random.set_seed(0)  # each execution of a trial sets its own


def _device(gpus: Sequence[str]) -> str:
    return ", ".join(gpus) if gpus else f"CPU ({platform.machine()})"


@functools.cache
def _device_of_process() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = gpu_names()
    return f"{_device(gpus)} ({visible})" if gpus and visible else _device(gpus)


def this_process() -> Placement:
    """The process that calls this, as the one that trains a trial.

    The device is followed by the value of ``CUDA_VISIBLE_DEVICES``, where it is set: equal GPUs
    have equal names.
    """
    return Placement(pid=os.getpid(), node=platform.node(), device=_device_of_process())


def describe(policy: str | None, strategy: object) -> dict[str, str]:
    """Device, precision and versions, as logged with every run.

    Args:
        policy: Keras dtype policy of the search; None for the current one.
        strategy: The `tf.distribute.Strategy` of the search, or None.
    """
    backend = keras.backend.backend()
    gpus = gpu_names()
    described = {
        "device": _device(gpus),
        "devices": str(len(gpus) or 1),
        "precision": policy or keras.config.dtype_policy().name,
        "distribution": type(strategy).__name__ if strategy is not None else "none",
        "backend": backend,
        "python": platform.python_version(),
    }
    if strategy is not None:
        described["devices"] = str(getattr(strategy, "num_replicas_in_sync", 1))
    for package in ("keras", "keras-tuner", backend, "keras-nas-plugin"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            described[package] = metadata.version(package)
    if backend == "tensorflow" and "tensorflow" not in described:
        import tensorflow as tf

        described["tensorflow"] = tf.__version__
    return described
