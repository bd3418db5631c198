import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space import Categorical, Integer, Real

_POSITIONS = st.floats(0.0, 1.0, exclude_max=True)
_SAMPLINGS = st.sampled_from(["linear", "log", "reverse_log"])
_LAST = math.nextafter(1.0, 0.0)


@st.composite
def integers(draw):
    sampling = draw(_SAMPLINGS)
    low = draw(st.integers(1 if sampling != "linear" else -50, 60))
    step = draw(st.sampled_from([None, 1, 2, 3, 7] if sampling == "linear" else [None, 2, 3]))
    return Integer(low, low + draw(st.integers(0, 500)), step, sampling)


@st.composite
def reals(draw):
    sampling = draw(_SAMPLINGS)
    low = draw(st.floats(1e-6 if sampling != "linear" else -10.0, 10.0))
    steps = [None, 0.1, 0.25, 3.0] if sampling == "linear" else [None, 1.5, 2.0, 10.0]
    high = low + draw(st.floats(0.0, 100.0))
    assume(high == low or high > low * (1 + 1e-9) + 1e-9)
    return Real(low, high, draw(st.sampled_from(steps)), sampling)


def categoricals():
    values = st.lists(st.sampled_from("abcdefg"), min_size=1, unique=True).map(tuple)
    return st.builds(Categorical, values, st.booleans())


def domains():
    return integers() | reals() | categoricals()


@given(domains(), _POSITIONS)
def test_every_position_maps_to_a_value_and_back(domain, position):
    value = domain.at(position)
    assert domain.contains(value)
    assert type(value) in (int, float, str)
    back = domain.at(min(domain.position(value), _LAST))
    if domain.size is None:
        assert back == pytest.approx(value, rel=1e-6, abs=1e-9)
    else:
        assert back == value


@given(domains())
def test_values_match_the_size_and_each_has_a_position(domain):
    if domain.size is None:
        with pytest.raises(SearchSpaceError, match="step"):
            domain.values()
        return
    values = list(domain.values())
    assert len(values) == len(set(values)) == domain.size
    for value in values:
        assert domain.contains(value)
        assert domain.at(min(domain.position(value), _LAST)) == value


@given(domains(), _POSITIONS, st.integers(0, 2**32 - 1))
def test_a_mutation_changes_the_value(domain, position, seed):
    rng = np.random.default_rng(seed)
    value = domain.at(position)
    mutated = domain.mutate(value, rng)
    assert domain.contains(mutated)
    assert (mutated == value) == (domain.size == 1)


@given(domains(), _POSITIONS, st.booleans())
def test_beside_returns_an_adjacent_value(domain, position, up):
    assume(domain.size is not None and domain.size > 1)
    values = list(domain.values())
    value = domain.at(position)
    beside = domain.beside(value, up=up)
    assert abs(values.index(beside) - values.index(value)) == 1


def test_mutations_are_normal_in_ordered_and_uniform_in_unordered_domains():
    rng = np.random.default_rng(0)
    values = tuple(range(100))
    steps = {
        ordered: [abs(Categorical(values, ordered).mutate(50, rng) - 50) for _ in range(2000)]
        for ordered in (True, False)
    }
    # Steps are normal with deviation 20, or uniform: their mean sizes are 16 and 25, with
    # standard errors below 0.4 over 2,000 draws.
    assert np.mean(steps[True]) == pytest.approx(20 * math.sqrt(2 / math.pi), abs=1.5)
    assert np.mean(steps[False]) == pytest.approx(25, abs=1.5)


@pytest.mark.parametrize("sampling", ["linear", "log", "reverse_log"])
def test_integers_are_sampled_with_the_shares_of_their_sampling(sampling):
    domain, rng = Integer(1, 4, None, sampling), np.random.default_rng(0)
    draws = np.array([domain.sample(rng) for _ in range(20_000)])
    edges = {
        "linear": [1, 2, 3, 4, 5],
        "log": [math.log(edge, 5) for edge in (1, 2, 3, 4, 5)],
        "reverse_log": [1 - math.log(6 - edge, 5) for edge in (1, 2, 3, 4, 5)],
    }[sampling]
    expected = np.diff(edges) / (edges[-1] - edges[0])
    shares = [np.mean(draws == value) for value in (1, 2, 3, 4)]
    # The standard error of a share is at most 0.0036.
    assert shares == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("sampling", ["linear", "log", "reverse_log"])
@pytest.mark.parametrize(("low", "high"), [(1, 9), (8, 512), (1, 3), (100, 100_000)])
def test_many_positions_have_the_values_of_single_ones(low, high, sampling):
    """Also where the value changes, to the last bit."""
    domain = Integer(low, high, None, sampling)
    edges = [domain._shrink(value, high + 1) for value in range(low, min(high, low + 300))]
    beside = np.nextafter(edges, [[0.0], [1.0]]).ravel()
    positions = np.concatenate([edges, beside, np.random.default_rng(0).random(2000)])
    positions = positions[(positions >= 0.0) & (positions < 1.0)]
    expected = [domain.at(float(position)) for position in positions]
    assert domain.at_many(positions).tolist() == expected
    assert len(set(expected)) > min(high - low, 300) / 2


