"""The states of saved views: what the runs page of the MLflow UI reads from their tags.

MLflow does not document it. The names come from the JavaScript of the UI of MLflow 3.17
(`createExperimentPageSearchFacetsState`, `createExperimentPageUIState` and `RunsChartsCardConfig`
in ``mlflow/server/js/src/experiment-tracking``); `saved_views.py` lists the versions that read
them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from keras_nas_plugin.evaluation.names import ANALYTIC, canonical
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.tracking.mlflow.payload import (
    BY_EPOCH,
    COST,
    OBJECTIVE,
    safe_key,
    safe_keys,
)
from keras_nas_plugin.tracking.mlflow.tags import (
    EXCLUDED,
    KIND,
    OBJECTIVE_TAG,
    OVERWRITTEN_BY,
    SEARCH_NAME,
    STRATEGY,
)
from keras_nas_plugin.tracking.summary.search_summary import BEST, SECONDS

COLUMN_LIMIT = 12  # hyperparameters in the table
AXIS_LIMIT = 7  # hyperparameters in the parallel coordinates: labels of more overlap
CATEGORY_LIMIT = 30  # the UI omits runs with further text values of an axis

# Width of the parallel coordinates in a window of 1,440 pixels, and of a character of their titles
# and ticks, in pixels.
_CHART_WIDTH, _CHARACTER_WIDTH, _GAP = 735, 4.8, 10
_MIN_AXES = 2  # of hyperparameters, however long their names are

#: Incremented when views of the same searches show something else than before.
_FORMAT = 2
_CURRENT = f"tags.`{OVERWRITTEN_BY}` IS NULL"
# Ids of the table's own columns.
_NAME, _CREATED, _DURATION = "attributes.`Run Name`", "runDateAndNestInfo", "duration"

_COSTS = (*ANALYTIC, "train_seconds")
_CURVE_CHART = {
    "lineSmoothness": 0,
    "scaleType": "linear",
    "xAxisKey": "step",
    "xAxisScaleType": "linear",
    "selectedXAxisMetricKey": "",
    "useGlobalXaxisKey": True,
    "useGlobalLineSmoothing": True,
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "ignoreOutliers": False,
    "range": {},
}
# Sections that the UI generates, one per prefix of the metrics and one for metrics without.
# They hold the charts of metrics that this view does not show, so they come last, and folded.
_FOLDED = ("objective", "result", "by_epoch", "cost", "proxy", "Model metrics", "System metrics")
_FOLDED_OF_SEARCHES = ("proxy_ranking", "Model metrics", "System metrics")


class SavedView(NamedTuple):
    """A view to save.

    Attributes:
        identity: What the view is about, as JSON types: views of equal identity are one view.
        title: Its name in the UI.
        other_title: Its name if another view has that title.
        state: What the UI reads.
    """

    identity: Any
    title: str
    other_title: str
    state: dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewKeys:
    """The metrics and parameters that a view shows, by their names in MLflow.

    Attributes:
        objectives: The objectives, with ``"max"`` or ``"min"``; the first one sorts the table.
        costs: Metrics on the other axis of the scatter charts.
        curves: Metrics with a value per epoch.
        params: Hyperparameters, as columns of the table.
        axes: Those hyperparameters that every trial has, as axes of the parallel coordinates:
            the UI omits a run that lacks one.
    """

    objectives: tuple[tuple[str, str], ...]
    costs: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()
    params: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        search: SearchInfo,
        *,
        costs: Iterable[str] = _COSTS,
        important: Sequence[str] = (),
    ) -> ViewKeys:
        """The view of a search.

        Args:
            search: The search. Of several objectives, the first one sorts the table: the score
                is their sum, and adds up what cannot be compared.
            costs: Costs that every trial has, without the prefix ``cost/``.
            important: Names of decisions, the most important first; the columns and axes begin
                with them. Others follow in the order of the space.
        """
        names = list(search.directions)
        objectives = [safe_key(f"{OBJECTIVE}{name}") for name in names]
        costs = [f"{COST}{name}" for name in costs if name not in set(map(canonical, names))]
        ranks = {safe_key(name): rank for rank, name in enumerate(important)}

        def by_importance(params: list[str]) -> list[str]:
            return sorted(params, key=lambda name: ranks.get(name, len(ranks)))

        metrics = [*costs[:1], *reversed(objectives)]
        axes = _fitting(by_importance(_axes(search.space)), search.space, metrics)
        return cls(
            objectives=tuple(zip(objectives, search.directions.values(), strict=True)),
            costs=tuple(costs),
            curves=_curves([name for name in names if canonical(name) not in _COSTS]),
            params=tuple(by_importance(_params(search.space))[:COLUMN_LIMIT]),
            axes=tuple(axes),
        )

    @property
    def title(self) -> str:
        """The view's name in the UI."""
        names = (name.removeprefix(OBJECTIVE) for name, _ in self.objectives)
        return f"Trials by {', '.join(names)}"


