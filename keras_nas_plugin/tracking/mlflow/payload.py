"""Converts trials to what MLflow accepts: keys, values and points within its limits.

MLflow 3.17 cuts a parameter's value at 6,000 characters and a tag's at 8,000 without an
error, rejects keys over 250 characters or with characters other than letters, digits and
``_ - . space : /``, rejects keys that are not normal paths, and stores an infinite metric
as the largest double, which flattens every chart. This module cuts and omits nothing silently.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_nas_plugin.records.placement import Placement
from keras_nas_plugin.records.retraining import Retraining
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import FINISHED, TrialRecord, is_supernet
from keras_nas_plugin.tracking.formatting import short_number, shorten, tensors_of, text_of
from keras_nas_plugin.tracking.points import Point

KEY_LIMIT = 250
PARAM_LIMIT = 6_000
TAG_LIMIT = 8_000
LABEL_LIMIT = 10  # MLflow's charts cut longer labels
#: Prefixes of the metrics of a trial's run. MLflow groups its charts by them and sorts the groups
#: by name, metrics without a prefix last: learning curves come first, charts of one value later.
BY_EPOCH, COST, OBJECTIVE, PROXY, RESULT = "by_epoch/", "cost/", "objective/", "proxy/", "result/"
TIME = "time/"
#: The prefix of `RESULT` in version 1 of the names.
RESULT_OF_SCHEMA_1 = "best/"


_HASH_LENGTH = 8
_DATASET_NAME, _DIGEST = 500, 36  # characters that MLflow stores
# On Windows, MLflow accepts no colon.
_ILLEGAL = re.compile(r"[^\w.\- /]" if os.name == "nt" else r"[^\w.\- :/]")


# Where a metric comes from, its name, and its steps, times (ms) and values.
_Series = tuple[str, str, Sequence[tuple[int, int, float]]]


def safe_key(name: str) -> str:
    """The most similar key to ``name`` that MLflow accepts.

    >>> safe_key("top-5 (%)"), safe_key("../lr"), safe_key("units_0")
    ('top-5 ___', '_.._lr', 'units_0')
    """
    key = _ILLEGAL.sub("_", name) or "_"
    if key != posixpath.normpath(key) or key.startswith(("..", "/")) or key == ".":
        key = "_" + key.replace("/", "_")
    return key if len(key) <= KEY_LIMIT else _with_hash(key, name)


def safe_keys(names: Iterable[str]) -> dict[str, str]:
    """Apply `safe_key` to several names, and keep the keys distinct.

    Of names with the same key, the first gets the key itself and the others a hash.
    """
    keys: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        key = safe_key(name)
        if key in taken:
            key = _with_hash(key, name)
        taken.add(key)
        keys[name] = key
    return keys


def _with_hash(key: str, name: str) -> str:
    digest = hashlib.sha256(name.encode()).hexdigest()[:_HASH_LENGTH]
    return f"{key[: KEY_LIMIT - _HASH_LENGTH - 1]}-{digest}"


def params_of(values: Mapping[str, Any], *, whole_in: str) -> tuple[dict[str, str], bool]:
    """Hyperparameters or settings as MLflow parameters.

    Args:
        values: Names and values.
        whole_in: Name of the artifact with the full values.

    Returns:
        The parameters, and whether any key or value had to be changed.
    """
    params = {}
    changed = False
    for name, key in safe_keys(values).items():
        text = text_of(values[name])
        params[key] = shorten(text, PARAM_LIMIT, whole_in=whole_in)
        changed |= key != name or params[key] != text
    return params, changed


def run_label(trial_id: str, text: str = "") -> str:
    """A run's name of at most ten characters, such as ``t07 0.9731`` or ``t07 FAILED``."""
    if is_supernet(trial_id):
        return trial_id
    number = f"t{int(trial_id):02d}" if trial_id.isdecimal() else f"t{trial_id}"
    label = f"{number} {text}".strip()
    return label if len(label) <= LABEL_LIMIT else number


def trial_label(record: TrialRecord) -> str:
    """`run_label` of a trial that ended: its score, or how it ended."""
    if record.score is None:
        return run_label(record.trial_id, record.status)
    width = LABEL_LIMIT - len(run_label(record.trial_id)) - 1
    # In three characters, every accuracy would read 1.
    return run_label(record.trial_id, short_number(record.score, width) if width > 3 else "")


def objective_key(name: str) -> str:
    """Name of the metric that holds the value of an objective in a trial's run."""
    return safe_key(OBJECTIVE + name)


