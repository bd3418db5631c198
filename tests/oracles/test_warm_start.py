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
from keras_nas_plugin.oracles import NASOracle, RandomOracle, RegularizedEvolutionOracle, store
from keras_nas_plugin.oracles.earlier import EarlierTrials
from keras_nas_plugin.oracles.warm_start import WarmStartReport, was_fitted
from keras_nas_plugin.space.fidelity import configuration
from keras_nas_plugin.strategies import RandomSearch
from keras_nas_plugin.testing import proxied
from keras_nas_plugin.testing.driving import SCORE, Search, hashed_score
from keras_nas_plugin.testing.spaces import small_configurations, small_space

DENSE = {"kind": "dense", "units": 1, "pool": True}
CONV = {"kind": "conv", "units": 32, "bias": False, "pool": False}
OTHER = {"kind": "conv", "units": 16, "pool": False}


class Listening(RandomSearch):
    """Remembers what it was told, in order, since its state was set."""

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
    return NASOracle(Listening(multi_objective=multi_objective), **options)


def heard(search):
    return search.oracle.strategy.heard


def search_of(folder, make=listening, **options):
    return Search(make, folder / "search", small_space, **options)


# ------------------------------------------------------------------ what the strategy is told


def test_the_strategy_is_told_from_the_failed_to_the_best(tmp_path):
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


def test_the_best_of_a_minimum_is_the_smallest(tmp_path):
    objective = keras_tuner.Objective(SCORE, "min")
    search = search_of(tmp_path, warm_start=[(DENSE, 0.5), (CONV, 0.25)], objective=objective)
    search.start()
    assert [(values, scores) for _, values, scores in heard(search)] == [
        (DENSE, (-0.5,)),
        (CONV, (-0.25,)),
    ]


TWO = [keras_tuner.Objective("accuracy", "max"), keras_tuner.Objective("size", "min")]


def test_a_strategy_for_several_objectives_gets_each_score(tmp_path):
    def make(**options):
        return listening(multi_objective=True, **options)

    warm_start = [(DENSE, (0.5, 30)), (CONV, [0.25, 10]), (OTHER, (0.75, math.nan))]
    search = search_of(tmp_path, make, objective=TWO, warm_start=warm_start)
    search.start()
    assert [scores for _, _, scores in heard(search)] == [None, (0.25, -10.0), (0.5, -30.0)]


def test_any_other_gets_the_sum_as_of_its_own_trials(tmp_path):
    search = search_of(tmp_path, objective=TWO, warm_start=[(DENSE, (0.5, 3)), (CONV, -1.5)])
    trial = search.start()
    # 3 - 0.5 to be minimised; the sum itself is taken as well.
    assert [scores for _, _, scores in heard(search)] == [(-2.5,), (1.5,)]
    search.oracle.update_trial(trial.trial_id, {"accuracy": 0.5, "size": 3})
    trial.status = TrialStatus.COMPLETED
    search.oracle.end_trial(trial)
    assert heard(search)[-1][2] == heard(search)[0][2] == (-2.5,)


def test_the_mean_of_a_repeated_configuration_counts(tmp_path):
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
    ("values", "score", "told"),
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
def test_values_and_scores_of_other_types(tmp_path, values, score, told):
    search = search_of(tmp_path, warm_start=iter([(values, score)]))
    search.start()
    assert heard(search) == [("earlier-0", CONV, told)]
    assert {type(value) for value in heard(search)[0][1].values()} == {str, int, bool}
    assert search.oracle.warm_start_report.unknown == {}


def test_hyperparameters_of_a_trial_are_values(tmp_path):
    hyperparameters = small_space()
    hyperparameters.values = dict(CONV)
    search = search_of(tmp_path, warm_start=[(hyperparameters, 0.5)], initial=[hyperparameters])
    assert search.start().hyperparameters.values == CONV
    assert heard(search) == [("earlier-0", CONV, (0.5,))]


# ------------------------------------------------------------------ what does not fit


def test_what_does_not_fit_is_counted_by_reason_and_reported(tmp_path, caplog):
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


def test_a_warm_start_that_fits_is_no_warning(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "keras_nas_plugin"):
        search_of(tmp_path, warm_start=[(DENSE, None), (DENSE, None)]).start()
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "1 earlier configurations used (1 of them failed), 1 trials repeated one" in caplog.text


def test_without_a_warm_start_nothing_is_said_or_written(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "keras_nas_plugin"):
        search = search_of(tmp_path)
        search.start()
        assert search.reopened().oracle.warm_start_report == WarmStartReport()
    assert not caplog.records and not (search.folder / "earlier.json").exists()
    assert search.oracle.warm_start_report == WarmStartReport()


