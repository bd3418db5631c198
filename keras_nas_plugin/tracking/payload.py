"""Trials in the form that MLflow accepts: keys, values and points within its limits.

MLflow 3.17 cuts a parameter's value at 6,000 characters and a tag's at 8,000 without an
error, refuses keys over 250 characters or with characters beyond letters, digits and
``_ - . space : /``, refuses keys that are not normal paths, and stores an infinite metric
as the largest double, which flattens every chart. Nothing here is cut or left out silently.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from keras_nas_plugin.tracking.records import SearchInfo, TrialRecord

KEY_LIMIT = 250
PARAM_LIMIT = 6_000
TAG_LIMIT = 8_000
LABEL_LIMIT = 10  # MLflow's charts cut labels here
# What metrics of a trial's run begin with: MLflow groups its charts by it.
OBJECTIVE, BEST, COST, PROXY = "objective/", "best/", "cost/", "proxy/"

_HASH_LENGTH = 8
_ILLEGAL = re.compile(r"[^\w.\- /]" if os.name == "nt" else r"[^\w.\- :/]")


class Point(NamedTuple):
    """One value of one metric."""

    key: str
    value: float
    time_ms: int
    step: int


def safe_key(name: str) -> str:
    """The nearest key that MLflow accepts for ``name``.

    >>> safe_key("top-5 (%)"), safe_key("../lr"), safe_key("units_0")
    ('top-5 ___', '_.._lr', 'units_0')
    """
    key = _ILLEGAL.sub("_", name) or "_"
    if key != posixpath.normpath(key) or key.startswith(("..", "/")) or key == ".":
        key = "_" + key.replace("/", "_")
    return key if len(key) <= KEY_LIMIT else _with_hash(key, name)


def safe_keys(names: Iterable[str]) -> dict[str, str]:
    """`safe_key` for each of several names, no two the same.

    The first name of those that would coincide keeps the key; the others get a hash.
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


def shorten(text: str, limit: int, *, whole_in: str | None = None) -> str:
    """``text``, or its beginning with a remark that says how much was cut.

    Args:
        text: What may be too long.
        limit: Most characters of the result.
        whole_in: Where the reader finds the rest.
    """
    if len(text) <= limit:
        return text
    where = f", whole in {whole_in}" if whole_in else ""
    remark = f" ... [cut: {len(text):,} characters{where}]"
    return text[: limit - len(remark)] + remark


def text_of(value: Any) -> str:
    """A value as a parameter or tag: plain text as it is, anything structured as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, default=str)
    return str(value)


def params_of(values: Mapping[str, Any], *, whole_in: str) -> tuple[dict[str, str], bool]:
    """Hyperparameters or settings as MLflow parameters.

    Args:
        values: Names and values.
        whole_in: Name of the artifact that holds what did not fit.

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
    number = f"t{int(trial_id):02d}" if trial_id.isdecimal() else f"t{trial_id}"
    label = f"{number} {text}".strip()
    return label if len(label) <= LABEL_LIMIT else number


def trial_label(record: TrialRecord) -> str:
    """`run_label` of a trial that ended: its score, or how it ended."""
    if record.score is None:
        return run_label(record.trial_id, record.status)
    room = LABEL_LIMIT - len(run_label(record.trial_id)) - 1
    # In three characters every accuracy would read 1.
    return run_label(record.trial_id, short_number(record.score, room) if room > 3 else "")


def short_number(value: float, width: int = 6) -> str:
    """A number in about ``width`` characters, with as many digits as fit.

    >>> short_number(0.97312), short_number(-0.97312), short_number(1234567.0)
    ('0.9731', '-0.973', '1.2e+6')
    """
    for digits in range(width, 0, -1):
        text = re.sub(r"e([+-])0+(?=\d)", r"e\1", f"{value:.{digits}g}")
        if len(text) <= width:
            return text
    return text


def objective_key(name: str) -> str:
    """The metric of a trial's run that holds what an objective is judged by."""
    return safe_key(OBJECTIVE + name)


