import math

import numpy as np
import pytest
from generators import specs
from hypothesis import given
from hypothesis import strategies as st

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, Real, SearchSpec
from keras_nas_plugin.space.encoding import UNKNOWN, Column, encoding_of

_SEEDS = st.integers(0, 2**32 - 1)

DOMAINS = [
    Categorical(("a", "b", "c")),
    Categorical((1, 2, 8), ordered=True),
    Categorical((False, True)),
    Integer(3, 9),
    Integer(1, 10, 4),
    Integer(1, 900, None, "log"),
    Integer(2, 40, None, "reverse_log"),
    Integer(8, 256, 2, "log"),
    Integer(0, 10**9),
    Real(0.0, 0.5, 0.1),
    Real(1e-5, 1e-1, None, "log"),
    Real(0.5, 0.99, None, "reverse_log"),
]

NETWORK = SearchSpec(
    (
        Decision("kind", Categorical(("dense", "conv"))),
        Decision("rate", Real(1e-4, 1e-1, None, "log")),
        Decision("units", Integer(1, 4), (Condition("kind", ("dense",)),)),
        Decision("units", Categorical((16, 32)), (Condition("kind", ("conv",)),)),
        Decision("bias", Categorical((False, True)), (Condition("units", (32,)),)),
        Decision("version", Categorical((3,))),
    )
)


def same(first, second):
    """Equal values; real numbers up to rounding."""
    return first.keys() == second.keys() and all(
        math.isclose(first[name], second[name], rel_tol=1e-9)
        if isinstance(first[name], float) and isinstance(second[name], float)
        else type(first[name]) is type(second[name]) and first[name] == second[name]
        for name in first
    )


def active_numbers(spec, values):
    """Numbers of the active decisions, computed independently of the code under test."""
    active, number_of = {}, {}
    for number, decision in enumerate(spec.decisions):
        if all(c.parent in active and active[c.parent] in c.values for c in decision.conditions):
            active[decision.name] = values[decision.name]
            number_of[decision.name] = number
    return set(number_of.values())


# ---------------------------------------------------------------------- one column


@pytest.mark.parametrize("domain", DOMAINS, ids=str)
def test_a_column_maps_positions_to_the_values_of_its_domain(domain):
    column = Column("one", domain, False)
    positions = np.random.default_rng(0).random(300)
    codes = column.at(positions)
    for position, code in zip(positions, codes, strict=True):
        value = domain.at(float(position))
        if domain.size is None:
            assert column.value(code) == pytest.approx(value)
        else:
            assert column.value(code) == value
        assert column.code(value) == pytest.approx(code, abs=1e-9)


@pytest.mark.parametrize("domain", [d for d in DOMAINS if d.size and d.size < 1000], ids=str)
def test_every_value_of_a_listed_column_has_its_own_code(domain):
    column = Column("one", domain, False)
    values = list(domain.values())
    codes = np.array([column.code(value) for value in values])
    assert [column.value(code) for code in codes] == values
    assert column.indices(codes).tolist() == list(range(len(values)))
    if domain.ordered:
        assert (np.diff(codes) > 0).all()
        assert codes == pytest.approx([domain.position(value) for value in values])
        up = column.beside(codes, np.full(len(codes), True))
        down = column.beside(codes, np.full(len(codes), False))
        assert [column.value(code) for code in up] == [*values[1:], values[-2]]
        assert [column.value(code) for code in down] == [values[1], *values[:-1]]


def test_equal_numbers_of_different_types_have_different_codes():
    column = Column("one", Categorical((1, True, 1.0)), False)
    assert [column.code(value) for value in (1, True, 1.0)] == [0.0, 1.0, 2.0]


def test_numbers_out_of_range_are_clipped():
    for domain in (Integer(2, 64, 2, "log"), Integer(1, 9), Real(1e-3, 1e-1, None, "log")):
        column = Column("one", domain, False)
        assert column.code(-5) == column.code(domain.low)
        assert column.code(1e9) == column.code(domain.high)
        for invalid in ("a", None, True, math.nan, math.inf):
            assert column.code(invalid) is None


def test_an_invalid_code_is_rejected():
    for domain, codes in (
        (Categorical(("a", "b")), (UNKNOWN, 2.0, math.nan)),
        (Integer(1, 9), (-0.1, 1.1, math.nan)),
    ):
        for code in codes:
            with pytest.raises(SearchSpaceError, match="a code of Column"):
                Column("one", domain, False).value(code)


