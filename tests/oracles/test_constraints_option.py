import keras_tuner
import pytest
from keras_tuner.engine.trial import TrialStatus

from keras_nas_plugin import Constraint
from keras_nas_plugin.errors import ObjectiveError
from keras_nas_plugin.oracles import NASOracle, RegularizedEvolutionOracle
from keras_nas_plugin.strategies import RandomSearch
from keras_nas_plugin.testing.driving import Search
from keras_nas_plugin.testing.spaces import small_space

LIMITS = [Constraint("size", max=100), Constraint("accuracy", min=0.5)]


class RecordingStrategy(RandomSearch):
    """Records scores and violations by trial."""

    def __init__(self, *, multi_objective=False):
        super().__init__()
        self.multi_objective = multi_objective
        self.heard = {}

    def learn(self, observation):
        self.heard[observation.trial_id] = (observation.scores, observation.violation)


def search_of(folder, *, multi_objective=False, constraints=LIMITS, **options):
    def make(**more):
        return NASOracle(RecordingStrategy(multi_objective=multi_objective), **more)

    return Search(make, folder / "search", small_space, constraints=constraints, **options)


def report(search, metrics, *, step=0):
    trial = search.start()
    search.oracle.update_trial(trial.trial_id, metrics, step=step)
    trial.status = TrialStatus.COMPLETED
    search.oracle.end_trial(trial)
    return search.oracle.get_trial(trial.trial_id)


TRIALS = [
    {"score": 0.5, "size": 100, "accuracy": 0.5},
    {"score": 0.9, "size": 150, "accuracy": 0.9},
    {"score": 0.8, "size": 200, "accuracy": 0.25},
    {"score": 0.4, "size": 50, "accuracy": 1.0},
    {"score": 0.7, "size": float("nan"), "accuracy": 1.0},
]


def test_an_infeasible_trial_is_completed_but_never_best(tmp_path):
    search = search_of(tmp_path)
    ended = [report(search, metrics) for metrics in TRIALS]
    assert {trial.status for trial in ended} == {TrialStatus.COMPLETED}
    assert [trial.score for trial in ended] == [metrics["score"] for metrics in TRIALS]
    # The limits themselves are feasible values.
    assert search.best_ids() == ["00", "03"] == search.reopened().best_ids()


def test_a_single_objective_strategy_is_told_that_infeasible_trials_failed(tmp_path):
    search = search_of(tmp_path)
    for metrics in TRIALS:
        report(search, metrics)
    expected = {
        "00": ((0.5,), 0.0),
        "01": (None, 0.5),
        "02": (None, 1.0 + 0.5),
        "03": ((0.4,), 0.0),
        "04": (None, float("inf")),
    }
    for current in (search, search.reopened()):
        assert current.oracle.strategy.heard == expected


def test_a_multi_objective_strategy_is_told_scores_and_violation(tmp_path):
    objectives = [keras_tuner.Objective("score", "max"), keras_tuner.Objective("size", "min")]
    search = search_of(tmp_path, multi_objective=True, objective=objectives)
    for metrics in TRIALS[:3]:
        report(search, metrics)
    assert search.oracle.strategy.heard == {
        "00": ((0.5, -100.0), 0.0),
        "01": ((0.9, -150.0), 0.5),
        "02": ((0.8, -200.0), 1.5),
    }


def test_constraints_apply_to_metrics_at_the_best_epoch(tmp_path):
    search = search_of(tmp_path, constraints=[Constraint("size", max=100)])
    trial = search.start()
    for step, (score, size) in enumerate([(0.5, 300), (0.9, 90), (0.7, 200)]):
        search.oracle.update_trial(trial.trial_id, {"score": score, "size": size}, step=step)
    trial.status = TrialStatus.COMPLETED
    search.oracle.end_trial(trial)
    assert search.best_ids() == ["00"]


def test_a_missing_constraint_metric_is_named(tmp_path):
    search = search_of(tmp_path)
    trial = search.start()
    with pytest.raises(ObjectiveError, match=r"include those of `constraints`, \['accuracy'\]"):
        search.oracle.update_trial(trial.trial_id, {"score": 1.0, "size": 3})
    assert not search.oracle.get_trial(trial.trial_id).metrics.metrics


def test_failed_trials_have_no_violation(tmp_path):
    search = search_of(tmp_path)
    search.finish(search.start(), None)
    assert search.oracle.strategy.heard == {"00": (None, 0.0)}
    assert search.reopened().best_ids() == []


def test_changed_limits_apply_to_ended_trials(tmp_path):
    search = search_of(tmp_path)
    for metrics in TRIALS:
        report(search, metrics)
    looser = search_of(tmp_path, constraints=[Constraint("size", max=150)])
    assert looser.best_ids() == ["01", "00", "03"]
    assert looser.oracle.strategy.heard["01"] == ((0.9,), 0.0)
    assert search_of(tmp_path, constraints=()).best_ids() == ["01", "02", "04", "00", "03"]


def test_the_evolution_population_holds_only_feasible_trials(tmp_path):
    limits = [Constraint("size", max=1)]
    search = Search(
        RegularizedEvolutionOracle,
        tmp_path / "search",
        small_space,
        constraints=limits,
        max_trials=None,
    )
    feasible = set()
    while (trial := search.start()).status == TrialStatus.RUNNING:
        values = trial.hyperparameters.values
        size = 1 if values["kind"] == "dense" else 2
        feasible |= {trial.trial_id} if size == 1 else set()
        search.oracle.update_trial(trial.trial_id, {"score": 0.5 * size, "size": size})
        trial.status = TrialStatus.COMPLETED
        search.oracle.end_trial(trial)
    assert len(search.oracle.trials) == 12 and len(feasible) == 6
    population = {member.trial_id for member in search.oracle.strategy.population}
    assert population == feasible == set(search.best_ids())
