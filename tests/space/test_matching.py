import math

import numpy as np
import pytest
from generators import specs
from hypothesis import given
from hypothesis import strategies as st

from keras_nas_plugin.space import Categorical, Condition, Decision, Integer, Real, SearchSpec
from keras_nas_plugin.space.matching import match, read_value

DEPTH = Integer(1, 5)
WIDTH = Integer(8, 64, step=2, sampling="log")
RATE = Real(1e-4, 1e-1, sampling="log")
DROPOUT = Real(0.0, 0.5, step=0.1)
KIND = Categorical(("dense", "conv"))
SIZE = Categorical((16, 32, 64), ordered=True)
SHARE = Categorical((0.1, 0.01))
FLAG = Categorical((False, True))


@pytest.mark.parametrize(
    ("value", "domain", "expected"),
    [
        (3, DEPTH, 3),
        ("3", DEPTH, 3),
        ("3.0", DEPTH, 3),
        (3.0, DEPTH, 3),
        (np.int64(3), DEPTH, 3),
        (np.array(3), DEPTH, 3),
        (2**53 + 1, Integer(1, 2**60), 2**53 + 1),
        (str(2**53 + 1), Integer(1, 2**60), 2**53 + 1),
        ("16", WIDTH, 16),
        ("0.001", RATE, 0.001),
        (np.float64(0.001), RATE, 0.001),
        ("1e-1", RATE, 1e-1),
        (1, Real(0.0, 2.0), 1.0),
        (0.3, DROPOUT, 3 * 0.1),
        ("0.30000000000000004", DROPOUT, 3 * 0.1),
        ("conv", KIND, "conv"),
        (np.str_("conv"), KIND, "conv"),
        ("32", SIZE, 32),
        (32.0, SIZE, 32),
        (np.int32(32), SIZE, 32),
        ("0.01", SHARE, 0.01),
        ("1e-2", SHARE, 0.01),
        ("True", FLAG, True),
        ("False", FLAG, False),
        (np.bool_(True), FLAG, True),
        # KerasTuner's chief/worker service rounds floats to float32.
        (float(np.float32(0.1)), SHARE, 0.1),
        (float(np.float32(0.1)), RATE, 0.1),
        (float(np.float32(1e-4)), RATE, 1e-4),
    ],
)
def test_values_are_converted_to_those_of_the_domain(value, domain, expected):
    read = read_value(value, domain)
    assert read == expected and type(read) is type(expected)
    assert domain.contains(read)
    if domain.size is not None and domain.size < 100:
        assert any(read == listed and type(read) is type(listed) for listed in domain.values())


@pytest.mark.parametrize(
    ("value", "domain"),
    [
        (0, DEPTH),
        (6, DEPTH),
        (2.5, DEPTH),
        ("three", DEPTH),
        ("", DEPTH),
        (True, DEPTH),
        (None, DEPTH),
        (math.nan, DEPTH),
        (math.inf, DEPTH),
        (10**400, RATE),
        (10, WIDTH),
        (0.2, RATE),
        ("nan", RATE),
        ("inf", RATE),
        (True, Real(0.0, 2.0)),
        (0.25, DROPOUT),
        ([0.1], RATE),
        (np.array([0.1, 0.2]), RATE),
        ("Conv", KIND),
        (None, KIND),
        (["conv"], KIND),
        (48, SIZE),
        ("sixteen", SIZE),
        (1, FLAG),
        ("true", FLAG),
        (True, Categorical((0, 1))),
        (0.0101, SHARE),
    ],
)
def test_values_outside_the_domain_are_rejected(value, domain):
    assert read_value(value, domain) is None


@given(specs(endless=True), st.integers(0, 1000))
def test_sampled_values_match_unchanged_and_as_text(spec, seed):
    values = spec.sample(np.random.default_rng(seed))
    matched = match(spec, values)
    assert matched.values == values
    assert {name: type(value) for name, value in matched.values.items()} == {
        name: type(value) for name, value in values.items()
    }
    assert (matched.missing, matched.outside, matched.unknown) == ((), (), ())
    as_text = match(spec, {name: str(value) for name, value in values.items()})
    assert spec.key(as_text.values) == spec.key(values)


@given(specs(endless=True), specs(endless=True), st.integers(0, 1000))
def test_matched_values_are_valid(spec, foreign_spec, seed):
    matched = match(spec, foreign_spec.sample(np.random.default_rng(seed)))
    if matched.values is None:
        assert matched.missing or matched.outside
    else:
        spec.validate(matched.values)
        assert not matched.missing and not matched.outside


CONDITIONAL = SearchSpec(
    (
        Decision("kind", KIND),
        Decision("kernel", Integer(1, 3), (Condition("kind", ("conv",)),)),
        Decision("version", Categorical((7,))),
    )
)


def test_match_reports_missing_outside_and_unknown_names():
    matched = match(CONDITIONAL, {"kind": "conv", "kernel": 9, "depth": 2, "tuner/epochs": 3})
    assert matched.values is None
    assert (matched.missing, matched.outside) == ((), ("kernel",))
    assert matched.unknown == ("depth", "tuner/epochs")
    assert match(CONDITIONAL, {"kind": "conv"}).missing == ("kernel",)
    # Without its parent, a child may be inactive and is not missing.
    assert match(CONDITIONAL, {}).missing == ("kind",)
    assert match(CONDITIONAL, {"kind": "pool", "kernel": 9}).outside == ("kind",)


def test_inactive_values_are_dropped_but_not_unknown():
    matched = match(CONDITIONAL, {"kind": "dense", "kernel": 2})
    assert matched.values == {"kind": "dense", "version": 7} and matched.unknown == ()


def test_a_constant_decision_may_be_omitted_but_not_changed():
    assert match(CONDITIONAL, {"kind": "dense"}).values["version"] == 7
    assert match(CONDITIONAL, {"kind": "dense", "version": "7"}).values["version"] == 7
    assert match(CONDITIONAL, {"kind": "dense", "version": 8}).outside == ("version",)


def test_the_last_of_two_active_domains_counts():
    spec = SearchSpec((Decision("units", Integer(1, 4)), Decision("units", Integer(10, 20))))
    assert match(spec, {"units": 12}).values == {"units": 12}
    assert match(spec, {"units": 2}).outside == ("units",)
