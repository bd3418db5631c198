import json
import logging
import math
import shutil

import keras_tuner
import numpy as np
import pytest
from keras_tuner.engine.trial import TrialStatus

from keras_nas_plugin import oracles
from keras_nas_plugin.errors import WarmStartError
from keras_nas_plugin.oracles import NASOracle, RandomOracle, RegularizedEvolutionOracle
from keras_nas_plugin.oracles.earlier import EarlierTrials
from keras_nas_plugin.oracles.store import Storage
from keras_nas_plugin.oracles.warm_start import WarmStartReport, was_fitted
from keras_nas_plugin.space.fidelity import configuration
from keras_nas_plugin.strategies import RandomSearch
from keras_nas_plugin.testing.driving import SCORE, Search, hashed_score
from keras_nas_plugin.testing.spaces import small_configurations, small_space
from keras_nas_plugin.testing.stand_ins import maker_of

DENSE = {"kind": "dense", "units": 1, "pool": True}
CONV = {"kind": "conv", "units": 32, "bias": False, "pool": False}
OTHER = {"kind": "conv", "units": 16, "pool": False}


class RecordingStrategy(RandomSearch):
    """Records its observations since its state was set, in order."""

    def __init__(self, *, multi_objective=False):
        super().__init__()
        self.multi_objective = multi_objective
        self.heard = []

    def learn(self, observation):
        self.heard.append((observation.trial_id, dict(observation.values), observation.scores))

    def set_state(self, state, history):
        self.heard.clear()
        super().set_state(state, history)


def listening(*, multi_objective=False, **options):
    return NASOracle(RecordingStrategy(multi_objective=multi_objective), **options)


def heard(search):
    return search.oracle.strategy.heard


def search_of(folder, make=listening, **options):
    return Search(make, folder / "search", small_space, **options)


# ------------------------------------------------------------------ observations


def test_earlier_trials_are_told_from_failed_to_best(tmp_path):
    warm_start = [(DENSE, 0.5), (CONV, 0.25), (OTHER, None)]
    search = search_of(tmp_path, warm_start=warm_start)
    assert heard(search) == [] and search.oracle.warm_start_report is None
    search.start()
    assert heard(search) == [
        ("earlier-0", OTHER, None),
        ("earlier-1", CONV, (0.25,)),
        ("earlier-2", DENSE, (0.5,)),
    ]
    assert search.oracle.warm_start_report == WarmStartReport(used=3, failed=1)


def test_earlier_trials_of_a_minimised_objective_are_told_in_descending_order(tmp_path):
    objective = keras_tuner.Objective(SCORE, "min")
    search = search_of(tmp_path, warm_start=[(DENSE, 0.5), (CONV, 0.25)], objective=objective)
    search.start()
    assert [(values, scores) for _, values, scores in heard(search)] == [
        (DENSE, (-0.5,)),
        (CONV, (-0.25,)),
    ]


TWO = [keras_tuner.Objective("accuracy", "max"), keras_tuner.Objective("size", "min")]


def test_a_multi_objective_strategy_is_told_each_score(tmp_path):
    def make(**options):
        return listening(multi_objective=True, **options)

    warm_start = [(DENSE, (0.5, 30)), (CONV, [0.25, 10]), (OTHER, (0.75, math.nan))]
    search = search_of(tmp_path, make, objective=TWO, warm_start=warm_start)
    search.start()
    assert [scores for _, _, scores in heard(search)] == [None, (0.25, -10.0), (0.5, -30.0)]


def test_a_single_objective_strategy_is_told_the_signed_sum(tmp_path):
    search = search_of(tmp_path, objective=TWO, warm_start=[(DENSE, (0.5, 3)), (CONV, -1.5)])
    trial = search.start()
    # 3 - 0.5, minimised; a sum is accepted as well.
    assert [scores for _, _, scores in heard(search)] == [(-2.5,), (1.5,)]
    search.oracle.update_trial(trial.trial_id, {"accuracy": 0.5, "size": 3})
    trial.status = TrialStatus.COMPLETED
    search.oracle.end_trial(trial)
    assert heard(search)[-1][2] == heard(search)[0][2] == (-2.5,)


