"""Finding all hyperparameters of a model-building function, conditional ones included."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError

logger = logging.getLogger("keras_nas_plugin")


def discover(
    build: Callable[[Any], Any],
    get_space: Callable[[], Any],
    update_space: Callable[[Any], None],
) -> None:
    """Build models until every conditional scope was open once.

    Unlike KerasTuner's own loop (1.4.8), a configuration that cannot be built does not end
    the search before its first trial, and a scope that nothing opens does not loop for ever.

    Args:
        build: The hypermodel's `build`.
        get_space: Returns a fresh copy of the known `HyperParameters`.
        update_space: Takes over the hyperparameters that a build asked for.

    Raises:
        SearchSpaceError: Nothing could be built, and no hyperparameter was asked for.
    """
    opened: list[Any] = []
    waiting: list[Any] = []
    given_up: list[Any] = []
    target: Any = None
    while True:
        hyperparameters = get_space()
        if target is not None:
            wanted = {condition.name: condition.values[0] for condition in target}
            hyperparameters.values = _defaults(hyperparameters, wanted)
        error = _try_build(build, hyperparameters)
        if error is not None and not hyperparameters.space:
            raise SearchSpaceError(
                "`hypermodel` needs build(hp) to return a model for the default values; it "
                f"raised {type(error).__name__}: {error}"
            ) from error
        update_space(hyperparameters)
        for scope in hyperparameters.active_scopes:
            if scope not in opened:
                opened.append(copy.deepcopy(scope))
        for scope in hyperparameters.inactive_scopes:
            if scope not in waiting:
                waiting.append(copy.deepcopy(scope))
        if target is not None and target not in opened:
            given_up.append(target)
        closed = [scope for scope in waiting if scope not in opened and scope not in given_up]
        if not closed:
            return
        target = closed[0]


def _defaults(hyperparameters: Any, wanted: dict[str, Any]) -> dict[str, Any]:
    """Active values: the wanted ones, else defaults.

    `HyperParameters.ensure_active_values` draws from an unseeded generator, so the order
    in which scopes open, and with it the space, would differ from run to run.
    """
    values: dict[str, Any] = {}
    for item in hyperparameters.space:
        if all(condition.is_active(values) for condition in item.conditions):
            values[item.name] = wanted.get(item.name, item.default)
    return values


def _try_build(build: Callable[[Any], Any], hyperparameters: Any) -> Exception | None:
    try:
        build(hyperparameters)
    except Exception as error:
        # KerasTuner lets hypermodels reject a configuration by raising: a failed trial
        # later, not the end of the search now.
        logger.warning(
            "A model could not be built while the space was explored (%s: %s); values: %s",
            type(error).__name__,
            error,
            dict(hyperparameters.values),
        )
        return error
    return None
