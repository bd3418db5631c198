import copy
import threading

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
from keras_nas_plugin.strategies import RandomSearch
from keras_nas_plugin.testing.driving import Search
from keras_nas_plugin.testing.spaces import small_space


class Fixed(RandomSearch):
    """Proposes what it is told to."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def ask(self, spec, rng, *, tried, pending):
        return self.values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "dense", "units": 9, "pool": True}, r"values\['units'\].*received 9"),
        ({"kind": "dense", "units": 1}, "'pool'; received none"),
        (
            {"kind": "dense", "units": 1, "pool": True, "bias": True},
            "received 'bias', which is not",
        ),
    ],
)
def test_a_strategy_that_proposes_nonsense_is_named(tmp_path, values, message):
    search = Search(
        lambda **options: NASOracle(Fixed(values), **options), tmp_path / "search", small_space
    )
    with pytest.raises(StrategyError, match=f"Fixed proposed invalid values: .*{message}"):
        search.start()


def test_a_strategy_that_repeats_itself_is_named(tmp_path):
    values = {"kind": "dense", "units": 1, "pool": True}
    search = Search(
        lambda **options: NASOracle(Fixed(values), **options), tmp_path / "search", small_space
    )
    search.finish(search.start(), 1.0)
    with pytest.raises(StrategyError, match="Fixed proposed values that were tried before"):
        search.start()


def test_options_that_contradict_themselves_are_refused():
    with pytest.raises(
        SearchSpaceError, match="`max_trials` needs at least 1 or None; received 0"
    ):
        RandomOracle("val_accuracy", max_trials=0)
    with pytest.raises(TypeError):
        RandomOracle("val_accuracy", sede=1)


def test_no_seed_draws_one():
    seeds = {RandomOracle("val_loss").seed for _ in range(5)}
    assert len(seeds) == 5


def test_evolution_takes_its_sizes_from_the_budget():
    for options, sizes in (
        ({"max_trials": 50}, (10, 3)),
        ({"max_trials": None}, (20, 5)),
        ({"population_size": 8}, (8, 2)),
        ({"population_size": 8, "tournament_size": 7}, (8, 7)),
    ):
        strategy = RegularizedEvolutionOracle("val_loss", **options).strategy
        assert (strategy.population_size, strategy.tournament_size) == sizes


def test_metrics_without_the_objective_are_refused(tmp_path):
    search = Search(RandomOracle, tmp_path / "search")
    trial = search.start()
    with pytest.raises(ObjectiveError, match=r"needs \['score'\].*received \['accuracy'\]"):
        search.oracle.update_trial(trial.trial_id, {"accuracy": 1.0})


def test_the_signed_sum_of_several_objectives_counts(tmp_path):
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
    trial.message = (
        'Traceback (most recent call last):\n  File "x.py", line 1\nValueError: bad layer\n'
    )
    with pytest.raises(TooManyFailuresError, match="The last one: ValueError: bad layer$"):
        search.oracle.end_trial(trial)


def test_successes_in_between_reset_the_count_of_failures(tmp_path):
    search = Search(RandomOracle, tmp_path / "search", max_consecutive_failed_trials=2)
    for score in (None, 1.0, None, 1.0, None):
        search.finish(search.start(), score)
    with pytest.raises(TooManyFailuresError, match="2 trials in a row"):
        search.finish(search.start(), None)


def test_a_chief_keeps_an_error_for_the_end_and_stops_the_workers(tmp_path, monkeypatch):
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


def test_the_lock_opens_on_every_way_out_and_copies_as_a_fresh_one():
    lock = OracleLock()
    with pytest.raises(ZeroDivisionError), lock, lock:
        raise ZeroDivisionError
    with lock:
        other = copy.deepcopy(lock)
        taken = []
        thread = threading.Thread(target=lambda: taken.append(other.__enter__()), daemon=True)
        thread.start()
        thread.join(10.0)
    assert taken == [None], "the copy of a held lock is held"


def test_a_ledger_ranks_finite_scores_in_both_directions():
    for maximise, expected in ((True, ["c", "a", "d"]), (False, ["a", "d", "c"])):
        ledger = Ledger()
        scores = {"a": 1.0, "b": None, "c": 2.0, "d": 1.0, "e": float("inf"), "f": float("nan")}
        for place, (trial_id, score) in enumerate(scores.items()):
            assert ledger.end(trial_id, score, maximise=maximise) == place
        assert ledger.end("c", 2.0, maximise=maximise) == 2
        assert list(ledger.best(10)) == expected
        assert list(ledger.best(1)) == expected[:1]
        assert ledger.ended("nobody") is None


def test_a_ledger_forgets_the_former_configuration_of_a_trial():
    ledger = Ledger()
    ledger.record_key("0", "x")
    ledger.record_key("1", "x")
    ledger.record_key("0", "y")
    assert ledger.tried("x") and ledger.tried("y")
    ledger.record_key("1", "y")
    assert not ledger.tried("x") and ledger.tried("y") and not ledger.tried("z")


def test_every_strategy_of_the_command_line_is_an_oracle():
    for name in oracles.STRATEGIES.values():
        assert issubclass(getattr(oracles, name), NASOracle)
        assert name in oracles.__all__
    with pytest.raises(AttributeError, match="Nobody"):
        oracles.Nobody  # noqa: B018


def test_whose_child_a_trial_is_outlives_a_reload(tmp_path):
    """In the trials' files, from where records take it."""
    search = Search(RegularizedEvolutionOracle, tmp_path / "search", population_size=4)
    for number in range(16):
        search.finish(search.start(), float(number % 7))
    before = search.oracle.ledger.parents
    assert len(before) == 16 and sum(map(len, before.values())) > 4
    assert search.reopened().oracle.ledger.parents == before
    for trial_id, parents in before.items():
        assert load_parents(tmp_path / "search" / f"trial_{trial_id}") == parents
    assert load_parents(tmp_path / "nowhere") == ()
