import keras
import keras_tuner
import numpy as np
import pytest
from keras_tuner.engine.trial import TrialStatus

from keras_nas_plugin import Constraint, NASTuner, pareto
from keras_nas_plugin.errors import ObjectiveError
from keras_nas_plugin.oracles import NSGA2Oracle
from keras_nas_plugin.oracles.objectives import ParetoObjective
from keras_nas_plugin.records.trial import load_records
from keras_nas_plugin.testing.driving import Search, hashed_score

OBJECTIVES = [keras_tuner.Objective("accuracy", "max"), keras_tuner.Objective("params", "min")]


def search_of(folder, **options):
    return Search(
        NSGA2Oracle, folder / "search", **{"objective": OBJECTIVES, "max_trials": None} | options
    )


def report(search, metrics, tuner_id="tuner0"):
    """Run one trial; None for metrics is a crash."""
    trial = search.start(tuner_id)
    if metrics is None:
        trial.status = TrialStatus.FAILED
    else:
        search.oracle.update_trial(trial.trial_id, metrics)
        trial.status = TrialStatus.COMPLETED
    search.oracle.end_trial(trial)
    return search.oracle.get_trial(trial.trial_id)


def reported(folder, pairs, **options):
    """A search whose trials reported these pairs of accuracy and parameters."""
    search = search_of(folder, **options)
    for pair in pairs:
        report(search, None if pair is None else {"accuracy": pair[0], "params": pair[1]})
    return search


def ids(trials):
    return [int(trial.trial_id) for trial in trials]


PAIRS = [
    (0.5, 100.0),
    (0.9, 1e6),
    (0.7, 1e4),
    None,
    (0.6, 2e4),
    (0.9, 2e6),
    (0.7, 1e4),
    (0.4, 1e9),
]


def test_the_front_and_the_ranking_of_a_small_search(tmp_path):
    search = reported(tmp_path, PAIRS)
    for current in (search, search.reopened()):
        assert ids(current.oracle.pareto_front()) == [1, 2, 6, 0]
        # Second front: 5 (beaten by 1 alone) and 4 (by 2 and 6); third: 7.
        assert ids(current.oracle.get_best_trials(99)) == [1, 2, 6, 0, 5, 4, 7]
        assert [ids(current.oracle.get_best_trials(n)) for n in (0, 1, 3)] == [[], [1], [1, 2, 6]]
        assert ids(current.oracle.get_best_trials(5)) == [1, 2, 6, 0, 5]


def test_the_score_is_the_first_objective(tmp_path):
    search = reported(tmp_path, PAIRS)
    scores = [search.oracle.get_trial(str(number)).score for number in range(len(PAIRS))]
    assert scores == [None if pair is None else pair[0] for pair in PAIRS]
    assert search.oracle.objective.direction == "max"


def test_ties_in_the_first_objective_rank_non_dominated_trials_first(tmp_path):
    search = reported(tmp_path, [(0.9, 50.0), (0.9, 40.0), (0.9, 60.0)])
    assert ids(search.oracle.pareto_front()) == [1]
    assert ids(search.oracle.get_best_trials(1)) == [1]
    assert ids(search.oracle.get_best_trials(3)) == [1, 0, 2]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_ranking_matches_its_definition_after_each_trial(tmp_path, count):
    """By front, then by the first objective, then in the order in which trials ended."""
    directions = ["min", "max", "max"][:count]
    objectives = [
        keras_tuner.Objective(f"m{i}", direction) for i, direction in enumerate(directions)
    ]
    limit = Constraint("cost", max=1.0)
    search = search_of(tmp_path, objective=objectives, constraints=[limit])
    rng = np.random.default_rng(count)
    counted = {}
    for number in range(50):
        metrics = {objective.name: float(rng.integers(0, 9)) for objective in objectives}
        metrics["cost"] = float(rng.choice([0.5, 1.0, 2.0], p=[0.4, 0.4, 0.2]))
        crashed = rng.random() < 0.1
        trial = report(search, None if crashed else metrics)
        if not crashed and metrics["cost"] <= 1.0:
            values = [metrics[objective.name] for objective in objectives]
            signs = [1.0 if objective.direction == "max" else -1.0 for objective in objectives]
            counted[trial.trial_id] = np.array(values) * signs
        if number == 25:
            search = search.reopened()
        expected = ranking(counted)
        for limit_of_best in (1, 4, len(counted) + 5):
            best = [trial.trial_id for trial in search.oracle.get_best_trials(limit_of_best)]
            assert best == expected[:limit_of_best]
        front = [trial.trial_id for trial in search.oracle.pareto_front()]
        assert front == expected[: len(front)]
        assert len(front) == sum(undominated(trial_id, counted) for trial_id in counted)
    assert 20 < len(counted) < 48