# ---------------------------------------------------------------------- configurations


@given(specs(endless=True), _SEEDS)
def test_encoding_and_decoding_round_trips(spec, seed):
    values = spec.sample(np.random.default_rng(seed))
    encoding = encoding_of(spec)
    codes = encoding.encode(values)
    assert codes.shape == (len(encoding.columns),)
    assert same(encoding.decode(codes), values)


@given(specs(), _SEEDS)
def test_exactly_the_inactive_decisions_have_nan_codes(spec, seed):
    values = spec.sample(np.random.default_rng(seed))
    codes = encoding_of(spec).encode(values)
    searched = [n for n, decision in enumerate(spec.decisions) if decision.domain.size != 1]
    active = active_numbers(spec, values)
    assert [not math.isnan(code) for code in codes] == [n in active for n in searched]


@given(specs(endless=True), _SEEDS)
def test_samples_are_valid_and_round_trip(spec, seed):
    encoding = encoding_of(spec)
    for codes in encoding.sample(10, np.random.default_rng(seed)):
        values = encoding.decode(codes)
        spec.validate(values)
        np.testing.assert_allclose(encoding.encode(values), codes, rtol=0, atol=1e-9)


@given(specs(), _SEEDS)
def test_complete_keeps_active_codes(spec, seed):
    rng = np.random.default_rng(seed)
    encoding = encoding_of(spec)
    codes = encoding.sample(5, rng)
    np.testing.assert_array_equal(encoding.complete(codes, rng), codes)
    full = np.stack([column.at(rng.random(5)) for column in encoding.columns] or [np.zeros(5)])
    full = full.T[:, : len(encoding.columns)]
    completed = encoding.complete(full, rng)
    is_active = ~np.isnan(completed)
    assert (completed[is_active] == full[is_active]).all()
    for row in completed:
        spec.validate(encoding.decode(row))


def test_samples_follow_the_distribution_of_the_space():
    """Shares of 20,000 rows against exact probabilities, within five standard errors."""
    spec = SearchSpec(
        (
            Decision("a", Categorical(("x", "y", "z"))),
            Decision("n", Integer(1, 8, None, "log"), (Condition("a", ("y", "z")),)),
        )
    )
    count = 20_000
    encoding = encoding_of(spec)
    rows = [encoding.decode(row) for row in encoding.sample(count, np.random.default_rng(0))]
    for number in range(1, 9):
        share = sum(row.get("n") == number for row in rows) / count
        expected = 2 / 3 * math.log((number + 1) / number) / math.log(9)
        assert share == pytest.approx(
            expected, abs=5 * math.sqrt(expected * (1 - expected) / count)
        )


def test_decisions_with_the_same_name_have_separate_columns():
    encoding = encoding_of(NETWORK)
    assert [column.name for column in encoding.columns] == [
        "kind",
        "rate",
        "units",
        "units",
        "bias",
    ]
    dense = encoding.encode({"kind": "dense", "rate": 1e-4, "units": 4, "version": 3})
    np.testing.assert_allclose(dense, [0, 0, 0.875, np.nan, np.nan])
    conv = encoding.encode({"kind": "conv", "rate": 1e-1, "units": 32, "bias": True})
    np.testing.assert_allclose(conv, [1, 1, np.nan, 1, 1])
    decoded = {"kind": "conv", "rate": 0.1, "units": 32, "bias": True, "version": 3}
    assert same(encoding.decode(conv), decoded)


def test_the_last_of_two_active_decisions_with_the_same_name_counts():
    spec = SearchSpec(
        (
            Decision("a", Categorical(("x", "y"))),
            Decision("n", Integer(1, 4)),
            Decision("n", Integer(1, 8), (Condition("a", ("y",)),)),
            Decision("m", Integer(1, 2), (Condition("n", (3,)),)),
        )
    )
    encoding = encoding_of(spec)
    overruled = encoding.encode({"a": "y", "n": 3, "m": 2})
    np.testing.assert_allclose(overruled, [1, np.nan, 2.5 / 8, 0.75])
    assert encoding.decode(overruled) == {"a": "y", "n": 3, "m": 2}


def test_missing_values_are_defaults_and_unknown_names_are_ignored():
    spec = SearchSpec(
        (
            Decision("a", Categorical(("x", "y"))),
            Decision("late", Integer(1, 4), default=3),
            Decision("child", Categorical((5, 6)), (Condition("late", (3,)),), default=6),
            Decision("bare", Integer(1, 4)),
        )
    )
    codes = encoding_of(spec).encode({"a": "y", "tuner/epochs": 7})
    assert codes.tolist() == [1.0, 0.625, 1.0, 0.125]


