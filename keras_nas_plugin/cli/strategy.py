"""Options of `keras-nas search` that make its oracle."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from keras_nas_plugin.errors import NASError, WarmStartError
from keras_nas_plugin.evaluation import names as costs
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.oracles.registry import accepts, make_oracle, strategy_names

_MLFLOW = "mlflow:"
_UNITS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
# Units that say what is limited, by the costs that they belong to.
_BYTES = {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9}
_COST_UNITS = {
    costs.PEAK_MEMORY: _BYTES,
    **dict.fromkeys((costs.LATENCY, costs.LATENCY_P95), {"us": 1e-3, "ms": 1.0, "s": 1e3}),
    **dict.fromkeys((costs.ENERGY, costs.ENERGY_ESTIMATE), {"uJ": 1e-3, "mJ": 1.0, "J": 1e3}),
}
_LIMIT = re.compile(
    r"\s*(?P<name>.*?\S)\s*(?P<sign><=|>=)\s*(?P<number>\S+?)(?P<unit>[kKMG]?B|[um]?[sJ]|[kKMG]?)\s*"
)


class StrategyName(click.ParamType):
    """A strategy's name; those that are installed are looked up when they are needed."""

    name = "strategy"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """All names, for ``--help``."""
        return f"[{'|'.join(strategy_names())}]"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """See `click.ParamType.convert`."""
        names = strategy_names()
        if value not in names:
            self.fail(f"needs one of {', '.join(names)}; received {value!r}", param, ctx)
        return value


class Limit(click.ParamType):
    """A `Constraint` from ``val_loss<=0.5``, ``params<=200k`` or ``latency<=10ms``."""

    name = "limit"

    def convert(self, value: Any, param: Any, ctx: Any) -> Constraint:
        """See `click.ParamType.convert`."""
        if isinstance(value, Constraint):
            return value
        found = _LIMIT.fullmatch(value)
        try:
            units = _UNITS | _COST_UNITS.get(costs.canonical(found["name"]), {})
            bound = float(found["number"]) * units[found["unit"]]
        except (KeyError, TypeError, ValueError):
            bound = math.nan
        if not math.isfinite(bound):
            needed = "METRIC<=NUMBER or METRIC>=NUMBER, for example params<=200k or latency<=10ms"
            self.fail(f"needs {needed}; received {value!r}", param, ctx)
        return Constraint(found["name"], **{"max" if found["sign"] == "<=" else "min": bound})


def strategy_options(command: Callable) -> Callable:
    """`--strategy` and what belongs to it."""
    for option in (
        click.option(
            "--constraint",
            "constraints",
            type=Limit(),
            multiple=True,
            metavar="METRIC<=NUMBER",
            help="Limit, also >=, with k, M, G, ms, MB or mJ. On params, flops, memory, latency "
            "and energy it is checked before training. Repeatable.",
        ),
        click.option(
            "--warm-start",
            multiple=True,
            metavar="FOLDER|mlflow:EXPERIMENT",
            help="Earlier trials to learn from. Repeatable.",
        ),
        click.option("--direction", type=click.Choice(["min", "max"]), help="Of the objective."),
        click.option(
            "--objective",
            "objectives",
            multiple=True,
            metavar="METRIC[:min|:max]",
            help="Repeat it for several. [default: the file's OBJECTIVE, else val_loss]",
        ),
        click.option("--max-trials", type=click.IntRange(min=1), default=50, show_default=True),
        click.option(
            "--source",
            type=StrategyName(),
            help="Where the strategy `halving` takes architectures from. [default: random]",
        ),
        click.option("--strategy", type=StrategyName(), default="evolution", show_default=True),
    ):
        command = option(command)
    return command


def parse_objectives(given: Sequence[str], direction: str | None, default: Any) -> Any:
    """What an oracle takes as its objective.

    Args:
        given: What ``--objective`` was given.
        direction: What ``--direction`` was given.
        default: A name, an objective or a list of these, for none given.

    Returns:
        A `keras_tuner.Objective`, or a list of several.

    Raises:
        ObjectiveError: A name whose direction is not certain.
        click.UsageError: A direction for several objectives.
    """
    from keras_nas_plugin.oracles.objectives import checked_objective

    several = given or (default if isinstance(default, list | tuple) else (default,))
    several = [_parsed(one) for one in several]
    if direction is not None:
        several = [_directed(several, direction)]
    names = [getattr(one, "name", one) for one in several]
    if len(set(names)) < len(names):
        raise click.UsageError(f"`--objective` needs each metric once; received {names}")
    return checked_objective(several)


def _parsed(objective: Any) -> Any:
    import keras_tuner

    if not isinstance(objective, str):
        return objective
    name, _, direction = objective.rpartition(":")
    known = name and direction in ("min", "max")
    return keras_tuner.Objective(name, direction) if known else objective


def _directed(several: Sequence[Any], direction: str) -> Any:
    import keras_tuner

    if len(several) > 1:
        raise click.UsageError(
            "`--direction` needs a single objective; write `--objective METRIC:min` for each of "
            f"several; received {len(several)} objectives"
        )
    return keras_tuner.Objective(getattr(several[0], "name", several[0]), direction)


def build_oracle(settings: Any, objective: Any, project: Path) -> Any:
    """The oracle that the options ask for.

    Args:
        settings: `Settings` of the command.
        objective: What it searches for.
        project: Folder of the search: one that goes on has its earlier trials already.

    Raises:
        click.UsageError: The strategy does not take an option that was given.
    """
    options = {"source": settings.source, "constraints": settings.constraints}
    options = {name: value for name, value in options.items() if value}
    if settings.warm_start:
        options["warm_start"] = settings.warm_start
    given = [*options, *(["max_trials"] if settings.max_trials_given else [])]
    for option in given:
        if not accepts(settings.strategy, option):
            raise click.UsageError(_refusal(settings.strategy, option))
    if settings.warm_start:
        options["warm_start"] = _earlier(settings, objective, project)
    return make_oracle(
        settings.strategy,
        objective,
        settings.max_trials,
        seed=settings.seed,
        epochs=settings.epochs,
        **options,
    )


def _refusal(strategy: str, option: str) -> str:
    word = {"constraints": "constraint"}.get(option, option).replace("_", "-")
    able = ", ".join(name for name in strategy_names() if _able(name, option))
    hint = " Its number of trials follows from --epochs." if option == "max_trials" else ""
    return f"`--{word}` needs a strategy that takes it: {able}; received {strategy!r}.{hint}"


def _able(name: str, option: str) -> bool:
    """Whether a strategy takes an option; one that cannot be loaded does not."""
    try:
        return accepts(name, option)
    except NASError:
        return False


def _earlier(settings: Any, objective: Any, project: Path) -> list[tuple[dict[str, Any], Any]]:
    """Trials of all sources; none where the search has begun, which has them in its folder."""
    from keras_nas_plugin.oracles.warm_start import was_fitted
    from keras_nas_plugin.transfer import earlier_trials

    if was_fitted(project) and not settings.overwrite:
        return []
    found: list[tuple[dict[str, Any], Any]] = []
    for text in settings.warm_start:
        if text.startswith(_MLFLOW):
            experiment = text.removeprefix(_MLFLOW)
            where: dict = {"experiment": experiment, "tracking_uri": settings.tracking_uri}
        else:
            where = {"source": text}
        try:
            found += earlier_trials(**where, objective=objective, constraints=settings.constraints)
        except WarmStartError as error:
            raise click.UsageError(f"`--warm-start {text}`: {error}") from error
    return found
