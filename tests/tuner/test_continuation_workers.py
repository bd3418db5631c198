"""Successive halving behind KerasTuner's chief, with two worker processes."""

import json
import math

from tests.contracts.clusters import run_forked


def test_workers_continue_the_trainings_of_other_workers(tmp_path):
    cluster = run_forked(
        "keras_nas_plugin.oracles:SuccessiveHalvingOracle", tmp_path, trials=6, epochs=3
    )
    output = "\n".join(f"---- {name}\n{text}" for name, text in cluster.output.items())
    assert cluster.exit_codes == {"chief": 0, "tuner0": 0, "tuner1": 0}, output
    trials, records = cluster.report["trials"], {}
    for trial_id, trial in trials.items():
        assert trial["problem"] is None, f"trial {trial_id}: {trial['problem']}"
        crashes = trial["values"].get("scale") == 2.0
        assert trial["status"] == ("FAILED" if crashes else "COMPLETED"), trial_id
        assert crashes or math.isfinite(trial["score"])
        path = tmp_path / "search" / f"trial_{trial_id}" / "record.json"
        records[trial_id] = json.loads(path.read_text("utf-8"))
    ran = sorted(trial_id for ids in cluster.runs.values() for trial_id in ids)
    assert ran == sorted(trials) and all(cluster.runs.values())
    promoted = {key: t for key, t in trials.items() if "tuner/trial_id" in t["values"]}
    assert len(trials) - len(promoted) == 6 and promoted
    for trial_id, trial in promoted.items():
        parent = trial["values"]["tuner/trial_id"]
        for name, value in trials[parent]["values"].items():
            assert name.startswith("tuner/") or trial["values"][name] == value
        record = records[trial_id]
        assert (record["first_epoch"], len(record["curves"][0])) == (1, 2), output
        assert record["score"] >= records[parent]["score"]
    assert "cannot be trained further" not in output
    assert not list(tmp_path.glob("search/trial_*/last_*"))
    best = trials[cluster.report["best"][0]]
    assert best["values"]["tuner/epochs"] == 3
