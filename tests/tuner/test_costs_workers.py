"""Constraints on costs in a cluster: the chief screens, and two worker processes train."""

import json

from keras_nas_plugin.records.search import InfeasibleSummary
from tests.contracts.clusters import run_forked
from tests.tuner.limited import MAX_PARAMETERS


def test_workers_train_only_models_that_passed_the_screen_of_the_chief(tmp_path):
    cluster = run_forked("tests.tuner.limited:LimitedOracle", tmp_path, trials=4)
    output = "\n".join(f"---- {name}\n{text}" for name, text in cluster.output.items())
    assert cluster.exit_codes == {"chief": 0, "tuner0": 0, "tuner1": 0}, output
    ran = sorted(trial_id for ids in cluster.runs.values() for trial_id in ids)
    assert ran == sorted(cluster.report["trials"]) == ["0", "1", "2", "3"]
    trained = 0
    for trial_id, trial in cluster.report["trials"].items():
        folder = tmp_path / "search" / f"trial_{trial_id}"
        record = json.loads((folder / "record.json").read_text("utf-8"))
        state = json.loads((folder / "trial.json").read_text("utf-8"))["nas"]
        if trial["status"] == "COMPLETED":
            trained += 1
            # As the chief counted them when screening, and the worker when training.
            assert (
                state["screened"]["parameters"] == record["costs"]["parameters"] <= MAX_PARAMETERS
            )
        else:
            # A model that cannot be built is not screened; its trial fails.
            assert trial["values"]["scale"] == 2.0, output
    assert trained >= 2
    refused = InfeasibleSummary.load(tmp_path / "search")
    assert refused.count == refused.by_constraint["params"] > 0
