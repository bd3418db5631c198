"""Devices, precision and reproducibility of the process that trains."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import keras

from keras_nas_plugin.errors import BackendError, NASError

logger = logging.getLogger("keras_nas_plugin")


def gpu_names() -> list[str]:
    """Names of the GPUs that Keras' backend sees."""
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
    """Let TensorFlow take GPU memory as it needs it, and say what trials run on.

    Returns:
        Names of the visible GPUs.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        for gpu in _tensorflow_gpus():
            try:
                tf.config.experimental.set_memory_growth(gpu, True)
            except RuntimeError as error:
                # TensorFlow refuses once a GPU is in use: the setting was made or is lost.
                logger.debug("Memory growth of %s stays as it is: %s", gpu.name, error)
    names = gpu_names()
    if not names:
        logger.warning("No GPU is visible: trials run on the CPU (%d cores).", os.cpu_count())
    return names


@contextlib.contextmanager
def precision(policy: str | None) -> Iterator[None]:
    """Build and train under a Keras dtype policy, and put the former one back.

    Args:
        policy: ``"float32"``, ``"mixed_float16"``, ``"mixed_bfloat16"``, ``"bfloat16"``, or
            None to leave the policy alone.
    """
    if policy is None:
        yield
        return
    former = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(former)


def check_precision(policy: str | None) -> None:
    """Refuse a dtype policy that Keras does not know.

    Raises:
        NASError: The name is unknown.
    """
    if policy is None:
        return
    try:
        keras.dtype_policies.get(policy)
    except ValueError as error:
        raise NASError(
            "`precision` needs a Keras dtype policy such as 'float32', 'mixed_float16', "
            f"'mixed_bfloat16' or 'bfloat16'; received {policy!r}"
        ) from error


def distribution(strategy: Any) -> Any:
    """A `tf.distribute.Strategy` from what the user gave.

    Args:
        strategy: A strategy, None, or ``"mirrored"`` for `tf.distribute.MirroredStrategy`
            over all GPUs (over all logical CPU devices where there is no GPU).

    Raises:
        BackendError: Keras does not run on TensorFlow.
        NASError: An unknown name.
    """
    if strategy is None or not isinstance(strategy, str):
        return strategy
    if strategy != "mirrored":
        raise NASError(
            "`distribution_strategy` needs 'mirrored' or a tf.distribute.Strategy; "
            f"received {strategy!r}"
        )
    if keras.backend.backend() != "tensorflow":
        raise BackendError(
            "`distribution_strategy='mirrored'` needs Keras on TensorFlow; received Keras on "
            f"{keras.backend.backend()}"
        )
    import tensorflow as tf

    kind = "GPU" if _tensorflow_gpus() else "CPU"
    devices = [device.name for device in tf.config.list_logical_devices(kind)]
    return tf.distribute.MirroredStrategy(devices=devices)


def make_deterministic() -> None:
    """Ask the backend for operations that give the same bits each time.

    TensorFlow cannot take this back within the process.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


def describe(policy: str | None, strategy: Any) -> dict[str, str]:
    """Device, precision and versions, as logged with every run."""
    backend = keras.backend.backend()
    gpus = gpu_names()
    described = {
        "device": ", ".join(gpus) if gpus else f"CPU ({platform.machine()})",
        "devices": str(len(gpus) or 1),
        "precision": policy or keras.config.dtype_policy().name,
        "distribution": type(strategy).__name__ if strategy is not None else "none",
        "backend": backend,
        "python": platform.python_version(),
    }
    if strategy is not None:
        described["devices"] = str(strategy.num_replicas_in_sync)
    for package in ("keras", "keras-tuner", backend, "keras-nas-plugin"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            described[package] = metadata.version(package)
    if backend == "tensorflow" and "tensorflow" not in described:
        import tensorflow as tf

        described["tensorflow"] = tf.__version__
    return described