def test_a_space_that_nobody_knows_yet_fits_nothing_and_the_search_goes_on(tmp_path, caplog):
    # Whoever asks for hyperparameters while it trains: KerasTuner finds them with trial 0.
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
    assert len(search.run(5, hashed_score)) == 2, "1 was the default, 2 and 3 are left"
    report = search.oracle.warm_start_report
    assert (report.used, report.initial, sum(report.dropped.values())) == (0, 0, 2)
    assert "needs `hyperparameters`" in caplog.text


WRONG = [
    ("searches/old", r"received 'searches/old'. Write `warm_start=earlier_trials\('searches/old"),
    ({"units": 1}, "needs a list of pairs"),
    (None, "needs a list of pairs"),
    (7, "needs a list of pairs"),
    ([DENSE], r"`warm_start\[0\]` needs a pair \(values, score\)"),
    ([(DENSE, 0.5), "ab"], r"`warm_start\[1\]` needs a pair"),
    ([(DENSE, 0.5, 1)], "needs a pair"),
    ([(3, 0.5)], r"`warm_start\[0\]` needs values by name; received 3"),
    ([(DENSE, "0.5")], "needs a number as its score; received '0.5'"),
    ([(DENSE, True)], "needs a number as its score; received True"),
    ([(DENSE, {"score": 1})], "needs a number as its score"),
    ([(DENSE, [])], "needs one score per objective, 1; received"),
]


@pytest.mark.parametrize(("warm_start", "message"), WRONG)
def test_other_forms_are_refused_where_the_oracle_is_made(warm_start, message):
    with pytest.raises(WarmStartError, match=message):
        RandomOracle("val_loss", warm_start=warm_start)


def test_initial_of_another_form_is_refused():
    with pytest.raises(WarmStartError, match=r"`initial\[1\]` needs values by name"):
        RandomOracle("val_loss", initial=[DENSE, 3])


def test_another_number_of_scores_than_objectives_is_refused(tmp_path):
    with pytest.raises(WarmStartError, match="one score per objective, 2; received 0.5"):
        NASOracle(Listening(multi_objective=True), TWO, warm_start=[(DENSE, 0.5)])
    search = search_of(tmp_path, warm_start=[(DENSE, (0.5, 0.25))])
    with pytest.raises(WarmStartError, match=r"per objective, 1; received \(0.5, 0.25\)"):
        search.start()


def test_scores_of_the_other_direction_are_refused_and_of_another_name_warned_of(tmp_path, caplog):
    for objectives in ([(SCORE, "max")], [(SCORE, None)], None):
        earlier = EarlierTrials([(DENSE, 0.5)], objectives)
        search_of(tmp_path / str(objectives), warm_start=earlier).start()
    assert not caplog.records
    earlier = EarlierTrials([(DENSE, 0.5)], [("val_loss", "min")])
    with pytest.raises(WarmStartError, match=r"scores of score \(max\).*of val_loss \(min\)"):
        search_of(tmp_path / "refused", warm_start=earlier).start()
    earlier = EarlierTrials([(DENSE, 0.5)], [("accuracy", "max")])
    search_of(tmp_path / "warned", warm_start=earlier).start()
    assert "has scores of accuracy, and the search is for score" in caplog.text


# ------------------------------------------------------------------ what is proposed


