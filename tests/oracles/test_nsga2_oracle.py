import keras
import keras_tuner
import numpy as np
import pytest
from keras_tuner.engine.trial import TrialStatus

from keras_nas_plugin import Constraint, NASTuner
from keras_nas_plugin.errors import ObjectiveError
from keras_nas_plugin.oracles import NSGA2Oracle
from keras_nas_plugin.oracles.objectives import ParetoObjective
from keras_nas_plugin.strategies import pareto
from keras_nas_plugin.testing.driving import Search, hashed_score
from keras_nas_plugin.tracking.records import load_records

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
    """A search whose trials had these pairs of accuracy and parameters."""
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
    for one in (search, search.reopened()):
        assert ids(one.oracle.pareto_front()) == [1, 2, 6, 0]
        # Second front: 5 (beaten by 1 alone) and 4 (by 2 and 6); third: 7.
        assert ids(one.oracle.get_best_trials(99)) == [1, 2, 6, 0, 5, 4, 7]
        assert [ids(one.oracle.get_best_trials(n)) for n in (0, 1, 3)] == [[], [1], [1, 2, 6]]
        assert ids(one.oracle.get_best_trials(5)) == [1, 2, 6, 0, 5]


def test_the_score_is_the_first_objective_and_no_sum(tmp_path):
    search = reported(tmp_path, PAIRS)
    scores = [search.oracle.get_trial(str(number)).score for number in range(len(PAIRS))]
    assert scores == [None if pair is None else pair[0] for pair in PAIRS]
    assert search.oracle.objective.direction == "max"


def test_equal_in_the_first_objective_the_undominated_comes_first(tmp_path):
    search = reported(tmp_path, [(0.9, 50.0), (0.9, 40.0), (0.9, 60.0)])
    assert ids(search.oracle.pareto_front()) == [1]
    assert ids(search.oracle.get_best_trials(1)) == [1]
    assert ids(search.oracle.get_best_trials(3)) == [1, 0, 2]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_ranking_is_that_of_its_rule_at_any_time(tmp_path, count):
    """Against the definition, after each trial: fronts, first objective, order of ends."""
    directions = ["min", "max", "max"][:count]
    objectives = [keras_tuner.Objective(f"m{i}", way) for i, way in enumerate(directions)]
    limit = Constraint("cost", max=1.0)
    search = search_of(tmp_path, objective=objectives, constraints=[limit])
    rng = np.random.default_rng(count)
    counted = {}
    for number in range(50):
        metrics = {one.name: float(rng.integers(0, 9)) for one in objectives}
        metrics["cost"] = float(rng.choice([0.5, 1.0, 2.0], p=[0.4, 0.4, 0.2]))
        crashed = rng.random() < 0.1
        trial = report(search, None if crashed else metrics)
        if not crashed and metrics["cost"] <= 1.0:
            values = [metrics[one.name] for one in objectives]
            signs = [1.0 if one.direction == "max" else -1.0 for one in objectives]
            counted[trial.trial_id] = np.array(values) * signs
        if number == 25:
            search = search.reopened()
        expected = ranking(counted)
        for wanted in (1, 4, len(counted) + 5):
            best = [one.trial_id for one in search.oracle.get_best_trials(wanted)]
            assert best == expected[:wanted]
        front = [one.trial_id for one in search.oracle.pareto_front()]
        assert front == expected[: len(front)]
        assert len(front) == sum(undominated(one, counted) for one in counted)
    assert 20 < len(counted) < 48


def undominated(trial_id, scores):
    own = scores[trial_id]
    return not any((s >= own).all() and (s > own).any() for s in scores.values())


def ranking(scores):
    """Ids by the rule, front by front."""
    left, ranked = dict(scores), []
    while left:
        front = [trial_id for trial_id in left if undominated(trial_id, left)]
        # `sorted` is stable, and trials stand in the order of their ends.
        ranked += sorted(front, key=lambda trial_id: -scores[trial_id][0])
        left = {trial_id: s for trial_id, s in left.items() if trial_id not in front}
    return ranked