def undominated(trial_id, scores):
    point = scores[trial_id]
    return not any((s >= point).all() and (s > point).any() for s in scores.values())


def ranking(scores):
    """Trial ids by definition, front by front."""
    remaining, ranked = dict(scores), []
    while remaining:
        front = [trial_id for trial_id in remaining if undominated(trial_id, remaining)]
        # `sorted` is stable, and trials stand in the order of their ends.
        ranked += sorted(front, key=lambda trial_id: -scores[trial_id][0])
        remaining = {trial_id: s for trial_id, s in remaining.items() if trial_id not in front}
    return ranked


def test_the_best_trial_is_read_from_the_front_without_sorting(tmp_path, monkeypatch):
    """KerasTuner's display asks for the best trial after each one."""
    search, sorts = search_of(tmp_path), []
    non_dominated_ranks = pareto.non_dominated_ranks
    monkeypatch.setattr(
        pareto,
        "non_dominated_ranks",
        lambda scores: sorts.append(len(scores)) or non_dominated_ranks(scores),
    )
    for number in range(30):
        report(search, {"accuracy": float(number % 7), "params": float(number)})
        sorts.clear()  # those of the strategy
        search.oracle.get_best_trials(1)
        search.oracle.pareto_front()
        assert not sorts
    for _ in range(3):
        assert len(search.oracle.get_best_trials(99)) == 30
    assert sorts == [30]


# ------------------------------------------------------------------ hypervolume and compromise


def test_the_hypervolume_of_a_front(tmp_path):
    search = reported(tmp_path, [(0.5, 10.0), (0.75, 20.0), None, (0.25, 40.0), (0.5, 30.0)])
    # Steps of the front above accuracy 0 and below 50 parameters: 0.75 * 30 + 0.5 * 10.
    for current in (search, search.reopened()):
        assert current.oracle.hypervolume([0.0, 50.0]) == pytest.approx(27.5)
        assert current.oracle.hypervolume((0.5, 50.0)) == pytest.approx(0.25 * 30)
        # By default the worst reported values: accuracy 0.25 and 40 parameters.
        assert current.oracle.hypervolume() == pytest.approx(0.5 * 20 + 0.25 * 10)
        assert current.oracle.hypervolume([1.0, 1.0]) == 0.0


def test_the_hypervolume_follows_the_direction_of_each_objective(tmp_path):
    objectives = [keras_tuner.Objective("a", "min"), keras_tuner.Objective("b", "min")]
    search = search_of(tmp_path, objective=objectives)
    for a, b in ((1.0, 3.0), (2.0, 1.0)):
        report(search, {"a": a, "b": b})
    assert search.oracle.hypervolume([4.0, 4.0]) == pytest.approx(2 * 3 + 1 * 1)
    assert search.oracle.hypervolume() == 0.0


@pytest.mark.parametrize("reference", [[1.0], [1.0, 2.0, 3.0], []])
def test_a_reference_of_the_wrong_length_is_rejected(tmp_path, reference):
    search = reported(tmp_path, PAIRS)
    with pytest.raises(ObjectiveError, match="`reference` must have one value per objective, 2"):
        search.oracle.hypervolume(reference)


def test_the_compromise_is_on_the_front_and_far_from_its_ends(tmp_path):
    pairs = [(0.9, 1000.0), (0.85, 400.0), (0.5, 100.0), (0.84, 500.0)]
    search = reported(tmp_path, pairs)
    # In ranges of the front (0.4 and 900), from the best: (0, 1), (1/8, 1/3), (1, 0).
    assert search.oracle.compromise_trial().trial_id == "1"


