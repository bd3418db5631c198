import copy
import threading
import traceback

import keras_tuner
import pytest
from keras_tuner.engine.trial import TrialStatus

from keras_nas_plugin import oracles
from keras_nas_plugin.errors import (
    ObjectiveError,
    SearchSpaceError,
    StrategyError,
    TooManyFailuresError,
)
from keras_nas_plugin.oracles import NASOracle, RandomOracle, RegularizedEvolutionOracle
from keras_nas_plugin.oracles.ledger import Ledger
from keras_nas_plugin.oracles.lock import OracleLock
from keras_nas_plugin.oracles.store import load_parents
from keras_nas_plugin.records.locating import location_of
from keras_nas_plugin.strategies import Proposal, RandomSearch
from keras_nas_plugin.testing.driving import Search
from keras_nas_plugin.testing.spaces import small_space


class Fixed(RandomSearch):
    """Proposes the given values."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def ask(self, spec, rng, *, tried, pending):
        return Proposal(self.values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "dense", "units": 9, "pool": True}, r"values\['units'\].*got 9"),
        ({"kind": "dense", "units": 1}, "'pool'; got none"),
        (
            {"kind": "dense", "units": 1, "pool": True, "bias": True},
            "got 'bias', which is inactive",
        ),
    ],
)
def test_an_invalid_proposal_names_the_strategy(tmp_path, values, message):
    search = Search(
        lambda **options: NASOracle(Fixed(values), **options), tmp_path / "search", small_space
    )
    with pytest.raises(StrategyError, match=f"Fixed proposed invalid values: .*{message}"):
        search.start()


def test_a_repeated_proposal_names_the_strategy(tmp_path):
    values = {"kind": "dense", "units": 1, "pool": True}
    search = Search(
        lambda **options: NASOracle(Fixed(values), **options), tmp_path / "search", small_space
    )
    search.finish(search.start(), 1.0)
    with pytest.raises(StrategyError, match="Fixed proposed values that were tried before"):
        search.start()


def test_invalid_oracle_options_are_rejected():
    with pytest.raises(SearchSpaceError, match="`max_trials` must be at least 1, or None; got 0"):
        RandomOracle("val_accuracy", max_trials=0)
    with pytest.raises(TypeError):
        RandomOracle("val_accuracy", sede=1)


class Watching(RandomSearch):
    """Keeps the running trials that it was asked with last."""

    def ask(self, spec, rng, *, tried, pending):
        self.pending = dict(pending)
        return super().ask(spec, rng, tried=tried, pending=pending)


def test_running_trials_are_the_same_objects_until_a_model_adds_a_value():
    watching = Watching()
    oracle = NASOracle(watching, "val_loss", max_trials=9, seed=0, hyperparameters=small_space())
    oracle.verbose = 0
    first, second = oracle.create_trial("a"), oracle.create_trial("b")
    oracle.create_trial("c")
    before = watching.pending
    assert before == {trial.trial_id: trial.hyperparameters.values for trial in (first, second)}
    first.hyperparameters.values["late"] = 1
    oracle.update_trial(second.trial_id, {"val_loss": 1.0})
    second.status = TrialStatus.COMPLETED
    oracle.end_trial(second)
    third = oracle.create_trial("d")
    oracle.create_trial("e")
    assert watching.pending[first.trial_id]["late"] == 1
    assert second.trial_id not in watching.pending and third.trial_id in watching.pending
    before = watching.pending
    oracle.create_trial("f")
    assert all(watching.pending[trial_id] is values for trial_id, values in before.items())


def test_an_oracle_without_a_seed_draws_one():
    seeds = {RandomOracle("val_loss").seed for _ in range(5)}
    assert len(seeds) == 5


def test_default_evolution_sizes_depend_on_the_budget():
    for options, sizes in (
        ({"max_trials": 50}, (10, 3)),
        ({"max_trials": None}, (20, 5)),
        ({"population_size": 8}, (8, 2)),
        ({"population_size": 8, "tournament_size": 7}, (8, 7)),
    ):
        strategy = RegularizedEvolutionOracle("val_loss", **options).strategy
        assert (strategy.population_size, strategy.tournament_size) == sizes


def test_metrics_without_the_objective_are_rejected(tmp_path):
    search = Search(RandomOracle, tmp_path / "search")
    trial = search.start()
    with pytest.raises(ObjectiveError, match=r"of `objective`, \['score'\]; got \['accuracy'\]"):
        search.oracle.update_trial(trial.trial_id, {"accuracy": 1.0})


def test_several_objectives_are_scored_by_their_signed_sum(tmp_path):
    objectives = [keras_tuner.Objective("acc", "max"), keras_tuner.Objective("size", "min")]
    search = Search(RandomOracle, tmp_path / "search", objective=objectives)
    for accuracy, size in ((0.5, 0.25), (0.75, 0.125), (1.0, 3.0)):
        trial = search.start()
        search.oracle.update_trial(trial.trial_id, {"acc": accuracy, "size": size, "loss": 9.0})
        trial.status = TrialStatus.COMPLETED
        search.oracle.end_trial(trial)
    assert search.best_ids() == ["01", "00", "02"] == search.reopened().best_ids()
    assert search.oracle.get_trial("01").score == 0.125 - 0.75


def test_the_message_of_the_last_failure_is_reported(tmp_path):
    search = Search(RandomOracle, tmp_path / "search", max_consecutive_failed_trials=1)
    trial = search.start()
    trial.status = TrialStatus.FAILED
    try:
        raise ValueError("bad layer")
    except ValueError as error:
        trial.message, location = traceback.format_exc(), location_of(error)
    with pytest.raises(
        TooManyFailuresError, match="The last one: ValueError: bad layer\n"
    ) as ended:
        search.oracle.end_trial(trial)
    assert str(ended.value).endswith(f"\n  at {location}")
    assert location.file == __file__ and location.code == 'raise ValueError("bad layer")'


def test_a_success_resets_the_count_of_consecutive_failures(tmp_path):
    search = Search(RandomOracle, tmp_path / "search", max_consecutive_failed_trials=2)
    for score in (None, 1.0, None, 1.0, None):
        search.finish(search.start(), score)
    with pytest.raises(TooManyFailuresError, match="2 trials in a row"):
        search.finish(search.start(), None)


def test_a_strategy_error_in_the_chief_stops_the_workers_and_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    search = Search(
        lambda **options: NASOracle(Fixed({}), **options), tmp_path / "search", small_space
    )
    answers = []
    thread = threading.Thread(target=lambda: answers.append(search.start("tuner0")))
    thread.start()
    thread.join()
    assert [trial.status for trial in answers] == [TrialStatus.STOPPED]
    assert isinstance(search.oracle.fatal_error, StrategyError)
    assert not search.oracle.tuner_ids and not search.oracle.ongoing_trials
    with pytest.raises(StrategyError):
        search.oracle.fatal_error = None
        search.start("tuner1")


def test_the_lock_is_released_after_an_error_and_its_copy_is_unlocked():
    lock = OracleLock()
    with pytest.raises(ZeroDivisionError), lock, lock:
        raise ZeroDivisionError
    with lock:
        copied = copy.deepcopy(lock)
        acquired = []
        thread = threading.Thread(target=lambda: acquired.append(copied.__enter__()), daemon=True)
        thread.start()
        thread.join(10.0)
    assert acquired == [None], "the copy of a held lock must not be held"


def test_a_ledger_ranks_finite_scores_in_both_directions():
    for maximise, expected in ((True, ["c", "a", "d"]), (False, ["a", "d", "c"])):
        ledger = Ledger()
        scores = {"a": 1.0, "b": None, "c": 2.0, "d": 1.0, "e": float("inf"), "f": float("nan")}
        for position, (trial_id, score) in enumerate(scores.items()):
            assert ledger.end(trial_id, score, maximise=maximise) == position
        assert ledger.end("c", 2.0, maximise=maximise) == 2
        assert list(ledger.best(10)) == expected
        assert list(ledger.best(1)) == expected[:1]
        assert ledger.ended("nobody") is None


def test_a_ledger_replaces_the_configuration_of_a_trial():
    ledger = Ledger()
    ledger.record_key("0", "x")
    ledger.record_key("1", "x")
    ledger.record_key("0", "y")
    assert ledger.tried("x") and ledger.tried("y")
    ledger.record_key("1", "y")
    assert not ledger.tried("x") and ledger.tried("y") and not ledger.tried("z")


def test_every_named_strategy_is_an_exported_oracle():
    for name in oracles.STRATEGIES.values():
        assert issubclass(getattr(oracles, name), NASOracle)
        assert name in oracles.__all__
    with pytest.raises(AttributeError, match="Nobody"):
        oracles.Nobody  # noqa: B018


def test_parents_of_trials_survive_a_reload(tmp_path):
    """In the files of the trials, from which records read them."""
    search = Search(RegularizedEvolutionOracle, tmp_path / "search", population_size=4)
    for number in range(16):
        search.finish(search.start(), float(number % 7))
    before = search.oracle.ledger.parents
    assert len(before) == 16 and sum(map(len, before.values())) > 4
    assert search.reopened().oracle.ledger.parents == before
    for trial_id, parents in before.items():
        assert load_parents(tmp_path / "search" / f"trial_{trial_id}") == parents
    assert load_parents(tmp_path / "nowhere") == ()
