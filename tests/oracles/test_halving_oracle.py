"""Successive halving around other oracles: promotions, waiting, ranking, state."""

import json
import logging

import keras_tuner
import pytest
from keras_tuner.engine.trial import TrialStatus

from keras_nas_plugin.errors import StateError, StrategyError
from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.oracles import (
    STRATEGIES,
    RandomOracle,
    RegularizedEvolutionOracle,
    SuccessiveHalvingOracle,
)
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.space.fidelity import configuration, fidelity_of
from keras_nas_plugin.strategies import RandomSearch
from keras_nas_plugin.testing.driving import Search, hashed_score, mixed_outcome
from keras_nas_plugin.testing.proposals import reloads_change_nothing
from keras_nas_plugin.testing.stand_ins import maker_of

MAX = keras_tuner.Objective("score", "max")


def line():
    hp = keras_tuner.HyperParameters()
    hp.Int("x", 1, 200)
    return hp


def halving(folder, *, make=SuccessiveHalvingOracle, **options):
    """A search over x in three rungs: 1, 3 and 9 epochs."""
    return Search(make, folder, line, **{"max_trials": 9, **options})


def run(search, outcome=lambda values: float(values["x"])):
    """Run to the end with one worker; returns all trials in the order of their starts."""
    trials = []
    while (trial := search.start()).status == TrialStatus.RUNNING:
        search.finish(trial, outcome(trial.hyperparameters.values))
        trials.append(search.oracle.trials[trial.trial_id])
    return trials


def levels(trials):
    return [fidelity_of(trial.hyperparameters.values).rung for trial in trials]


# ---------------------------------------------------------------------- promotions


def test_a_promotion_has_the_values_of_its_parent_and_the_epochs_of_its_rung(tmp_path):
    trials = {t.trial_id: t for t in run(halving(tmp_path / "s"))}
    rungs = {0: (0, 1), 1: (1, 3), 2: (3, 9)}
    for trial in trials.values():
        values = trial.hyperparameters.values
        initial, epochs = rungs[values["tuner/round"]]
        assert values["tuner/initial_epoch"] == initial and values["tuner/epochs"] == epochs
        assert values["tuner/bracket"] == 0
        assert ("tuner/trial_id" in values) == (initial > 0)
        if initial:
            parent = trials[values["tuner/trial_id"]].hyperparameters.values
            assert parent["x"] == values["x"]
            assert parent["tuner/round"] == values["tuner/round"] - 1
            assert parent["tuner/epochs"] == initial


def test_max_trials_counts_configurations_and_the_best_reaches_the_top_rung(tmp_path):
    search = halving(tmp_path / "s", max_trials=27)
    trials = run(search)
    at = [levels(trials).count(rung) for rung in range(3)]
    # At least a third of each rung; early trials were promoted while they were the best.
    assert at[0] == 27 and 9 <= at[1] <= 18 and 3 <= at[2] <= at[1] // 2
    assert len(search.oracle.trials) == sum(at) and search.oracle.remaining_trials() == 0
    best = max(trial.hyperparameters.values["x"] for trial in trials)
    (trial,) = search.oracle.get_best_trials()
    values = trial.hyperparameters.values
    assert values["x"] == best and values["tuner/epochs"] == 9


def test_max_epochs_default_to_the_epochs_of_the_tuner(tmp_path):
    oracle = SuccessiveHalvingOracle("val_loss")
    assert oracle.train_in_rungs(27) == 27
    assert oracle.rungs.epochs == (3, 9, 27)
    oracle = SuccessiveHalvingOracle("val_loss", min_epochs=1, max_epochs=16, factor=4)
    assert oracle.train_in_rungs() == oracle.train_in_rungs(16) == 16
    assert oracle.rungs.epochs == (1, 4, 16)
    with pytest.raises(StrategyError, match="`max_epochs` must equal .* got 16 and 10"):
        oracle.train_in_rungs(10)
    with pytest.raises(StrategyError, match="only one of them may be given; got None and None"):
        SuccessiveHalvingOracle("val_loss").train_in_rungs()
    with pytest.raises(StrategyError, match="`max_epochs` must be at least 20.* got 10"):
        SuccessiveHalvingOracle("val_loss", min_epochs=20).train_in_rungs(10)


