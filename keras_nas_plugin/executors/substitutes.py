"""What workers have in place of the objects that stay in the process that searches."""

from __future__ import annotations

from keras_nas_plugin.errors import ArgumentError
from keras_nas_plugin.executors.shipping import Recipe, nothing
from keras_nas_plugin.executors.worker_link import LinkTracker, WorkerOracle
from keras_nas_plugin.roles import Role
from keras_nas_plugin.training.context import SearchContext

# Attributes of an oracle that training reads, and that do not change during a search.
_SETTINGS = (
    "objective",
    "max_trials",
    "seed",
    "allow_new_entries",
    "tune_new_entries",
    "constraints",
    "verbose",
)


def check_search(context: SearchContext, executor: object) -> None:
    """Check that the trials of a search can be trained in workers.

    Args:
        context: The search.
        executor: What `NASTuner` was given, for the message.

    Raises:
        ArgumentError: The search has a distribution strategy, or runs in KerasTuner's service.
    """
    if context.role is not Role.SINGLE:
        raise ArgumentError(
            "`executor` must be None in a chief or worker of KerasTuner's service; "
            f"got a {type(executor).__name__}"
        )
    if context.distribution_strategy is not None:
        raise ArgumentError(
            "`distribution_strategy` must be None with `executor`, which runs each trial in "
            f"one process; got {type(context.distribution_strategy).__name__}"
        )


def substitutes(context: SearchContext) -> dict[int, Recipe]:
    """What to create in a worker instead of an object, by the object's `id`.

    Args:
        context: The search.
    """
    oracle = context.oracle
    settings = {name: getattr(oracle, name) for name in _SETTINGS if hasattr(oracle, name)}
    replaced: dict[int, Recipe] = {
        id(oracle): (WorkerOracle, (settings,)),
        id(context.trackers): (LinkTracker, ()),
    }
    screen = getattr(oracle, "screen", None)
    for part in (*context.trackers.trackers, screen):
        if part is not None:
            replaced[id(part)] = (nothing, ())
    return replaced
