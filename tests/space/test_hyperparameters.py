import keras_tuner
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.hyperparameters import describe, spec_of
from keras_nas_plugin.testing.spaces import small_configurations, small_space, wide_space

_POSITIONS = np.linspace(0.0, 1.0, 101, endpoint=False)


def single_domain(fill):
    hp = keras_tuner.HyperParameters()
    fill(hp)
    (decision,) = spec_of(hp).decisions
    return hp.space[0], decision.domain


@st.composite
def ints(draw):
    sampling = draw(st.sampled_from(["linear", "log", "reverse_log"]))
    low = draw(st.integers(1, 40))
    step = draw(st.sampled_from([None, 2, 3, 5]))
    return {"min_value": low, "max_value": low + draw(st.integers(0, 300))} | {
        "step": step,
        "sampling": sampling,
    }


@st.composite
def floats(draw):
    options = draw(ints())
    low = options["min_value"] / draw(st.sampled_from([1, 3, 1000]))
    step = draw(st.sampled_from([None, 1.5, 2.0, 10.0]))
    high = low * draw(st.floats(1.0, 1000.0))
    return {**options, "min_value": low, "max_value": high, "step": step}


@given(ints())
def test_integers_agree_with_keras_tuner(options):
    item, domain = single_domain(lambda hp: hp.Int("x", **options))
    if item.step is None:
        for position in _POSITIONS:
            # By rounding, KerasTuner 1.4.8 returns 10 for a range of 11 to 24 in reverse_log.
            theirs = min(max(item.prob_to_value(position), item.min_value), item.max_value)
            assert domain.at(position) == theirs
        assert domain.size == item.max_value - item.min_value + 1
    else:
        assert list(domain.values()) == [int(value) for value in item.values]


@given(floats())
def test_floats_agree_with_keras_tuner(options):
    item, domain = single_domain(lambda hp: hp.Float("x", **options))
    if item.step is None:
        for position in _POSITIONS:
            assert domain.at(position) == pytest.approx(item.prob_to_value(position), rel=1e-12)
        return
    theirs, ours = list(item.values), list(domain.values())
    assert ours[: len(theirs)] == pytest.approx(theirs)
    # KerasTuner may lose the end of the range to rounding; the domain includes it.
    missed = ours[len(theirs) :]
    assert len(missed) <= 1
    end = item.min_value if item.sampling == "reverse_log" else item.max_value
    assert missed == pytest.approx([end] * len(missed))


def test_the_end_of_a_stepped_range_is_a_value_unlike_in_keras_tuner():
    item, domain = single_domain(lambda hp: hp.Float("x", 0.0, 1.0, step=0.2))
    assert 1.0 not in item.values and len(list(item.values)) == 5
    assert domain.contains(1.0) and domain.size == 6


def test_choices_keep_values_types_and_order():
    for values in (["a", "b"], [3, 1, 2], [0.1, 0.5]):
        item, domain = single_domain(lambda hp, values=values: hp.Choice("x", values))
        assert list(domain.values()) == values == list(item.values)
        assert domain.ordered == item.ordered
    _, domain = single_domain(lambda hp: hp.Choice("x", [3, 1, 3]))
    assert list(domain.values()) == [3, 1]
    _, domain = single_domain(lambda hp: hp.Boolean("x"))
    assert set(domain.values()) == {False, True}
    _, domain = single_domain(lambda hp: hp.Fixed("x", 7))
    assert list(domain.values()) == [7]


def test_unknown_hyperparameter_types_are_rejected():
    hp = keras_tuner.HyperParameters()
    hp._space.append(keras_tuner.engine.hyperparameters.HyperParameter("strange"))
    with pytest.raises(SearchSpaceError, match="`strange` must be a Choice"):
        spec_of(hp)


def test_conditions_agree_with_keras_tuner():
    spec = spec_of(wide_space())
    rng = np.random.default_rng(0)
    for _ in range(300):
        hp = wide_space()
        hp.values = spec.sample(rng)
        active = {item.name for item in hp.space if hp.is_active(item)}
        assert active == set(hp.values)


def test_the_small_space_has_the_listed_configurations():
    spec = spec_of(small_space())
    listed = [spec.key(values) for values in spec.configurations(np.random.default_rng(0))]
    assert sorted(listed) == sorted(map(spec.key, small_configurations()))
    assert len(listed) == 12


def test_the_protobuf_round_trip_changes_only_the_order():
    hp = wide_space()
    back = keras_tuner.HyperParameters.from_proto(hp.to_proto())
    assert [item.name for item in back.space] != [item.name for item in hp.space]
    spec, restored = spec_of(hp), spec_of(back)
    assert {(d.name, d.conditions, d.domain) for d in spec.decisions} == {
        (d.name, d.conditions, d.domain) for d in restored.decisions
    }
    values = spec.sample(np.random.default_rng(0))
    restored.validate(values)


def test_describe_returns_plain_data():
    described = {item["name"]: item for item in describe(small_space())}
    assert described["bias"]["conditions"] == [
        {"parent": "kind", "values": ["conv"]},
        {"parent": "units", "values": [32]},
    ]
    assert described["kind"]["type"] == "Choice" and described["kind"]["values"] == [
        "dense",
        "conv",
    ]
