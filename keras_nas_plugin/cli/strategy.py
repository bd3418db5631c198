"""Options of `keras-nas search` that select its oracle, and how it is built from them."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import click

from keras_nas_plugin.errors import NASError, WarmStartError
from keras_nas_plugin.evaluation import names as costs
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.oracles.registry import accepts, make_oracle, strategy_names

if TYPE_CHECKING:
    import keras_tuner

    Objective: TypeAlias = str | keras_tuner.Objective

_MLFLOW = "mlflow:"
_UNITS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
# Units of particular costs.
_BYTES = {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9}
_COST_UNITS = {
    **dict.fromkeys([name for name in costs.COSTS if name.endswith("_bytes")], _BYTES),
    **dict.fromkeys(
        [name for name in costs.COSTS if name.endswith("_ms")], {"us": 1e-3, "ms": 1.0, "s": 1e3}
    ),
    **dict.fromkeys((costs.ENERGY, costs.ENERGY_ESTIMATE), {"uJ": 1e-3, "mJ": 1.0, "J": 1e3}),
}
_LIMIT = re.compile(
    r"\s*(?P<name>.*?\S)\s*(?P<sign><=|>=)\s*(?P<number>\S+?)(?P<unit>[kKMG]?B|[um]?[sJ]|[kKMG]?)\s*"
)

_Command = TypeVar("_Command", bound=Callable[..., object])


@dataclasses.dataclass(frozen=True, kw_only=True)
class OracleSettings:
    """The options of the command line that an oracle is built from."""

    strategy: str
    source: str | None
    max_trials: int
    #: Whether the user gave `--max-trials`.
    max_trials_given: bool
    warm_start: tuple[str, ...]
    constraints: tuple[Constraint, ...]
    exportable: tuple[str, ...] = ()
    epochs: int
    seed: int | None
    overwrite: bool
    tracking_uri: str | None


class StrategyName(click.ParamType):
    """The name of an installed strategy, looked up when it is needed."""

    name = "strategy"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """All names, for ``--help``."""
        return f"[{'|'.join(strategy_names())}]"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:
        """See `click.ParamType.convert`."""
        names = strategy_names()
        if value not in names:
            self.fail(f"must be one of {', '.join(names)}; got {value!r}", param, ctx)
        return value


class Limit(click.ParamType):
    """A `Constraint` from ``val_loss<=0.5``, ``params<=200k`` or ``latency<=10ms``."""

    name = "limit"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Constraint:
        """See `click.ParamType.convert`."""
        if isinstance(value, Constraint):
            return value
        match = _LIMIT.fullmatch(value)
        bound = math.nan if match is None else _bound_of(match)
        if match is None or not math.isfinite(bound):
            form = "METRIC<=NUMBER or METRIC>=NUMBER, for example params<=200k or latency<=10ms"
            self.fail(f"must be {form}; got {value!r}", param, ctx)
        return Constraint(match["name"], **{"max" if match["sign"] == "<=" else "min": bound})


def _bound_of(match: re.Match[str]) -> float:
    """The number of a limit in the unit of its metric; NaN if the metric has no such unit."""
    units = _UNITS | _COST_UNITS.get(costs.canonical(match["name"]), {})
    try:
        return float(match["number"]) * units[match["unit"]]
    except (KeyError, ValueError):
        return math.nan


def strategy_options(command: _Command) -> _Command:
    """Add `--strategy` and the options of its oracle to a command."""
    for option in (
        click.option(
            "--constraint",
            "constraints",
            type=Limit(),
            multiple=True,
            metavar="METRIC<=NUMBER",
            help="Limit, also >=, in k, M, G, ms, MB or mJ. Limits on params, flops, memory, "
            "latency, energy and exported bytes are checked before training. Repeatable.",
        ),
        click.option(
            "--exportable",
            multiple=True,
            metavar="FORMAT",
            help="Format that models must be exportable to, such as litert. Repeatable.",
        ),
        click.option(
            "--warm-start",
            multiple=True,
            metavar="FOLDER|mlflow:EXPERIMENT",
            help="Earlier trials to learn from: a search's folder, or runs in MLflow. Repeatable.",
        ),
        click.option(
            "--direction", type=click.Choice(["min", "max"]), help="Direction of the objective."
        ),
        click.option(
            "--objective",
            "objectives",
            multiple=True,
            metavar="METRIC[:min|:max]",
            help="Metric to optimise. Repeat for several. [default: the file's OBJECTIVE, else "
            "val_loss]",
        ),
        click.option(
            "--max-trials",
            type=click.IntRange(min=1),
            default=50,
            show_default=True,
            help="Number of trials.",
        ),
        click.option(
            "--source",
            type=StrategyName(),
            help="Strategy that proposes the architectures of `halving`. [default: random]",
        ),
        click.option(
            "--strategy",
            type=StrategyName(),
            default="evolution",
            show_default=True,
            help="Search algorithm.",
        ),
    ):
        command = option(command)
    return command


def parse_objectives(
    names: Sequence[str],
    direction: str | None,
    default: Objective | Sequence[Objective],
) -> keras_tuner.Objective | list[keras_tuner.Objective]:
    """The objective of an oracle from the command line.

    Args:
        names: The values of ``--objective``.
        direction: The value of ``--direction``.
        default: A name, an objective or a list of these, used if ``names`` is empty.

    Returns:
        A `keras_tuner.Objective`, or a list of several.

    Raises:
        ObjectiveError: The direction of a metric is ambiguous.
        click.UsageError: There is one direction for several objectives, or a metric is repeated.
    """
    from keras_nas_plugin.oracles.objectives import checked_objective

    defaults = default if isinstance(default, list | tuple) else (default,)
    objectives = [_parse(objective) for objective in names or defaults]
    if direction is not None:
        objectives = [_with_direction(objectives, direction)]
    metrics = [getattr(objective, "name", objective) for objective in objectives]
    if len(set(metrics)) < len(metrics):
        raise click.UsageError(f"`--objective` must name each metric once; got {metrics}")
    return checked_objective(objectives)


def _parse(objective: Objective) -> Objective:
    import keras_tuner

    if not isinstance(objective, str):
        return objective
    name, _, direction = objective.rpartition(":")
    has_direction = name and direction in ("min", "max")
    return keras_tuner.Objective(name, direction) if has_direction else objective


def _with_direction(objectives: Sequence[Objective], direction: str) -> keras_tuner.Objective:
    import keras_tuner

    if len(objectives) > 1:
        raise click.UsageError(
            "`--direction` must come with a single objective; got "
            f"{len(objectives)} objectives. Write `--objective METRIC:min` for each of them."
        )
    return keras_tuner.Objective(getattr(objectives[0], "name", objectives[0]), direction)


def build_oracle(
    settings: OracleSettings,
    objective: keras_tuner.Objective | list[keras_tuner.Objective],
    project: Path,
) -> keras_tuner.Oracle:
    """Build the oracle that the options select.

    Args:
        settings: The options.
        objective: The objective or objectives of the search.
        project: Folder of the search. A search that resumes does not read `--warm-start` again.

    Raises:
        click.UsageError: The strategy does not accept an option that was given.
    """
    options: dict[str, object] = {
        name: value
        for name in ("source", "constraints", "exportable", "warm_start")
        if (value := getattr(settings, name))
    }
    for option in [*options, *(["max_trials"] if settings.max_trials_given else [])]:
        if not accepts(settings.strategy, option):
            raise click.UsageError(_not_accepted(settings.strategy, option))
    if settings.warm_start:
        options["warm_start"] = _earlier_trials(settings, objective, project)
    return make_oracle(
        settings.strategy,
        objective,
        settings.max_trials,
        seed=settings.seed,
        epochs=settings.epochs,
        **options,
    )


def _not_accepted(strategy: str, option: str) -> str:
    flag = {"constraints": "constraint"}.get(option, option).replace("_", "-")
    strategies = ", ".join(name for name in strategy_names() if _accepts(name, option))
    hint = " Its number of trials follows from --epochs." if option == "max_trials" else ""
    return (
        f"`--{flag}` must be used with a strategy that accepts it ({strategies}); "
        f"got {strategy!r}.{hint}"
    )


def _accepts(strategy: str, option: str) -> bool:
    """Whether a strategy accepts an option; False if the strategy cannot be loaded."""
    try:
        return accepts(strategy, option)
    except NASError:
        return False


def _earlier_trials(
    settings: OracleSettings,
    objective: keras_tuner.Objective | list[keras_tuner.Objective],
    project: Path,
) -> list[tuple[Mapping[str, Any], Any]]:
    """Trials of all sources; empty for a search that resumes, whose folder holds them already."""
    from keras_nas_plugin.oracles.warm_start import was_fitted
    from keras_nas_plugin.transfer import earlier_trials

    if was_fitted(project) and not settings.overwrite:
        return []
    trials: list[tuple[Mapping[str, Any], Any]] = []
    for text in settings.warm_start:
        source: dict[str, str | None] = {"source": text}
        if text.startswith(_MLFLOW):
            experiment = text.removeprefix(_MLFLOW)
            source = {"experiment": experiment, "tracking_uri": settings.tracking_uri}
        try:
            trials += earlier_trials(
                **source, objective=objective, constraints=settings.constraints
            )
        except WarmStartError as error:
            raise click.UsageError(f"`--warm-start {text}`: {error}") from error
    return trials
