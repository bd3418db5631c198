"""Oracles that continue in another space, or without trials that do not count any more."""

import json

import keras_tuner
import pytest

from keras_nas_plugin.errors import StateError
from keras_nas_plugin.oracles import STRATEGIES, changes, make_oracle, stock
from keras_nas_plugin.records.exclusions import Exclusions
from keras_nas_plugin.space.changes import compare
from keras_nas_plugin.space.fidelity import configuration
from keras_nas_plugin.testing.driving import Search, check_values, hashed_score
from keras_nas_plugin.testing.stand_ins import NEED_A_TUNER

NAMES = sorted({*STRATEGIES, "grid", "bayesian", "hyperband"} - NEED_A_TUNER)


def first_space():
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["dense", "conv"])
    with hp.conditional_scope("kind", ["conv"]):
        hp.Int("kernel", 1, 3)
    hp.Int("units", 1, 4)
    hp.Boolean("pool")
    return hp


def second_space():
    """`units` has other values; `pool` is removed, and `rate` is added below a condition."""
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["dense", "conv", "skip"])
    with hp.conditional_scope("kind", ["conv"]):
        hp.Int("kernel", 1, 3)
    with hp.conditional_scope("kind", ["skip"]):
        hp.Float("rate", 0.0, 1.0, step=0.25)
    hp.Int("units", 3, 6)
    return hp


def maker(name):
    def make(objective, max_trials, **options):
        if name == "hyperband":
            return stock.HyperbandOracle(objective, max_epochs=9, **options)
        return make_oracle(name, objective, max_trials, **options)

    return make


def moved(search, space):
    """The search in another space, as a tuner resumes it."""
    resumed = search.reopened()
    declared = space()
    change = compare(resumed.oracle.get_space(), declared)
    before = changes.exclusions_of(resumed.oracle)
    reasons = {}
    for trial_id, trial in changes.all_trials(resumed.oracle).items():
        reason = change.reason_against(trial.hyperparameters, counted=trial_id not in before.space)
        if reason:
            reasons[trial_id] = reason
    changes.exclude(resumed.oracle, Exclusions(space=reasons), change)
    resumed.oracle.save()
    return resumed, reasons


@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_continues_in_another_space(tmp_path, name):
    search = Search(maker(name), tmp_path / "p", first_space, max_trials=5)
    search.run(4, hashed_score)
    interrupted = search.start().trial_id
    resumed, reasons = moved(search, second_space)
    assert reasons.keys() == set(search.oracle.trials), "`pool` was removed"
    oracle = resumed.oracle
    proposals = resumed.run(5, hashed_score)
    assert len(proposals) == 5, "earlier trials do not use up `max_trials`"
    keys = [json.dumps(values, sort_keys=True) for values in proposals]
    assert len(set(keys)) == 5
    ids = set(oracle.start_order) - reasons.keys()
    for trial_id in ids:
        check_values(oracle.trials[trial_id].hyperparameters)
        assert "pool" not in oracle.trials[trial_id].hyperparameters.values
    best = [t.trial_id for t in oracle.get_best_trials(9) if t.status == "COMPLETED"]
    # Of a configuration that was trained further, successive halving has the longest trial.
    values = [trial.hyperparameters.values for trial in oracle.trials.values()]
    shorter = {item.get("tuner/trial_id") for item in values} if name == "halving" else set()
    assert set(best) == ids - shorter
    assert interrupted in reasons
    first = changes.all_trials(oracle)[search.oracle.start_order[0]]
    assert first.score is not None and "pool" in first.hyperparameters.values, "it is on record"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "bayesian"])
def test_a_changed_search_that_is_killed_makes_the_same_proposals(tmp_path, name):
    proposals = []
    for folder in ("killed", "whole"):
        search = Search(maker(name), tmp_path / folder, first_space, max_trials=30)
        search.run(4, hashed_score)
        resumed, reasons = moved(search, second_space)
        own = []
        for _ in range(6):
            own += resumed.run(1, hashed_score)
            if folder == "killed":
                resumed = resumed.reopened()
                if not hasattr(resumed.oracle, "strategy"):  # as a tuner does for these
                    changes.replace_excluded(resumed.oracle, Exclusions(space=reasons))
        proposals.append(own)
    assert proposals[0] == proposals[1]


def test_trials_in_both_spaces_count_and_are_not_repeated(tmp_path):
    def grown():
        hp = keras_tuner.HyperParameters()
        hp.Int("units", 1, 6)
        return hp

    def small():
        hp = keras_tuner.HyperParameters()
        hp.Int("units", 1, 3)
        return hp

    for name in ("random", "evolution", "local-search", "surrogate", "reinforce", "grid"):
        search = Search(maker(name), tmp_path / name, small, max_trials=3)
        assert len(search.run(9, hashed_score)) == 3
        search.options["max_trials"] = 6
        resumed, reasons = moved(search, grown)
        assert not reasons
        proposed = [values["units"] for values in resumed.run(9, hashed_score)]
        assert sorted(proposed) == [4, 5, 6], name
        assert len([t for t in resumed.oracle.get_best_trials(9) if t.score]) == 6


@pytest.mark.parametrize(
    "name", ["evolution", "halving", "reinforce", "nsga2", "grid", "hyperband"]
)
def test_failed_trials_run_again(tmp_path, name):
    def outcome(values):
        return None if values["units"] in (2, 3) else hashed_score(configuration(values))

    search = Search(maker(name), tmp_path / "p", first_space, max_trials=8)
    search.run(8, outcome)
    resumed = search.reopened()
    oracle = resumed.oracle
    failed = [key for key, trial in oracle.trials.items() if trial.status == "FAILED"]
    values = {key: dict(oracle.trials[key].hyperparameters.values) for key in failed}
    assert failed and changes.retry_failed(oracle) == len(failed)
    # A process that is killed now has lost nothing.
    resumed = resumed.reopened()
    oracle = resumed.oracle
    repeated = resumed.run(len(failed), lambda values: hashed_score(configuration(values)))
    assert [values[key] for key in failed] == repeated
    assert all(oracle.trials[key].status == "COMPLETED" for key in failed)
    assert sorted(oracle.end_order) == sorted(set(oracle.end_order))
    assert changes.retry_failed(oracle) == 0


def test_hyperband_refuses_other_epochs(tmp_path):
    search = Search(maker("hyperband"), tmp_path / "p", first_space)
    search.run(2, hashed_score)
    oracle = stock.HyperbandOracle(search.options["objective"], max_epochs=27)
    oracle._set_project_dir(str(tmp_path), "p")
    with pytest.raises(StateError, match=r"'max_epochs': 9, .* got {'max_epochs': 27"):
        oracle.reload()


def test_warm_start_and_rejected_candidates_of_the_earlier_space_are_dropped(tmp_path):
    earlier = [({"kind": "dense", "units": units, "pool": True}, 0.5) for units in (1, 2)]
    search = Search(
        maker("evolution"), tmp_path / "p", first_space, warm_start=earlier, max_trials=4
    )
    search.oracle.set_screen(None)
    search.run(1, hashed_score)
    assert len(search.oracle._state.warm_start.observations) == 2
    resumed, _ = moved(search, second_space)
    assert resumed.oracle._state.warm_start.observations == []
    assert resumed.reopened().oracle._state.warm_start.observations == []
