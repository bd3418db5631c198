"""Every oracle behind KerasTuner's chief, with two worker processes on this machine."""

import concurrent.futures
import json
import math

import pytest

from keras_nas_plugin.oracles import STRATEGIES
from tests.contracts.clusters import run_forked
from tests.integration import forkserver

_TRIALS = 6
_FAULTY = "FaultyOracle"
# Searches with a supernet need a `SpaceHyperModel`, which the nodes of this suite do not have.
_TARGETS = {
    name: f"keras_nas_plugin.oracles:{name}"
    for name in STRATEGIES.values()
    if name not in ("OneShotOracle", "DifferentiableOracle")
}


@pytest.fixture(scope="module")
def clusters(tmp_path_factory):
    """A future per oracle; the chief sleeps up to 20 s, so they run side by side."""
    targets = {_FAULTY: "tests.contracts.faulty:FaultyOracle", **_TARGETS}
    forkserver.fork_server()
    with concurrent.futures.ThreadPoolExecutor(max_workers=6) as pool:
        yield {
            name: pool.submit(run_forked, target, tmp_path_factory.mktemp(name), trials=_TRIALS)
            for name, target in targets.items()
        }


@pytest.fixture
def cluster(clusters, request):
    return clusters[request.param].result()


def _all_output(cluster):
    return "\n".join(f"---- {name}\n{text}" for name, text in cluster.output.items())


@pytest.mark.parametrize("cluster", _TARGETS, indirect=True)
def test_two_workers_share_a_search(cluster):
    assert cluster.exit_codes == {"chief": 0, "tuner0": 0, "tuner1": 0}, _all_output(cluster)
    trials = cluster.report["trials"]
    ran = sorted(trial_id for ids in cluster.runs.values() for trial_id in ids)
    assert ran == sorted(trials) == [str(number) for number in range(_TRIALS)]
    assert all(cluster.runs.values()), f"a worker ran no trial: {cluster.runs}"
    for trial_id, trial in trials.items():
        assert trial["problem"] is None, f"trial {trial_id}: {trial['problem']}"
        crashes = trial["values"].get("scale") == 2.0
        assert trial["status"] == ("FAILED" if crashes else "COMPLETED"), trial_id
        assert crashes or math.isfinite(trial["score"]), trial_id
    scores = [trials[trial_id]["score"] for trial_id in cluster.report["best"]]
    assert len(scores) == sum(trial["status"] == "COMPLETED" for trial in trials.values())
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("cluster", _TARGETS, indirect=True)
def test_workers_write_a_record_of_each_trial(cluster):
    for trial_id, trial in cluster.report["trials"].items():
        path = cluster.folder / "search" / f"trial_{trial_id}" / "record.json"
        record = json.loads(path.read_text("utf-8"))
        finished = trial["status"] == "COMPLETED"
        assert record["status"] == ("FINISHED" if finished else "FAILED")
        assert record["values"] == trial["values"]
        # KerasTuner's messages hold scores in 32 bits.
        assert record["score"] == (pytest.approx(trial["score"], rel=1e-6) if finished else None)


@pytest.mark.parametrize("cluster", [_FAULTY], indirect=True)
def test_an_error_in_the_strategy_ends_all_processes(cluster):
    assert cluster.exit_codes["chief"] == 1, _all_output(cluster)
    assert cluster.exit_codes["tuner0"] == cluster.exit_codes["tuner1"] == 0, _all_output(cluster)
    ran = sorted(trial_id for ids in cluster.runs.values() for trial_id in ids)
    assert ran == ["0", "1"]


@pytest.mark.parametrize("cluster", [_FAULTY], indirect=True)
def test_the_chief_reports_an_error_in_the_strategy_once(cluster):
    chief = cluster.output["chief"]
    assert chief.count("Traceback (most recent call last)") == 1, chief
    assert chief.count("in ask") == 1, chief
    assert "ZeroDivisionError: the strategy is broken" in chief
    for name in cluster.runs:
        assert "ZeroDivisionError" not in cluster.output[name]
