"""KerasTuner's own oracles resume unchanged after a stop or a kill."""

import os

import keras_tuner
import numpy as np
import pytest
import scipy.optimize
from keras_tuner.engine.trial import TrialStatus

from keras_nas_plugin.errors import (
    ObjectiveError,
    SearchSpaceError,
    StateError,
    TooManyFailuresError,
)
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
def single_acquisition_guess(monkeypatch):
    """Skip the optimisation of the acquisition from 50 points, which takes seconds per trial.

    The points themselves, drawn by KerasTuner's generator, are enough for these tests.
    """
    climb = scipy.optimize.minimize

    def guess(function, x0, **options):
        if "jac" in options:  # scikit-learn fits the process
            return climb(function, x0, **options)
        return scipy.optimize.OptimizeResult(x=x0, fun=float(np.squeeze(function(x0))))

    monkeypatch.setattr(scipy.optimize, "minimize", guess)


def space():
    """24 configurations, some conditional, without repeated names, which KerasTuner confuses."""
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
def test_a_resumed_search_makes_the_same_proposals(tmp_path, name, straight, killed):
    search = search_of(tmp_path, name)
    resumed = []
    for number in range(TRIALS[name]):
        search = search.reopened()
        trial = search.start()
        if killed and number % 2:
            search = search.reopened()
            repeated = search.start()
            assert repeated.trial_id == trial.trial_id and repeated.status == TrialStatus.RUNNING
            trial = repeated
        resumed.append(dict(trial.hyperparameters.values))
        search.finish(trial, mixed_outcome(trial.hyperparameters.values))
    assert resumed == straight and len(straight) == TRIALS[name]


def test_a_trial_missing_in_the_saved_state_is_proposed_again(
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
    trial_ids = sorted(search.oracle.trials)
    assert trial_ids == sorted(search.oracle.start_order) and len(trial_ids) == TRIALS[name]
    assert TrialStatus.RUNNING not in {trial.status for trial in search.oracle.trials.values()}


def test_a_failed_write_leaves_the_previous_state(tmp_path, name, monkeypatch):
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
    repeated = search.start()
    assert repeated.trial_id == trial.trial_id
    assert repeated.hyperparameters.values == trial.hyperparameters.values
    # The score of the unsaved attempt is not averaged in.
    search.finish(repeated, 0.25)
    assert search.oracle.get_trial(repeated.trial_id).score == 0.25


def test_seed_zero_is_reproducible(tmp_path, name):
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


def test_zero_means_no_limit_on_consecutive_failures(tmp_path, name):
    search = search_of(tmp_path, name, max_consecutive_failed_trials=0)
    assert len(search.run(5, lambda values: None)) == 5


def test_the_files_of_another_search_are_rejected(tmp_path, name):
    search = search_of(tmp_path, name)
    search.run(1, hashed_score)
    with pytest.raises(StateError, match=r"for score \(max\); got .* score \(min\)"):
        search_of(tmp_path, name, objective=keras_tuner.Objective(SCORE, "min"))
    other_name = {"grid": "hyperband", "hyperband": "bayesian", "bayesian": "grid"}[name]
    with pytest.raises(StateError, match="the saved search, .* Choose another `project_name`"):
        Search(MAKERS[other_name], search.folder, space)


def test_the_files_of_keras_tuner_and_of_package_oracles_are_rejected(tmp_path, name):
    plain = keras_tuner.oracles.RandomSearchOracle
    search = Search(plain, tmp_path / "plain", space, max_consecutive_failed_trials=3)
    search.run(1, hashed_score)
    ours = Search(RandomOracle, tmp_path / "ours", space)
    ours.run(1, hashed_score)
    for folder in (search.folder, ours.folder):
        with pytest.raises(StateError, match="the saved search, one of another oracle or version"):
            Search(MAKERS[name], folder, space)


@pytest.mark.parametrize("file", ["oracle.json", "trial_{}/trial.json"])
@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"trial_id"'])
def test_unreadable_files_are_rejected(tmp_path, file, text):
    search = search_of(tmp_path, "grid")
    search.run(2, hashed_score)
    (search.folder / file.format(search.oracle.start_order[0])).write_text(text)
    with pytest.raises(StateError, match=r"grid|of another oracle"):
        search.reopened()


def test_misread_objectives_are_rejected(name):
    with pytest.raises(ObjectiveError, match=r'Objective\("val_f1_score", direction="max"\)'):
        MAKERS[name](objective="val_f1_score", max_trials=3)


def test_a_resumed_grid_covers_the_space_once(tmp_path):
    search = search_of(tmp_path, "grid", max_trials=10)
    first = search.run(30, hashed_score)
    assert len(first) == 10
    search = search_of(tmp_path, "grid", max_trials=100)
    remaining = search.run(30, hashed_score)
    keys = {tuple(sorted(values.items())) for values in first + remaining}
    assert len(first + remaining) == len(keys) == 24
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


@pytest.mark.parametrize("kind", ["Float", "Int"])
def test_a_grid_whose_values_cannot_be_listed_is_refused(tmp_path, kind):
    hyperparameters = keras_tuner.HyperParameters()
    if kind == "Float":
        hyperparameters.Float("x", 0.0, 1.0, step=1e-9)
    else:
        hyperparameters.Int("x", 0, 10**12)
    hyperparameters.Float("without a step", 0.0, 1.0)  # of which ten values are tried
    objective = keras_tuner.Objective(SCORE, "max")
    oracle = stock.GridSearchOracle(objective, max_trials=3, hyperparameters=hyperparameters)
    oracle._set_project_dir(str(tmp_path), "grid")
    with pytest.raises(SearchSpaceError, match="`x` must have at most 100,000 values for a grid"):
        oracle.create_trial("tuner0")
