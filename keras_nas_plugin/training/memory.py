"""Frees the models of earlier trials, and limits garbage collection during a search."""

from __future__ import annotations

import contextlib
import gc
import inspect
import itertools
import logging
from collections.abc import Callable, Iterator

import keras

logger = logging.getLogger("keras_nas_plugin")

# Of so many calls of `forget_models`, one drops TensorFlow's kernels: a MiB for each small model.
_CLEARING_EVERY = 10
_calls = itertools.count(1)
# `all_reduce` is at most this many closures below the registered function.
_CLOSURE_DEPTH = 3


class _Frozen:
    """Who has frozen objects. Counting them takes as long as walking them: it is done once."""

    by_search = False
    by_program = False


@contextlib.contextmanager
def frozen_imports() -> Iterator[None]:
    """Exclude everything imported so far from garbage collection while the block runs.

    A collection walks every tracked object, and those that TensorFlow and Keras created on import
    never become garbage. They are frozen for the search. `gc.unfreeze` unfreezes everything, so a
    program that froze objects itself is left alone.
    """
    if not _Frozen.by_search and not _Frozen.by_program:
        _Frozen.by_program = gc.get_freeze_count() > 0
    frozen = not _Frozen.by_search and not _Frozen.by_program
    if frozen:
        _Frozen.by_search = True
        gc.collect()
        gc.freeze()
    try:
        yield
    finally:
        if frozen:
            gc.unfreeze()
            _Frozen.by_search = False
        forget_models()


def forget_models() -> None:
    """Free the models of earlier trials and reset Keras' names; the dtype policy stays.

    It runs the garbage collector once; in KerasTuner, `clear_session` runs it a second time.
    """
    forget_reduce_gradients()
    policy = keras.config.dtype_policy()
    with _kernels_stay() if next(_calls) % _CLEARING_EVERY else contextlib.nullcontext():
        # Keras 3.15 resets the policy as well, and every model would be float32.
        keras.backend.clear_session(free_memory=False)
    keras.config.set_dtype_policy(policy)
    gc.collect()


@contextlib.contextmanager
def _kernels_stay() -> Iterator[None]:
    """Let `clear_session` keep the kernels of operations that TensorFlow has run.

    Keras 3.15 drops them all, and without them each variable of the next model takes milliseconds
    to create. Seeds decide the same numbers: `tf.random.set_seed` drops kernels as well. There is
    no public way to choose. Where TensorFlow drops them in another way, nothing happens.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    try:
        from tensorflow.python.eager import context

        attributes = vars(context.context())
    except (ImportError, AttributeError, TypeError) as error:
        logger.debug("This TensorFlow keeps its kernels elsewhere: %s", error)
        yield
        return
    attributes["clear_kernel_cache"] = _no_clearing
    try:
        yield
    finally:
        attributes.pop("clear_kernel_cache", None)


def _no_clearing() -> None:
    """Stands in for the method of TensorFlow's context."""


def forget_reduce_gradients() -> int:
    """Drop the gradient functions that optimizer updates left in TensorFlow.

    Each trace of `Optimizer.apply_gradients` calls `ReplicaContext.all_reduce`, a
    `tf.custom_gradient`, which TensorFlow 2.21 enters in a global table that it never empties. The
    entry holds the gradients, these the train graph, and the graph the weights: some MiB for each
    small model. There is no public way to remove an entry. Only entries of `all_reduce` are
    removed; they would serve to differentiate through an update of a model that no longer exists.
    Where TensorFlow keeps its table elsewhere, nothing happens.

    Returns:
        How many entries were removed.
    """
    if keras.backend.backend() != "tensorflow":
        return 0
    try:
        from tensorflow.python.framework import ops

        table = ops.gradient_registry._registry
    except (ImportError, AttributeError) as error:
        logger.debug("This TensorFlow keeps its gradient functions elsewhere: %s", error)
        return 0
    names = [
        name
        for name, entry in list(table.items())
        if name.startswith("CustomGradient-") and _is_all_reduce(entry.get("type"))
    ]
    for name in names:
        del table[name]
    return len(names)


def _is_all_reduce(gradient: object) -> bool:
    """Whether a gradient function was created by `all_reduce`."""
    functions = [gradient]
    for _ in range(_CLOSURE_DEPTH):
        inner = [captured for function in functions for captured in _captured(function)]
        if any("ReplicaContextBase.all_reduce" in function.__qualname__ for function in inner):
            return True
        functions = list(inner)
    return False


def _captured(function: object) -> Iterator[Callable]:
    for cell in getattr(function, "__closure__", None) or ():
        try:
            content = cell.cell_contents
        except ValueError:  # a cell that was never filled
            continue
        if inspect.isfunction(content):
            yield content
