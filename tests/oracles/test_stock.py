"""KerasTuner's own oracles go on after a kill and a stop as if nothing had happened."""

import os

import keras_tuner
import numpy as np
import pytest
import scipy.optimize
from keras_tuner.engine.trial import TrialStatus

from keras_nas_plugin.errors import ObjectiveError, StateError, TooManyFailuresError
from keras_nas_plugin.oracles import RandomOracle, stock
from keras_nas_plugin.testing.driving import SCORE, Search, hashed_score, mixed_outcome

MAKERS = {
    # Few random trials first, so that the Gaussian process proposes the others.
    "bayesian": lambda **options: stock.BayesianOptimizationOracle(
        num_initial_points=3, **options
    ),
    "grid": stock.GridSearchOracle,
    "hyperband": lambda max_trials, **options: stock.HyperbandOracle(max_epochs=9, **options),
}
TRIALS = {"bayesian": 7, "grid": 15, "hyperband": 15}


@pytest.fixture(autouse=True)
def one_guess(monkeypatch):
    """KerasTuner climbs from 50 points of a Gaussian process, which takes seconds a trial.

    The points themselves, which its generator draws, tell as much here.
    """
    climb = scipy.optimize.minimize

    def guess(function, x0, **options):
        if "jac" in options:  # scikit-learn fits the process
            return climb(function, x0, **options)
        return scipy.optimize.OptimizeResult(x=x0, fun=float(np.squeeze(function(x0))))

    monkeypatch.setattr(scipy.optimize, "minimize", guess)


def space():
    """24 configurations, some conditional; KerasTuner mixes up names that stand twice."""
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["dense", "conv"])
    with hp.conditional_scope("kind", ["conv"]):
        hp.Int("kernel", 1, 3)
    hp.Float("rate", 0.0, 1.0, step=0.5)
    hp.Boolean("pool")
    return hp


def search_of(folder, name, **options):
    return Search(MAKERS[name], folder / name, space, **options)


@pytest.fixture(params=sorted(MAKERS))
def name(request):
    return request.param


@pytest.fixture
def straight(tmp_path, name):
    """What an uninterrupted search proposes."""
    return search_of(tmp_path / "straight", name).run(TRIALS[name], mixed_outcome)


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_a_resumed_search_proposes_what_it_would_have(tmp_path, name, straight, killed):
    search = search_of(tmp_path, name)
    resumed = []
    for number in range(TRIALS[name]):
        search = search.reopened()
        trial = search.start()
        if killed and number % 2:
            search = search.reopened()
            again = search.start()
            assert again.trial_id == trial.trial_id and again.status == TrialStatus.RUNNING
            trial = again
        resumed.append(dict(trial.hyperparameters.values))
        search.finish(trial, mixed_outcome(trial.hyperparameters.values))
    assert resumed == straight and len(straight) == TRIALS[name]


def test_a_trial_that_no_saved_state_knows_is_proposed_again(
    tmp_path, name, straight, monkeypatch
):
    search = search_of(tmp_path, name)
    search.run(TRIALS[name] - 2, mixed_outcome)

    def die(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stock._Resumable, "save", die)
        with pytest.raises(KeyboardInterrupt):
            search.start()
    search = search.reopened()
    assert search.run(2, mixed_outcome) == straight[-2:]
    known = sorted(search.oracle.trials)
    assert known == sorted(search.oracle.start_order) and len(known) == TRIALS[name]
    assert TrialStatus.RUNNING not in {trial.status for trial in search.oracle.trials.values()}


def test_a_write_that_fails_leaves_the_state_before_it(tmp_path, name, monkeypatch):
    search = search_of(tmp_path, name)
    search.run(2, hashed_score)
    trial = search.start()
    search.oracle.update_trial(trial.trial_id, {SCORE: 0.5})
    trial.status = TrialStatus.COMPLETED

    def full(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="no space"):
            search.oracle.end_trial(trial)
    search = search.reopened()
    again = search.start()
    assert again.trial_id == trial.trial_id
    assert again.hyperparameters.values == trial.hyperparameters.values
    # The attempt whose end was not written is not averaged in.
    search.finish(again, 0.25)
    assert search.oracle.get_trial(again.trial_id).score == 0.25