def test_too_few_epochs_make_a_single_rung_with_a_warning(tmp_path, caplog):
    oracle = SuccessiveHalvingOracle("val_loss")
    assert oracle.train_in_rungs(2) == 2
    assert oracle.rungs.epochs == (2,) and "2 epochs cannot be halved" in caplog.text


# ---------------------------------------------------------------------- rungs that save no time


def test_configurations_are_trained_in_full_where_epochs_take_no_time(tmp_path, caplog):
    search = halving(tmp_path / "s", max_trials=9)
    first = [search.start(f"worker {number}") for number in range(4)]
    for trial in first[:3]:
        search.finish(trial, float(trial.hyperparameters.values["x"]))
    assert search.oracle.rungs.first == 0
    search.oracle.record_times(fixed_seconds=2.0, epoch_seconds=0.1)
    search.finish(first[3], float(first[3].hyperparameters.values["x"]))
    assert "train for 9 epochs at first: an epoch takes 0.1 s, and a trial 2 s" in caplog.text
    trials = run(search)
    fidelities = [fidelity_of(trial.hyperparameters.values) for trial in trials]
    started = [fidelity for fidelity in fidelities if fidelity.parent is None]
    assert len(started) == 5
    assert {(item.rung, item.initial_epoch, item.epochs) for item in started} == {(2, 0, 9)}
    # The best of the first four is promoted, as before, and none that was trained in full.
    assert fidelities[0].parent in {trial.trial_id for trial in first}
    assert search.oracle.remaining_trials() == 0
    best = search.oracle.get_best_trials()[0].hyperparameters.values
    assert best["tuner/epochs"] == 9


def test_the_times_of_the_first_trials_decide_nothing(tmp_path):
    search = halving(tmp_path / "s", max_trials=9)
    for _ in range(3):
        search.finish(search.start(), 1.0)
        search.oracle.record_times(fixed_seconds=2.0, epoch_seconds=0.0)
    assert search.oracle.rungs.first == 0


def test_the_first_rung_is_resumed_and_may_be_lowered_again(tmp_path):
    search = halving(tmp_path / "s", max_trials=30)
    for _ in range(3):
        search.finish(search.start(), 1.0)
    search.finish(search.start(), 1.0)  # a promotion
    search.oracle.record_times(fixed_seconds=1.0, epoch_seconds=0.0)
    search.finish(search.start(), 1.0)
    resumed = search.reopened()
    assert resumed.oracle.rungs.first == 2
    assert levels([resumed.start()]) == [2]
    resumed.oracle.record_times(fixed_seconds=1.0, epoch_seconds=5.0)
    assert resumed.oracle.rungs.first == 0


def test_times_change_nothing_without_rungs():
    oracle = SuccessiveHalvingOracle("val_loss")
    for _ in range(5):
        oracle.record_times(fixed_seconds=1.0, epoch_seconds=0.0)
    assert oracle.rungs is None


def test_without_a_tuner_that_trains_in_rungs_every_trial_is_trained_in_full(tmp_path, caplog):
    oracle = SuccessiveHalvingOracle(MAX, max_trials=5, hyperparameters=line(), seed=0)
    twin = RandomOracle(MAX, max_trials=5, hyperparameters=line(), seed=0)
    for current in (oracle, twin):
        current.verbose = 0
    with caplog.at_level(logging.WARNING):
        values = [oracle.create_trial(f"t{n}").hyperparameters.values for n in range(5)]
    assert values == [twin.create_trial(f"t{n}").hyperparameters.values for n in range(5)]
    assert oracle.create_trial("t5").status == TrialStatus.STOPPED
    assert caplog.text.count("needs a tuner that trains `tuner/epochs`") == 1
    refusing = SuccessiveHalvingOracle(MAX, max_epochs=9, hyperparameters=line())
    with pytest.raises(StrategyError, match="keras_tuner.Tuner.*got `max_epochs=9`"):
        refusing.create_trial("t0")