def test_a_search_without_a_result_has_no_front(tmp_path):
    search = reported(tmp_path, [None, (float("nan"), 1.0), (0.5, float("inf"))])
    for current in (search, search.reopened(), search_of(tmp_path / "new")):
        oracle = current.oracle
        assert oracle.pareto_front() == [] == oracle.get_best_trials(3)
        assert oracle.compromise_trial() is None
        assert oracle.hypervolume() == 0.0 == oracle.hypervolume([0.0, 9.0])
    statuses = {search.oracle.get_trial(str(number)).status for number in range(3)}
    assert statuses == {TrialStatus.FAILED}


def test_infeasible_trials_are_not_ranked(tmp_path):
    limit = Constraint("params", max=1000)
    search = reported(tmp_path, [(0.9, 2000.0), (0.5, 1000.0), (0.6, 500.0)], constraints=[limit])
    assert ids(search.oracle.get_best_trials(9)) == [2, 1]
    assert ids(search.oracle.pareto_front()) == [2]
    # The reference ignores the parameters of the infeasible trial.
    assert search.oracle.hypervolume() == pytest.approx(0.1 * 500)
    population = search.oracle.strategy.population
    assert [observation.violation for observation in population] == [1.0, 0.0, 0.0]


# ------------------------------------------------------------------ arguments


def test_a_pareto_objective_is_the_first_and_requires_all_to_be_finite():
    objective = ParetoObjective(OBJECTIVES[::-1])
    assert (objective.direction, objective.objectives) == ("min", OBJECTIVES[::-1])
    assert objective.get_value({"accuracy": 0.9, "params": 1e6, "loss": 3.0}) == 1e6
    assert objective.better_than(1.0, 2.0) and not objective.better_than(2.0, 1.0)
    assert objective.has_value({"accuracy": 0.9, "params": 1e6})
    assert not objective.has_value({"params": 1e6})
    for useless in (float("nan"), float("inf")):
        assert np.isnan(objective.get_value({"accuracy": useless, "params": 1.0}))
        assert np.isnan(objective.get_value({"accuracy": 1.0, "params": useless}))


@pytest.mark.parametrize("objective", [[], ["val_loss", "val_loss"]])
def test_empty_or_repeated_objectives_are_rejected(objective):
    with pytest.raises(ObjectiveError, match="`objective` must list at least one metric, and"):
        NSGA2Oracle(objective)


def test_a_list_of_one_objective_is_that_objective(tmp_path):
    search = search_of(tmp_path, objective=[OBJECTIVES[0]])
    assert search.oracle.objective == OBJECTIVES[0]
    for accuracy in (0.25, 0.75, 0.5):
        report(search, {"accuracy": accuracy})
    assert ids(search.oracle.get_best_trials(3)) == [1, 2, 0]
    assert ids(search.oracle.pareto_front()) == [1]
    assert search.oracle.hypervolume() == 0.5


def test_the_population_size_defaults_to_a_value_for_the_budget():
    for options, size in (({"max_trials": 400}, 20), ({}, 10), ({"population_size": 7}, 7)):
        assert NSGA2Oracle("val_loss", **options).strategy.population_size == size
    strategy = NSGA2Oracle("val_loss", crossover_probability=0.5).strategy
    assert strategy.crossover_probability == 0.5


def test_warm_start_takes_one_score_per_objective(tmp_path):
    probe = search_of(tmp_path / "probe")
    earlier = [dict(probe.start(f"t{i}").hyperparameters.values) for i in range(3)]
    pairs = list(zip(earlier, [(0.5, 10.0), None, (0.75, 20.0)], strict=True))
    search = search_of(tmp_path, warm_start=pairs)
    trial = report(search, {"accuracy": 0.9, "params": 5.0})
    assert trial.hyperparameters.values not in earlier
    assert search.oracle.warm_start_report.used == 3
    scores = {observation.scores for observation in search.oracle.strategy.population}
    assert scores == {(0.5, -10.0), (0.75, -20.0), (0.9, -5.0)}
    # The front has trials of this search only.
    assert len(search.oracle.pareto_front()) == 1


