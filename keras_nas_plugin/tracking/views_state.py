"""The state of a saved view: what the runs page of the MLflow UI reads from its tag.

MLflow documents none of it. The names were read from the JavaScript of the UI, in MLflow 3.17
(`createExperimentPageSearchFacetsState`, `createExperimentPageUIState` and `RunsChartsCardConfig`
in ``mlflow/server/js/src/experiment-tracking``); `views.py` says which versions read them.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_nas_plugin.evaluation.names import ANALYTIC, canonical
from keras_nas_plugin.tracking.payload import COST, OBJECTIVE, safe_key, safe_keys
from keras_nas_plugin.tracking.records import SearchInfo

COLUMN_LIMIT = 12  # hyperparameters in the table
AXIS_LIMIT = 7  # hyperparameters in the parallel coordinates: labels of more overlap
CATEGORY_LIMIT = 30  # the UI drops runs with any further text value of an axis

_TRIALS = "tags.`nas.kind` = 'trial'"
# The table's own columns, by the ids that it has for them.
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
# Sections that the UI itself makes, one per prefix of a metric's name and one for those without.
# Charts of metrics that this view does not show land there: folded, and below.
_FOLDED = ("objective", "best", "cost", "proxy", "Model metrics", "System metrics")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViewKeys:
    """What a view shows, under the names that the runs have in MLflow.

    Attributes:
        objectives: Metrics that trials are judged by, with ``"max"`` or ``"min"``; the table is
            sorted by the first.
        costs: Metrics on the other axis of the scatter charts.
        curves: Metrics with a value per epoch.
        params: Hyperparameters, as columns of the table.
        axes: Those of them that every trial has, as axes of the parallel coordinates: the UI
            leaves out a run that lacks one.
    """

    objectives: tuple[tuple[str, str], ...]
    costs: tuple[str, ...] = ()
    curves: tuple[str, ...] = ()
    params: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()

    @classmethod
    def of(cls, search: SearchInfo, *, costs: Iterable[str] = _COSTS) -> ViewKeys:
        """What a search shows.

        Args:
            search: The search. Where it has several objectives, the first sorts the table:
                their sum, which is the score, adds up what cannot be compared.
            costs: Costs that every trial has, without the prefix ``cost/``.
        """
        objectives = search.objectives or ((search.objective, search.direction),)
        names = [name for name, _ in objectives]
        wanted = set(map(canonical, names))
        return cls(
            objectives=tuple((safe_key(f"{OBJECTIVE}{name}"), way) for name, way in objectives),
            costs=tuple(f"{COST}{name}" for name in costs if name not in wanted),
            curves=_curves([name for name in names if canonical(name) not in _COSTS]),
            params=tuple(_params(search.space)[:COLUMN_LIMIT]),
            axes=tuple(_axes(search.space)[:AXIS_LIMIT]),
        )

    @property
    def title(self) -> str:
        """What people call this view."""
        names = (name.removeprefix(OBJECTIVE) for name, _ in self.objectives)
        return f"Trials by {', '.join(names)}"


def _curves(objectives: Iterable[str]) -> tuple[str, ...]:
    """Each objective and the loss, on the validation data and on the training data."""
    names = [*objectives, "val_loss"]
    both = [one for name in names for one in (name, name.removeprefix("val_"))]
    return tuple(dict.fromkeys(map(safe_key, both)))


def _params(space: Sequence[Mapping[str, Any]]) -> list[str]:
    """The parameters' names of all hyperparameters that vary."""
    keys = safe_keys(dict.fromkeys(str(item["name"]) for item in space))
    # `tuner/...` is how far a trial was trained, not what was searched.
    return [
        key
        for name, key in keys.items()
        if not name.startswith("tuner/") and _varies([i for i in space if i["name"] == name])
    ]


def _varies(items: Sequence[Mapping[str, Any]]) -> bool:
    return any(i.get("type") != "Fixed" and len(i.get("values", "ab")) > 1 for i in items)


def _axes(space: Sequence[Mapping[str, Any]]) -> list[str]:
    """Those of `_params` that no run is left out for."""
    keys = safe_keys(dict.fromkeys(str(item["name"]) for item in space))
    always = {
        keys[str(item["name"])]
        for item in space
        if not item.get("conditions") and len(_texts(item)) <= CATEGORY_LIMIT
    }
    return [key for key in _params(space) if key in always]


