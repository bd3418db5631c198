"""Programs written for `keras_tuner.Tuner` run unchanged on `NASTuner`."""

from __future__ import annotations

import inspect

import keras_tuner
import numpy as np
import pytest
from keras_tuner import errors as keras_tuner_errors

import keras_nas_plugin
from keras_nas_plugin import NASTuner, RandomOracle, RegularizedEvolutionOracle, track
from keras_nas_plugin.errors import (
    ArgumentError,
    HyperModelError,
    InvalidResultError,
    NASError,
    NewEntriesError,
    ObjectiveError,
)
from keras_nas_plugin.oracles import STRATEGIES, fatal
from keras_nas_plugin.oracles.registry import STOCK, make_oracle
from keras_nas_plugin.records.trial import FAILED, load_records
from keras_nas_plugin.testing.stand_ins import NEED_A_TUNER
from tests.tuner.conftest import Witness, dense
from tests.tuner.outcome import statuses

SCORE = keras_tuner.Objective("score", "max")


def space():
    hp = keras_tuner.HyperParameters()
    hp.Choice("kind", ["dense", "conv"])
    with hp.conditional_scope("kind", ["conv"]):
        hp.Int("kernel", 1, 3)
    hp.Boolean("pool")
    return hp


def oracle_of(maker=RandomOracle, objective=SCORE, **options):
    return maker(objective, **{"max_trials": 4, "seed": 1, "hyperparameters": space()} | options)


class Scoring(NASTuner):
    """Scores a configuration without a model; remembers what it was asked for."""

    def __init__(self, *args, **kwargs):
        self.asked = []
        super().__init__(*args, **kwargs)

    def run_trial(self, trial, *args, **kwargs):
        self.asked.append(dict(trial.hyperparameters.values))
        return {"score": float(len(str(sorted(trial.hyperparameters.values.items()))))}


def values_of(tuner):
    return [dict(trial.hyperparameters.values) for trial in tuner.oracle.trials.values()]


# ---------------------------------------------------------------------- results


class Reporting(NASTuner):
    """Reports each epoch to the oracle and returns nothing."""

    scores = (0.25, 0.75, 0.5)

    def run_trial(self, trial, *args, **kwargs):
        for epoch, score in enumerate(self.scores):
            self.oracle.update_trial(
                trial.trial_id, {"score": score, "seconds": epoch + 1.0}, step=epoch
            )


ORACLES = {"ours": RandomOracle, "stock": keras_tuner.oracles.RandomSearchOracle}


@pytest.mark.parametrize("maker", ORACLES.values(), ids=ORACLES)
def test_run_trial_may_report_to_the_oracle_and_return_nothing(tmp_path, maker):
    witness = Witness()
    tuner = Reporting(oracle_of(maker, max_trials=2), directory=tmp_path, tracker=witness)
    tuner.search(verbose=0)
    assert statuses(tuner) == ["COMPLETED"] * 2
    for trial, record in zip(tuner.oracle.trials.values(), witness.records, strict=True):
        assert (trial.score, trial.best_step) == (0.75, 1) == (record.score, record.best_step)
        assert record.metrics == {"score": 0.75, "seconds": 2.0}
        assert [epoch["score"] for epoch in record.curves[0]] == list(Reporting.scores)
        # Nothing was reported a second time.
        history = trial.metrics.get_history("score")
        assert [(item.step, item.value) for item in history] == [
            (epoch, [score]) for epoch, score in enumerate(Reporting.scores)
        ]
    # A later process knows the results.
    resumed = Reporting(oracle_of(maker, max_trials=2), directory=tmp_path)
    assert [trial.score for trial in resumed.oracle.get_best_trials(2)] == [0.75] * 2


def test_what_was_reported_counts_if_run_trial_returns_something_else(tmp_path):
    class Both(Reporting):
        def run_trial(self, trial, *args, **kwargs):
            super().run_trial(trial)
            return "done"

    tuner = Both(oracle_of(max_trials=1), directory=tmp_path)
    tuner.search(verbose=0)
    assert tuner.oracle.get_best_trials()[0].score == 0.75