def test_unknown_labels_are_encoded_as_unknown_and_completed():
    encoding = encoding_of(NETWORK)
    codes = encoding.encode({"kind": "lstm", "rate": 1e-4, "units": 4})
    assert codes[0] == UNKNOWN
    assert np.isnan(codes[2:]).all(), "decisions that depend on an unknown label are inactive"
    completed = encoding.complete(np.array([codes] * 50), np.random.default_rng(0))
    assert set(completed[:, 0]) == {0.0, 1.0}
    assert (completed[:, 1] == codes[1]).all()


def test_decoding_requires_a_code_for_each_active_decision():
    encoding = encoding_of(NETWORK)
    with pytest.raises(SearchSpaceError, match="`codes` must have a code .* {'units'}"):
        encoding.decode(np.array([0.0, 0.5, np.nan, np.nan, np.nan]))


def test_conditions_on_large_domains_are_evaluated():
    spec = SearchSpec(
        (
            Decision("n", Integer(1, 10**6, None, "log")),
            Decision("small", Categorical((1, 2)), (Condition("n", tuple(range(1, 1000))),)),
        )
    )
    encoding = encoding_of(spec)
    rows = encoding.sample(400, np.random.default_rng(0))
    for row in rows:
        values = encoding.decode(row)
        assert ("small" in values) == (values["n"] < 1000)
    # log(1000) / log(10^6) of the draws are below 1000; five standard errors are 0.125.
    assert np.isnan(rows[:, 1]).mean() == pytest.approx(0.5, abs=0.125)


def test_a_constant_space_has_no_columns():
    encoding = encoding_of(SearchSpec((Decision("one", Categorical((1,))),)))
    assert encoding.encode({"one": 1}).shape == (0,)
    assert encoding.decode(encoding.sample(1, np.random.default_rng(0))[0]) == {"one": 1}
    assert encoding.features(encoding.encode_many([{}, {}])).shape == (2, 0)


# ---------------------------------------------------------------------- features


@given(specs(), _SEEDS)
def test_features_are_equal_only_for_equal_configurations(spec, seed):
    rng = np.random.default_rng(seed)
    encoding = encoding_of(spec)
    configurations = [spec.sample(rng) for _ in range(8)]
    codes = encoding.encode_many(configurations)
    features = encoding.features(codes)
    assert features.shape == (8, len(encoding.feature_names))
    assert ((features >= 0.0) & (features <= 1.0)).all()
    for first_values, first in zip(configurations, features, strict=True):
        for second_values, second in zip(configurations, features, strict=True):
            assert (spec.key(first_values) == spec.key(second_values)) == bool(
                (first == second).all()
            )


@given(specs(endless=True), _SEEDS)
def test_nearest_inverts_features_and_returns_valid_configurations(spec, seed):
    rng = np.random.default_rng(seed)
    encoding = encoding_of(spec)
    codes = encoding.sample(8, rng)
    np.testing.assert_array_equal(encoding.nearest(encoding.features(codes)), codes)
    for row in encoding.nearest(rng.normal(size=(8, len(encoding.feature_names)))):
        spec.validate(encoding.decode(row))


def test_features_of_a_conditional_configuration():
    encoding = encoding_of(NETWORK)
    values = {"kind": "conv", "rate": 1e-1, "units": 16}
    (features,) = encoding.features(encoding.encode_many([values]))
    named = dict(zip(encoding.feature_names, features, strict=True))
    assert named == {
        "kind=dense": 0.0,
        "kind=conv": 1.0,
        "rate": 1.0,
        "units": 0.5,
        "units is active": 1.0,
        "units=16": 1.0,
        "units=32": 0.0,
        "bias=False": 0.0,
        "bias=True": 0.0,
        "bias is active": 0.0,
    }


def test_encodings_are_cached_by_identity_of_the_spec():
    ones = SearchSpec((Decision("a", Categorical((1, 2))),))
    booleans = SearchSpec((Decision("a", Categorical((True, 2))),))
    assert ones == booleans
    assert encoding_of(ones) is encoding_of(ones)
    assert encoding_of(booleans).decode(np.array([0.0]))["a"] is True
    assert encoding_of(ones).decode(np.array([0.0]))["a"] is not True
