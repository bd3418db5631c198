"""Contracts about several tuners that share an oracle."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from keras_tuner.engine.trial import TrialStatus

from keras_nas_plugin.oracles.scoring import rung_of
from keras_nas_plugin.testing.driving import (
    MakeOracle,
    Search,
    check_values,
    hashed_score,
    is_new,
    proposal_key,
)

_THREADS = 8
_TRIALS = 48
_IDLE_SECONDS = 0.001


def tuners_keep_their_trial(make_oracle: MakeOracle, folder: Path) -> None:
    """One tuner id gets the same trial until it ends; different ones, different trials."""
    search = Search(make_oracle, folder)
    trials = {f"tuner{number}": search.start(f"tuner{number}") for number in range(4)}
    ids = [trial.trial_id for trial in trials.values()]
    assert len(set(ids)) == 4, f"four tuners must get four trials; got {ids}"
    for tuner_id, trial in trials.items():
        repeated = search.start(tuner_id)
        assert repeated.trial_id == trial.trial_id, f"{tuner_id} lost its trial"
    search.finish(trials["tuner1"], 0.5)
    following = search.start("tuner1").trial_id
    assert following not in ids, f"{following} is the trial of another tuner, or has ended"
    for tuner_id in ("tuner0", "tuner2", "tuner3"):
        assert search.start(tuner_id).trial_id == trials[tuner_id].trial_id


def threads_share_an_oracle(make_oracle: MakeOracle, folder: Path) -> None:
    """Eight threads run all trials: none twice, none lost, no values proposed twice."""
    search = Search(make_oracle, folder, max_trials=_TRIALS)
    ran: list[tuple[str, str, bool]] = []
    problems: list[BaseException] = []
    start_together = threading.Barrier(_THREADS)

    def work(tuner_id: str) -> None:
        try:
            start_together.wait()
            while (trial := search.start(tuner_id)).status != TrialStatus.STOPPED:
                if trial.status == TrialStatus.IDLE:
                    time.sleep(_IDLE_SECONDS)
                    continue
                check_values(trial.hyperparameters)
                values = dict(trial.hyperparameters.values)
                ran.append((trial.trial_id, proposal_key(values), is_new(values)))
                search.finish(trial, hashed_score(values))
        except BaseException as error:
            problems.append(error)

    names = [f"tuner{number}" for number in range(_THREADS)]
    threads = [threading.Thread(target=work, args=(name,), daemon=True) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120.0)
        assert not thread.is_alive(), "a thread waits forever"
    assert not problems, f"a thread raised {problems[0]!r}"
    new = sum(is_first for _, _, is_first in ran)
    assert new == _TRIALS, f"{_TRIALS} trials must run; got {new}"
    ids, keys = {trial_id for trial_id, _, _ in ran}, {key for _, key, _ in ran}
    assert len(ids) == len(ran), "the same trial ran twice"
    assert len(keys) == len(ran), "the same values ran twice"
    best = search.oracle.get_best_trials(_TRIALS)
    assert len(best) == _TRIALS, f"{_TRIALS} trials must finish; got {len(best)}"
    scores = [(rung_of(trial), trial.score) for trial in best]
    assert scores == sorted(scores, reverse=True), "best trials must be sorted by score"
