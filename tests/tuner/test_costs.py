"""Searches with constraints on the costs of models, with real Keras models."""

import gc
import weakref

import keras
import keras_tuner
import pytest

from keras_nas_plugin import (
    Constraint,
    NSGA2Oracle,
    RandomOracle,
    RegularizedEvolutionOracle,
    SurrogateOracle,
)
from keras_nas_plugin.errors import CostError, InfeasibleError
from keras_nas_plugin.evaluation import energy
from keras_nas_plugin.records.ranking import rank_key
from keras_nas_plugin.records.search import InfeasibleSummary, SearchInfo
from keras_nas_plugin.records.trial import TrialRecord
from keras_nas_plugin.training import costing

MAX_PARAMETERS = 100
ANALYTIC = {"parameters", "flops", "peak_memory_bytes"}


@pytest.fixture(scope="module")
def data(batched_data):
    """What `tune` trains on."""
    return batched_data


class Dense(keras_tuner.HyperModel):
    """One hidden layer: 7 parameters and 6 multiply-adds per unit."""

    def __init__(self, units=64, *, inputs=True, broken=(), scored=False):
        super().__init__()
        self.units, self.inputs, self.broken = units, inputs, broken
        #: Parameters of all trained models, and weak references to all built models.
        self.trained, self.built = [], []
        self.interrupted, self.scored = None, scored

    def build(self, hp):
        units = hp.Int("units", 2, self.units)
        hp.Int("twin", 0, 9)
        if units in self.broken:
            raise ValueError("this one cannot be built")
        model = keras.Sequential(
            [
                *([keras.Input((4,))] if self.inputs else []),
                keras.layers.Dense(units, activation="relu"),
                keras.layers.Dense(2, activation="softmax"),
            ]
        )
        model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
        self.built.append(weakref.ref(model))
        return model

    def fit(self, hp, model, *args, **kwargs):
        if len(self.trained) == self.interrupted:
            self.interrupted = None
            raise KeyboardInterrupt
        history = None if self.scored else model.fit(*args, **kwargs)
        self.trained.append(model.count_params())
        # A score that depends on the values alone, so that two searches can be compared.
        return {"val_loss": hp.get("units") * 37 % 11 / 11} if self.scored else history


def values_of(tuner):
    return [dict(tuner.oracle.trials[i].hyperparameters.values) for i in tuner.oracle.start_order]


def limited(cls=RandomOracle, objective="val_loss", limits=None, **options):
    limits = [Constraint("params", max=MAX_PARAMETERS)] if limits is None else limits
    return cls(objective, **{"max_trials": 4, "seed": 1, "constraints": limits, **options})


@pytest.mark.parametrize(
    "make",
    [
        RandomOracle,
        lambda *a, **k: RegularizedEvolutionOracle(*a, population_size=4, **k),
        lambda *a, **k: SurrogateOracle(*a, initial_trials=4, **k),
        NSGA2Oracle,
    ],
    ids=["random", "evolution", "surrogate", "nsga2"],
)
def test_no_infeasible_model_is_trained_and_all_trials_are_used(tune, make, finished, tmp_path):
    hypermodel = Dense()
    tuner = tune(hypermodel, limited(make, max_trials=6))
    assert len(hypermodel.trained) == 6 and max(hypermodel.trained) <= MAX_PARAMETERS
    records = finished()
    assert [record.costs["parameters"] for record in records] == hypermodel.trained
    # Every trial satisfies the constraint, so each may be the best.
    assert len(tuner.oracle.get_best_trials(6)) == 6
    refused = InfeasibleSummary.load(tmp_path / "p")
    assert refused.count == refused.by_constraint["params"] == tuner.oracle.infeasible.count > 0
    # Two builds explore and check the space; each candidate and each trial takes one more.
    assert len(hypermodel.built) <= refused.count + 2 * 6 + 2


def test_a_feasible_region_of_one_size_is_found(tune):
    hypermodel = Dense(units=201)
    tune(hypermodel, limited(limits=[Constraint("params", max=16)], max_trials=1))
    assert hypermodel.trained == [16]


def test_an_interrupted_search_resumes_with_the_same_trials(tune):
    def oracle():
        return limited(RegularizedEvolutionOracle, population_size=3, max_trials=7)

    hypermodel = Dense(scored=True)
    straight = values_of(tune(hypermodel, oracle(), project_name="straight"))
    hypermodel.trained.clear()
    for interrupted in (2, 4):
        hypermodel.interrupted = interrupted
        with pytest.raises(KeyboardInterrupt):
            tune(hypermodel, oracle(), project_name="interrupted")
    assert values_of(tune(hypermodel, oracle(), project_name="interrupted")) == straight


