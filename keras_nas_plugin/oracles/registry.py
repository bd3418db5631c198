"""Strategies by name: built-in, KerasTuner's, and those of other distributions."""

from __future__ import annotations

import importlib.metadata
import inspect
import logging
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any

from keras_nas_plugin import oracles
from keras_nas_plugin.errors import NASError, StrategyError
from keras_nas_plugin.lazy import load

if TYPE_CHECKING:
    import keras_tuner

    from keras_nas_plugin.oracles.objectives import Objectives

logger = logging.getLogger("keras_nas_plugin")

#: Entry points of this group are oracle classes, or functions that return an oracle.
GROUP = "keras_nas_plugin.strategies"

#: KerasTuner's oracles, as baselines: class names in `oracles/stock.py`. Its random search is
#: left out, because `RandomOracle` has the same purpose without its faults.
STOCK = {
    "bayesian": "BayesianOptimizationOracle",
    "grid": "GridSearchOracle",
    "hyperband": "HyperbandOracle",
}

#: Functions that choose a strategy.
CHOOSING = {"auto": "auto_oracle"}


def strategy_names() -> tuple[str, ...]:
    """Names of all strategies, in alphabetical order, without importing any."""
    return tuple(sorted({*oracles.STRATEGIES, *STOCK, *CHOOSING, *_third_party()}))


def accepts(name: str, option: str) -> bool:
    """Whether a strategy has an argument of this name.

    Args:
        name: One of `strategy_names`.
        option: For example ``"warm_start"``.

    Raises:
        StrategyError: The strategy is unknown or cannot be loaded.
    """
    return _accepts(_find(name), option)


def make_oracle(
    name: str,
    objective: Objectives = None,
    max_trials: int | None = 100,
    *,
    seed: int | None = None,
    epochs: int | None = None,
    **options: Any,
) -> keras_tuner.Oracle:
    """Build the oracle of a strategy by name.

    A class is called with ``objective`` and with those of ``max_trials``, ``seed`` and
    ``max_epochs`` that it accepts (KerasTuner's Hyperband derives the number of trials from the
    epochs). A function is called as ``function(objective, max_trials, seed=seed)``, with
    ``max_epochs`` and options if it accepts them.

    KerasTuner's own oracles treat seed 0 as no seed; they get 2147483647 instead.

    Args:
        name: One of `strategy_names`.
        objective: See `NASOracle`.
        max_trials: See `NASOracle`.
        seed: See `NASOracle`.
        epochs: Maximum number of epochs of a trial, for strategies that vary it.
        **options: Further arguments of the strategy, such as ``warm_start``. ``source`` may
            be the name of a strategy.

    Returns:
        A `keras_tuner.Oracle`.

    Raises:
        StrategyError: The strategy is unknown, does not accept an option, or cannot be loaded
            or created.
        NASError: An argument is invalid.
    """
    from keras_nas_plugin.oracles.objectives import checked_objective

    maker = _find(name)
    _warn_of_duplicates(name)
    unknown = [option for option in options if not _accepts(maker, option)]
    if unknown:
        raise StrategyError(
            f"strategy {name!r} has no argument `{unknown[0]}`; got {options[unknown[0]]!r}"
        )
    objective = checked_objective(objective)
    if isinstance(options.get("source"), str):
        options["source"] = make_oracle(options["source"], objective, max_trials, seed=seed)
    positional = [objective]
    named = {"max_trials": max_trials, "seed": seed, "max_epochs": epochs}
    if not inspect.isclass(maker):
        positional.append(named.pop("max_trials"))
    elif not issubclass(maker, load(oracles.__name__, "NASOracle")):
        named["seed"] = load(f"{oracles.__name__}.stock", "nonzero_seed")(seed)
    if epochs is None or "max_epochs" in options:
        del named["max_epochs"]
    accepted = {key: value for key, value in named.items() if _accepts(maker, key)}
    return _create(name, lambda: maker(*positional, **accepted, **options))


def _create(name: str, factory: Callable[[], Any]) -> keras_tuner.Oracle:
    """Call ``factory``; errors of other distributions' strategies name the distribution."""
    import keras_tuner

    try:
        oracle = factory()
    except NASError:
        raise
    except Exception as error:
        if _built_in(name):
            raise
        raise _broken(name, f"it raised {type(error).__name__}: {error}") from error
    if not isinstance(oracle, keras_tuner.Oracle):
        raise _broken(name, f"got {type(oracle).__name__}")
    return oracle


def _broken(name: str, problem: str) -> StrategyError:
    entry = _third_party()[name][0]
    return StrategyError(
        f"strategy {name!r} of {_origin(entry)} must be a keras_tuner.Oracle class, or a "
        f"function that returns one, at {entry.value!r}; {problem}"
    )


def _find(name: str) -> Callable[..., Any]:
    """The class or function behind a name."""
    tables = ((oracles.STRATEGIES, ""), (STOCK, ".stock"), (CHOOSING, ".auto"))
    for table, module in tables:
        if name in table:
            return load(oracles.__name__ + module, table[name])
    entries = _third_party().get(name)
    if not entries:
        raise StrategyError(
            f"`strategy` must be one of {', '.join(strategy_names())}; got {name!r}"
        )
    try:
        maker = entries[0].load()
    except Exception as error:
        raise _broken(name, f"loading it raised {type(error).__name__}: {error}") from error
    if not callable(maker):
        raise _broken(name, f"got {type(maker).__name__}")
    return maker


def _warn_of_duplicates(name: str) -> None:
    entries = _third_party().get(name, [])
    used = "the built-in strategy"
    if not _built_in(name):
        used, entries = f"that of {_origin(entries[0])}", entries[1:]
    for entry in entries:
        logger.warning("Strategy %r is %s, not %s of %s.", name, used, entry.value, _origin(entry))


def _built_in(name: str) -> bool:
    return name in oracles.STRATEGIES or name in STOCK or name in CHOOSING


def _third_party() -> dict[str, list[EntryPoint]]:
    """Entry points by name; entry points of the same name are sorted by distribution."""
    by_name: dict[str, dict[tuple[str, str], EntryPoint]] = {}
    entries = importlib.metadata.entry_points(group=GROUP)
    for entry in sorted(entries, key=lambda entry: (entry.name, _origin(entry))):
        # A source checkout that is also installed is listed twice.
        by_name.setdefault(entry.name, {}).setdefault((entry.value, _origin(entry)), entry)
    return {name: list(distinct.values()) for name, distinct in by_name.items()}


def _origin(entry: EntryPoint) -> str:
    return f"distribution {entry.dist.name!r}" if entry.dist else "an unknown distribution"


def _accepts(maker: Callable[..., Any], option: str) -> bool:
    """Whether a class or function has an argument of this name.

    If the `__init__` of a class accepts any keyword argument, its base class decides.
    """
    if not inspect.isclass(maker):
        return _names_argument(maker, option) is not False
    for base in maker.__mro__:
        if "__init__" in vars(base):
            named = _names_argument(vars(base)["__init__"], option)
            if named is not None:
                return named
    return False


def _names_argument(function: Callable[..., Any], option: str) -> bool | None:
    """Whether a function names an argument; None when it accepts any keyword argument."""
    parameters = inspect.signature(function).parameters
    if option in parameters:
        return True
    kinds = {parameter.kind for parameter in parameters.values()}
    return None if inspect.Parameter.VAR_KEYWORD in kinds else False