def test_a_trial_that_died_after_reporting_keeps_its_result(tmp_path, monkeypatch):
    tuner = Reporting(oracle_of(max_trials=1), directory=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(tuner.oracle, "end_trial", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            tuner.search(verbose=0)
    resumed = Reporting(oracle_of(max_trials=1), directory=tmp_path)
    monkeypatch.setattr(Reporting, "run_trial", _interrupt)
    resumed.search(verbose=0)
    (trial,) = resumed.oracle.get_best_trials()
    assert (trial.score, trial.best_step) == (0.75, 1)


def _interrupt(*args, **kwargs):
    raise KeyboardInterrupt


def test_reported_values_that_are_not_finite_are_a_failure(tmp_path):
    class Diverging(Reporting):
        scores = (float("nan"), float("nan"))

    witness = Witness()
    tuner = Diverging(oracle_of(max_trials=1), directory=tmp_path, tracker=witness)
    tuner.search(verbose=0)
    (record,) = witness.records
    assert record.status == FAILED
    assert (
        record.error
        == f"{InvalidResultError.__name__}: `score` must be finite; `run_trial` "
        + ("reported nan")
    )


def test_a_tracked_tuner_records_what_it_reported(tmp_path):
    class Stock(keras_tuner.Tuner):
        run_trial = Reporting.run_trial
        scores = Reporting.scores

    witness = Witness()
    tuner = Stock(oracle_of(max_trials=1), directory=tmp_path)
    with pytest.warns(DeprecationWarning, match="update_trial"):
        track(tuner, witness).search(verbose=0)
    (record,) = witness.records
    assert (record.score, record.best_step, len(record.curves[0])) == (0.75, 1, 3)


def test_a_model_that_run_trial_trains_itself_can_be_saved(tune, data):
    class Training(NASTuner):
        def run_trial(self, trial, x, y, validation_data, **kwargs):
            model = self.hypermodel.build(trial.hyperparameters)
            model.fit(x, y, verbose=0)
            self.save_model(trial.trial_id, model)
            return {"val_loss": model.evaluate(*validation_data, verbose=0)[0]}

    tuner = tune(cls=Training)
    (model,) = tuner.get_best_models()
    score = tuner.oracle.get_best_trials()[0].score
    assert model.evaluate(*data["validation_data"], verbose=0)[0] == pytest.approx(score)


class ForgetfulTrial(NASTuner):
    def run_trial(self, trial, *args, **kwargs):
        super().run_trial(trial, *args, **kwargs)


class StringTrial(NASTuner):
    def run_trial(self, trial, *args, **kwargs):
        return "good"


class EmptyTrial(NASTuner):
    def run_trial(self, trial, *args, **kwargs):
        return []


class OtherMetric(NASTuner):
    def run_trial(self, trial, *args, **kwargs):
        return {"quality": 1.0}


class PassingTrial(NASTuner):
    def run_trial(self, trial, *args, **kwargs):
        return super().run_trial(trial, *args, **kwargs)


class ForgetfulHook(NASTuner):
    def _build_and_fit_model(self, trial, *args, **kwargs):
        super()._build_and_fit_model(trial, *args, **kwargs)


class ForgetfulFit(keras_tuner.HyperModel):
    def build(self, hp):
        return dense(hp)

    def fit(self, hp, model, *args, **kwargs):
        model.fit(*args, **kwargs)


MESSAGES = {
    "run_trial returns nothing": (
        ForgetfulTrial,
        dense,
        HyperModelError,
        "^`run_trial` must return .*; got NoneType. Is a `return` missing.*`oracle.update_trial`",
    ),
    "run_trial returns text": (
        StringTrial,
        dense,
        HyperModelError,
        "^`run_trial` must return .*; got str$",
    ),
    "run_trial returns an empty list": (
        EmptyTrial,
        dense,
        HyperModelError,
        "^`run_trial` must return at least one result",
    ),
    "run_trial returns another metric": (
        OtherMetric,
        dense,
        ObjectiveError,
        r"^`run_trial` must return the objective.*'val_loss'.*returned \['quality'\]",
    ),
    "fit returns nothing to an overridden run_trial": (
        PassingTrial,
        ForgetfulFit(),
        HyperModelError,
        r"^`HyperModel.fit` must .*`return model.fit\(...\)`",
    ),
    "the hook of AutoKeras returns nothing": (
        ForgetfulHook,
        dense,
        HyperModelError,
        "^`_build_and_fit_model` must return",
    ),
}


@pytest.mark.parametrize(
    ("cls", "hypermodel", "error", "message"), MESSAGES.values(), ids=MESSAGES
)
def test_messages_name_the_method_that_was_overridden(tune, cls, hypermodel, error, message):
    with pytest.raises(error, match=message):
        tune(hypermodel, cls=cls, tracker=None)


@pytest.mark.parametrize("cls", [OtherMetric, StringTrial])
def test_without_an_objective_the_message_names_run_trial(tmp_path, cls):
    tuner = cls(RandomOracle(max_trials=1, hyperparameters=space()), directory=tmp_path)
    with pytest.raises(keras_tuner_errors.FatalTypeError, match="`run_trial`") as caught:
        tuner.search(verbose=0)
    assert isinstance(caught.value, NASError)


# ---------------------------------------------------------------------- arguments


ORDERS = {
    "oracle first": lambda o: ((o, dense), {}),
    "hypermodel first": lambda o: ((dense, o), {}),
    "hypermodel by name": lambda o: ((o,), {"hypermodel": dense}),
    "oracle by name": lambda o: ((dense,), {"oracle": o}),
    "both by name": lambda o: ((), {"hypermodel": dense, "oracle": o}),
    "the further arguments by position": lambda o: ((o, dense, 10_000, "sgd"), {}),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_the_oracle_and_the_hypermodel_may_come_in_either_order(tmp_path, order):
    oracle = RandomOracle("val_loss", max_trials=1)
    args, kwargs = order(oracle)
    tuner = NASTuner(*args, directory=tmp_path, **kwargs)
    assert tuner.oracle is oracle and tuner.hypermodel.build is dense
    assert (tuner.max_model_size, tuner.optimizer) == (
        (10_000, "sgd") if len(args) > 2 else (None,) * 2
    )


def test_an_overridden_run_trial_needs_an_oracle_only(tmp_path):
    tuner = Scoring(oracle_of(), directory=tmp_path)
    assert tuner.hypermodel is None and isinstance(tuner.oracle, RandomOracle)


def test_positional_arguments_have_the_order_of_keras_tuner():
    def positional(function):
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        parameters = inspect.signature(function).parameters.values()
        return [parameter.name for parameter in parameters if parameter.kind in kinds][3:]

    assert positional(NASTuner.__init__) == positional(keras_tuner.Tuner.__init__)


WRONG = {
    "twice": (lambda o: NASTuner(dense, o, oracle=o), "`oracle` must be given once"),
    "hypermodel twice": (lambda o: NASTuner(dense, o, hypermodel=dense), "`hypermodel` must be"),
    "exchanged": (
        lambda o: NASTuner(hypermodel=o, oracle=dense),
        "`oracle` must be a keras_tuner.Oracle.*got function. `hypermodel` is one",
    ),
    "no oracle": (
        lambda o: NASTuner(dense),
        "`oracle` must be a keras_tuner.Oracle.*got NoneType",
    ),
    "no hypermodel": (
        lambda o: NASTuner(o),
        "`hypermodel` must be .* unless `run_trial`.*got None",
    ),
    "misspelt": (
        lambda o: NASTuner(dense, o, project="x"),
        "^`NASTuner` has no argument `project`; got 'x'. Did you mean `project_name`?",
    ),
    "misspelt in a subclass": (
        lambda o: Scoring(dense, o, max_trials=3),
        "^`Scoring` has no argument `max_trials`",
    ),
    "misspelt in an oracle": (
        lambda o: RegularizedEvolutionOracle("loss", populaton_size=3),
        "^`RegularizedEvolutionOracle` has no argument `populaton_size`; got 3. "
        "Did you mean `population_size`?",
    ),
    "misspelt option of all oracles": (
        lambda o: RandomOracle("loss", sed=3),
        "^`RandomOracle` has no argument `sed`; got 3. Did you mean `seed`?",
    ),
}


@pytest.mark.parametrize(("call", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_argument_is_an_error_that_names_it(call, message):
    # KerasTuner raises ValueError for such arguments, Python TypeError.
    for kind in (ArgumentError, NASError, ValueError, TypeError):
        with pytest.raises(kind, match=message):
            call(RandomOracle("val_loss", max_trials=1))


@pytest.mark.parametrize("name", [n for n in keras_nas_plugin.__all__ if n.endswith("Oracle")])
def test_each_oracle_names_itself(name):
    cls = type("Own", (getattr(keras_nas_plugin, name),), {})
    with pytest.raises(TypeError, match="`Own` has no argument `nothing_like_it`; got 1.$"):
        if name == "NASOracle":
            cls(None, "loss", nothing_like_it=1)
        else:
            cls("loss", nothing_like_it=1)


def test_a_logger_is_accepted_and_ignored(tmp_path):
    with pytest.warns(DeprecationWarning, match="`logger`"):
        NASTuner(oracle_of(), dense, directory=tmp_path, logger=object())


@pytest.mark.parametrize("convert", [lambda path: path, str])
def test_the_directory_stays_as_it_was_given(tmp_path, convert):
    tuner = Scoring(oracle_of(), directory=convert(tmp_path), project_name="p")
    assert tuner.directory == convert(tmp_path) and tuner.project_name == "p"
    assert type(tuner.directory) is type(convert(tmp_path))
    assert tuner.project_dir == str(tmp_path / "p")


# ---------------------------------------------------------------------- spaces


@pytest.mark.parametrize("name", sorted({*STRATEGIES, *STOCK} - NEED_A_TUNER))
def test_a_space_without_choices_is_one_trial(tmp_path, caplog, name):
    oracle = make_oracle(name, SCORE, 3, seed=0, epochs=1)
    oracle.hyperparameters.Fixed("layers", 1)
    tuner = Scoring(oracle, directory=tmp_path)
    tuner.search(epochs=1, verbose=0)
    assert set(statuses(tuner)) == {"COMPLETED"}
    # KerasTuner's Hyperband repeats a configuration in each of its brackets.
    assert len(tuner.oracle.trials) == 1 or name == "hyperband"
    assert "search is one trial" in caplog.text


def test_one_trial_is_not_scored_by_proxies(tmp_path, data, caplog):
    def constant(hp):
        hp.Fixed("layers", 1)
        return dense(keras_tuner.HyperParameters())

    oracle = make_oracle("gradient-proxy", "val_loss", 3, seed=0)
    tuner = NASTuner(constant, oracle, directory=tmp_path)
    tuner.search(**data, verbose=0)
    assert statuses(tuner) == ["COMPLETED"]
    assert "search is one trial" in caplog.text


def test_a_space_without_hyperparameters_is_one_trial(tmp_path, data):
    tuner = NASTuner(
        lambda hp: dense(keras_tuner.HyperParameters()),
        RandomOracle("val_loss", max_trials=3),
        directory=tmp_path,
    )
    tuner.search(**data, verbose=0)
    assert statuses(tuner) == ["COMPLETED"] and values_of(tuner) == [{}]


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize("error", fatal.FATAL_BASES, ids=lambda error: error.__name__)
def test_errors_that_end_a_search_are_errors_of_keras_tuner(error):
    base = fatal.FATAL_BASES[error]
    assert issubclass(error, NASError) and issubclass(error, keras_tuner_errors.FatalError)
    built_in = {
        keras_tuner_errors.FatalTypeError: TypeError,
        keras_tuner_errors.FatalValueError: ValueError,
        keras_tuner_errors.FatalRuntimeError: RuntimeError,
    }[base]
    with pytest.raises(built_in):
        raise error("a message")


def test_a_search_that_cannot_work_ends_as_with_keras_tuner(tmp_path):
    """A stock tuner with an oracle of this package ends, too, instead of failing every trial."""

    class Stock(keras_tuner.Tuner):
        def run_trial(self, trial, *args, **kwargs):
            self.oracle.update_trial(trial.trial_id, {"quality": 1.0})

    tuner = Stock(oracle_of(), directory=tmp_path)
    with pytest.raises(keras_tuner_errors.FatalValueError, match=r"`objective`, \['score'\]"):
        tuner.search(verbose=0)
    assert len(tuner.oracle.trials) == 1


def test_new_entries_are_a_runtime_error(tmp_path):
    class Asking(Scoring):
        def run_trial(self, trial, *args, **kwargs):
            trial.hyperparameters.Int("late", 1, 3)
            return super().run_trial(trial)

    tuner = Asking(oracle_of(allow_new_entries=False), directory=tmp_path)
    with pytest.raises(RuntimeError, match="allow_new_entries") as caught:
        tuner.search(verbose=0)
    assert isinstance(caught.value, NewEntriesError | keras_tuner_errors.FatalError)


# ---------------------------------------------------------------------- the user's own oracles


class OwnGrid(keras_tuner.oracles.GridSearchOracle):
    """A user's subclass, whose methods are still called."""

    def end_trial(self, trial):
        super().end_trial(trial)
        self.ended = [*getattr(self, "ended", ()), trial.trial_id]


USERS_OWN = {
    "grid": keras_tuner.oracles.GridSearchOracle,
    "own grid": OwnGrid,
    "random": keras_tuner.oracles.RandomSearchOracle,
    "bayesian": lambda objective, **options: keras_tuner.oracles.BayesianOptimizationOracle(
        objective, num_initial_points=6, **options
    ),
}


class Dying(Scoring):
    """Is interrupted in its third trial."""

    def run_trial(self, trial, *args, **kwargs):
        if len(self.asked) == 2:
            raise KeyboardInterrupt
        return super().run_trial(trial)


@pytest.mark.parametrize("maker", USERS_OWN.values(), ids=USERS_OWN)
def test_a_stock_oracle_of_the_user_resumes(tmp_path, maker):
    straight = Scoring(oracle_of(maker, max_trials=6), directory=tmp_path, project_name="straight")
    straight.search(verbose=0)
    assert len(values_of(straight)) == 6
    dying = Dying(oracle_of(maker, max_trials=6), directory=tmp_path, project_name="killed")
    with pytest.raises(KeyboardInterrupt):
        dying.search(verbose=0)
    oracle = oracle_of(maker, max_trials=6)
    kind = type(oracle)
    resumed = Scoring(oracle, directory=tmp_path, project_name="killed")
    resumed.search(verbose=0)
    assert values_of(resumed) == values_of(straight)
    assert resumed.asked == straight.asked[2:]
    assert resumed.oracle is oracle and isinstance(oracle, kind)
    if maker is OwnGrid:
        assert oracle.ended == sorted(oracle.trials)[2:]


@pytest.mark.parametrize("name", ["grid", "bayesian"])
def test_a_search_that_keras_tuner_has_begun_is_continued(tmp_path, name):
    class Stock(keras_tuner.Tuner):
        asked: list = []
        run_trial = Scoring.run_trial

    maker = USERS_OWN[name]
    stock = Stock(oracle_of(maker, max_trials=3), directory=tmp_path)
    stock.search(verbose=0)
    tuner = Scoring(oracle_of(maker, max_trials=6), directory=tmp_path)
    tuner.search(verbose=0)
    values = values_of(tuner)
    assert values[:3] == values_of(stock) and len(tuner.asked) == len(values) - 3
    assert len({str(sorted(item.items())) for item in values}) == len(values) == 6


def test_scores_of_numpy_are_numbers(tmp_path):
    class Array(NASTuner):
        def run_trial(self, trial, *args, **kwargs):
            return [np.float32(0.5), {"score": np.float64(1.0)}]

    tuner = Array(oracle_of(max_trials=1), directory=tmp_path)
    tuner.search(verbose=0)
    assert tuner.oracle.get_best_trials()[0].score == 0.75
    assert len(list(load_records(tuner.project_dir))) == 1