def test_a_promotion_has_the_default_of_a_hyperparameter_added_by_its_parent(tmp_path):
    search = halving(tmp_path / "s")
    trials = [search.start(f"t{n}") for n in range(4)]
    trials[0].hyperparameters.Boolean("late", default=True)
    for trial, score in zip(trials, (0.1, 0.2, 0.9, 0.3), strict=True):
        search.finish(trial, score)
    promoted = search.start().hyperparameters.values
    assert promoted["tuner/trial_id"] == trials[2].trial_id
    assert promoted["late"] is True


# ---------------------------------------------------------------------- several workers


def test_a_worker_is_idle_while_running_trials_may_earn_a_promotion(tmp_path):
    search = halving(tmp_path / "s", max_trials=4)
    trials = [search.start(f"t{number}") for number in range(4)]
    assert {trial.status for trial in trials} == {TrialStatus.RUNNING}
    assert search.start("t4").status == TrialStatus.IDLE
    for trial, score in zip(trials[:2], (0.5, 0.6), strict=True):
        search.finish(trial, score)
    # With two ended and two running, no trial is in the best third yet.
    assert search.start("t4").status == TrialStatus.IDLE
    search.finish(trials[2], 0.1)
    promoted = search.start("t4")
    assert promoted.hyperparameters.values["tuner/trial_id"] == trials[1].trial_id
    assert search.start("t5").status == TrialStatus.IDLE
    search.finish(trials[3], 0.2)
    search.finish(promoted, 0.9)
    # Nothing runs: the best is promoted to the top rung.
    last = search.start("t5")
    assert last.hyperparameters.values["tuner/trial_id"] == promoted.trial_id
    assert search.start("t6").status == TrialStatus.IDLE
    search.finish(last, 0.95)
    assert search.start("t6").status == search.start("t5").status == TrialStatus.STOPPED


def test_an_exhausted_space_ends_like_max_trials(tmp_path):
    def four():
        hp = keras_tuner.HyperParameters()
        hp.Int("x", 1, 4)
        return hp

    search = Search(SuccessiveHalvingOracle, tmp_path / "s", four, max_trials=None)
    trials = [search.start(f"t{n}") for n in range(4)]
    assert search.start("t4").status == TrialStatus.IDLE
    for trial in trials:
        search.finish(trial, float(trial.hyperparameters.values["x"]))
    assert levels(run(search)) == [1, 2]
    assert search.oracle.remaining_trials() is None


def test_a_retry_comes_before_a_promotion(tmp_path):
    search = halving(tmp_path / "s", max_retries_per_trial=1)
    for score in (0.1, 0.2, 0.3):
        search.finish(search.start(), score)
    promoted = search.start()
    search.finish(promoted, None)
    retried = search.start()
    assert retried.trial_id == promoted.trial_id
    assert retried.hyperparameters.values["tuner/trial_id"] == "02"
    search.finish(retried, None)
    # The promotion failed for good: its parent represents the configuration again.
    assert search.start().hyperparameters.values.get("tuner/trial_id") is None
    assert search.best_ids()[0] == "02"


# ---------------------------------------------------------------------- ranking


def test_trials_rank_by_rung_first_with_one_trial_per_configuration(tmp_path):
    search = halving(tmp_path / "s", max_trials=12)
    # Two that score higher after one epoch than any trial after nine.
    lucky = []

    def outcome(values):
        if values["tuner/round"] == 0 and len(lucky) < 2:
            lucky.append(values["x"])
            return 1000.0 + len(lucky)
        return float(values["x"]) / 1000 + values["tuner/round"]

    trials = run(search, outcome)
    best = search.oracle.get_best_trials(100)
    assert len({trial.hyperparameters.values["x"] for trial in best}) == len(best) == 12
    assert levels(best) == sorted(levels(best), reverse=True)
    for rung in range(3):
        scores = [t.score for t, level in zip(best, levels(best), strict=True) if level == rung]
        assert scores == sorted(scores, reverse=True)
    assert levels(best[:1]) == [2] and best[0].score < 1000
    assert [t.trial_id for t in search.reopened().oracle.get_best_trials(5)] == [
        t.trial_id for t in best[:5]
    ]
    assert len(trials) > 12


