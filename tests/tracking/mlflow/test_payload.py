"""Records of trials are converted to keys, values and points that MLflow accepts."""

from __future__ import annotations

import json
import math

import pytest

from keras_nas_plugin.tracking.formatting import shorten
from keras_nas_plugin.tracking.mlflow import payload

NAMES = [
    "a/b",
    "../x",
    "/x",
    ".",
    "..",
    "",
    "x//y",
    "x/",
    "a" * 400,
    "ü ü",
    "lr [log]",
    "a\nb",
    "%",
]


@pytest.mark.parametrize("name", NAMES)
def test_mlflow_accepts_every_key(name):
    from mlflow.utils.validation import _validate_param

    key = payload.safe_key(name)
    assert _validate_param(key, "1").key == key


def test_a_valid_name_is_its_own_key():
    for name in ("units_0", "block/1/kernel-size", "val accuracy", "a.b:c"):
        assert payload.safe_key(name) == name


def test_names_with_equal_keys_get_different_keys():
    keys = payload.safe_keys(["a(b", "a)b", "a_b", "x" * 300, "x" * 301])
    assert len(set(keys.values())) == 5
    assert all(len(key) <= payload.KEY_LIMIT for key in keys.values())


def test_shortened_text_states_its_original_length():
    text = shorten("x" * 5_000, 100, whole_in="values.json")
    assert len(text) == 100
    assert text.endswith(" ... [cut: 5,000 characters, whole in values.json]")
    assert shorten("x" * 100, 100) == "x" * 100


def test_values_of_every_type_are_logged_as_text():
    values = {"s": "a", "f": 1e-05, "i": 3, "b": True, "n": None, "l": [1, 2], "e": ""}
    params, changed = payload.params_of(values, whole_in="values.json")
    assert params == {
        "s": "a",
        "f": "1e-05",
        "i": "3",
        "b": "True",
        "n": "None",
        "l": "[1, 2]",
        "e": "",
    }
    assert not changed


@pytest.mark.parametrize(
    ("number", "score", "label"),
    [
        (7, 0.97314, "t07 0.9731"),
        (7, 1.0, "t07 1"),
        (123, 0.97314, "t123 0.973"),
        (7, -0.97314, "t07 -0.973"),
        (7, 1234567.0, "t07 1.2e+6"),
        (7, 1.5e-12, "t07 2e-12"),
        (1234567, 0.97314, "t1234567"),
        (123456789, 0.97314, "t123456789"),
    ],
)
def test_labels_have_at_most_ten_characters(make_record, number, score, label):
    assert payload.trial_label(make_record(number, score=score)) == label
    assert len(label) <= payload.LABEL_LIMIT


def test_points_depend_on_the_record_alone(make_record, make_search):
    record = make_record(4, curves=(({"loss": 1.0}, {"loss": 0.5}), ({"loss": 2.0},)))
    first, _ = payload.points_of(record, make_search())
    second, _ = payload.points_of(record, make_search())
    assert first == second
    assert len({(point.key, point.step, point.time_ms) for point in first}) == len(first)


def test_times_of_a_curve_run_from_start_to_end(make_record, make_search):
    record = make_record(0)
    times = [
        p.time_ms for p in payload.points_of(record, make_search())[0] if p.key == "by_epoch/loss"
    ]
    assert times == [record.started_ms + 2_000, record.started_ms + 4_000, record.ended_ms]


def test_an_epoch_may_lack_a_metric(make_record, make_search):
    record = make_record(0, curves=(({"loss": 1.0}, {"loss": 0.5, "val_loss": 0.7}),))
    points, _ = payload.points_of(record, make_search())
    assert [(p.step, p.value) for p in points if p.key == "by_epoch/val_loss"] == [(1, 0.7)]


def test_infinity_becomes_nan_with_a_remark(make_record, make_search):
    record = make_record(0, costs={"parameters": -math.inf}, curves=())
    points, remark = payload.points_of(record, make_search())
    assert math.isnan(next(p.value for p in points if p.key == "cost/parameters"))
    assert remark == "cost/parameters=-inf at step 0"


def test_mlflow_parses_the_schema_of_a_data_set():
    from mlflow.types import Schema

    profile = {"x": [{"shape": [9, 2], "dtype": "float32"}], "y": {"shape": [9], "dtype": "int64"}}
    texts = json.loads(payload.tensor_schema(profile))["mlflow_tensorspec"]
    (features,) = Schema.from_json(texts["features"]).inputs
    (targets,) = Schema.from_json(texts["targets"]).inputs
    assert (features.name, features.shape, features.type.name) == ("x/0", (-1, 2), "float32")
    assert (targets.name, targets.shape, targets.type.name) == ("y", (-1,), "int64")


@pytest.mark.parametrize("profile", [{"type": "Sequence"}, {"rows": 3}, [], {}])
def test_data_of_unknown_shape_has_no_schema(profile):
    assert payload.tensor_schema(profile) is None
