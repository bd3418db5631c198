"""Every strategy by name: built in, KerasTuner's own, and those of other distributions."""

from __future__ import annotations

import importlib.metadata
import inspect
import logging
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

from keras_nas_plugin import oracles
from keras_nas_plugin.errors import NASError, StrategyError
from keras_nas_plugin.lazy import load

logger = logging.getLogger("keras_nas_plugin")

#: Entry points of this group name an oracle class, or a function that returns an oracle.
GROUP = "keras_nas_plugin.strategies"

#: KerasTuner's own oracles, as baselines: class names in `oracles/stock.py`. Its random search
#: is left out, because ``random`` is one that honours ``seed=0`` and exhausts a space.
STOCK = {
    "bayesian": "BayesianOptimizationOracle",
    "grid": "GridSearchOracle",
    "hyperband": "HyperbandOracle",
}


def strategy_names() -> tuple[str, ...]:
    """Names of all strategies, in alphabetical order; nothing is imported for it."""
    return tuple(sorted({*oracles.STRATEGIES, *STOCK, *_third_party()}))


def accepts(name: str, option: str) -> bool:
    """Whether a strategy takes an argument of this name.

    Args:
        name: One of `strategy_names`.
        option: For example ``"warm_start"``.

    Raises:
        StrategyError: There is no such strategy, or it cannot be loaded.
    """
    return _takes(_find(name), option)


def make_oracle(
    name: str,
    objective: Any = None,
    max_trials: int | None = 100,
    *,
    seed: int | None = None,
    epochs: int | None = None,
    **options: Any,
) -> Any:
    """Build the oracle of a strategy by name.

    A class gets ``objective``, and of ``max_trials``, ``seed`` and ``epochs`` (as
    ``max_epochs``) what it takes: the number of trials of KerasTuner's Hyperband follows from
    the epochs. A function is called as ``function(objective, max_trials, seed=seed)``, with
    ``max_epochs`` and the options that it takes.

    KerasTuner's own oracles take seed 0 for no seed; here it stands for 2147483647.

    Args:
        name: One of `strategy_names`.
        objective: See `NASOracle`.
        max_trials: See `NASOracle`.
        seed: See `NASOracle`.
        epochs: Most epochs of a trial, for strategies that train for different numbers.
        **options: Further arguments of the strategy, such as ``warm_start``. A ``source``
            may be the name of a strategy too.

    Returns:
        A `keras_tuner.Oracle`.

    Raises:
        StrategyError: There is no such strategy, it takes no such option, or it cannot be
            loaded or made.
        NASError: An argument is not what it needs to be.
    """
    from keras_nas_plugin.oracles.objectives import checked_objective

    maker = _find(name)
    _warn_of_duplicates(name)
    unknown = [option for option in options if not _takes(maker, option)]
    if unknown:
        raise StrategyError(
            f"strategy {name!r} takes no `{unknown[0]}`; received {options[unknown[0]]!r}"
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
    taken = {key: value for key, value in named.items() if _takes(maker, key)}
    return _made(name, lambda: maker(*positional, **taken, **options))


def _made(name: str, make: Callable[[], Any]) -> Any:
    """The oracle that ``make`` returns; errors of other distributions name these."""
    import keras_tuner

    try:
        oracle = make()
    except NASError:
        raise
    except Exception as error:
        if _built_in(name):
            raise
        raise _broken(name, f"it raised {type(error).__name__}: {error}") from error
    if not isinstance(oracle, keras_tuner.Oracle):
        raise _broken(name, f"received {type(oracle).__name__}")
    return oracle


def _broken(name: str, problem: str) -> StrategyError:
    entry = _third_party()[name][0]
    return StrategyError(
        f"strategy {name!r} of {_origin(entry)} needs to be a keras_tuner.Oracle class, or a "
        f"function that returns one, at {entry.value!r}; {problem}"
    )


def _find(name: str) -> Callable[..., Any]:
    """The class or function behind a name."""
    for table, module in ((oracles.STRATEGIES, ""), (STOCK, ".stock")):
        if name in table:
            return load(oracles.__name__ + module, table[name])
    others = _third_party().get(name)
    if not others:
        raise StrategyError(
            f"`strategy` needs one of {', '.join(strategy_names())}; received {name!r}"
        )
    try:
        maker = others[0].load()
    except Exception as error:
        raise _broken(name, f"loading it raised {type(error).__name__}: {error}") from error
    if not callable(maker):
        raise _broken(name, f"received {type(maker).__name__}")
    return maker


def _warn_of_duplicates(name: str) -> None:
    entries = _third_party().get(name, [])
    used = "the built-in one"
    if not _built_in(name):
        used, entries = f"that of {_origin(entries[0])}", entries[1:]
    for other in entries:
        logger.warning("Strategy %r is %s, not %s of %s.", name, used, other.value, _origin(other))


def _built_in(name: str) -> bool:
    return name in oracles.STRATEGIES or name in STOCK


def _third_party() -> dict[str, list[EntryPoint]]:
    """Entry points by name; those of one name in the order of their distributions."""
    found: dict[str, list[EntryPoint]] = {}
    entries = importlib.metadata.entry_points(group=GROUP)
    for entry in sorted(entries, key=lambda one: (one.name, _origin(one))):
        others = found.setdefault(entry.name, [])
        # A checkout that is installed as well is listed twice.
        if all((entry.value, _origin(entry)) != (one.value, _origin(one)) for one in others):
            others.append(entry)
    return found


def _origin(entry: EntryPoint) -> str:
    return f"distribution {entry.dist.name!r}" if entry.dist else "an unknown distribution"


def _takes(maker: Callable[..., Any], option: str) -> bool:
    """Whether a class or function has an argument of this name.

    Of a class whose `__init__` hands ``**options`` on, the base class decides.
    """
    if not inspect.isclass(maker):
        return _names_or_takes_all(maker, option) is not False
    for base in maker.__mro__:
        if "__init__" in vars(base):
            found = _names_or_takes_all(base.__init__, option)
            if found is not None:
                return found
    return False


def _names_or_takes_all(function: Callable[..., Any], option: str) -> bool | None:
    """Whether a function names an argument; None when it takes any name."""
    parameters = inspect.signature(function).parameters
    if option in parameters:
        return True
    kinds = {parameter.kind for parameter in parameters.values()}
    return None if inspect.Parameter.VAR_KEYWORD in kinds else False
