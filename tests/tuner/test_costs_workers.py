"""Limits on costs behind KerasTuner's chief: it screens, and two worker processes train."""

import json

from keras_nas_plugin.testing import run_cluster
from keras_nas_plugin.tracking.records import load_refusals
from tests.tuner.limited import MOST


def test_the_chief_screens_what_workers_train(tmp_path):
    cluster = run_cluster("tests.tuner.limited:LimitedOracle", tmp_path, trials=4)
    output = "\n".join(f"---- {name}\n{text}" for name, text in cluster.output.items())
    assert cluster.exit_codes == {"chief": 0, "tuner0": 0, "tuner1": 0}, output
    ran = sorted(trial_id for ids in cluster.runs.values() for trial_id in ids)
    assert ran == sorted(cluster.report["trials"]) == ["0", "1", "2", "3"]
    trained = 0
    for trial_id, trial in cluster.report["trials"].items():
        folder = tmp_path / "search" / f"trial_{trial_id}"
        record = json.loads((folder / "record.json").read_text("utf-8"))
        known = json.loads((folder / "trial.json").read_text("utf-8"))["nas"]
        if trial["status"] == "COMPLETED":
            trained += 1
            # As the chief found it, and as the worker did.
            assert known["screened"]["parameters"] == record["costs"]["parameters"] <= MOST
        else:
            # A model that cannot be built is left to its trial.
            assert trial["values"]["scale"] == 2.0, output
    assert trained >= 2
    refused = load_refusals(tmp_path / "search")
    assert refused.count == refused.by_constraint["params"] > 0