def test_failed_trials_count_towards_the_size_of_their_rung(tmp_path):
    search = halving(tmp_path / "s")
    for score in (None, None, 0.5):
        search.finish(search.start(), score)
    promoted = search.start().hyperparameters.values
    assert promoted["tuner/trial_id"] == "02", "the best of three is promoted, two of which failed"


def test_infeasible_trials_rank_behind_feasible_ones(tmp_path):
    search = halving(tmp_path / "s", constraints=[Constraint("loss", max=1.0)], max_trials=6)
    for score, loss in ((0.9, 3.0), (0.1, 0.5), (0.8, 2.0)):
        trial = search.start()
        search.oracle.update_trial(trial.trial_id, {"score": score, "loss": loss})
        trial.status = TrialStatus.COMPLETED
        search.oracle.end_trial(trial)
    assert search.start().hyperparameters.values["tuner/trial_id"] == "01"


class _Pareto(RandomSearch):
    multi_objective = True


def test_trials_with_several_objectives_are_promoted_by_front(tmp_path):
    def make(**options):
        options["objective"] = [MAX, keras_tuner.Objective("loss", "min")]
        return SuccessiveHalvingOracle(source=_Pareto(), **options)

    search = Search(make, tmp_path / "s", line, max_trials=6)
    points = [(0.9, 9.0), (0.5, 5.0), (0.4, 6.0), (0.3, 7.0), (0.2, 1.0), (0.1, 8.0)]
    trials = [search.start(f"t{n}") for n in range(6)]
    for trial, (score, loss) in zip(trials, points, strict=True):
        search.oracle.update_trial(trial.trial_id, {"score": score, "loss": loss})
        trial.status = TrialStatus.COMPLETED
        search.oracle.end_trial(trial)
    best = search.oracle.get_best_trials(6)
    assert [trial.trial_id for trial in best] == ["00", "01", "04", "02", "03", "05"]
    search = search.reopened()
    promoted = [search.start(f"t{n}").hyperparameters.values for n in range(2)]
    # A third of six trials: the two extremes of the front.
    assert [values["tuner/trial_id"] for values in promoted] == ["00", "04"]


# ---------------------------------------------------------------------- the source


def test_settings_default_to_those_of_the_source():
    limits = [Constraint("loss", max=1.0)]
    source = RegularizedEvolutionOracle(
        "val_accuracy", 30, seed=7, constraints=limits, max_retries_per_trial=2, initial=[{"x": 3}]
    )
    oracle = SuccessiveHalvingOracle(source=source)
    assert oracle.strategy is source.strategy
    assert (oracle.objective.name, oracle.objective.direction) == ("val_accuracy", "max")
    assert (oracle.max_trials, oracle.seed, oracle.max_retries_per_trial) == (30, 7, 2)
    assert oracle.constraints == tuple(limits)
    oracle.hyperparameters.Int("x", 1, 9)
    oracle.train_in_rungs(9)
    assert oracle.create_trial("t").hyperparameters.values["x"] == 3
    overridden = SuccessiveHalvingOracle(
        "val_accuracy", 50, source=RandomOracle("val_accuracy", 30, seed=7), seed=8, constraints=()
    )
    assert (overridden.max_trials, overridden.seed, overridden.constraints) == (50, 8, ())
    endless = SuccessiveHalvingOracle(source=RandomOracle("val_loss", None))
    assert endless.max_trials is None
    assert SuccessiveHalvingOracle("val_loss").max_trials == 100