def _texts(item: Mapping[str, Any]) -> list[str]:
    return [value for value in item.get("values", ()) if isinstance(value, str)]


def view_state(search: SearchInfo, keys: ViewKeys | None = None) -> dict[str, Any]:
    """The state of the view of an experiment, from the search that writes it.

    The view shows the trials of all searches in the experiment, since comparing them is what an
    experiment is for. The runs of the searches themselves are filtered out: their values would
    stand beside those of trials.

    Args:
        search: The search.
        keys: What the view shows; None for what the search implies.

    Returns:
        JSON-able data; equal for equal arguments, in every process.
    """
    keys = keys or ViewKeys.of(search)
    best, direction = keys.objectives[0]
    metrics = [name for name, _ in keys.objectives] + list(keys.costs)
    columns = [*map(_metric, metrics), *map(_param, keys.params)]
    sections = _sections(keys)
    return {
        "searchFilter": _TRIALS,
        "orderByKey": _metric(best),
        "orderByAsc": direction == "min",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": _order(keys),
        "columnWidths": _widths(columns),
        "runsHiddenMode": "SHOW_ALL",  # the default shows ten
        "runsHidden": [],  # this and the next four: MLflow 3.13 and 3.14 fall over without
        "runsPinned": [],
        "runsExpanded": {},
        "runsVisibilityMap": {},
        "autoRefreshEnabled": True,
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,  # else the UI sorts the sections by their names
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
        + [_section(name, display=False) for name in _FOLDED],
        "compareRunCharts": [chart for _, charts in sections for chart in charts],
    }


def _metric(name: str) -> str:
    return f"metrics.`{name}`"


def _param(name: str) -> str:
    return f"params.`{name}`"


def _order(keys: ViewKeys) -> list[str]:
    """What matters most first, so that it is in sight before anybody scrolls."""
    first = [_NAME, _CREATED, *(_metric(name) for name, _ in keys.objectives)]
    costs = [_metric(name) for name in keys.costs]
    return [*first, *costs[:2], *map(_param, keys.params), *costs[2:], _DURATION]


def _widths(columns: Sequence[str]) -> dict[str, int]:
    """Columns as wide as their titles, which the UI cuts at 100 pixels."""
    titles = {column: column.partition("`")[2].rstrip("`") for column in columns}
    widths = {column: min(max(80, 7 * len(title) + 36), 240) for column, title in titles.items()}
    return {_NAME: 140, _CREATED: 130, _DURATION: 80, **widths}


def _sections(keys: ViewKeys) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    objectives = [name for name, _ in keys.objectives]
    curves = [_chart("LINE", name, metricKey=name, displayName=name, **_CURVE_CHART)
              for name in keys.curves]  # fmt: skip
    parallel = _chart(
        "PARALLEL",
        selectedParams=list(keys.axes),
        # The last axis colours the lines.
        selectedMetrics=[*keys.costs[:1], *reversed(objectives)],
        showAllRuns=False,
    )
    pairs = [(other, objectives[0]) for other in objectives[1:]]
    pairs += [(cost, name) for name in _scores(objectives) for cost in keys.costs]
    scatters = [_scatter(x, y) for x, y in pairs]
    return _placed(
        (_section("Hyperparameters and objective", columns=1), [parallel]),
        (_section("Objective against cost", columns=2), scatters),
        (_section("Learning curves", columns=2), curves),
    )


def _scores(objectives: Sequence[str]) -> list[str]:
    """The objectives that are not costs themselves, or the first where all are."""
    scores = [one for one in objectives if canonical(one.removeprefix(OBJECTIVE)) not in _COSTS]
    return scores or [objectives[0]]


def _placed(*sections: tuple[dict[str, Any], list]) -> list[tuple[dict[str, Any], list]]:
    """Every chart with the section that it stands in; no empty section."""
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
        "isGenerated": False,  # else the UI may replace it
        **config,
    }


def _identifier(*names: str) -> str:
    """The same name for the same thing, since equal views are recognised by their content."""
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