def test_a_reloaded_search_with_three_workers_makes_the_same_proposals(tmp_path):
    """Three trials run at a time and end in another order than they started."""

    def run(folder, *, reload):
        search, proposed = search_of(folder, population_size=4), []
        running = [search.start(f"tuner{number}") for number in range(3)]
        for number in range(40):
            tuner_id, trial = f"tuner{number * 2 % 3}", running[number * 2 % 3]
            values = dict(trial.hyperparameters.values)
            proposed.append(values)
            metrics = {"accuracy": hashed_score(values), "params": len(values)}
            search.oracle.update_trial(trial.trial_id, metrics)
            trial.status = TrialStatus.COMPLETED
            search.oracle.end_trial(trial)
            if reload:
                search = search.reopened()
                # The first worker to ask gets the trial that started first.
                order = sorted(
                    (other_trial for other_trial in running if other_trial is not trial),
                    key=number_of,
                )
                for other_trial in order:
                    owner = f"tuner{running.index(other_trial)}"
                    assert search.start(owner).trial_id == other_trial.trial_id
            running[number * 2 % 3] = search.start(tuner_id)
        return proposed, ids(search.oracle.get_best_trials(99))

    assert run(tmp_path / "a", reload=False) == run(tmp_path / "b", reload=True)


def number_of(trial):
    return int(trial.trial_id)


# ------------------------------------------------------------------ with a tuner


class Measured(keras_tuner.HyperModel):
    """Trains a tiny network and counts its parameters."""

    def build(self, hp):
        model = keras.Sequential(
            [
                keras.Input((4,)),
                keras.layers.Dense(hp.Int("units", 2, 64), activation="relu"),
                keras.layers.Dense(2, activation="softmax"),
            ]
        )
        loss = "sparse_categorical_crossentropy"
        model.compile("sgd", loss, metrics=["accuracy"], run_eagerly=True)
        return model

    def fit(self, hp, model, *args, **kwargs):
        history = model.fit(*args, **kwargs).history
        return {"val_accuracy": history["val_accuracy"][-1], "params": model.count_params()}


class Plain(Measured):
    """Returns the history of Keras."""

    fit = keras_tuner.HyperModel.fit


def tuned(folder, hypermodel, objectives):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 4)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    oracle = NSGA2Oracle(objectives, max_trials=6, seed=0, population_size=2)
    tuner = NASTuner(hypermodel, oracle, directory=folder, project_name="search")
    tuner.search(x, y, validation_data=(x, y), epochs=2, verbose=0)
    return tuner, (x, y)


def test_a_tuner_searches_for_accuracy_and_size(tmp_path):
    objectives = ["val_accuracy", keras_tuner.Objective("params", "min")]
    tuner, _ = tuned(tmp_path, Measured(), objectives)
    records = list(load_records(tuner.project_dir))
    assert len(records) == 6
    for record in records:
        units = record.values["units"]
        assert record.metrics["params"] == 4 * units + units + 2 * units + 2
        assert record.score == record.metrics["val_accuracy"]
    front = tuner.oracle.pareto_front()
    assert {record.trial_id for record in records} >= {trial.trial_id for trial in front}
    smallest = min(records, key=lambda record: record.metrics["params"])
    assert front[-1].trial_id == smallest.trial_id
    assert tuner.get_best_hyperparameters()[0] is front[0].hyperparameters
    best = max(record.score for record in records)
    assert front[0].score == best


def test_a_tuner_reads_all_objectives_at_the_best_epoch_of_the_first(tmp_path):
    tuner, (x, y) = tuned(tmp_path, Plain(), ["val_accuracy", "val_loss"])
    for record in load_records(tuner.project_dir):
        (curve,) = record.curves
        accuracies = [epoch["val_accuracy"] for epoch in curve]
        assert record.best_step == int(np.argmax(accuracies))
        assert record.metrics["val_loss"] == curve[record.best_step]["val_loss"]
    best = tuner.oracle.get_best_trials()[0]
    loss, accuracy = tuner.get_best_models()[0].evaluate(x, y, verbose=0)
    assert accuracy == pytest.approx(best.score)


def test_a_constraint_on_a_metric_that_ended_trials_lack_is_named(tmp_path):
    search = reported(tmp_path, PAIRS)
    with pytest.raises(
        ObjectiveError, match="`constraints` must be on .*; got 'size', which trial 0 did"
    ):
        search_of(tmp_path, constraints=[Constraint("size", max=1.0)])
    assert len(search.reopened().oracle.pareto_front()) == 4
