"""Who is trained further: against algorithm 2 of the paper, written down once more."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_nas_plugin.strategies import Observation
from keras_nas_plugin.strategies.halving import Rungs, ranking, rung_epochs
from keras_nas_plugin.strategies.pareto import constrained_ranks

# ---------------------------------------------------------------------- rungs


@given(st.integers(1, 400), st.integers(2, 5), st.none() | st.integers(1, 50))
def test_rungs_end_with_a_full_training_and_grow_by_the_factor(most, factor, least):
    least = least if least is None else min(least, most)
    rungs = rung_epochs(most, factor, least)
    assert rungs[-1] == most
    assert rungs[0] >= (least or 1)
    for place, epochs in enumerate(reversed(rungs)):
        assert abs(epochs - most / factor**place) <= 0.5
    assert len(set(rungs)) == len(rungs)
    if least is None:
        assert len(rungs) <= 3
    else:
        assert most < least * factor ** len(rungs), "another rung would fit"


# ---------------------------------------------------------------------- ranking


def test_broken_constraints_rank_behind_kept_ones_and_failures_last():
    scores = np.array([[np.nan], [0.1], [0.9], [0.8], [0.5], [0.5]])
    violations = np.array([math.inf, 0.0, 0.2, 0.1, 0.0, 0.0])
    assert ranking(scores, violations).tolist() == [4, 5, 1, 3, 2, 0]


def test_several_objectives_rank_by_front_then_by_crowding():
    scores = np.array([[0.0, 4.0], [1.0, 1.0], [2.0, 3.9], [2.1, 3.8], [4.0, 0.0], [np.nan] * 2])
    violations = np.array([0.0, 0.0, 0.0, 0.0, 0.0, math.inf])
    order = ranking(scores, violations).tolist()
    # The extremes are alone; of the two in the middle, the lower one has the farther neighbour.
    assert order == [0, 4, 3, 2, 1, 5]
    ranks = constrained_ranks(scores, violations)
    assert [ranks[index] for index in order] == sorted(ranks)


# ---------------------------------------------------------------------- promotions


class Paper:
    """Algorithm 2, ``get_job``: straight from the page, for one objective."""

    def __init__(self, rungs, factor):
        self.rungs = [[] for _ in range(rungs)]
        self.factor = factor
        self.promoted = set()

    def end(self, trial_id, rung, score):
        self.rungs[rung].append((trial_id, -math.inf if score is None else score))

    def promotable(self):
        for k in reversed(range(len(self.rungs) - 1)):
            count = len(self.rungs[k]) // self.factor
            candidates = sorted(self.rungs[k], key=lambda one: -one[1])[:count]
            # A trial that failed cannot go on.
            left = [t for t, s in candidates if t not in self.promoted and s > -math.inf]
            if left:
                return left[0], k + 1
        return None


def observed(trial_id, scores, violation=0.0):
    if scores is not None and not isinstance(scores, tuple):
        scores = (float(scores),)
    return Observation(trial_id, {}, scores, violation)


# Few different scores, so that there are ties; None fails.
outcomes = st.lists(st.none() | st.integers(0, 6), min_size=1, max_size=80)


@given(outcomes, st.integers(2, 4), st.integers(1, 4), st.integers(1, 5), st.randoms())
def test_promotions_are_those_of_the_paper(scores, factor, rungs, workers, random):
    """With several workers, whose trials end in any order."""
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
def test_the_best_trains_in_full_however_few_there_are(configurations):
    best = configurations // 2

    def outcome(trial_id, rung):
        # Of configurations that differ for good: the one in the middle is best.
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
        which = ladder.configurations if parent is None else lineage[parent]
        lineage[trial_id] = which
        ladder.start(trial_id, rung, parent)
        ladder.end(observed(trial_id, -abs(which - best)))
        trained[which] = max(trained.get(which, 0), rung)
        count += 1
    assert trained[best] == 2
    assert len(trained) == configurations


def test_the_search_goes_on_until_a_trial_that_may_be_best_has_all_epochs():
    """The full trainings of the first fail or break a constraint."""
    full = iter([None, ((5.0,), 1.0), ((1.0,), 0.0), ((9.0,), 0.0)])

    def outcome(trial_id, rung):
        if rung < 2:
            return observed(trial_id, float(int(trial_id)))
        found = next(full)
        return observed(trial_id, None) if found is None else observed(trial_id, *found)

    ends = [(rung, one) for _, rung, _, one, _ in search(outcome, 6)]
    tops = [one for rung, one in ends if rung == 2]
    assert [one.scores for one in tops] == [None, (5.0,), (1.0,)]
    assert ends[-1][1] is tops[-1], "nothing runs after the first that may be best"


def test_nothing_goes_on_when_all_failed_and_the_least_violation_when_all_broke():
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
def test_what_is_said_to_be_over_never_goes_on(seed, objectives):
    """Neither a trial that is not needed any more, nor one without hope."""
    configurations, over, hopeless, lowest = 40, set(), set(), []
    for trial_id, rung, parent, _, ladder in search(
        random_outcome(seed, objectives), configurations, rungs=(1, 2, 4, 8), factor=2
    ):
        assert parent not in over
        if ladder.configurations < configurations:
            # At the very end, failures may leave nobody else.
            assert parent not in hopeless
        for one in ladder.without_hope(configurations):
            assert ladder.needed(one)
            hopeless.add(one)
        lowest += [trial_id] if rung == 0 else []
        ids = [str(number) for number in range(int(trial_id) + 1)]
        over = {one for one in ids if not ladder.needed(one)}
        if parent is not None:
            assert parent in over
        if rung == 3:
            assert trial_id in over
    assert ladder.promotable() is None
    assert len(lowest) == ladder.configurations == configurations
    kept = [one for one in lowest if ladder.needed(one) and one not in hopeless]
    if objectives == 1:
        assert not kept, "half of the rung was promoted, or out of reach, or failed"
    else:
        assert kept and not hopeless


def test_several_objectives_promote_the_whole_front_before_the_rest():
    points = [(0.0, 9.0), (1.0, 1.0), (9.0, 0.0), (2.0, 2.0), (5.0, 5.0), (0.5, 0.5)]
    ladder = Rungs((1, 3), 2)
    for number, point in enumerate(points):
        ladder.start(str(number))
        ladder.end(observed(str(number), point))
    promoted = []
    while (job := ladder.promotable()) is not None:
        promoted.append(job[0])
        ladder.start(f"again {job[0]}", 1, job[0])
    assert sorted(promoted) == ["0", "2", "4"], "the three of the front"


def test_a_rung_is_ranked_once_per_end():
    """And not for each question, of which idle workers ask many."""
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
