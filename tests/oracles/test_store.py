"""Files of a process that is killed at any moment, and how a search resumes from them."""

import json
import shutil

import keras_tuner
import pytest
from keras_tuner.engine.trial import TrialStatus

from keras_nas_plugin import files
from keras_nas_plugin.errors import StateError
from keras_nas_plugin.oracles import RandomOracle, RegularizedEvolutionOracle
from keras_nas_plugin.testing.driving import Search, hashed_score, mixed_outcome
from keras_nas_plugin.testing.spaces import small_space

_TRIALS = 14
# Trials whose models are the first to ask for another hyperparameter; some of them crash.
_LATE = (2, 3, 5, 7, 9)


def run_with_late_hyperparameters(search):
    """Run to the end; models ask for more and more hyperparameters."""
    while (trial := search.start()).status == TrialStatus.RUNNING:
        values = dict(trial.hyperparameters.values)
        for first in _LATE:
            if int(trial.trial_id) >= first:
                trial.hyperparameters.Int(f"late{first}", 1, 4)
                with trial.hyperparameters.conditional_scope(f"late{first}", [2, 3, 4]):
                    trial.hyperparameters.Boolean(f"later{first}")
        search.finish(trial, mixed_outcome(values))
    return outline(search)


def outline(search):
    """Id, values, status and score of every trial, in order."""
    return [
        (trial_id, trial.hyperparameters.values, trial.status, trial.score)
        for trial_id, trial in sorted(search.oracle.trials.items())
    ]


def evolution(**options):
    return RegularizedEvolutionOracle(population_size=4, **options)


def make_search(make_oracle, folder):
    return Search(make_oracle, folder, small_space, max_trials=_TRIALS, max_retries_per_trial=1)


@pytest.mark.parametrize("make_oracle", [RandomOracle, evolution])
def test_a_search_killed_at_any_write_resumes_with_the_same_result(
    make_oracle, tmp_path, monkeypatch
):
    folder = tmp_path / make_oracle.__name__
    snapshots = []
    write_atomic = files.write_atomic

    def copy():
        snapshots.append(folder / f"snapshot{len(snapshots)}")
        if (folder / "search").exists():
            shutil.copytree(folder / "search", snapshots[-1])

    def watched(path, write):
        def half_written(temporary):
            write(temporary)
            with open(temporary, "rb+") as file:
                content = file.read()
                file.truncate(len(content) // 2)
            copy()
            with open(temporary, "wb") as file:
                file.write(content)

        write_atomic(path, half_written)
        copy()

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomic", watched)
        expected = run_with_late_hyperparameters(make_search(make_oracle, folder / "search"))
    assert len(expected) == _TRIALS
    assert {status for _, _, status, _ in expected} == {"COMPLETED", "FAILED"}
    assert {f"late{first}" for first in _LATE} <= set(expected[-1][1])
    # Treat the process that wrote the partial files as one that was killed.
    monkeypatch.setattr(files, "_is_running", lambda process: False)
    # Two files, each half and whole, at the start and at the end of each attempt.
    assert len(snapshots) > 8 * _TRIALS
    for number, snapshot in enumerate(snapshots):
        counted = (snapshot / "oracle.json").exists()
        search = make_search(make_oracle, snapshot)
        saved = {trial_id for trial_id, *_ in outline(search)}
        received = run_with_late_hyperparameters(search)
        assert received == expected, f"killed at write {number}, when {sorted(saved)} were saved"
        if counted:
            assert not list(snapshot.glob(f"**/{files.TEMPORARY_PREFIX}*"))
        assert sorted(search.oracle.end_order) == [trial_id for trial_id, *_ in expected]


def test_ended_trials_survive_a_kill_before_the_state_is_written(tmp_path):
    search = Search(RandomOracle, tmp_path / "search")
    search.run(3, hashed_score)
    before = (search.folder / "oracle.json").read_text()
    trial = search.start()
    search.finish(trial, 0.5)
    (search.folder / "oracle.json").write_text(before)
    # The saved state does not have the trial at all: it is proposed again, with its values.
    resumed = search.reopened()
    assert trial.trial_id not in resumed.oracle.trials
    repeated = resumed.start()
    assert repeated.trial_id == trial.trial_id
    assert repeated.hyperparameters.values == trial.hyperparameters.values


def test_best_trials_and_orders_survive_a_reload(tmp_path):
    search = Search(RandomOracle, tmp_path / "search")
    search.run(20)
    resumed = search.reopened()
    assert resumed.best_ids() == search.best_ids() != []
    assert resumed.oracle.end_order == search.oracle.end_order
    assert resumed.oracle.start_order == search.oracle.start_order
    assert outline(resumed) == outline(search)


def test_raising_max_trials_continues_the_search(tmp_path):
    search = Search(RandomOracle, tmp_path / "search", max_trials=9)
    first = search.run(20)
    larger = Search(RandomOracle, tmp_path / "search", max_trials=12)
    second = larger.run(20)
    straight = Search(RandomOracle, tmp_path / "straight", max_trials=12).run(20)
    assert first + second == straight
    assert list(larger.oracle.trials)[-3:] == ["9", "10", "11"]


def test_an_invalid_trial_file_is_named(tmp_path):
    search = Search(RandomOracle, tmp_path / "search")
    search.run(2)
    path = search.folder / "trial_00" / "trial.json"
    path.write_text("")
    with pytest.raises(StateError, match=r"trial_00/trial\.json.*got 0 bytes"):
        search.reopened()


def test_a_trial_without_its_file_is_named(tmp_path):
    search = Search(RandomOracle, tmp_path / "search")
    search.run(2)
    shutil.rmtree(search.folder / "trial_01")
    with pytest.raises(StateError, match=r"there is none for \['01'\]"):
        search.reopened()


def test_resuming_with_another_strategy_or_objective_is_rejected(tmp_path):
    search = Search(RandomOracle, tmp_path / "search")
    search.run(2)
    with pytest.raises(StateError, match="saved search, RandomSearch.*; got RegularizedEvolution"):
        Search(RegularizedEvolutionOracle, tmp_path / "search")
    smaller = keras_tuner.Objective("score", "min")
    with pytest.raises(StateError, match=r"saved search.*\(max\); got.*\(min\)"):
        Search(RandomOracle, tmp_path / "search", objective=smaller)


def test_the_state_of_another_oracle_is_rejected(tmp_path):
    search = Search(RandomOracle, tmp_path / "search")
    search.run(2)
    state = json.loads((search.folder / "oracle.json").read_text())
    (search.folder / "oracle.json").write_text(json.dumps({**state, "format": None}))
    with pytest.raises(StateError, match="must have format 1; got None"):
        search.reopened()


def test_an_empty_folder_starts_a_new_search(tmp_path):
    search = Search(RandomOracle, tmp_path / "search")
    search.oracle.reload()
    assert search.start().trial_id == "00"


def test_an_oracle_without_a_folder_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    oracle = RandomOracle(keras_tuner.Objective("score", "max"), hyperparameters=small_space())
    oracle.verbose = 0
    trial = oracle.create_trial("tuner0")
    oracle.update_trial(trial.trial_id, {"score": 1.0})
    trial.status = "COMPLETED"
    oracle.end_trial(trial)
    oracle.save()
    assert list(tmp_path.iterdir()) == []
