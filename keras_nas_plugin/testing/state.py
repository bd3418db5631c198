"""Contracts about state: on disk, across reloads, and after repeated reports."""

from __future__ import annotations

import json
from pathlib import Path

from keras_tuner.engine.trial import TrialStatus

from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.testing.driving import SCORE, MakeOracle, Search, hashed_score


def running_trials_run_again(make_oracle: MakeOracle, folder: Path) -> None:
    """After a reload, trials that were running come first; those that ended never do."""
    search = Search(make_oracle, folder)
    search.run(5)
    ended = set(search.oracle.end_order)
    running = {}
    for number in range(3):
        trial = search.start(f"tuner{number}")
        running[trial.trial_id] = dict(trial.hyperparameters.values)
    search = search.reopened()
    repeated = {}
    for number in range(3):
        trial = search.start(f"worker{number}")
        assert trial.status == TrialStatus.RUNNING, (
            f"the status must be RUNNING; got {trial.status}"
        )
        repeated[trial.trial_id] = dict(trial.hyperparameters.values)
    assert repeated == running, f"after a reload, {running} must run again; got {repeated}"
    new = search.start("worker3")
    assert new.trial_id not in ended | set(running), "a trial was handed out twice"
    for trial_id in ended:
        status = search.oracle.get_trial(trial_id).status
        assert status in (TrialStatus.COMPLETED, TrialStatus.FAILED), f"{trial_id} is {status}"


def late_reports_count(make_oracle: MakeOracle, folder: Path) -> None:
    """A worker that outlived its chief reports its trial, which then does not run again."""
    search = Search(make_oracle, folder)
    trial = search.start()
    search = search.reopened()
    search.finish(trial, 0.5)
    assert search.oracle.get_trial(trial.trial_id).score == 0.5, "the late report was lost"
    following = search.start()
    assert following.trial_id != trial.trial_id, "a trial that ended ran again"


def reloading_twice_changes_nothing(make_oracle: MakeOracle, folder: Path) -> None:
    """`reload` on an oracle that has loaded the search changes nothing."""
    straight = Search(make_oracle, folder / "straight").run(30)
    search = Search(make_oracle, folder / "reloaded")
    proposals = search.run(6)
    search.oracle.reload()
    proposals += search.run(4)
    search.oracle.reload()
    proposals += search.run(20)
    assert proposals == straight, (
        f"after two reloads, proposals must be {straight}; got {proposals}"
    )


def telling_twice_changes_nothing(make_oracle: MakeOracle, folder: Path) -> None:
    """A second report of the same trial is ignored, by the oracle and by its strategy."""
    expected = Search(make_oracle, folder / "straight").run(30, hashed_score)
    search = Search(make_oracle, folder / "twice")
    proposals = []
    for _ in range(30):
        trial = search.start()
        values = dict(trial.hyperparameters.values)
        proposals.append(values)
        search.finish(trial, hashed_score(values))
        before = json.dumps(search.oracle.get_trial(trial.trial_id).get_state())
        search.oracle.update_trial(trial.trial_id, {SCORE: 1e6})
        search.oracle.end_trial(trial)
        trial.status = TrialStatus.COMPLETED
        search.oracle.strategy.tell(trial.trial_id, values, (hashed_score(values),))
        after = json.dumps(search.oracle.get_trial(trial.trial_id).get_state())
        assert after == before, f"a second report changed {before} to {after}"
    assert proposals == expected, "a second report changed the proposals that followed"
    ids = search.oracle.end_order
    assert len(ids) == len(set(ids)) == 30, f"each trial must be in `end_order` once; got {ids}"
    waiting = Search(make_oracle, folder / "retry", max_retries_per_trial=1)
    trial = waiting.start()
    waiting.finish(trial, None)
    waiting.oracle.end_trial(trial)
    assert waiting.start().trial_id == trial.trial_id, "reporting a crash twice cost the retry"


def state_stays_small(make_oracle: MakeOracle, folder: Path) -> None:
    """``oracle.json`` after 120 trials is no larger than after 20."""
    search = Search(make_oracle, folder, max_trials=150)
    sizes = {}
    for count in (20, 100):
        search.run(count)
        sizes[len(search.oracle.trials)] = ProjectLayout(folder).oracle.stat().st_size
    # Numbers gain a digit here and there; a list of trials gains bytes with each trial.
    limit = sizes[20] * 1.02 + 100
    assert sizes[120] <= limit, (
        f"`oracle.json` must have at most {limit:.0f} bytes after 120 trials; "
        f"got {sizes[120]}, and {sizes[20]} after 20"
    )