def test_seed_zero_is_a_seed(tmp_path, name):
    def run(folder, seed):
        return search_of(tmp_path / folder, name, seed=seed).run(4, hashed_score)

    zero = run("zero", 0)
    assert zero == run("again", 0) == run("other", 2**31 - 1)
    # A grid is the same for all seeds.
    assert (zero != run("one", 1)) == (name != "grid")


def test_three_failures_in_a_row_end_the_search_once(tmp_path, name):
    options = {"max_consecutive_failed_trials": 3}
    search = search_of(tmp_path, name, **options)
    search.run(2, lambda values: None)
    trial = search.start()
    with pytest.raises(TooManyFailuresError, match="3 trials in a row failed"):
        search.finish(trial, None)
    search = search.reopened()
    assert search.oracle.get_trial(trial.trial_id).status == TrialStatus.FAILED
    search.finish(search.start(), 0.5)
    search.run(2, lambda values: None)
    with pytest.raises(TooManyFailuresError):
        search.run(1, lambda values: None)


def test_no_limit_on_failures_is_none(tmp_path, name):
    search = search_of(tmp_path, name, max_consecutive_failed_trials=0)
    assert len(search.run(5, lambda values: None)) == 5


def test_the_files_of_another_search_are_refused(tmp_path, name):
    search = search_of(tmp_path, name)
    search.run(1, hashed_score)
    with pytest.raises(StateError, match=r"for score \(max\), and `oracle` is .* score \(min\)"):
        search_of(tmp_path, name, objective=keras_tuner.Objective(SCORE, "min"))
    other = {"grid": "hyperband", "hyperband": "bayesian", "bayesian": "grid"}[name]
    with pytest.raises(StateError, match="the saved search is .* Choose another `project_name`"):
        Search(MAKERS[other], search.folder, space)


def test_the_files_of_plain_keras_tuner_and_of_this_package_are_refused(tmp_path, name):
    plain = keras_tuner.oracles.RandomSearchOracle
    search = Search(plain, tmp_path / "plain", space, max_consecutive_failed_trials=3)
    search.run(1, hashed_score)
    ours = Search(RandomOracle, tmp_path / "ours", space)
    ours.run(1, hashed_score)
    for folder in (search.folder, ours.folder):
        with pytest.raises(StateError, match="the saved search is of another oracle or version"):
            Search(MAKERS[name], folder, space)


@pytest.mark.parametrize("file", ["oracle.json", "trial_{}/trial.json"])
@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"trial_id"'])
def test_files_that_cannot_be_read_are_named(tmp_path, file, text):
    search = search_of(tmp_path, "grid")
    search.run(2, hashed_score)
    (search.folder / file.format(search.oracle.start_order[0])).write_text(text)
    with pytest.raises(StateError, match=r"grid|of another oracle"):
        search.reopened()


def test_objectives_are_checked_as_everywhere(name):
    with pytest.raises(ObjectiveError, match=r'Objective\("val_f1_score", direction="max"\)'):
        MAKERS[name](objective="val_f1_score", max_trials=3)


def test_a_grid_lists_the_space_also_when_it_was_stopped(tmp_path):
    search = search_of(tmp_path, "grid", max_trials=10)
    first = search.run(30, hashed_score)
    assert len(first) == 10
    search = search_of(tmp_path, "grid", max_trials=100)
    rest = search.run(30, hashed_score)
    keys = {tuple(sorted(values.items())) for values in first + rest}
    assert len(first + rest) == len(keys) == 24
    assert search.reopened().start().status == TrialStatus.STOPPED


def test_hyperband_promotes_across_a_resume(tmp_path):
    search = search_of(tmp_path, "hyperband")
    promoted = []
    while (trial := search.start()).status == TrialStatus.RUNNING:
        values = dict(trial.hyperparameters.values)
        if values.get("tuner/trial_id"):
            parent = search.oracle.get_trial(values["tuner/trial_id"])
            assert parent.hyperparameters.values["tuner/epochs"] == values["tuner/initial_epoch"]
            promoted.append(trial.trial_id)
        search.finish(trial, hashed_score(values))
        search = search.reopened()
    assert promoted
