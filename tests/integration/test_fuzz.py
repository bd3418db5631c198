"""Searches, workers and servers killed at random: a slice of `benchmarks/kill_fuzz.py`."""

from __future__ import annotations

import pytest

from keras_nas_plugin.files import read_json, write_json
from tests.integration.fuzzed import PROJECT
from tests.integration.fuzzing import Fuzz, Tally, audit

SEED = 11


@pytest.fixture
def fuzz(server, tmp_path):
    return Fuzz(server, tmp_path, seed=SEED, trials=5)


def check(tally: Tally, kills: int) -> None:
    assert tally.kills >= kills
    assert tally.expected == tally.found and tally.points > 0
    assert not any(tally.faults.values()), tally


def test_killed_searches_leave_no_errors_in_sqlite(fuzz):
    check(fuzz.searches(3), 3)


def test_killed_workers_leave_no_errors_in_sqlite(fuzz):
    check(fuzz.workers(3), 3)


def test_killed_and_frozen_servers_leave_no_errors(fuzz):
    with fuzz.server().running() as server:
        check(fuzz.searches(2, server), 2)
        check(fuzz.servers(1, server), 1)
        check(fuzz.freezes(2, server), 2)


def test_the_audit_counts_every_kind_of_error(fuzz, tmp_path):
    """Counts of zero are evidence only if the audit counts errors that exist."""
    from mlflow import MlflowClient

    folder, store, database = fuzz._new_search_store(None)
    child = fuzz._start(folder, store)
    assert child.wait() == 0, child.err
    project = folder / "searches" / PROJECT
    assert not any(audit(database, project, 5).faults.values())
    client = MlflowClient(store)
    runs = {
        run.data.tags.get("nas.trial_id", "search"): run
        for run in client.search_runs(["1"], max_results=100)
    }
    best = client.get_metric_history(runs["search"].info.run_id, "best_objective")[0]
    client.log_metric(runs["search"].info.run_id, "best_objective", best.value, 7, best.step)
    client.log_metric(runs["0"].info.run_id, "loss", 0.5, step=0)
    client.create_run("1", tags=runs["1"].data.tags)
    client.set_terminated(runs["2"].info.run_id, "KILLED")
    client.delete_run(runs["3"].info.run_id)
    record = project / "trial_4" / "record.json"
    changed = read_json(record)
    changed["curves"][0][0]["loss"] += 1
    write_json(record, changed)
    audited = audit(database, project, 5)
    assert audited.expected - audited.found == 1
    assert audited.duplicated == audited.running == 1
    assert audited.repeated >= 3 and audited.lost >= 1 and audited.wrong >= 2