def test_repeated_configurations_are_averaged(tmp_path):
    warm_start = [(DENSE, 0.5), (CONV, 0.6), (DENSE, 0.75), (DENSE, None), (OTHER, None)]
    warm_start += [({**DENSE, "bias": True}, 0.25), (OTHER, None)]
    search = search_of(tmp_path, warm_start=warm_start)
    search.start()
    assert heard(search) == [
        ("earlier-0", OTHER, None),
        ("earlier-1", DENSE, (0.5,)),
        ("earlier-2", CONV, (0.6,)),
    ]
    assert search.oracle.warm_start_report == WarmStartReport(used=3, failed=1, repeated=4)


@pytest.mark.parametrize(
    ("values", "score", "scores"),
    [
        ({name: str(value) for name, value in CONV.items()}, 1, (1.0,)),
        ({**CONV, "units": np.int64(32), "bias": np.bool_(False)}, np.float32(0.5), (0.5,)),
        (CONV, np.array([0.5]), (0.5,)),
        (CONV, np.float64(0.5), (0.5,)),
        (CONV, math.inf, None),
        (CONV, -math.inf, None),
        (CONV, math.nan, None),
        (CONV, 10**400, None),
        ({**CONV, "tuner/epochs": 3, "tuner/trial_id": "07"}, [0.5], (0.5,)),
    ],
)
def test_values_and_scores_are_converted_to_plain_types(tmp_path, values, score, scores):
    search = search_of(tmp_path, warm_start=iter([(values, score)]))
    search.start()
    assert heard(search) == [("earlier-0", CONV, scores)]
    assert {type(value) for value in heard(search)[0][1].values()} == {str, int, bool}
    assert search.oracle.warm_start_report.unknown == {}


def test_keras_tuner_hyperparameters_are_accepted_as_values(tmp_path):
    hyperparameters = small_space()
    hyperparameters.values = dict(CONV)
    search = search_of(tmp_path, warm_start=[(hyperparameters, 0.5)], initial=[hyperparameters])
    assert search.start().hyperparameters.values == CONV
    assert heard(search) == [("earlier-0", CONV, (0.5,))]


# ------------------------------------------------------------------ rejected input


def test_dropped_trials_are_counted_by_reason_and_reported(tmp_path, caplog):
    warm_start = [
        (DENSE, 0.5),
        ({"kind": "dense", "pool": True}, 0.5),
        ({"kind": "dense", "pool": True, "depth": 3}, 0.5),
        ({**DENSE, "units": 9, "depth": 3}, 0.5),
        ({"units": 9}, 0.5),
        ({}, None),
    ]
    initial = [{**CONV, "units": 64}, CONV, CONV, {**DENSE, "depth": 3}]
    search = search_of(tmp_path, warm_start=warm_start, initial=initial)
    with caplog.at_level(logging.INFO, "keras_nas_plugin"):
        search.start()
    report = search.oracle.warm_start_report
    assert report == WarmStartReport(
        used=1,
        dropped={"no 'units'": 2, "'units' outside its domain": 1, "no 'kind', no 'pool'": 2},
        unknown={"depth": 3},
        initial=2,
        initial_dropped={"'units' outside its domain": 1},
    )
    assert report.used + report.repeated + sum(report.dropped.values()) == len(warm_start)
    (record,) = caplog.records
    assert record.levelname == "WARNING" and record.getMessage() == str(report)
    for part in ("1 earlier conf", "5 trials did not fit (2 x no 'units'", "not have: depth"):
        assert part in str(report)
    assert search.reopened().oracle.warm_start_report == report


def test_a_warm_start_that_fits_is_logged_without_a_warning(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "keras_nas_plugin"):
        search_of(tmp_path, warm_start=[(DENSE, None), (DENSE, None)]).start()
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "1 earlier configuration used (1 of them failed), 1 trial repeated one" in caplog.text


def test_without_a_warm_start_nothing_is_logged_or_written(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "keras_nas_plugin"):
        search = search_of(tmp_path)
        search.start()
        assert search.reopened().oracle.warm_start_report == WarmStartReport()
    assert not caplog.records and not (search.folder / "earlier.json").exists()
    assert search.oracle.warm_start_report == WarmStartReport()