def test_screening_keeps_no_model_alive(tune):
    hypermodel = Dense()
    tuner = tune(hypermodel, limited(), search=False)
    hyperparameters = tuner.oracle.get_space()
    for _ in range(60):
        tuner.oracle.screen(hyperparameters)
    gc.collect()
    assert len(hypermodel.built) > 60
    assert sum(reference() is not None for reference in hypermodel.built) == 0


def test_every_trial_has_the_analytic_costs(tune, witness):
    tune(Dense())
    for record in witness.records:
        units = record.values["units"]
        assert record.costs.keys() == ANALYTIC | {"train_seconds"}
        assert record.costs["parameters"] == 7 * units + 2
        assert record.costs["flops"] == 6 * units
        assert record.costs["peak_memory_bytes"] == 4 * (units + 4)


def test_a_cost_may_be_the_objective(tune):
    tuner = tune(Dense(), RandomOracle("flops", max_trials=3, seed=0), fit={"epochs": 3})
    scores = [tuner.oracle.trials[i].score for i in tuner.oracle.start_order]
    assert scores == [6 * values["units"] for values in values_of(tuner)]
    assert tuner.oracle.get_best_trials()[0].score == min(scores)
    # A cost is equal in all epochs, so the last epoch counts as the best.
    assert {trial.best_step for trial in tuner.oracle.trials.values()} == {2}
    assert [model.count_params() for model in tuner.get_best_models()] == [min(scores) / 6 * 7 + 2]


def test_a_cost_and_a_training_metric_may_be_objectives(tune):
    objectives = [keras_tuner.Objective("parameters", "min"), "val_loss"]
    tuner = tune(Dense(), NSGA2Oracle(objectives, max_trials=4, seed=0), fit={"epochs": 3})
    for trial in tuner.oracle.trials.values():
        record = TrialRecord.load(tuner.get_trial_dir(trial.trial_id))
        losses = [epoch["val_loss"] for epoch in record.curves[0]]
        # The loss alone decides which epoch was best.
        assert record.metrics["val_loss"] == min(losses)
        assert trial.metrics.get_best_value("parameters") == record.costs["parameters"]
    front = tuner.oracle.pareto_front()
    sizes = [trial.metrics.get_best_value("parameters") for trial in front]
    assert sizes == sorted(sizes)


def test_a_cost_may_be_the_objective_of_a_stock_oracle(tune):
    objective = keras_tuner.Objective("parameters", "min")
    oracle = keras_tuner.oracles.RandomSearchOracle(objective, max_trials=3, seed=5)
    tuner = tune(Dense(), oracle)
    best = tuner.oracle.get_best_trials()[0]
    assert best.score == min(
        7 * trial.hyperparameters.get("units") + 2 for trial in tuner.oracle.trials.values()
    )


def test_latency_is_measured_on_request(tune, witness):
    tune(Dense(), project_name="asked", measure=["latency"])
    tune(Dense(), RandomOracle("latency", max_trials=2), project_name="objective")
    assert [record.costs.keys() for record in witness.records] == [
        ANALYTIC | {"train_seconds", "latency_ms", "latency_p95_ms"}
    ] * 4
    assert all(record.costs["latency_ms"] > 0 for record in witness.records)


def test_latency_is_measured_once_and_only_for_models_that_satisfy_the_other_constraints(
    tune, monkeypatch, finished
):
    measured = []

    def measure(model, names):
        measured.append(model.count_params())
        return dict.fromkeys(names, measured[-1] / 10)

    monkeypatch.setattr(costing, "measured_costs", measure)
    limits = [Constraint("latency", max=5.0), Constraint("flops", max=6 * 20)]
    hypermodel = Dense()
    tuner = tune(hypermodel, limited(limits=limits))
    assert max(measured) <= 7 * 20 + 2
    assert [size for size in measured if size <= 50] == hypermodel.trained
    assert [record.costs["latency_ms"] for record in finished()] == [
        size / 10 for size in hypermodel.trained
    ]
    counts = tuner.oracle.infeasible.by_constraint
    assert counts["latency"] == len(measured) - 4 and counts["flops"] > 0