@pytest.mark.parametrize(
    "name", sorted(set(STRATEGIES) - {"halving", "one-shot", "differentiable"})
)
def test_every_other_oracle_can_be_the_source(name, tmp_path):
    def make(*, objective, **options):
        source = maker_of(name)(objective, max_trials=12)
        return SuccessiveHalvingOracle(source=source, **options)

    search = Search(make, tmp_path / "s", max_trials=12)
    trials = []
    while len(trials) < 36 and (trial := search.start()).status == TrialStatus.RUNNING:
        values = configuration(trial.hyperparameters.values)
        # The longer it trains, the better.
        search.finish(trial, hashed_score(values) + levels([trial])[0])
        trials.append(trial)
        if len(trials) in (4, 13):
            search = search.reopened()
    assert levels(trials).count(0) == 12 and levels(trials).count(2) >= 1
    assert levels(search.oracle.get_best_trials()) == [2]
    assert search.start().status == TrialStatus.STOPPED


class _Overriding(RandomOracle):
    def populate_space(self, trial_id):
        return super().populate_space(trial_id)


def _running():
    oracle = RandomOracle(MAX, hyperparameters=line())
    oracle.verbose = 0
    oracle.create_trial("t")
    return oracle


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 1}, "`factor` must be at least 2; got 1"),
        ({"min_epochs": 0}, "`min_epochs` must be at least 1, or None; got 0"),
        ({"max_epochs": 0}, "`max_epochs` must be at least 1.* got 0"),
        ({"min_epochs": 5, "max_epochs": 4}, "`max_epochs` must be at least 5.* got 4"),
        ({"source": "evolution"}, "`source` must be an oracle of this package.* got str"),
        ({"source": keras_tuner.oracles.RandomSearchOracle("val_loss")}, "RandomSearchOracle"),
        ({"source": SuccessiveHalvingOracle(MAX)}, "got SuccessiveHalvingOracle"),
        ({"source": _Overriding(MAX)}, "those of its strategy; got _Overriding"),
        ({"source": _running()}, "runs no search itself; got a RandomOracle that does"),
        (
            {"source": RandomOracle("val_loss")},
            r"`objective` must be that of the source, val_loss \(min\).*got score \(max\)",
        ),
    ],
)
def test_invalid_options_are_rejected(options, message):
    with pytest.raises(StrategyError, match=message):
        SuccessiveHalvingOracle(MAX, **options)


class Recorder(RandomSearch):
    """Records its observations and the pending trials of every `ask`."""

    def __init__(self):
        super().__init__()
        self.observed, self.pending, self.tried = [], [], []

    def ask(self, spec, rng, *, tried, pending):
        self.pending += pending.values()
        return super().ask(spec, rng, tried=tried, pending=pending)

    def learn(self, observation):
        self.observed.append(observation)


def test_the_source_is_told_promotions_without_epochs(tmp_path):
    recorder = Recorder()

    def make(**options):
        return SuccessiveHalvingOracle(source=recorder, **options)

    search = halving(tmp_path / "s", make=make)
    running = search.start("t0")
    trials = run(search)
    assert search.start().status == TrialStatus.IDLE
    search.finish(running, 0.0)
    assert recorder.pending and all(set(values) == {"x"} for values in recorder.pending)
    assert all(set(observation.values) == {"x"} for observation in recorder.observed)
    assert len(recorder.observed) == len(trials) + 1
    by_id = {observation.trial_id: observation.values for observation in recorder.observed}
    for trial in trials:
        parent = trial.hyperparameters.values.get("tuner/trial_id")
        if parent is not None:
            assert by_id[trial.trial_id] == by_id[parent]


def test_promotions_do_not_change_the_proposals_of_the_source(tmp_path):
    """Promotions draw no random numbers."""
    trials = run(halving(tmp_path / "s", max_trials=15))
    new = [t.hyperparameters.values for t in trials if levels([t]) == [0]]
    plain = halving(tmp_path / "plain", make=RandomOracle, max_trials=15).run(15)
    assert [configuration(values) for values in new] == plain


# ---------------------------------------------------------------------- state


def evolving(**options):
    objective = options.pop("objective")
    source = RegularizedEvolutionOracle(objective, population_size=4)
    return SuccessiveHalvingOracle(source=source, **options)


def test_a_search_reloaded_at_any_step_makes_the_same_proposals(tmp_path):
    reloads_change_nothing(evolving, tmp_path / "evolving")