def test_nothing_is_sorted_for_what_the_front_answers(tmp_path, monkeypatch):
    """KerasTuner's display asks for the best trial after each one."""
    search, sorts = search_of(tmp_path), []
    whole = pareto.non_dominated_ranks
    monkeypatch.setattr(
        pareto, "non_dominated_ranks", lambda scores: sorts.append(len(scores)) or whole(scores)
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


# ------------------------------------------------------------------ what a front is worth


def test_the_hypervolume_of_a_front(tmp_path):
    search = reported(tmp_path, [(0.5, 10.0), (0.75, 20.0), None, (0.25, 40.0), (0.5, 30.0)])
    # Steps of the front above accuracy 0 and below 50 parameters: 0.75 * 30 + 0.5 * 10.
    for one in (search, search.reopened()):
        assert one.oracle.hypervolume([0.0, 50.0]) == pytest.approx(27.5)
        assert one.oracle.hypervolume((0.5, 50.0)) == pytest.approx(0.25 * 30)
        # By default the worst values that were seen: accuracy 0.25 and 40 parameters.
        assert one.oracle.hypervolume() == pytest.approx(0.5 * 20 + 0.25 * 10)
        assert one.oracle.hypervolume([1.0, 1.0]) == 0.0


def test_the_hypervolume_follows_the_direction_of_each_objective(tmp_path):
    objectives = [keras_tuner.Objective("a", "min"), keras_tuner.Objective("b", "min")]
    search = search_of(tmp_path, objective=objectives)
    for a, b in ((1.0, 3.0), (2.0, 1.0)):
        report(search, {"a": a, "b": b})
    assert search.oracle.hypervolume([4.0, 4.0]) == pytest.approx(2 * 3 + 1 * 1)
    assert search.oracle.hypervolume() == 0.0


@pytest.mark.parametrize("reference", [[1.0], [1.0, 2.0, 3.0], []])
def test_a_reference_of_another_length_is_refused(tmp_path, reference):
    search = reported(tmp_path, PAIRS)
    with pytest.raises(ObjectiveError, match="`reference` needs one value per objective, 2"):
        search.oracle.hypervolume(reference)


def test_the_compromise_is_on_the_front_and_far_from_its_ends(tmp_path):
    pairs = [(0.9, 1000.0), (0.85, 400.0), (0.5, 100.0), (0.84, 500.0)]
    search = reported(tmp_path, pairs)
    # In ranges of the front (0.4 and 900), from the best: (0, 1), (1/8, 1/3), (1, 0).
    assert search.oracle.compromise_trial().trial_id == "1"


def test_a_search_without_a_result_has_no_front(tmp_path):
    search = reported(tmp_path, [None, (float("nan"), 1.0), (0.5, float("inf"))])
    for one in (search, search.reopened(), search_of(tmp_path / "new")):
        oracle = one.oracle
        assert oracle.pareto_front() == [] == oracle.get_best_trials(3)
        assert oracle.compromise_trial() is None
        assert oracle.hypervolume() == 0.0 == oracle.hypervolume([0.0, 9.0])
    statuses = {search.oracle.get_trial(str(number)).status for number in range(3)}
    assert statuses == {TrialStatus.FAILED}


def test_what_breaks_a_constraint_is_no_result(tmp_path):
    limit = Constraint("params", max=1000)
    search = reported(tmp_path, [(0.9, 2000.0), (0.5, 1000.0), (0.6, 500.0)], constraints=[limit])
    assert ids(search.oracle.get_best_trials(9)) == [2, 1]
    assert ids(search.oracle.pareto_front()) == [2]
    # Its parameters are not the worst of those that count.
    assert search.oracle.hypervolume() == pytest.approx(0.1 * 500)
    told = search.oracle.strategy.population
    assert [one.violation for one in told] == [1.0, 0.0, 0.0]


# ------------------------------------------------------------------ what it is given


def test_several_objectives_show_the_first_and_need_all_to_be_finite():
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
def test_objectives_have_to_be_there_and_each_once(objective):
    with pytest.raises(ObjectiveError, match="`objective` needs at least one metric, and each"):
        NSGA2Oracle(objective)


def test_a_list_of_one_objective_is_that_objective(tmp_path):
    search = search_of(tmp_path, objective=[OBJECTIVES[0]])
    assert search.oracle.objective == OBJECTIVES[0]
    for accuracy in (0.25, 0.75, 0.5):
        report(search, {"accuracy": accuracy})
    assert ids(search.oracle.get_best_trials(3)) == [1, 2, 0]
    assert ids(search.oracle.pareto_front()) == [1]
    assert search.oracle.hypervolume() == 0.5


def test_sizes_come_from_the_budget_unless_given():
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
    told = {one.scores for one in search.oracle.strategy.population}
    assert told == {(0.5, -10.0), (0.75, -20.0), (0.9, -5.0)}
    # Results are this search's own.
    assert len(search.oracle.pareto_front()) == 1


def test_workers_side_by_side_do_not_change_a_reloaded_search(tmp_path):
    """Three trials run at a time and end in another order, with or without a reload."""

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
                # Whoever asks first gets what ran first.
                order = sorted((one for one in running if one is not trial), key=number_of)
                for one in order:
                    owner = f"tuner{running.index(one)}"
                    assert search.start(owner).trial_id == one.trial_id
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
    """Returns what Keras does."""

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


def test_a_constraint_that_earlier_trials_know_nothing_of_is_named(tmp_path):
    search = reported(tmp_path, PAIRS)
    with pytest.raises(
        ObjectiveError, match="`constraints` needs .* on 'size', which trial 0 did"
    ):
        search_of(tmp_path, constraints=[Constraint("size", max=1.0)])
    assert len(search.reopened().oracle.pareto_front()) == 4