def test_energy_without_a_meter_is_estimated_and_cannot_be_constrained(
    tune, witness, monkeypatch, caplog
):
    monkeypatch.setattr(energy, "find_meter", lambda: None)
    tune(Dense(), measure=["energy"])
    names = {name for record in witness.records for name in record.costs}
    assert "energy_estimate_mj" in names and "energy_mj" not in names
    assert "an estimate, and no `energy_mj`" in caplog.text
    with pytest.raises(CostError, match="`energy_mj` must be measured on a machine"):
        tune(Dense(), limited(limits=[Constraint("energy", max=1.0)]), project_name="limit")
    with pytest.raises(CostError, match="`measure` must contain only .* got 'weight'"):
        tune(Dense(), measure=["weight"], project_name="unknown")
    with pytest.raises(CostError, match="`measure` must be a sequence of names"):
        tune(Dense(), measure="latency", project_name="text")


def test_a_model_that_cannot_be_built_fails_in_its_trial(tune, witness):
    broken = range(2, 10)
    tuner = tune(
        Dense(units=20, broken=broken),
        limited(max_trials=12, seed=2, max_consecutive_failed_trials=0),
    )
    failed = [record for record in witness.records if record.status == "FAILED"]
    assert failed and all(record.values["units"] in broken for record in failed)
    assert "this one cannot be built" in failed[0].error
    assert len(tuner.oracle.trials) == 12


def test_a_model_without_an_input_is_built_on_the_data(tune):
    hypermodel = Dense(inputs=False)
    tuner = tune(hypermodel, limited())
    assert max(hypermodel.trained) <= MAX_PARAMETERS and tuner.oracle.infeasible.count > 0


def test_a_search_without_feasible_candidates_raises(tune, witness, tmp_path):
    limits = [Constraint("params", max=10)]
    with pytest.raises(InfeasibleError, match=r"^20 .* the nearest: params \d+ \(at most 10\)"):
        tune(Dense(), limited(limits=limits, max_consecutive_infeasible=20))
    assert InfeasibleSummary.load(tmp_path / "p").by_constraint == {"params": 20}
    assert witness.events_of("search_ended") == [("FAILED",)]


def test_a_search_ends_when_all_feasible_candidates_were_tried(tune, tmp_path, capsys):
    limits = [Constraint("params", max=16)]
    tuner = tune(Dense(units=5, scored=True), limited(limits=limits, max_trials=40))
    # Two units, with any of the ten values of `twin`.
    assert len(tuner.oracle.trials) == 10
    assert tuner.stopped_by == "infeasible"
    assert InfeasibleSummary.load(tmp_path / "p").reason == tuner.oracle.stop_reason
    tuner.results_summary(1)
    assert "30 candidates were infeasible and not trained (params 30)." in capsys.readouterr().out
    search = SearchInfo.load(tmp_path / "p")
    record = TrialRecord.load(tuner.get_trial_dir("00"))
    assert rank_key(search, record) is not None


def test_the_budget_ends_a_search_that_screens(tune):
    limits = [Constraint("params", max=10)]
    oracle = limited(limits=limits, max_consecutive_infeasible=None)
    tuner = tune(Dense(units=10_000), oracle, budget=0.5)
    assert tuner.stopped_by == "budget" and tuner.oracle.infeasible.count > 0


def test_a_constraint_on_a_training_metric_is_checked_after_training(tune):
    limits = [Constraint("val_loss", max=1e-9), Constraint("params", max=MAX_PARAMETERS)]
    hypermodel = Dense()
    tuner = tune(hypermodel, limited(limits=limits, max_trials=3))
    assert len(hypermodel.trained) == 3 and max(hypermodel.trained) <= MAX_PARAMETERS
    assert tuner.oracle.get_best_trials(3) == []


def test_a_users_screen_runs_after_the_screen_of_costs(tune):
    oracle = limited()
    screened = []

    def odd(hp):
        screened.append(hp.get("units"))
        return costing.Screening(float(screened[-1] % 2), {"odd": 1.0}, {"odd": 1.0})

    oracle.set_screen(odd)
    hypermodel = Dense()
    tuner = tune(hypermodel, oracle)
    assert max(screened) * 7 + 2 <= MAX_PARAMETERS
    assert all(values["units"] % 2 == 0 for values in values_of(tuner))
    assert oracle.screened_metrics("0") == {"parameters": hypermodel.trained[0], "odd": 1.0}
    # A second tuner with the same oracle does not add a second screen.
    tune(hypermodel, oracle, search=False)
    assert oracle.screen.inner is odd