@pytest.mark.parametrize(
    "domain", [Integer(1, 10**20, None, "log"), Integer(-5, 20), Real(0.5, 2.0), Categorical("ab")]
)
def test_many_positions_have_values_in_every_domain(domain):
    positions = np.random.default_rng(0).random(50)
    expected = [domain.at(float(position)) for position in positions]
    assert domain.at_many(positions).tolist() == expected


def test_integers_around_zero_are_sampled_uniformly():
    domain, rng = Integer(-2, 1), np.random.default_rng(0)
    draws = np.array([domain.sample(rng) for _ in range(20_000)])
    shares = [np.mean(draws == value) for value in (-2, -1, 0, 1)]
    # The standard error of a share is 0.0031.
    assert shares == pytest.approx([0.25] * 4, abs=0.015)


def test_rounding_does_not_lose_the_last_value():
    assert list(Real(0.0, 1.0, 0.2).values())[-1] == 1.0
    assert Real(0.0, 1.0, 0.2).size == 6
    assert list(Real(0.0, 0.3, 0.1).values())[-1] == 0.3
    assert list(Integer(2, 32, 2, "log").values()) == [2, 4, 8, 16, 32]
    assert list(Real(0.001, 10.0, 10, "log").values()) == pytest.approx(
        [0.001, 0.01, 0.1, 1.0, 10.0]
    )


def test_a_value_off_the_grid_by_rounding_is_mutated_to_another_step():
    domain = Real(0.1, 0.5, 0.1)
    assert 0.3 not in list(domain.values()) and domain.contains(0.3)
    for seed in range(200):
        mutated = domain.mutate(0.3, np.random.default_rng(seed))
        assert not math.isclose(mutated, 0.3), seed


@pytest.mark.parametrize(
    ("domain", "wrong"),
    [
        (Integer(1, 5), [0, 6, 2.0, True, "2", None, np.int64(2)]),
        (Integer(1, 9, 2), [2, 10]),
        (Integer(1, 64, 2, "log"), [3, 63]),
        (Real(0.0, 1.0), [-0.1, 1.1, True, "0.5", None, math.nan]),
        (Real(0.0, 1.0, 0.25), [0.3]),
        (Categorical((1, 2)), [True, 1.0, 3, "1"]),
        (Categorical((False, True)), [0, 1]),
    ],
)
def test_values_outside_the_domain_and_wrong_types_are_rejected(domain, wrong):
    for value in wrong:
        assert not domain.contains(value), value


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Integer(3, 2), "must not exceed `high`; got low=3, high=2"),
        (lambda: Real(0.0, 1.0, None, "log"), "must be positive for .*; got low=0.0"),
        (lambda: Real(0.1, 1.0, None, "cubic"), "got 'cubic'"),
        (lambda: Categorical(()), "at least one value"),
        (lambda: Real(math.nan, 1.0), "must not exceed"),
    ],
)
def test_invalid_domains_are_rejected(make, message):
    with pytest.raises(SearchSpaceError, match=message):
        make()


@given(domains(), _POSITIONS, st.integers(0, 2**32 - 1))
def test_neighbours_are_distinct_other_values(domain, position, seed):
    value = domain.at(position)
    near = domain.neighbours(value, np.random.default_rng(seed))
    assert all(domain.contains(neighbour) and neighbour != value for neighbour in near)
    assert len(set(near)) == len(near)
    assert bool(near) == (domain.size != 1)
    if domain.size is None:
        assert len(near) <= 4
        return
    values = list(domain.values())
    index = values.index(value)
    if not domain.ordered:
        assert near == values[:index] + values[index + 1 :]
    elif len(values) <= 12:
        assert sorted(map(values.index, near)) == [
            near for near in (index - 1, index + 1) if 0 <= near < len(values)
        ]
    else:
        assert len(near) <= 4


def test_neighbours_in_a_long_domain_are_mutations():
    domain, rng = Integer(0, 999), np.random.default_rng(0)
    near = [neighbour for _ in range(500) for neighbour in domain.neighbours(500, rng)]
    # |normal| with deviation 200, cut at 500: mean 159; its standard error is below 3.
    assert np.mean(np.abs(np.array(near) - 500)) == pytest.approx(159, abs=12)


def test_neighbours_of_a_value_off_the_grid_by_rounding_are_grid_steps():
    near = Real(0.1, 0.5, 0.1).neighbours(0.3, np.random.default_rng(0))
    assert near == pytest.approx([0.2, 0.4])