def test_the_state_does_not_list_trials(tmp_path):
    search = halving(tmp_path / "s", max_trials=90)
    sizes = []
    for count in (20, 80):
        search.run(count, hashed_score)
        sizes.append(len(json.dumps(search.oracle.get_state())))
    assert abs(sizes[1] - sizes[0]) < 20, "only the digits of numbers may grow"


def test_a_resumed_search_must_have_the_saved_rungs(tmp_path):
    search = halving(tmp_path / "s")
    search.run(5, mixed_outcome)
    for options in ({"factor": 2}, {"min_epochs": 3}):
        with pytest.raises(StateError, match=r"rungs of the saved search, \(1, 3, 9\); got"):
            halving(tmp_path / "s", **options)
    oracle = SuccessiveHalvingOracle(MAX, 9)
    oracle._set_project_dir(str(tmp_path), "s")
    oracle.reload()
    with pytest.raises(StateError, match=r"\(1, 3, 9\); got \(3, 9, 27\)"):
        oracle.train_in_rungs(27)
    assert oracle.train_in_rungs(9) == 9


@pytest.mark.parametrize("stock_first", [False, True])
def test_a_halving_search_cannot_be_resumed_without_its_rungs(tmp_path, stock_first):
    """Neither with the source alone nor without rungs, nor the other way round."""
    if not stock_first:
        halving(tmp_path / "s").run(2)
        with pytest.raises(StateError, match="successive halving of RandomSearch"):
            halving(tmp_path / "s", make=RandomOracle)
        return
    oracle = SuccessiveHalvingOracle(MAX, 9, hyperparameters=line())
    oracle.verbose = 0
    oracle._set_project_dir(str(tmp_path), "s")
    oracle.create_trial("t")
    with pytest.raises(StateError, match=r"rungs of the saved search, none; got \(1, 3, 9\)"):
        halving(tmp_path / "s")


def test_raising_max_trials_continues_the_search(tmp_path):
    straight = [t.hyperparameters.values["x"] for t in run(halving(tmp_path / "a"))]
    search = halving(tmp_path / "b", max_trials=6)
    first_trials = run(search)
    assert levels(first_trials).count(0) == 6
    later_trials = run(Search(SuccessiveHalvingOracle, tmp_path / "b", line, max_trials=9))
    new = [
        t.hyperparameters.values["x"] for t in first_trials + later_trials if levels([t]) == [0]
    ]
    assert new == list(dict.fromkeys(straight))
    # Nine trials at the lowest rung earn at least three promotions.
    assert levels(first_trials + later_trials).count(1) >= 3


def test_last_epoch_states_are_kept_until_no_trial_can_resume_from_them(tmp_path):
    """They are files in the folders of the trials; none remains after the search."""
    search = halving(tmp_path / "s", max_trials=18)
    state_counts = []

    def has_state(trial_id):
        return ProjectLayout(tmp_path / "s").trial(trial_id).last_epoch(0).exists()

    while (trial := search.start()).status == TrialStatus.RUNNING:
        values = trial.hyperparameters.values
        parent, rung = values.get("tuner/trial_id"), values["tuner/round"]
        assert parent is None or has_state(parent)
        if rung < 2:
            for execution in range(2):
                file = ProjectLayout(tmp_path / "s").trial(trial.trial_id).last_epoch(execution)
                file.write_text("state")
        score = mixed_outcome({"x": values["x"]})
        if parent is not None and int(trial.trial_id) % 2:
            # The process was killed: the trial runs again from the state of its parent.
            search = search.reopened()
            trial = search.start()
            assert has_state(parent)
        search.finish(trial, score)
        assert parent is None or not has_state(parent)
        assert score is not None or not has_state(trial.trial_id)
        state_counts.append(len(list(tmp_path.glob("s/trial_*/last_*"))))
    # Two files each for at most a third of the configurations and the running trial.
    assert max(state_counts) <= 2 * (18 // 3 + 3)
    assert state_counts[-1] > 0 and not list(tmp_path.glob("s/trial_*/last_*"))