def test_a_warm_start_is_dropped_when_the_space_is_not_declared_yet(tmp_path, caplog):
    # Hyperparameters declared during training: KerasTuner discovers them with trial 0.
    search = Search(
        listening,
        tmp_path / "search",
        keras_tuner.HyperParameters,
        warm_start=[(DENSE, 0.5), ({}, 0.25)],
        initial=[DENSE],
    )
    trial = search.start()
    assert trial.status == TrialStatus.RUNNING
    trial.hyperparameters.Int("units", 1, 3)
    search.finish(trial, 0.5)
    assert len(search.run(5, hashed_score)) == 2, "1 was the default, so that 2 and 3 remain"
    report = search.oracle.warm_start_report
    assert (report.used, report.initial, sum(report.dropped.values())) == (0, 0, 2)
    assert "pass `hyperparameters`" in caplog.text


WRONG = [
    ("searches/old", r"got 'searches/old'. Write `warm_start=earlier_trials\('searches/old"),
    ({"units": 1}, "must be a list of pairs"),
    (None, "must be a list of pairs"),
    (7, "must be a list of pairs"),
    ([DENSE], r"`warm_start\[0\]` must be a pair \(values, score\)"),
    ([(DENSE, 0.5), "ab"], r"`warm_start\[1\]` must be a pair"),
    ([(DENSE, 0.5, 1)], "must be a pair"),
    ([(3, 0.5)], r"`warm_start\[0\]` must be a mapping of values by name; got 3"),
    ([(DENSE, "0.5")], "must be a number; got '0.5'"),
    ([(DENSE, True)], "must be a number; got True"),
    ([(DENSE, {"score": 1})], "must be a number"),
    ([(DENSE, [])], "must have one score per objective, 1; got"),
]


@pytest.mark.parametrize(("warm_start", "message"), WRONG)
def test_an_invalid_warm_start_is_rejected_by_the_constructor(warm_start, message):
    with pytest.raises(WarmStartError, match=message):
        RandomOracle("val_loss", warm_start=warm_start)


def test_an_invalid_initial_configuration_is_rejected():
    with pytest.raises(WarmStartError, match=r"`initial\[1\]` must be a mapping of values"):
        RandomOracle("val_loss", initial=[DENSE, 3])


def test_a_wrong_number_of_scores_is_rejected(tmp_path):
    with pytest.raises(WarmStartError, match="one score per objective, 2; got 0.5"):
        NASOracle(RecordingStrategy(multi_objective=True), TWO, warm_start=[(DENSE, 0.5)])
    search = search_of(tmp_path, warm_start=[(DENSE, (0.5, 0.25))])
    with pytest.raises(WarmStartError, match=r"per objective, 1; got \(0.5, 0.25\)"):
        search.start()


def test_scores_of_the_opposite_direction_are_rejected_and_other_names_warn(tmp_path, caplog):
    for objectives in ([(SCORE, "max")], [(SCORE, None)], None):
        earlier = EarlierTrials([(DENSE, 0.5)], objectives)
        search_of(tmp_path / str(objectives), warm_start=earlier).start()
    assert not caplog.records
    earlier = EarlierTrials([(DENSE, 0.5)], [("val_loss", "min")])
    with pytest.raises(WarmStartError, match=r"scores of score \(max\).*of val_loss \(min\)"):
        search_of(tmp_path / "refused", warm_start=earlier).start()
    earlier = EarlierTrials([(DENSE, 0.5)], [("accuracy", "max")])
    search_of(tmp_path / "warned", warm_start=earlier).start()
    assert "has scores of accuracy, but the objective of the search is score" in caplog.text


# ------------------------------------------------------------------ proposals


def test_earlier_configurations_are_skipped_but_initial_ones_are_proposed_first(tmp_path):
    configurations = small_configurations()
    warm_start = [(values, 0.5) for values in configurations[:8]]
    initial = [configurations[2], configurations[10], configurations[2], {"kind": "unknown"}]
    search = search_of(tmp_path, warm_start=warm_start, initial=initial, max_trials=None)
    proposed = search.run(30, hashed_score)
    assert proposed[:2] == [configurations[2], configurations[10]]
    remaining = [values for values in configurations[8:] if values != configurations[10]]
    assert sorted(map(str, map(sorted_items, proposed[2:]))) == sorted(
        map(str, map(sorted_items, remaining))
    )
    assert search.start().status == TrialStatus.STOPPED


def sorted_items(values):
    return sorted(values.items())


