"""Candidates that a screen rejects use no trial and no budget, and are logged."""

import json
import logging

import keras_tuner
import pytest
from keras_tuner.engine.trial import TrialStatus

from keras_nas_plugin import Constraint
from keras_nas_plugin.errors import InfeasibleError, SearchSpaceError, StateError
from keras_nas_plugin.oracles import (
    NASOracle,
    RandomOracle,
    RegularizedEvolutionOracle,
    SuccessiveHalvingOracle,
)
from keras_nas_plugin.oracles.screening import Screening
from keras_nas_plugin.strategies import RandomSearch
from keras_nas_plugin.testing.driving import Search, hashed_score
from keras_nas_plugin.testing.spaces import small_space, wide_space

LIMIT = Constraint("params", max=100)


class RecordingStrategy(RandomSearch):
    """Records its observations in order."""

    def __init__(self):
        super().__init__()
        self.heard = []

    def learn(self, observation):
        self.heard.append((observation.trial_id, observation.scores, observation.violation))


def listening(**options):
    return NASOracle(RecordingStrategy(), **options)


def size_of(values):
    """50 (feasible) for the dense half of the small space, more than 100 for the conv half."""
    return 50.0 if values["kind"] == "dense" else 100.0 + values["units"]


def screen(hp, limit=LIMIT):
    size = size_of(hp.values)
    violation = limit.violation(size)
    broken = {"params": violation} if violation else {}
    return Screening(violation, {"parameters": size}, broken, f"params {size}")


def search_of(folder, make=listening, *, judge=screen, space=small_space, **options):
    options = {"constraints": [LIMIT], "seed": 3, **options}
    search = Search(make, folder / "search", space, **options)
    search.oracle.set_screen(judge)
    return search


def start_all(search):
    trials = []
    while (trial := search.start()).status == TrialStatus.RUNNING:
        trials.append(trial)
        search.finish(trial, hashed_score(trial.hyperparameters.values))
    return trials


def test_an_infeasible_candidate_is_reported_and_logged_but_is_no_trial(tmp_path):
    search = search_of(tmp_path)
    trials = start_all(search)
    assert [trial.trial_id for trial in trials] == ["00", "01", "02", "03", "04", "05"]
    assert {trial.hyperparameters.get("kind") for trial in trials} == {"dense"}
    lines = (tmp_path / "search" / "infeasible.jsonl").read_text().splitlines()
    lines = [json.loads(line) for line in lines]
    # The six infeasible ones of the twelve configurations, each once.
    assert len({json.dumps(line["values"]) for line in lines}) == len(lines) == 6
    heard = search.oracle.strategy.heard
    infeasible = [observation for observation in heard if observation[0].startswith("infeasible-")]
    assert infeasible == [
        (f"infeasible-{number}", None, LIMIT.violation(size_of(line["values"])))
        for number, line in enumerate(lines)
    ]
    assert search.oracle.infeasible.by_constraint == {"params": 6}
    resumed = search_of(tmp_path)
    assert resumed.oracle.strategy.heard == heard
    assert resumed.oracle.infeasible.state() == search.oracle.infeasible.state()
    assert resumed.start().status == TrialStatus.STOPPED


def test_screened_costs_become_metrics_and_survive_a_reload(tmp_path):
    search = search_of(tmp_path)
    trial = search.start()
    # The screened cost counts, not the one measured during training.
    search.oracle.update_trial(trial.trial_id, {"score": 1.0, "parameters": 900.0})
    search = search_of(tmp_path)
    assert search.oracle.screened_metrics(trial.trial_id) == {"parameters": 50.0}
    trial = search.start()
    search.finish(trial, 0.5)
    saved = search.oracle.get_trial(trial.trial_id)
    assert saved.metrics.get_history("parameters")[-1].mean() == 50.0
    assert search.best_ids() == [trial.trial_id] == search_of(tmp_path).best_ids()


@pytest.mark.parametrize(
    "make", [RandomOracle, RegularizedEvolutionOracle, SuccessiveHalvingOracle]
)
def test_a_small_feasible_region_is_found(tmp_path, make):
    def rare(hp):
        # One configuration in two hundred, at random.
        share = hashed_score({"lucky": sorted(hp.values.items())})
        return Screening(max(0.0, share - 0.005))

    search = search_of(tmp_path, make, judge=rare, space=wide_space, constraints=(), max_trials=4)
    trials = start_all(search)
    started = {hashed_score({"lucky": sorted(_own(t).items())}) for t in trials}
    assert len(started) == 4 and max(started) <= 0.005
    assert search.oracle.infeasible.count > 100