def points_of(record: TrialRecord, search: SearchInfo) -> tuple[list[Point], str | None]:
    """All metrics of a trial that ended.

    Times are spread evenly between the trial's start and end and depend on the record
    alone, so the points of a record that is sent twice are the same points.

    Args:
        record: The trial.
        search: Its search.

    Returns:
        The points, and a remark that lists infinite values (sent as NaN), or None.
    """
    single = {f"{BEST}{name}": value for name, value in record.metrics.items()}
    averaged = _average(record.curves)
    curves = _by_name(averaged)
    if len(record.curves) > 1:
        for number, execution in enumerate(record.curves, start=1):
            curves |= {f"execution_{number}/{name}": c for name, c in _by_name(execution).items()}
    first, epochs = record.first_epoch, len(averaged)
    end = record.ended_ms
    span = end - record.started_ms
    # The first word marks where a name comes from, so that a metric of the user's own that is
    # called "cost/parameters" gets a key of its own.
    origins = [
        *(
            ("objective", OBJECTIVE + name, [(record.best_step, end, value)])
            for name, value in _objectives(record, search)
        ),
        *(("single", name, [(record.best_step, end, value)]) for name, value in single.items()),
        *(("cost", COST + name, [(0, end, value)]) for name, value in record.costs.items()),
        *(("proxy", PROXY + name, [(0, end, value)]) for name, value in record.proxies.items()),
        *(
            ("curve", name, _timed(curve, record.started_ms, span, epochs, first))
            for name, curve in curves.items()
        ),
    ]
    return _points(origins)


def _objectives(record: TrialRecord, search: SearchInfo) -> list[tuple[str, float]]:
    """What a finished trial is judged by: its score, and each of several objectives."""
    if record.score is None:
        return []
    known = {**record.costs, **record.metrics}
    several = [(name, known[name]) for name, _ in search.objectives if name in known]
    return [(search.objective, record.score), *several]


def _points(origins: Sequence[tuple[str, str, list]]) -> tuple[list[Point], str | None]:
    points, infinite, taken = [], [], set()
    for origin, name, steps in origins:
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
    """Per metric, its value by epoch; an epoch that lacks the metric is left out."""
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
        averaged.append({name: sum(found) / len(found) for name, found in values.items()})
    return averaged


def dataset_fields(search: SearchInfo) -> list[dict[str, Any]]:
    """The search's data sets as fields of an MLflow dataset, with their context."""
    return [
        {
            "name": shorten(dataset.name, 500),
            "digest": dataset.digest[:36],
            "schema": tensor_schema(dataset.profile),
            "profile": json.dumps(dataset.profile, default=str),
            "context": dataset.context,
        }
        for dataset in search.datasets
    ]


def tensors_of(profile: Any, name: str = "") -> list[tuple[str, list[int], str]]:
    """Name, shape and type of every array in a data set's profile.

    >>> tensors_of({"x": {"shape": [9, 2], "dtype": "int8"}, "y": {"shape": [9], "dtype": "int8"}})
    [('x', [9, 2], 'int8'), ('y', [9], 'int8')]
    """
    if isinstance(profile, Mapping):
        if "shape" in profile and "dtype" in profile:
            return [(name, list(profile["shape"]), str(profile["dtype"]))]
        items = [(str(key), value) for key, value in profile.items()]
    elif isinstance(profile, list | tuple):
        items = [(str(index), value) for index, value in enumerate(profile)]
    else:
        return []
    found = [tensors_of(value, f"{name}/{key}" if name else key) for key, value in items]
    return [tensor for tensors in found for tensor in tensors]


def tensor_schema(profile: Any) -> str | None:
    """The schema that MLflow's data set page shows; None without a known array."""
    specs: dict[str, list] = {"features": [], "targets": []}
    for name, shape, dtype in tensors_of(profile):
        spec = {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, *shape[1:]]}}
        if name:
            spec["name"] = name
        specs["targets" if name.partition("/")[0] == "y" else "features"].append(spec)
    if not specs["features"]:
        return None
    # MLflow keeps each list as JSON inside the JSON.
    texts = {key: json.dumps(value) if value else None for key, value in specs.items()}
    return json.dumps({"mlflow_tensorspec": texts})