def points_of(record: TrialRecord, search: SearchInfo) -> tuple[list[Point], str | None]:
    """All points of a trial that ended.

    Times are spread evenly between the trial's start and end. They depend on the record
    alone, so sending a record twice sends the same points.

    Args:
        record: The trial.
        search: Its search.

    Returns:
        The points, and a remark that lists infinite values (sent as NaN), or None.
    """
    single = {f"{RESULT}{name}": value for name, value in record.metrics.items()}
    averaged = _average(record.curves)
    curves = {f"{BY_EPOCH}{name}": curve for name, curve in _by_name(averaged).items()}
    if len(record.curves) > 1:
        for number, execution in enumerate(record.curves, start=1):
            curves |= {
                f"execution_{number}/{name}": curve for name, curve in _by_name(execution).items()
            }
    first, epochs = record.first_epoch, len(averaged)
    end = record.ended_ms
    span = end - record.started_ms
    # The first word says where a name comes from, so that a user's own metric called
    # "cost/parameters" gets another key.
    series: list[_Series] = [
        *(
            ("objective", OBJECTIVE + name, [(record.best_step, end, value)])
            for name, value in _objectives(record, search)
        ),
        *(("single", name, [(record.best_step, end, value)]) for name, value in single.items()),
        *(("cost", COST + name, [(0, end, value)]) for name, value in record.costs.items()),
        *(("proxy", PROXY + name, [(0, end, value)]) for name, value in record.proxies.items()),
        *(("time", TIME + name, [(0, end, value)]) for name, value in _times(record).items()),
        *(
            ("curve", name, _timed(curve, record.started_ms, span, epochs, first))
            for name, curve in curves.items()
        ),
    ]
    return _points(series)


def _times(record: TrialRecord) -> dict[str, float]:
    """How long a trial and its worker waited, and how long the worker was busy with it.

    Only for trials that finished: another attempt continues in a run that has no metrics.
    """
    placement = record.placement
    if placement is None or record.status != FINISHED:
        return {}
    return {
        "queue_seconds": placement.queue_seconds,
        "idle_seconds": placement.idle_seconds,
        "worker_seconds": record.seconds,
    }


def placement_tags(placement: Placement) -> dict[str, str]:
    """The process of a trial as tags of its run; what is not known is left out."""
    tags = {
        "nas.worker": placement.worker,
        "nas.worker_pid": placement.pid,
        "nas.node": placement.node,
        "nas.device": placement.device,
    }
    return {name: str(value) for name, value in tags.items() if value}


def _objectives(record: TrialRecord, search: SearchInfo) -> list[tuple[str, float]]:
    """The score of a finished trial, and each of several objectives."""
    if record.score is None:
        return []
    values = record.measurements
    names = [name for name in search.directions if name != search.objective and name in values]
    return [(search.objective, record.score), *((name, values[name]) for name in names)]


def _points(series: Iterable[_Series]) -> tuple[list[Point], str | None]:
    points, infinite, taken = [], [], set()
    for origin, name, steps in series:
        key = safe_key(name)
        if key in taken:
            key = _with_hash(key, f"{origin}:{name}")
        taken.add(key)
        for step, time_ms, value in steps:
            value = float(value)
            if math.isinf(value):
                infinite.append(f"{name}={value} at step {step}")
                value = math.nan
            points.append(Point(key, value, time_ms, step))
    return points, (shorten("; ".join(infinite), TAG_LIMIT) if infinite else None)


def _timed(
    curve: Mapping[int, float], start: int, span: int, epochs: int, first: int
) -> list[tuple[int, int, float]]:
    return [
        (first + index, start + span * (index + 1) // epochs, value)
        for index, value in curve.items()
    ]


def _by_name(epochs: Sequence[Mapping[str, float]]) -> dict[str, dict[int, float]]:
    """Per metric, its value by epoch; epochs without the metric are omitted."""
    curves: dict[str, dict[int, float]] = {}
    for epoch, logs in enumerate(epochs):
        for name, value in logs.items():
            curves.setdefault(name, {})[epoch] = value
    return curves


def _average(executions: Sequence[Sequence[Mapping[str, float]]]) -> list[dict[str, float]]:
    """Mean over the executions that reached an epoch, per epoch and metric."""
    averaged = []
    for epoch in range(max((len(curve) for curve in executions), default=0)):
        logs = [curve[epoch] for curve in executions if epoch < len(curve)]
        names = dict.fromkeys(name for log in logs for name in log)
        values = {name: [log[name] for log in logs if name in log] for name in names}
        averaged.append({name: sum(logged) / len(logged) for name, logged in values.items()})
    return averaged


def dataset_fields(search: SearchInfo | Retraining) -> list[dict[str, Any]]:
    """Data sets as fields of MLflow's datasets, with their context."""
    return [
        {
            "name": shorten(dataset.name, _DATASET_NAME),
            "digest": dataset.digest[:_DIGEST],
            "schema": tensor_schema(dataset.profile),
            "profile": json.dumps(dataset.profile, default=str),
            "context": dataset.context,
        }
        for dataset in search.datasets
    ]


def tensor_schema(profile: object) -> str | None:
    """The schema that MLflow shows for a data set; None if the profile names no array."""
    specs: dict[str, list[dict[str, object]]] = {"features": [], "targets": []}
    for name, shape, dtype in tensors_of(profile):
        spec: dict[str, object] = {
            "type": "tensor",
            "tensor-spec": {"dtype": dtype, "shape": [-1, *shape[1:]]},
        }
        if name:
            spec["name"] = name
        specs["targets" if name.partition("/")[0] == "y" else "features"].append(spec)
    if not specs["features"]:
        return None
    # MLflow stores each list as JSON inside the JSON.
    texts = {key: json.dumps(value) if value else None for key, value in specs.items()}
    return json.dumps({"mlflow_tensorspec": texts})