def _own(trial):
    values = trial.hyperparameters.values
    return {name: value for name, value in values.items() if not name.startswith("tuner/")}


def refuse_all(hp):
    size = 100.0 + hp.get("depth")
    return Screening(
        size / 100 - 1, {"parameters": size}, {"params": size / 100 - 1}, f"params {size:.0f}"
    )


def test_a_search_without_a_feasible_candidate_reports_the_nearest_one(tmp_path):
    options = {"judge": refuse_all, "space": wide_space}
    search = search_of(tmp_path, max_consecutive_infeasible=40, **options)
    message = (
        r"^40 candidates in a row broke a constraint before training; the nearest: params 101. "
        r"Infeasible candidates so far, by constraint: params \(40\). `max_consecutive_infeasible`"
    )
    for current in (search, search_of(tmp_path, max_consecutive_infeasible=40, **options)):
        with pytest.raises(InfeasibleError, match=message):
            current.start()
    assert search.oracle.infeasible.count == 40
    # With a higher limit the search resumes where it stopped.
    more = search_of(tmp_path, max_consecutive_infeasible=50, **options)
    with pytest.raises(InfeasibleError, match=r"^50 candidates in a row"):
        more.start()
    # With another constraint it counts from zero.
    tighter = search_of(
        tmp_path,
        constraints=[Constraint("params", max=99)],
        max_consecutive_infeasible=50,
        **options,
    )
    assert tighter.oracle.infeasible.consecutive == 0
    with pytest.raises(InfeasibleError, match=r"^50 candidates in a row.*params \(100\)"):
        tighter.start()


def test_a_search_with_trials_ends_without_an_error(tmp_path, caplog):
    search = search_of(tmp_path, space=wide_space, constraints=(), max_consecutive_infeasible=30)
    search.oracle.set_screen(None)
    search.finish(search.start(), 0.5)
    search.oracle.set_screen(refuse_all)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert search.start().status == TrialStatus.STOPPED
    assert search.oracle.stop_reason.startswith("30 candidates in a row broke a constraint")
    assert [
        record.message for record in caplog.records if "The search ends" in record.message
    ] == [f"The search ends: {search.oracle.stop_reason}"]
    assert search.oracle.infeasible.count == 30


def test_a_space_without_a_feasible_configuration_is_an_error(tmp_path):
    search = search_of(tmp_path, judge=lambda hp: Screening(1.0))
    with pytest.raises(InfeasibleError, match="12 candidates .* No other configuration"):
        search.start()


def test_changed_limits_make_rejected_candidates_available(tmp_path):
    search = search_of(tmp_path)
    start_all(search)
    # 116 parameters are allowed now, 132 are not.
    limit = Constraint("params", max=120)
    loose = search_of(tmp_path, judge=lambda hp: screen(hp, limit), constraints=[limit])
    values = [dict(trial.hyperparameters.values) for trial in start_all(loose)]
    assert sorted(map(str, values)) == sorted(
        str({"kind": "conv", "units": 16, "pool": pool}) for pool in (False, True)
    )


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", ["append", "save"])
def test_a_search_killed_while_screening_makes_the_same_proposals(tmp_path, monkeypatch, moment):
    expected = [t.hyperparameters.values for t in start_all(search_of(tmp_path / "straight"))]
    received, deaths = [], 0
    for attempt in range(100):
        search = search_of(tmp_path / "killed")
        target, name = {
            "append": (search.oracle.infeasible, "_write"),
            "save": (search.oracle, "save"),
        }[moment]
        original = getattr(target, name)
        calls = iter(range(attempt % 2, -1, -1))

        def dying(*arguments, original=original, calls=calls):
            # Every second process lives for one more call; a line may be written but not counted.
            if next(calls, 0) == 0:
                raise Killed
            original(*arguments)

        monkeypatch.setattr(target, name, dying)
        try:
            trial = search.start()
        except Killed:
            deaths += 1
            continue
        if trial.status == TrialStatus.STOPPED:
            break
        monkeypatch.setattr(target, name, original)
        received.append(trial.hyperparameters.values)
        search.finish(trial, hashed_score(trial.hyperparameters.values))
    assert received == expected
    assert deaths >= 3


def test_an_incomplete_last_line_is_removed(tmp_path):
    search = search_of(tmp_path)
    while not search.oracle.infeasible.count:
        search.finish(search.start(), 0.5)
    count, path = search.oracle.infeasible.count, tmp_path / "search" / "infeasible.jsonl"
    content = path.read_bytes()
    path.write_bytes(content + b'{"values": {"kind"')
    resumed = search_of(tmp_path)
    assert path.read_bytes() == content and resumed.oracle.infeasible.count == count
    path.write_bytes(content[:-1])
    with pytest.raises(StateError, match="`infeasible.jsonl` must have"):
        search_of(tmp_path)


