"""Promotions of asynchronous successive halving, compared with algorithm 2 of the paper."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_nas_plugin.pareto import constrained_ranks
from keras_nas_plugin.strategies import Observation
from keras_nas_plugin.strategies.halving import Rungs, first_rung, ranking, rung_epochs

# ---------------------------------------------------------------------- rungs


@given(st.integers(1, 400), st.integers(2, 5), st.none() | st.integers(1, 50))
def test_rungs_grow_by_the_factor_up_to_full_training(most, factor, least):
    least = least if least is None else min(least, most)
    rungs = rung_epochs(most, factor, least)
    assert rungs[-1] == most
    assert rungs[0] >= (least or 1)
    for power, epochs in enumerate(reversed(rungs)):
        assert abs(epochs - most / factor**power) <= 0.5
    assert len(set(rungs)) == len(rungs)
    if least is None:
        assert len(rungs) <= 3
    else:
        assert most < least * factor ** len(rungs), "another rung would fit"


# ---------------------------------------------------------------------- ranking


def test_ranking_puts_feasible_trials_first_and_failures_last():
    scores = np.array([[np.nan], [0.1], [0.9], [0.8], [0.5], [0.5]])
    violations = np.array([math.inf, 0.0, 0.2, 0.1, 0.0, 0.0])
    assert ranking(scores, violations).tolist() == [4, 5, 1, 3, 2, 0]


def test_ranking_with_several_objectives_is_by_front_then_crowding():
    scores = np.array([[0.0, 4.0], [1.0, 1.0], [2.0, 3.9], [2.1, 3.8], [4.0, 0.0], [np.nan] * 2])
    violations = np.array([0.0, 0.0, 0.0, 0.0, 0.0, math.inf])
    order = ranking(scores, violations).tolist()
    # The extremes come first; of the two in the middle, the lower one is less crowded.
    assert order == [0, 4, 3, 2, 1, 5]
    ranks = constrained_ranks(scores, violations)
    assert [ranks[index] for index in order] == sorted(ranks)


# ---------------------------------------------------------------------- promotions


class Paper:
    """Algorithm 2, ``get_job``: transcribed literally, for one objective."""

    def __init__(self, rungs, factor):
        self.rungs = [[] for _ in range(rungs)]
        self.factor = factor
        self.promoted = set()

    def end(self, trial_id, rung, score):
        self.rungs[rung].append((trial_id, -math.inf if score is None else score))

    def promotable(self):
        for k in reversed(range(len(self.rungs) - 1)):
            count = len(self.rungs[k]) // self.factor
            candidates = sorted(self.rungs[k], key=lambda entry: -entry[1])[:count]
            # A trial that failed cannot be promoted.
            promotable = [t for t, s in candidates if t not in self.promoted and s > -math.inf]
            if promotable:
                return promotable[0], k + 1
        return None


def observed(trial_id, scores, violation=0.0):
    if scores is not None and not isinstance(scores, tuple):
        scores = (float(scores),)
    return Observation(trial_id, {}, scores, violation)


@given(
    st.integers(3, 300),
    st.integers(2, 4),
    st.floats(0, 10),
    st.floats(0.01, 10),
)
def test_the_first_rung_takes_the_least_time(epochs, factor, fixed, epoch):
    """Against the time of many configurations that are simulated one rung after the other."""
    rungs, times = rung_epochs(epochs, factor), []
    for first in range(len(rungs)):
        configurations, before, total = 1.0, 0, 0.0
        for end in rungs[first:]:
            total += configurations * (fixed + (end - before) * epoch)
            configurations, before = configurations / factor, end
        times.append(total)
    chosen = first_rung(rungs, factor, fixed, epoch)
    if min(times) > times[-1] * 2 / 3:
        assert chosen == len(rungs) - 1
    else:
        assert times[chosen] == pytest.approx(min(times))


def test_short_trainings_are_worthless_without_epochs_and_best_without_the_rest():
    assert first_rung((1, 3, 9), 3, fixed_seconds=1.0, epoch_seconds=0.0) == 2
    assert first_rung((1, 3, 9), 3, fixed_seconds=0.0, epoch_seconds=1.0) == 0
    assert first_rung((5,), 3, fixed_seconds=0.0, epoch_seconds=1.0) == 0


# Few different scores, so that there are ties; None fails.
outcomes = st.lists(st.none() | st.integers(0, 6), min_size=1, max_size=80)


@given(outcomes, st.integers(2, 4), st.integers(1, 4), st.integers(1, 5), st.randoms())
def test_promotions_match_algorithm_2_of_the_paper(scores, factor, rungs, workers, random):
    """Trials of several workers end in any order."""
    ours, paper = Rungs([1 + rung for rung in range(rungs)], factor), Paper(rungs, factor)
    scores, running, count, started = list(scores), [], 0, 0
    while scores or running:
        if scores and len(running) < workers:
            job = ours.promotable()
            assert job == paper.promotable()
            trial_id, (parent, rung) = str(count), job or (None, 0)
            ours.start(trial_id, rung, parent)
            paper.promoted.add(parent)
            running.append((trial_id, rung, scores.pop()))
            count, started = count + 1, started + (parent is None)
            assert ours.configurations == started
            continue
        trial_id, rung, score = running.pop(random.randrange(len(running)))
        ours.end(observed(trial_id, score))
        paper.end(trial_id, rung, score)


def search(outcome, configurations, *, rungs=(1, 3, 9), factor=3):
    """Run to the end; yields id, rung, parent and observation, and the rungs after each."""
    ladder, count = Rungs(rungs, factor), 0
    while True:
        job = ladder.promotable()
        if job is None and ladder.configurations == configurations:
            job = ladder.unfinished()
            if job is None:
                return
        trial_id, (parent, rung) = str(count), job or (None, 0)
        ladder.start(trial_id, rung, parent)
        observation = outcome(trial_id, rung)
        ladder.end(observation)
        yield trial_id, rung, parent, observation, ladder
        count += 1


def random_outcome(seed, objectives=1):
    rng = np.random.default_rng(seed)

    def outcome(trial_id, rung):
        scores = tuple(rng.integers(0, 50, objectives).astype(float))
        violation = float(rng.integers(0, 3)) if rng.random() < 0.2 else 0.0
        return observed(trial_id, None if rng.random() < 0.2 else scores, violation)

    return outcome


@pytest.mark.parametrize("configurations", [1, 2, 3, 4, 8, 9, 27])
def test_the_best_configuration_reaches_the_top_rung_for_any_number_of_configurations(
    configurations,
):
    best = configurations // 2

    def outcome(trial_id, rung):
        # The configuration in the middle is best at every rung.
        lineage[trial_id] = lineage.get(trial_id, len(lineage))
        return observed(trial_id, -abs(lineage[trial_id] - best))

    lineage, ladder, count = {}, Rungs((1, 3, 9), 3), 0
    trained = {}
    while True:
        job = ladder.promotable()
        if job is None and ladder.configurations == configurations:
            job = ladder.unfinished()
        if job is None and ladder.configurations == configurations:
            break
        trial_id, (parent, rung) = str(count), job or (None, 0)
        configuration = ladder.configurations if parent is None else lineage[parent]
        lineage[trial_id] = configuration
        ladder.start(trial_id, rung, parent)
        ladder.end(observed(trial_id, -abs(configuration - best)))
        trained[configuration] = max(trained.get(configuration, 0), rung)
        count += 1
    assert trained[best] == 2
    assert len(trained) == configurations


def test_the_search_continues_until_a_feasible_trial_reaches_the_top_rung():
    """The full trainings of the first fail or break a constraint."""
    full = iter([None, ((5.0,), 1.0), ((1.0,), 0.0), ((9.0,), 0.0)])

    def outcome(trial_id, rung):
        if rung < 2:
            return observed(trial_id, float(int(trial_id)))
        result = next(full)
        return observed(trial_id, None) if result is None else observed(trial_id, *result)

    ends = [(rung, observation) for _, rung, _, observation, _ in search(outcome, 6)]
    tops = [observation for rung, observation in ends if rung == 2]
    assert [observation.scores for observation in tops] == [None, (5.0,), (1.0,)]
    assert ends[-1][1] is tops[-1], "nothing runs after the first feasible result"


def test_failed_trials_are_never_promoted_and_infeasible_ones_by_least_violation():
    assert all(rung == 0 for _, rung, *_ in search(lambda t, r: observed(t, None), 9))
    broken = search(lambda t, r: observed(t, 1.0, violation=2.0 + int(t)), 2)
    assert [(rung, parent) for _, rung, parent, *_ in broken] == [
        (0, None),
        (0, None),
        (1, "0"),
        (2, "2"),
    ]


@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize("seed", range(12))
def test_eliminated_trials_are_never_promoted(seed, objectives):
    """Neither a trial whose checkpoint is no longer needed, nor one out of reach."""
    configurations, over, hopeless, lowest = 40, set(), set(), []
    for trial_id, rung, parent, _, ladder in search(
        random_outcome(seed, objectives), configurations, rungs=(1, 2, 4, 8), factor=2
    ):
        assert parent not in over
        if ladder.configurations < configurations:
            # At the very end, failures may leave no alternative.
            assert parent not in hopeless
        for candidate in ladder.eliminated(configurations):
            assert ladder.needed(candidate)
            hopeless.add(candidate)
        lowest += [trial_id] if rung == 0 else []
        ids = [str(number) for number in range(int(trial_id) + 1)]
        over = {candidate for candidate in ids if not ladder.needed(candidate)}
        if parent is not None:
            assert parent in over
        if rung == 3:
            assert trial_id in over
    assert ladder.promotable() is None
    assert len(lowest) == ladder.configurations == configurations
    open_trials = [
        candidate for candidate in lowest if ladder.needed(candidate) and candidate not in hopeless
    ]
    if objectives == 1:
        assert not open_trials, "every trial must be promoted, out of reach or failed"
    else:
        assert open_trials and not hopeless


def test_the_first_front_is_promoted_before_dominated_trials():
    points = [(0.0, 9.0), (1.0, 1.0), (9.0, 0.0), (2.0, 2.0), (5.0, 5.0), (0.5, 0.5)]
    ladder = Rungs((1, 3), 2)
    for number, point in enumerate(points):
        ladder.start(str(number))
        ladder.end(observed(str(number), point))
    promoted = []
    while (job := ladder.promotable()) is not None:
        promoted.append(job[0])
        ladder.start(f"promoted {job[0]}", 1, job[0])
    assert sorted(promoted) == ["0", "2", "4"], "only the three of the front are promoted"


def test_a_rung_is_ranked_only_after_a_trial_ended():
    """Not in every call of `promotable`, of which idle workers make many."""
    ladder, calls = Rungs((1, 3, 9), 3), []
    original = np.lexsort
    for number in range(30):
        ladder.start(str(number))
        ladder.end(observed(str(number), number % 7))
    try:
        np.lexsort = lambda *args: calls.append(1) or original(*args)
        for _ in range(50):
            ladder.promotable()
    finally:
        np.lexsort = original
    assert len(calls) <= 2