def test_several_workers_get_each_initial_configuration_once(tmp_path):
    search = search_of(tmp_path, initial=[DENSE, CONV], max_retries_per_trial=1)
    first, second, third = (search.start(f"tuner{number}") for number in range(3))
    assert [first.hyperparameters.values, second.hyperparameters.values] == [DENSE, CONV]
    assert third.hyperparameters.values not in (DENSE, CONV)
    search.finish(first, None)
    retried = search.start("tuner0")
    assert (retried.trial_id, retried.hyperparameters.values) == (first.trial_id, DENSE)


def test_earlier_trials_count_with_the_default_of_an_added_hyperparameter(tmp_path):
    configurations = small_configurations()
    warm_start = [(values, 0.5) for values in configurations[1:]]
    search = search_of(tmp_path, warm_start=warm_start, initial=[DENSE], max_trials=None)
    trial = search.start()
    trial.hyperparameters.Int("late", 1, 2)
    search.finish(trial, 0.5)
    proposed = []
    for _ in range(30):
        search = search.reopened()
        trial = search.start()
        if trial.status == TrialStatus.STOPPED:
            break
        proposed.append(dict(trial.hyperparameters.values))
        search.finish(trial, 0.5)
    # Earlier trials, and the trial that ran DENSE again, had the default of `late`, 1.
    assert configurations[1] == DENSE
    expected = [{**values, "late": 2} for values in configurations]
    expected.append({**configurations[0], "late": 1})
    assert sorted(map(str, map(sorted_items, proposed))) == sorted(
        map(str, map(sorted_items, expected))
    )


def test_earlier_trials_of_a_whole_space_leave_nothing_to_try(tmp_path):
    warm_start = [(values, 0.5) for values in small_configurations()]
    search = search_of(tmp_path, warm_start=warm_start)
    assert search.start().status == TrialStatus.STOPPED
    assert len(heard(search)) == 12


@pytest.mark.parametrize("name", sorted(set(oracles.STRATEGIES)))
def test_every_strategy_accepts_a_warm_start_and_resumes_with_the_same_proposals(tmp_path, name):
    configurations = small_configurations()
    warm_start = [(values, hashed_score(values)) for values in configurations[:5]]
    warm_start[2] = (configurations[2], None)

    make = maker_of(name)
    options = {"warm_start": warm_start, "initial": [configurations[0]], "max_trials": 7}
    straight = search_of(tmp_path / "straight", make, **options).run(7)
    search = search_of(tmp_path / "reloaded", make, **options)
    reloaded = []
    for _ in range(7):
        search = search.reopened()
        reloaded += search.run(1)
    assert reloaded == straight and len(straight) == 7
    tried = [configuration(values) for values in straight]
    assert tried[0] == configurations[0]
    assert not [values for values in tried[1:] if values in configurations[:5]]


def bits():
    hp = keras_tuner.HyperParameters()
    for number in range(10):
        hp.Choice(f"bit{number}", [0, 1])
    return hp


def ones(values):
    return float(sum(values.values()))


def test_a_warm_started_evolution_begins_with_mutations_of_the_best(tmp_path):
    # Four configurations with eight ones fill the population (4 for 20 trials), although
    # worse ones follow them, so that each mutation has seven or nine ones. A random
    # configuration has five on average, and seven or more in 176 of 1024 cases.
    good = [{f"bit{i}": int(i not in (j, j + 1)) for i in range(10)} for j in range(4)]
    bad = [{f"bit{i}": int(i == j) for i in range(10)} for j in range(10)]
    warm_start = [(values, ones(values)) for values in good + bad]
    first = {}
    for name, earlier in (("warm", warm_start), ("cold", [])):
        first[name] = []
        for seed in range(25):
            folder = tmp_path / f"{name}{seed}"
            options = {"seed": seed, "max_trials": 20, "crossover": 0, "warm_start": earlier}
            search = Search(RegularizedEvolutionOracle, folder, bits, **options)
            first[name].append(ones(search.start().hyperparameters.values))
    assert set(first["warm"]) == {7.0, 9.0}
    assert sum(score >= 7 for score in first["cold"]) <= 12
    assert np.mean(first["warm"]) > 7 > np.mean(first["cold"])


# ------------------------------------------------------------------ killed and resumed

WARM = {"warm_start": [(DENSE, 0.5), (CONV, None)], "initial": [OTHER]}
EXPECTED_OBSERVATIONS = [("earlier-0", CONV, None), ("earlier-1", DENSE, (0.5,))]