def test_a_write_error_loses_no_proposal(tmp_path, monkeypatch):
    expected = [t.hyperparameters.values for t in start_all(search_of(tmp_path / "straight"))]
    search, received = search_of(tmp_path / "full"), []
    original = search.oracle.infeasible._write

    def full(project, line):
        monkeypatch.setattr(search.oracle.infeasible, "_write", original)
        (project / "infeasible.jsonl").open("a").write(line[:9])
        raise OSError("no space left on device")

    monkeypatch.setattr(search.oracle.infeasible, "_write", full)
    failed = 0
    while True:
        try:
            trial = search.start()
        except OSError:
            failed += 1
            continue
        if trial.status == TrialStatus.STOPPED:
            break
        received.append(trial.hyperparameters.values)
        search.finish(trial, hashed_score(trial.hyperparameters.values))
    assert received == expected and failed == 1
    assert search_of(tmp_path / "full").oracle.infeasible.count == 6


def test_a_screen_that_raises_loses_no_proposal(tmp_path):
    expected = search_of(tmp_path / "straight").start().hyperparameters.values

    def broken(hp):
        raise ValueError("a fault of the screen")

    search = search_of(tmp_path / "faulty", judge=broken)
    for _ in range(2):
        with pytest.raises(ValueError, match="a fault of the screen"):
            search.start()
    search.oracle.set_screen(screen)
    assert search.start().hyperparameters.values == expected


def test_hyperparameters_declared_during_screening_join_the_space(tmp_path):
    def growing(hp):
        if hp.get("kind") == "conv":
            hp.Int("late", 1, 4, default=2)
        return screen(hp)

    def run(folder, *, reload):
        search, proposed = search_of(folder, judge=growing, max_trials=14), []
        while (trial := search.start()).status == TrialStatus.RUNNING:
            proposed.append(dict(trial.hyperparameters.values))
            search.finish(trial, hashed_score(proposed[-1]))
            search = search_of(folder, judge=growing, max_trials=14) if reload else search
        return proposed, search

    proposed, search = run(tmp_path / "straight", reload=False)
    assert len(proposed) == 14
    assert "late" in {item.name for item in search.oracle.get_space().space}
    # First declared by infeasible candidates, then searched like any decision.
    assert {values["late"] for values in proposed if "late" in values} == {1, 2, 3, 4}
    assert run(tmp_path / "reloaded", reload=True)[0] == proposed
    fixed = search_of(tmp_path / "fixed", judge=growing, allow_new_entries=False)
    assert len(start_all(fixed)) == 6
    assert "late" not in {item.name for item in fixed.oracle.get_space().space}


def test_initial_configurations_are_screened(tmp_path):
    initial = [
        {"kind": "conv", "units": 16, "pool": True},
        {"kind": "dense", "units": 2, "pool": True},
    ]
    search = search_of(tmp_path, initial=initial)
    assert search.start().hyperparameters.values == initial[1]
    assert search.oracle.infeasible.count == 1


def test_a_promotion_has_the_screened_metrics_of_its_configuration(tmp_path):
    search = search_of(tmp_path, SuccessiveHalvingOracle, max_trials=6)
    trials = start_all(search)
    promoted = [t for t in trials if t.hyperparameters.values.get("tuner/trial_id")]
    assert promoted
    for current in (search, search_of(tmp_path, SuccessiveHalvingOracle, max_trials=6)):
        metrics = {str(current.oracle.screened_metrics(trial.trial_id)) for trial in trials}
        assert metrics == {str({"parameters": 50.0})}


@pytest.mark.parametrize("limit", [0, -1])
def test_max_consecutive_infeasible_must_be_positive(limit):
    with pytest.raises(SearchSpaceError, match="`max_consecutive_infeasible` must be at least 1"):
        RandomOracle("val_loss", max_consecutive_infeasible=limit)
    assert RandomOracle("val_loss", max_consecutive_infeasible=None).infeasible.limit is None


def test_cost_objectives_are_minimised():
    oracle = RandomOracle(["val_accuracy", "latency", "parameters"])
    assert [(objective.name, objective.direction) for objective in oracle.objectives] == [
        ("val_accuracy", "max"),
        ("latency_ms", "min"),
        ("parameters", "min"),
    ]
    assert isinstance(oracle.objectives[1], keras_tuner.Objective)
