"""Discovery of all hyperparameters of a hypermodel, including conditional ones."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import SearchSpaceError

if TYPE_CHECKING:
    import keras_tuner

logger = logging.getLogger("keras_nas_plugin")


def discover(
    build: Callable[[keras_tuner.HyperParameters], object],
    get_space: Callable[[], keras_tuner.HyperParameters],
    update_space: Callable[[keras_tuner.HyperParameters], None],
) -> None:
    """Build models until every conditional scope has been active at least once.

    Unlike KerasTuner's own loop (1.4.8), a configuration that cannot be built does not end
    the search before its first trial, and a scope that no value activates does not cause an
    infinite loop.

    Args:
        build: The hypermodel's `build`.
        get_space: Returns a new copy of the hyperparameters declared so far.
        update_space: Receives the hyperparameters that a build declared.

    Raises:
        SearchSpaceError: The first build failed and declared no hyperparameter.
    """
    opened: list[Any] = []
    waiting: list[Any] = []
    unreachable: list[Any] = []
    target: Any = None
    while True:
        hyperparameters = get_space()
        if target is not None:
            required = {condition.name: condition.values[0] for condition in target}
            hyperparameters.values = _defaults(hyperparameters, required)
        error = _try_build(build, hyperparameters)
        if error is not None and not hyperparameters.space:
            raise SearchSpaceError(
                "`hypermodel` must return a model from build(hp) for the default values; it "
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
            unreachable.append(target)
        closed = [scope for scope in waiting if scope not in opened and scope not in unreachable]
        if not closed:
            return
        target = closed[0]


def _defaults(
    hyperparameters: keras_tuner.HyperParameters, required: dict[str, Any]
) -> dict[str, Any]:
    """Values of the active hyperparameters: the required value if there is one, else the default.

    This replaces `HyperParameters.ensure_active_values`, which draws from an unseeded generator:
    the order in which scopes become active, and with it the space, would differ between runs.
    """
    values: dict[str, Any] = {}
    for item in hyperparameters.space:
        if all(condition.is_active(values) for condition in item.conditions):
            values[item.name] = required.get(item.name, item.default)
    return values


def _try_build(
    build: Callable[[keras_tuner.HyperParameters], object],
    hyperparameters: keras_tuner.HyperParameters,
) -> Exception | None:
    try:
        build(hyperparameters)
    except Exception as error:
        # KerasTuner allows hypermodels to reject a configuration by raising an exception. In the
        # search this is a failed trial; during discovery it must not end the search.
        logger.warning(
            "A model could not be built during the discovery of the space (%s: %s); values: %s",
            type(error).__name__,
            error,
            dict(hyperparameters.values),
        )
        return error
    return None