def _curves(objectives: Iterable[str]) -> tuple[str, ...]:
    """Each objective and the loss, on validation and on training data."""
    names = [*objectives, "val_loss"]
    metrics = [metric for name in names for metric in (name, name.removeprefix("val_"))]
    return tuple(dict.fromkeys(safe_key(BY_EPOCH + metric) for metric in metrics))


def _params(space: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the parameters of all hyperparameters that vary."""
    keys = safe_keys(dict.fromkeys(str(item["name"]) for item in space))
    # `tuner/...` describes the fidelity, not the architecture.
    return [
        key
        for name, key in keys.items()
        if not name.startswith("tuner/")
        and _varies([item for item in space if item["name"] == name])
    ]


def _varies(items: Sequence[Mapping[str, Any]]) -> bool:
    return any(item.get("type") != "Fixed" and len(item.get("values", "ab")) > 1 for item in items)


def _axes(space: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names in `_params` that can be axes without the UI omitting any run."""
    keys = safe_keys(dict.fromkeys(str(item["name"]) for item in space))
    always = {
        keys[str(item["name"])]
        for item in space
        if not item.get("conditions") and len(_texts(item)) <= CATEGORY_LIMIT
    }
    return [key for key in _params(space) if key in always]


def _texts(item: Mapping[str, Any]) -> list[str]:
    return [value for value in item.get("values", ()) if isinstance(value, str)]


def _fitting(
    params: Sequence[str], space: Sequence[Mapping[str, Any]], metrics: Sequence[str]
) -> list[str]:
    """The first parameters whose titles and ticks do not overlap in the chart.

    Args:
        params: The parameters, the most important first.
        space: The space, for the ticks: the values of a choice of texts.
        metrics: The axes to the right of them.
    """
    keys = safe_keys(dict.fromkeys(str(item["name"]) for item in space))
    ticks = {keys[str(item["name"])]: _texts(item) for item in space}
    chosen: list[str] = []
    for name in params:
        axes = [*chosen, name, *metrics]
        distance = _CHART_WIDTH / (len(axes) - 1)
        # Titles are centred over their axes, ticks end at theirs.
        titles = [(len(a) + len(b)) / 2 for a, b in itertools.pairwise(axes)]
        longest = max([*titles, *(len(text) for axis in axes for text in ticks.get(axis, ()))])
        if len(chosen) < _MIN_AXES or longest * _CHARACTER_WIDTH + _GAP <= distance:
            chosen.append(name)
        if len(chosen) == AXIS_LIMIT:
            break
    return chosen


def trials_view(
    search: SearchInfo, keys: ViewKeys | None = None, *, important: Sequence[str] = ()
) -> SavedView:
    """The view of the trials of an experiment, from the search that writes it.

    The view shows the trials of all searches in the experiment, so that they can be compared. It
    filters out the runs of the searches themselves, whose values would mix with those of trials,
    trials that do not count any more, and those of searches that were overwritten.

    Args:
        search: The search.
        keys: What the view shows; None for what the search implies.
        important: Names of decisions, the most important first; empty as long as they are not
            known.

    Returns:
        The view; equal for equal arguments, in every process.
    """
    keys = keys or ViewKeys.of(search, important=important)
    best, direction = keys.objectives[0]
    metrics = [name for name, _ in keys.objectives] + list(keys.costs)
    origin = [_tag(SEARCH_NAME), _tag(STRATEGY)]
    columns = [*map(_metric, metrics), *origin, *map(_param, keys.params)]
    first = [_NAME, _CREATED, *(_metric(name) for name, _ in keys.objectives)]
    costs = [_metric(name) for name in keys.costs]
    params = map(_param, keys.params)
    state = _state(
        f"tags.`{KIND}` = 'trial' and tags.`{EXCLUDED}` IS NULL and {_CURRENT}",
        order_by=_metric(best),
        ascending=direction == "min",
        columns=columns,
        # The most important columns first, visible without scrolling.
        column_order=[*first, *origin, *costs[:2], *params, *costs[2:], _DURATION],
        sections=_trial_sections(keys),
        folded=_FOLDED,
    )
    # Not the axes: their order is known when the search ends, and the address must not change.
    identity = [
        _FORMAT,
        "trials",
        keys.objectives,
        keys.costs,
        keys.curves,
        sorted(_params(search.space)),
    ]
    return SavedView(identity, keys.title, f"{keys.title}, {search.name}", state)


def searches_view(search: SearchInfo) -> SavedView:
    """The view that compares all searches of an experiment with the same objective.

    It shows the best score so far of each search, over its trials and over the seconds that they
    took, and leaves out searches that were overwritten.

    Args:
        search: The search that writes the view.

    Returns:
        The view; equal for searches with the same objective.
    """
    objective = search.objective.replace("'", "''")
    conditions = (f"tags.`{KIND}` = 'search'", f"tags.`{OBJECTIVE_TAG}` = '{objective}'", _CURRENT)
    params = ["strategy", "max_trials", "epochs", "seed"]
    columns = [_metric(BEST), _metric(SECONDS), *map(_param, params)]
    lines = {"metricKey": BEST, "displayName": BEST, **_CURVE_CHART, "lineSmoothness": 0}
    over_trials = _chart("LINE", BEST, "trials", **lines)
    over_seconds = _chart(
        "LINE",
        BEST,
        "seconds",
        **{
            **lines,
            "xAxisKey": "metric",
            "selectedXAxisMetricKey": SECONDS,
            "useGlobalXaxisKey": False,
        },
    )
    bars = [_chart("BAR", name, metricKey=name, displayName=name) for name in (BEST, SECONDS)]
    sections = _with_charts(
        (_section("Best so far over trials", columns=1), [over_trials]),
        (_section("Best so far over seconds", columns=1), [over_seconds]),
        (_section("Result and cost", columns=2), bars),
    )
    state = _state(
        " and ".join(conditions),
        order_by=_metric(BEST),
        ascending=search.direction == "min",
        columns=columns,
        column_order=[_NAME, _CREATED, *columns, _DURATION],
        sections=sections,
        folded=_FOLDED_OF_SEARCHES,
    )
    title = f"Searches by {search.objective}"
    identity = [_FORMAT, "searches", search.objective, search.direction]
    return SavedView(identity, title, f"{title} ({search.direction})", state)


def _state(
    condition: str,
    *,
    order_by: str,
    ascending: bool,
    columns: Sequence[str],
    column_order: Sequence[str],
    sections: Sequence[tuple[dict[str, Any], list[dict[str, Any]]]],
    folded: Iterable[str],
) -> dict[str, Any]:
    return {
        "searchFilter": condition,
        "orderByKey": order_by,
        "orderByAsc": ascending,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "columnOrder": list(column_order),
        "columnWidths": _widths(columns),
        "runsHiddenMode": "SHOW_ALL",  # the default shows ten
        "runsHidden": [],  # MLflow 3.13 and 3.14 fail without this and the next four
        "runsPinned": [],
        "runsExpanded": {},
        "runsVisibilityMap": {},
        "autoRefreshEnabled": True,
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,  # otherwise the UI sorts the sections by name
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": None,
        "groupsExpanded": {},
        "globalLineChartConfig": {
            "xAxisKey": "step",
            "lineSmoothness": 0,
            "selectedXAxisMetricKey": "",
        },
        "compareRunSections": [section for section, _ in sections]
        + [_section(name, display=False) for name in folded],
        "compareRunCharts": [chart for _, charts in sections for chart in charts],
    }


def _metric(name: str) -> str:
    return f"metrics.`{name}`"


def _param(name: str) -> str:
    return f"params.`{name}`"


def _tag(name: str) -> str:
    return f"tags.`{name}`"


def _widths(columns: Sequence[str]) -> dict[str, int]:
    """Columns as wide as their titles, which the UI would cut at 100 pixels."""
    titles = {column: column.partition("`")[2].rstrip("`") for column in columns}
    widths = {column: min(max(80, 7 * len(title) + 36), 240) for column, title in titles.items()}
    for column in {_tag(SEARCH_NAME), _tag(STRATEGY), _param("strategy")} & widths.keys():
        widths[column] = 190  # their values are longer than their titles
    return {_NAME: 140, _CREATED: 130, _DURATION: 80, **widths}


def _trial_sections(keys: ViewKeys) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    objectives = [name for name, _ in keys.objectives]
    curves = [
        _chart(
            "LINE", name, metricKey=name, displayName=name.removeprefix(BY_EPOCH), **_CURVE_CHART
        )
        for name in keys.curves
    ]
    parallel = _chart(
        "PARALLEL",
        selectedParams=list(keys.axes),
        # The last axis determines the colour of the lines.
        selectedMetrics=[*keys.costs[:1], *reversed(objectives)],
        showAllRuns=False,
    )
    pairs = [(objective, objectives[0]) for objective in objectives[1:]]
    pairs += [(cost, name) for name in _scores(objectives) for cost in keys.costs]
    scatters = [_scatter(x, y) for x, y in pairs]
    return _with_charts(
        (_section("Hyperparameters and objective", columns=1), [parallel]),
        (_section("Objective against cost", columns=2), scatters),
        (_section("Learning curves", columns=2), curves),
    )


def _scores(objectives: Sequence[str]) -> list[str]:
    """The objectives that are not costs, or the first one if all of them are."""
    scores = [name for name in objectives if canonical(name.removeprefix(OBJECTIVE)) not in _COSTS]
    return scores or [objectives[0]]


def _with_charts(
    *sections: tuple[dict[str, Any], list[dict[str, Any]]],
) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Sections with their charts, which name their section; empty sections are omitted."""
    return [
        (section, [{**chart, "metricSectionId": section["uuid"]} for chart in charts])
        for section, charts in sections
        if charts
    ]


def _scatter(x: str, y: str) -> dict[str, Any]:
    axes = {"xaxis": {"key": x, "type": "METRIC"}, "yaxis": {"key": y, "type": "METRIC"}}
    return _chart("SCATTER", x, y, **axes)


def _section(name: str, *, display: bool = True, **layout: int) -> dict[str, Any]:
    return {
        "uuid": _identifier("section", name),
        "name": name,
        "display": display,
        "isReordered": True,
        "deleted": False,
        "isGenerated": False,
        **layout,
    }


def _chart(kind: str, *names: str, **config: Any) -> dict[str, Any]:
    return {
        "uuid": _identifier(kind, *names),
        "type": kind,
        "runsCountToCompare": 100,
        "deleted": False,
        "isGenerated": False,  # otherwise the UI may replace it
        **config,
    }


def _identifier(*names: str) -> str:
    """An id that depends on the names alone, since equal views have equal content."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
