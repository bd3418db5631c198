"""Contracts about what an oracle proposes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import TrialStatus

from keras_nas_plugin.space.fidelity import configuration
from keras_nas_plugin.testing.driving import (
    MakeOracle,
    Search,
    check_values,
    hashed_score,
    is_new,
    mixed_outcome,
    proposal_key,
)
from keras_nas_plugin.testing.spaces import small_configurations, small_space

# Enough for a population to fill up and to have children, at `Search`'s 40 trials.
_TRIALS = 40

# More trials than any oracle runs, promotions included.
_MOST_TRIALS = 3 * _TRIALS


def _key(values: Any) -> str:
    return json.dumps(configuration(values), sort_keys=True)


def proposals_are_valid_and_new(make_oracle: MakeOracle, folder: Path) -> None:
    """Values are active, valid, plain and never proposed before; ids are unique and sort.

    ``max_trials`` configurations are proposed. A multi-fidelity oracle may propose one again
    to train it further.
    """
    search = Search(make_oracle, folder)
    seen: set[str] = set()
    ids, new = [], 0
    for _ in range(_MOST_TRIALS):
        trial = search.start()
        if trial.status != TrialStatus.RUNNING:
            break
        check_values(trial.hyperparameters)
        key = proposal_key(trial.hyperparameters.values)
        assert key not in seen, f"these values were proposed before: {key}"
        seen.add(key)
        ids.append(trial.trial_id)
        new += is_new(trial.hyperparameters.values)
        search.finish(trial, mixed_outcome(trial.hyperparameters.values))
    assert new == _TRIALS, f"there must be {_TRIALS} configurations; got {new}"
    assert ids == sorted(set(ids)), f"trial ids must be unique and in order; got {ids}"
    assert search.start().status == TrialStatus.STOPPED, "`max_trials` must end the search"


def seeds_decide(make_oracle: MakeOracle, folder: Path) -> None:
    """The same seed gives the same proposals, and 0 is a seed like any other."""
    runs = {}
    for name, seed in (("zero", 0), ("zero again", 0), ("one", 1)):
        runs[name] = Search(make_oracle, folder / name, seed=seed).run(_TRIALS)
    assert runs["zero"] == runs["zero again"], "`seed=0` gave two different searches"
    assert runs["zero"] != runs["one"], "`seed=0` and `seed=1` gave the same search"


def reloads_change_nothing(make_oracle: MakeOracle, folder: Path) -> None:
    """A fresh oracle after every step proposes what an uninterrupted one does."""
    straight = Search(make_oracle, folder / "straight", max_retries_per_trial=1).run(_TRIALS)
    search = Search(make_oracle, folder / "reloaded", max_retries_per_trial=1)
    reloaded = []
    for step in range(_TRIALS):
        search = search.reopened()
        trial = search.start()
        if trial.status == TrialStatus.STOPPED:
            break
        if step % 2:
            # The process dies while the trial trains.
            search = search.reopened()
            repeated = search.start()
            assert repeated.trial_id == trial.trial_id, (
                "the trial that was running was not handed out"
            )
            trial = repeated
        reloaded.append(dict(trial.hyperparameters.values))
        search.finish(trial, mixed_outcome(trial.hyperparameters.values))
    for step, (expected, actual) in enumerate(zip(straight, reloaded, strict=True)):
        assert actual == expected, (
            f"after a reload, step {step} must propose {expected}; got {actual}"
        )


def exhausted_space_stops(make_oracle: MakeOracle, folder: Path) -> None:
    """Every configuration of a small space once, then the status ``"STOPPED"``."""
    expected = sorted(map(_key, small_configurations()))
    for limit in (None, len(expected) + 5):
        search = Search(make_oracle, folder / str(limit), small_space, max_trials=limit)
        proposed = [values for values in search.run(len(expected) + 10) if is_new(values)]
        assert sorted(map(_key, proposed)) == expected, (
            f"each of {len(expected)} configurations must be proposed once; got {proposed}"
        )
        for tuner_id in ("tuner0", "tuner1"):
            status = search.start(tuner_id).status
            assert status == TrialStatus.STOPPED, (
                f"an exhausted space must give STOPPED; got {status}"
            )
        status = search.reopened().start().status
        assert status == TrialStatus.STOPPED, (
            f"after a reload, the status must be STOPPED; got {status}"
        )


def space_grows(make_oracle: MakeOracle, folder: Path) -> None:
    """A hyperparameter first seen while a trial builds is searched from then on."""
    search = Search(make_oracle, folder / "reloaded", small_space, max_trials=None)
    straight = Search(make_oracle, folder / "straight", small_space, max_trials=None)
    late = set()
    for number in range(30):
        trial, twin = search.start(), straight.start()
        values = dict(trial.hyperparameters.values)
        assert values == dict(twin.hyperparameters.values), "a reload changed the proposal"
        if number == 0:
            assert "late" not in values, "proposed an undiscovered hyperparameter"
        else:
            check_values(trial.hyperparameters)
            late.add(values["late"])
        for running, session in ((trial, search), (twin, straight)):
            hp = running.hyperparameters
            hp.Int("late", 1, 4)
            with hp.conditional_scope("late", [3, 4]):
                hp.Boolean("later")
            session.finish(running, hashed_score(values))
        if number == 0:
            recorded = search.oracle.get_trial(trial.trial_id).hyperparameters.values
            assert recorded["late"] == 1, (
                f"the first trial must have the default, 1; got {recorded}"
            )
        search = search.reopened()
    # A strategy may prefer a value; an exhausted space has tried all of them.
    late |= {values["late"] for values in straight.run(1_000, hashed_score)}
    assert late == {1, 2, 3, 4}, f"all values of the late hyperparameter must be tried; got {late}"


def new_entries_can_be_refused(make_oracle: MakeOracle, folder: Path) -> None:
    """``allow_new_entries=False`` ends the search with an error, which can be resumed."""
    search = Search(make_oracle, folder, small_space, allow_new_entries=False)
    search.run(2, hashed_score)
    trial = search.start()
    trial.hyperparameters.Int("late", 1, 4)
    try:
        search.finish(trial, 0.5)
    except Exception as error:
        assert "allow_new_entries" in str(error), f"the error must name it; got {error}"
    else:
        raise AssertionError("a new hyperparameter was accepted")
    search = search.reopened()
    names = {item.name for item in search.oracle.get_space().space}
    assert "late" not in names, "the refused hyperparameter was added to the space"
    following = search.start()
    assert following.trial_id != trial.trial_id, "the refused trial ran again"
    assert "late" not in following.hyperparameters.values, "the refused name was proposed"


def new_entries_can_keep_their_default(make_oracle: MakeOracle, folder: Path) -> None:
    """``tune_new_entries=False`` searches the given space only, still without repeats."""
    search = Search(make_oracle, folder, small_space, tune_new_entries=False, max_trials=None)
    proposed = []
    for _ in range(2 * len(small_configurations())):
        trial = search.start()
        if trial.status == TrialStatus.STOPPED:
            break
        if is_new(trial.hyperparameters.values):
            proposed.append(_key(trial.hyperparameters.values))
        trial.hyperparameters.Int("late", 1, 4)
        search.finish(trial, 0.5)
        search = search.reopened()
    expected = sorted(map(_key, small_configurations()))
    assert sorted(proposed) == expected, (
        f"each of {len(expected)} configurations must be proposed once; got {proposed}"
    )


def wire_changes_nothing(make_oracle: MakeOracle, folder: Path) -> None:
    """KerasTuner's chief/worker messages, which round floats, leave the search as it is."""
    search = Search(make_oracle, folder / "wire", allow_new_entries=False)
    straight = Search(make_oracle, folder / "straight", allow_new_entries=False)
    for _ in range(_TRIALS):
        trial, twin = search.start(), straight.start()
        values = dict(twin.hyperparameters.values)
        assert dict(trial.hyperparameters.values) == values, "the messages changed a proposal"
        score = hashed_score(values)
        straight.finish(twin, score)
        search.oracle.update_trial(trial.trial_id, {"score": score})
        # What a worker receives, and what the chief gets back.
        sent = keras_tuner.engine.trial.Trial.from_proto(trial.to_proto())
        sent.status = TrialStatus.COMPLETED
        search.oracle.end_trial(keras_tuner.engine.trial.Trial.from_proto(sent.to_proto()))
        recorded = search.oracle.get_trial(trial.trial_id)
        assert recorded.hyperparameters.values == values, (
            f"after the messages, values must be {values}; got {recorded.hyperparameters.values}"
        )
    before = [item.get_config() for item in straight.oracle.get_space().space]
    after = [item.get_config() for item in search.oracle.get_space().space]
    assert after == before, f"the messages changed the space from {before} to {after}"
