"""`docs/mlflow.md` lists everything that is logged, since dashboards rely on it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from keras_nas_plugin.tracking import Placement

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def documented():
    """Patterns of the names in backquotes; a part in angle brackets matches any text."""
    text = "".join((DOCS / name).read_text("utf-8") for name in ("mlflow.md", "production.md"))
    patterns = [re.sub(r"<\w+>", "\0", name) for name in re.findall(r"`([^`\n]+)`", text)]
    return [re.compile(re.escape(name).replace("\0", ".+")) for name in patterns]


def test_every_tag_and_metric_is_documented(
    database, track, store, make_search, make_record, documented
):
    objectives = (("val_accuracy", "max"), ("parameters", "min"))
    search = make_search(objectives=objectives, objective="multi_objective")
    proxies = {"synflow": 1.0, "predicted_rank": 1.0}
    records = [
        make_record(
            number,
            proxies={**proxies, "synflow": float(number)},
            parents=("00",) if number else (),
            placement=Placement(worker="worker-1", pid=7, node="n", device="d", idle_seconds=2.0),
            curves=(({"loss": float("inf"), "val_accuracy": 0.5},),) * 2,
        )
        for number in range(11)
    ]
    failure = make_record(11, status="FAILED", placement=records[0].placement)
    track(database, [*records, failure], search=search)
    track(database, [], search=make_search(max_trials=99, objectives=objectives))
    read = store(database)
    runs = [read.parent(), *read.runs()]
    tags = {key for run in runs for key in run.data.tags if not key.startswith("mlflow.")}
    assert {"nas.schema", "nas.parents", "nas.error", "nas.non_finite", "nas.changed"} <= tags
    placement = {"nas.worker": "worker-1", "nas.worker_pid": "7", "nas.node": "n"}
    assert placement.items() <= read.trial("03").data.tags.items()
    assert read.trial("03").data.tags["nas.device"] == "d"
    assert read.trial("03").data.metrics["time/worker_seconds"] == 6
    failed = read.trial("11").data  # whose run continues if it is tried again: no metrics of ours
    assert failed.tags["nas.worker"] == "worker-1"
    assert not any(name.startswith("time/") for name in failed.metrics)
    assert read.points(read.parent(), "utilization") == [(step, 0.75) for step in range(1, 12)]
    assert {run.data.tags["nas.schema"] for run in runs} == {"2"}
    metrics = {key for run in runs for key in run.data.metrics}
    assert {"hypervolume", "proxy_ranking/synflow", "execution_1/loss"} <= metrics
    missing = [
        name
        for name in sorted(tags | metrics)
        if not any(pattern.fullmatch(name) for pattern in documented if pattern.pattern != ".+")
    ]
    assert missing == []