def test_earlier_configurations_are_not_proposed_again_but_initial_ones_come_first(tmp_path):
    configurations = small_configurations()
    warm_start = [(values, 0.5) for values in configurations[:8]]
    initial = [configurations[2], configurations[10], configurations[2], {"kind": "unknown"}]
    search = search_of(tmp_path, warm_start=warm_start, initial=initial, max_trials=None)
    proposed = search.run(30, hashed_score)
    assert proposed[:2] == [configurations[2], configurations[10]]
    rest = [values for values in configurations[8:] if values != configurations[10]]
    assert sorted(map(str, map(sorted_items, proposed[2:]))) == sorted(
        map(str, map(sorted_items, rest))
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
    again = search.start("tuner0")
    assert (again.trial_id, again.hyperparameters.values) == (first.trial_id, DENSE)


def test_a_space_that_grew_knows_what_was_tried_with_its_default(tmp_path):
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
def test_every_strategy_takes_a_warm_start_and_goes_on_after_each_reload(tmp_path, name):
    configurations = small_configurations()
    warm_start = [(values, hashed_score(values)) for values in configurations[:5]]
    warm_start[2] = (configurations[2], None)

    def make(objective, max_trials, **options):
        if name == "gradient-proxy":
            return proxied.make(objective, max_trials, **options)
        return oracles.make_oracle(name, objective, max_trials, **options)

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


def test_a_search_that_knows_good_configurations_begins_with_their_neighbours(tmp_path):
    # Four of eight ones fill the population (4 for 20 trials), though worse ones came after
    # them, so every child of an edit has seven or nine. A random one has five, and seven or
    # more in 176 of 1024 cases.
    good = [{f"bit{i}": int(i not in (j, j + 1)) for i in range(10)} for j in range(4)]
    bad = [{f"bit{i}": int(i == j) for i in range(10)} for j in range(10)]
    warm_start = [(values, ones(values)) for values in good + bad]
    first = {}
    for name, known in (("warm", warm_start), ("cold", [])):
        first[name] = []
        for seed in range(25):
            folder = tmp_path / f"{name}{seed}"
            options = {"seed": seed, "max_trials": 20, "crossover": 0, "warm_start": known}
            search = Search(RegularizedEvolutionOracle, folder, bits, **options)
            first[name].append(ones(search.start().hyperparameters.values))
    assert set(first["warm"]) == {7.0, 9.0}
    assert sum(score >= 7 for score in first["cold"]) <= 12
    assert np.mean(first["warm"]) > 7 > np.mean(first["cold"])


# ------------------------------------------------------------------ killed and resumed

WARM = {"warm_start": [(DENSE, 0.5), (CONV, None)], "initial": [OTHER]}
TOLD = [("earlier-0", CONV, None), ("earlier-1", DENSE, (0.5,))]


def resumed(search, **options):
    """A new process with other arguments."""
    return Search(listening, search.folder, small_space, **options)


def test_a_search_that_was_killed_before_its_first_trial_needs_its_source_again(tmp_path):
    search = search_of(tmp_path, **WARM)
    search.oracle.save()
    assert not was_fitted(search.folder) and not was_fitted(tmp_path / "nowhere")
    again = resumed(search, **WARM)
    assert again.start().hyperparameters.values == OTHER
    assert heard(again) == TOLD


@pytest.mark.parametrize(
    "options",
    [WARM, {}, {"warm_start": [(OTHER, 0.9)]}],
    ids=["same", "gone", "other"],
)
def test_a_search_that_began_goes_on_with_what_it_began_with(tmp_path, options):
    straight = search_of(tmp_path / "straight", **WARM)
    expected = straight.run(6, hashed_score)
    search = search_of(tmp_path, **WARM)
    proposed = search.run(2, hashed_score)
    assert was_fitted(search.folder)
    again = resumed(search, **options)
    assert heard(again)[:2] == TOLD and heard(again) == heard(straight)[:4]
    assert again.oracle.warm_start_report == search.oracle.warm_start_report
    assert proposed + again.run(4, hashed_score) == expected


def test_other_earlier_trials_for_a_search_that_began_are_spoken_of(tmp_path, caplog):
    search = search_of(tmp_path)
    search.run(1, hashed_score)
    with caplog.at_level(logging.INFO, "keras_nas_plugin"):
        again = resumed(search, **WARM)
        again.run(1, hashed_score)
    assert len(heard(again)) == 2, "its own two trials"
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "goes on with the 0 earlier configurations it began with" in record.getMessage()


@pytest.mark.parametrize("lost", ["save_trial", "save_oracle"])
def test_a_kill_around_the_first_trial_loses_nothing(tmp_path, monkeypatch, lost):
    expected = search_of(tmp_path / "straight", **WARM).run(3, hashed_score)
    search = search_of(tmp_path, **WARM)
    search.oracle.save()

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store, lost, die)
        with pytest.raises(KeyboardInterrupt):
            search.start()
    assert was_fitted(search.folder)
    again = resumed(search)
    assert again.run(3, hashed_score) == expected
    assert heard(again)[:2] == TOLD


def test_what_an_attempt_left_that_nobody_goes_on_with_does_not_count(tmp_path):
    search = search_of(tmp_path, **WARM)
    search.start()
    kept = (search.folder / "earlier.json").read_text()
    shutil.rmtree(search.folder)
    search.folder.mkdir()
    # KerasTuner's own tuner writes the oracle's file late: it may not be there.
    (search.folder / "earlier.json").write_text(kept)
    again = resumed(search)
    again.run(2, hashed_score)
    assert resumed(search).oracle.warm_start_report == WarmStartReport()
    assert [trial_id for trial_id, *_ in heard(resumed(search))] == ["00", "01"]


def test_the_file_keeps_numbers_exactly(tmp_path):
    def rates():
        hp = keras_tuner.HyperParameters()
        hp.Float("rate", 1e-5, 1e-1, sampling="log")
        return hp

    rate, score = 0.1 / 3, 1 / 3
    options = {"warm_start": [({"rate": str(rate)}, score)]}
    search = Search(listening, tmp_path / "search", rates, **options)
    search.start()
    (told,) = heard(Search(listening, tmp_path / "search", rates))
    assert told == ("earlier-0", {"rate": rate}, (score,))
    data = json.loads((search.folder / "earlier.json").read_text())
    assert data["report"]["used"] == 1


def test_many_earlier_trials_do_not_make_the_state_larger(tmp_path):
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