def resumed(search, **options):
    """The search in a new process, with other arguments."""
    return Search(listening, search.folder, small_space, **options)


def test_a_search_killed_before_its_first_trial_uses_the_warm_start_of_the_next_run(tmp_path):
    search = search_of(tmp_path, **WARM)
    search.oracle.save()
    assert not was_fitted(search.folder) and not was_fitted(tmp_path / "nowhere")
    restarted = resumed(search, **WARM)
    assert restarted.start().hyperparameters.values == OTHER
    assert heard(restarted) == EXPECTED_OBSERVATIONS


@pytest.mark.parametrize(
    "options",
    [WARM, {}, {"warm_start": [(OTHER, 0.9)]}],
    ids=["same", "gone", "other"],
)
def test_a_started_search_resumes_with_its_saved_warm_start(tmp_path, options):
    straight = search_of(tmp_path / "straight", **WARM)
    expected = straight.run(6, hashed_score)
    search = search_of(tmp_path, **WARM)
    proposed = search.run(2, hashed_score)
    assert was_fitted(search.folder)
    restarted = resumed(search, **options)
    assert (
        heard(restarted)[:2] == EXPECTED_OBSERVATIONS and heard(restarted) == heard(straight)[:4]
    )
    assert restarted.oracle.warm_start_report == search.oracle.warm_start_report
    assert proposed + restarted.run(4, hashed_score) == expected


def test_a_new_warm_start_for_a_started_search_is_ignored_with_a_warning(tmp_path, caplog):
    search = search_of(tmp_path)
    search.run(1, hashed_score)
    with caplog.at_level(logging.INFO, "keras_nas_plugin"):
        restarted = resumed(search, **WARM)
        restarted.run(1, hashed_score)
    assert len(heard(restarted)) == 2, "only its own two trials"
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "resumes with 0 earlier configurations, as it began" in record.getMessage()


@pytest.mark.parametrize("lost", ["save_trial", "save"])
def test_a_kill_around_the_first_trial_loses_nothing(tmp_path, monkeypatch, lost):
    expected = search_of(tmp_path / "straight", **WARM).run(3, hashed_score)
    search = search_of(tmp_path, **WARM)
    search.oracle.save()

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Storage, lost, die)
        with pytest.raises(KeyboardInterrupt):
            search.start()
    assert was_fitted(search.folder)
    restarted = resumed(search)
    assert restarted.run(3, hashed_score) == expected
    assert heard(restarted)[:2] == EXPECTED_OBSERVATIONS


def test_the_file_of_an_abandoned_search_is_ignored(tmp_path):
    search = search_of(tmp_path, **WARM)
    search.start()
    content = (search.folder / "earlier.json").read_text()
    shutil.rmtree(search.folder)
    search.folder.mkdir()
    # KerasTuner's own tuner writes the oracle's file late, so that it may be missing.
    (search.folder / "earlier.json").write_text(content)
    restarted = resumed(search)
    restarted.run(2, hashed_score)
    assert resumed(search).oracle.warm_start_report == WarmStartReport()
    assert [trial_id for trial_id, *_ in heard(resumed(search))] == ["00", "01"]


def test_saved_numbers_are_exact(tmp_path):
    def rates():
        hp = keras_tuner.HyperParameters()
        hp.Float("rate", 1e-5, 1e-1, sampling="log")
        return hp

    rate, score = 0.1 / 3, 1 / 3
    options = {"warm_start": [({"rate": str(rate)}, score)]}
    search = Search(listening, tmp_path / "search", rates, **options)
    search.start()
    (observation,) = heard(Search(listening, tmp_path / "search", rates))
    assert observation == ("earlier-0", {"rate": rate}, (score,))
    data = json.loads((search.folder / "earlier.json").read_text())
    assert data["report"]["used"] == 1


def test_the_state_does_not_grow_with_the_earlier_trials(tmp_path):
    sizes = []
    for count in (2, 500):
        warm_start = [({f"bit{i}": n >> i & 1 for i in range(10)}, n) for n in range(count)]
        folder = tmp_path / str(count)
        search = Search(RegularizedEvolutionOracle, folder, bits, warm_start=warm_start)
        search.run(3, ones)
        state = json.loads((folder / "oracle.json").read_text())
        state.pop("generator")
        sizes.append(len(json.dumps(state)))
    assert sizes[0] == sizes[1]
