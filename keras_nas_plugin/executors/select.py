"""The executor of a process, by its role in the search."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import keras_tuner

from keras_nas_plugin.executors.base import Executor, ExecutorSettings
from keras_nas_plugin.executors.in_process import InProcessExecutor
from keras_nas_plugin.roles import Role
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.fit_arguments import FitArguments
from keras_nas_plugin.training.trainer import TrialTrainer

if TYPE_CHECKING:
    from keras_nas_plugin.executors.service.client import ChiefClient


def select_executor(
    choice: ExecutorSettings | None,
    trainer: TrialTrainer,
    fit: FitArguments,
    context: SearchContext,
    oracle: keras_tuner.Oracle | ChiefClient,
    slot: str,
) -> Executor:
    """The executor of this process.

    Args:
        choice: What the tuner was given as ``executor``.
        trainer: Trains a trial.
        fit: What `search` was called with.
        context: The search.
        oracle: The tuner's oracle; in a worker, its connection to the chief.
        slot: The tuner's id.

    Raises:
        ArgumentError: The choice does not fit the search.
        WorkerError: This process is a chief, and cannot listen at its address.
    """
    if choice is not None:
        return choice.start(trainer, fit, context)
    train = functools.partial(trainer.train, fit=fit)
    if context.role is Role.SINGLE:
        return InProcessExecutor(train, slot)
    # Only here, as KerasTuner does: gRPC and its messages need certain versions of protobuf.
    from keras_nas_plugin.executors.service import executors

    return executors.executor_of(context, oracle, train, trainer.ranges)


def joins_chief(oracle: keras_tuner.Oracle | ChiefClient) -> bool:
    """Wait for the chief if this process is a worker.

    Args:
        oracle: The tuner's oracle.

    Returns:
        False if the search is complete, so that this worker has nothing to do.

    Raises:
        WorkerError: The chief does not answer.
    """
    return isinstance(oracle, keras_tuner.Oracle) or oracle.join()


def leave_chief(oracle: keras_tuner.Oracle | ChiefClient) -> None:
    """End this worker's lease, if it has one."""
    if not isinstance(oracle, keras_tuner.Oracle):
        oracle.close()
