"""The decisions of each promotion gate, and the metrics that gates compare."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from keras_nas_plugin import Constraint
from keras_nas_plugin.registry import metrics
from keras_nas_plugin.registry.evidence import check_data
from keras_nas_plugin.registry.gates.base import Candidate, Evidence, PromotionError
from keras_nas_plugin.registry.gates.comparison import Comparison
from keras_nas_plugin.registry.gates.slices import Classes
from keras_nas_plugin.registry.gates.smoke import FreshProcess
from keras_nas_plugin.registry.gates.thresholds import CostLimits, Thresholds

ACCURACY, LOSS = metrics.METRICS["accuracy"], metrics.METRICS["loss"]
PAIRS = 200
ALPHA = 0.05


def evidence(y, challenger, champion=None, **costs):
    return Evidence(
        x=None,
        y=np.asarray(y),
        challenger=Candidate("2", np.asarray(challenger), costs),
        champion=None if champion is None else Candidate("1", np.asarray(champion)),
    )


def probabilities(right):
    """Probabilities of two classes, of which 0 is true, for rows classified rightly or wrongly."""
    first = np.where(right, 0.9, 0.2)
    return np.stack([first, 1 - first], axis=-1)


def pair(rng, rows=300, better=0.0):
    """Two classifiers that fail on the same hard rows; the challenger is better by ``better``."""
    easy = rng.beta(4, 1, rows) * (1 - better)
    models = [
        probabilities(rng.random(rows) < np.clip(easy + shift, 0, 1)) for shift in (better, 0)
    ]
    return evidence(np.zeros(rows, int), *models)


def confident_pair(rng, rows=300):
    """Two equally good classifiers with a skewed loss, as real classifiers have."""
    difficulty = rng.normal(1, 2, rows)
    first, second = (
        1 / (1 + np.exp(-difficulty - rng.normal(0, 1, rows))) for _ in ("challenger", "champion")
    )
    return evidence(np.ones(rows, int), first[:, None], second[:, None])


@pytest.mark.parametrize(
    ("gate", "simulate"),
    [
        (Comparison(ACCURACY, ALPHA), pair),
        (Comparison(ACCURACY, ALPHA, method="bootstrap", resamples=499), pair),
        (Comparison(LOSS, ALPHA, resamples=499), confident_pair),
    ],
    ids=["mcnemar", "bootstrap of accuracy", "bootstrap of loss"],
)
def test_an_equally_good_challenger_is_promoted_at_most_at_the_rate_alpha(gate, simulate):
    rng = np.random.default_rng(0)
    promoted = sum(gate.check(simulate(rng)).passed for _ in range(PAIRS))
    # A test of level alpha exceeds this once in a thousand such simulations.
    assert promoted <= binom.isf(1e-3, PAIRS, ALPHA)


def test_non_inferiority_promotes_equal_models_and_refuses_models_worse_by_the_margin():
    margin, rng = 0.1, np.random.default_rng(0)
    gate = Comparison(ACCURACY, ALPHA, min_improvement=-margin)
    equal = sum(gate.check(pair(rng)).passed for _ in range(50))
    worse = 0
    for _ in range(PAIRS):
        models = pair(rng, better=margin)
        swapped = evidence(models.y, models.champion.predictions, models.challenger.predictions)
        worse += gate.check(swapped).passed
    assert worse <= binom.isf(1e-3, PAIRS, ALPHA)
    # Discordant rows: 2 E[p(1-p)] = 4/15 of 300, so 0.1 is 3.4 standard errors: a power of 0.95.
    assert equal >= binom.ppf(1e-3, 50, 0.95)


def test_a_better_model_is_promoted_and_a_worse_one_is_not():
    models = pair(np.random.default_rng(0), rows=1000, better=0.1)
    gate = Comparison(ACCURACY)
    better = gate.check(models)
    worse = gate.check(
        evidence(models.y, models.champion.predictions, models.challenger.predictions)
    )
    assert better.passed and not worse.passed
    numbers = better.numbers
    assert numbers["method"] == "mcnemar" and numbers["rows"] == 1000
    assert numbers["improvement"] == pytest.approx(numbers["challenger"] - numbers["champion"])
    assert numbers["improvement"] == (numbers["wins"] - numbers["losses"]) / 1000
    assert numbers["p_value"] <= numbers["alpha"] == 0.05
    assert worse.numbers["p_value"] > 0.5


def test_a_smaller_loss_is_an_improvement():
    right = np.random.default_rng(0).random(200) < 0.8
    good, bad = probabilities(np.ones(200, bool)), probabilities(right)
    finding = Comparison(LOSS, resamples=199).check(evidence(np.zeros(200, int), good, bad))
    assert finding.passed and finding.numbers["improvement"] > 0
    assert finding.numbers["challenger"] < finding.numbers["champion"]
    assert 0 < finding.numbers["lower_bound"] < finding.numbers["improvement"]


def test_an_improvement_must_exceed_min_improvement():
    right = np.arange(1000) >= 50
    models = evidence(
        np.zeros(1000, int), probabilities(right), probabilities(right[::-1] & right)
    )
    assert Comparison(ACCURACY).check(models).passed
    assert Comparison(ACCURACY, min_improvement=0.02).check(models).passed
    assert not Comparison(ACCURACY, min_improvement=0.05).check(models).passed
    assert not Comparison(ACCURACY, min_improvement=0.1).check(models).passed


def f1(y, predictions):
    positive = predictions[:, 0] > 0.5
    true_positives = np.sum(positive & (y == 1))
    return 2 * true_positives / (np.sum(positive) + np.sum(y == 1))


def test_any_function_of_labels_and_predictions_can_be_compared():
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=300)
    good = np.where(rng.random(300) < 0.95, y, 1 - y)[:, None].astype(float)
    bad = np.where(rng.random(300) < 0.7, y, 1 - y)[:, None].astype(float)
    metric = metrics.resolve_metric(f1, "max")
    gate = Comparison(metric, resamples=99)
    finding = gate.check(evidence(y, good, bad))
    assert finding.passed and finding.numbers["method"] == "bootstrap"
    assert finding.numbers["improvement"] == pytest.approx(f1(y, good) - f1(y, bad))
    assert not gate.check(evidence(y, bad, good)).passed
    with pytest.raises(PromotionError, match="'mcnemar'.*'f1'"):
        Comparison(metric, method="mcnemar").check(evidence(y, good, bad))


def test_predictions_with_nan_pass_no_gate():
    y = np.zeros(50)
    champion = np.ones((50, 1))
    broken = np.where(np.arange(50) == 7, np.nan, 0.0)[:, None]
    for name in ("mae", "mse"):
        metric = metrics.METRICS[name]
        assert not Comparison(metric).check(evidence(y, broken, champion)).passed
        limit = (Constraint(name, max=10.0),)
        assert not Thresholds(limit).check(evidence(y, broken)).passed
    assert metrics.accuracy(np.zeros(1, int), np.array([[np.nan, np.nan]])) == 0


def test_comparisons_pass_without_a_champion():
    finding = Comparison(ACCURACY).check(evidence([0, 0], probabilities([True, False])))
    assert finding.passed and "no champion" in finding.message
    assert Classes(0.0).check(evidence([0, 0], probabilities([True, False]))).passed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0}, "`alpha`.*got 0"),
        ({"alpha": 5}, "`alpha`.*got 5"),
        ({"min_improvement": float("nan")}, "`min_improvement`.*nan"),
        ({"method": "t"}, "`method`.*mcnemar.*'t'"),
        ({"resamples": 10}, "`resamples`.*10"),
    ],
)
def test_the_error_names_a_setting_out_of_range(options, message):
    with pytest.raises(PromotionError, match=message):
        Comparison(ACCURACY, **options)


def test_mcnemar_requires_a_metric_of_0_and_1():
    models = evidence([0.0, 1.0], [[0.1], [0.5]], [[0.2], [0.5]])
    with pytest.raises(PromotionError, match="'mcnemar'.*'mae'"):
        Comparison(metrics.METRICS["mae"], method="mcnemar").check(models)
    with pytest.raises(PromotionError, match="`min_improvement` must be between"):
        Comparison(ACCURACY, min_improvement=2).check(
            evidence([0, 0], probabilities([True, True]), probabilities([True, False]))
        )


def test_thresholds_are_lower_and_upper_limits_on_metrics():
    models = evidence([0, 0, 0, 0], probabilities([True, True, True, False]))
    satisfied = Thresholds((Constraint("accuracy", min=0.75), Constraint("loss", max=1.0)))
    assert satisfied.check(models).passed
    violated = Thresholds((Constraint("accuracy", min=0.76), Constraint("loss", max=1.0)))
    refused = violated.check(models)
    assert not refused.passed and "accuracy 0.75 is not >= 0.76" in refused.message
    assert refused.numbers["accuracy"] == {"value": 0.75, "min": 0.76, "max": None, "kept": False}
    assert refused.numbers["loss"]["kept"]
    with pytest.raises(PromotionError, match="`thresholds`.*'f1'"):
        Thresholds((Constraint("f1", min=0.5),))
    custom = metrics.Metric("f1", "max", lambda y, p: 0.25)
    assert not Thresholds((Constraint("f1", min=0.5),), custom).check(models).passed


def test_ceilings_are_upper_limits_on_costs():
    models = evidence([0], [[0.5]], parameters=100.0, size_bytes=5e6, latency_ms=3.0)
    limits = [("params", 100), ("size", 5e6), ("latency", 3), ("latency_ms", 3)]
    gate = CostLimits(tuple(Constraint(name, max=limit) for name, limit in limits))
    assert gate.costs == ("parameters", "latency_ms")  # the size needs no measurement
    assert gate.check(models).passed
    for name, limit in limits:
        refused = CostLimits((Constraint(name, max=limit * 0.99),)).check(models)
        assert not refused.passed and name in refused.message and "is not <=" in refused.message
    with pytest.raises(PromotionError, match="energy"):
        CostLimits((Constraint("energy", max=1),)).check(models)


def test_no_class_may_lose_more_than_allowed():
    # Class 0: 10 of 10, then 8; class 1: 5 of 10, then 10. Better on average.
    y = np.repeat([0, 1], 10)
    before = np.where(np.arange(20) < 15, y, 1 - y)
    after = np.where(np.arange(20) >= 2, y, 1 - y)
    models = evidence(y, np.eye(2)[after], np.eye(2)[before])
    assert Classes(0.2).check(models).passed
    refused = Classes(0.19).check(models)
    assert not refused.passed
    assert "1 of 2 classes worse by more than 0.19; the worst is 0, from 1 to 0.8" in (
        refused.message
    )
    numbers = refused.numbers["by"]["0"]
    assert (numbers["rows"], numbers["champion"], numbers["challenger"]) == (10, 1.0, 0.8)
    assert refused.numbers["by"]["1"]["kept"]
    for wrong in (-0.1, 1.5):
        with pytest.raises(PromotionError, match="`max_class_drop`"):
            Classes(wrong)
    with pytest.raises(PromotionError, match="`y` must hold class numbers"):
        Classes(0.1).check(evidence([0.5, 1.5], [[0.5], [1.0]], [[0.5], [1.0]]))


SOFT = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.3, 0.4, 0.3], [0.2, 0.5, 0.3]])


@pytest.mark.parametrize(
    ("y", "predictions", "loss"),
    [
        ([0, 2, 1, 0], SOFT, "sparse_categorical_crossentropy"),
        ([[0], [2], [1], [0]], SOFT, "sparse_categorical_crossentropy"),
        (np.eye(3)[[0, 2, 1, 0]], SOFT, "categorical_crossentropy"),
        ([1.0, 0.0, 1.0, 1.0], [[0.9], [0.2], [0.8], [0.1]], "binary_crossentropy"),
        ([[1], [0], [1], [1]], [[1.0], [0.2], [0.8], [0.0]], "binary_crossentropy"),
    ],
)
def test_metrics_agree_with_keras(y, predictions, loss):
    import keras

    y, predictions = np.asarray(y), np.asarray(predictions)
    assert metrics.default_metric(y, predictions) == "accuracy"
    model = keras.Sequential([keras.Input(predictions.shape[1:]), keras.layers.Identity()])
    model.compile(loss=loss, metrics=["accuracy"], run_eagerly=True)
    expected = model.evaluate(predictions, y, verbose=0, return_dict=True)
    assert ACCURACY.value(y, predictions) == pytest.approx(expected["accuracy"])
    assert LOSS.value(y, predictions) == pytest.approx(expected["loss"], rel=1e-4)


def test_regression_is_compared_by_errors():
    y, predictions = np.array([[1.0, 2.0], [3.0, 4.5]]), np.array([[1.0, 3.0], [3.0, 4.0]])
    assert metrics.default_metric(y, predictions) == "mse"
    assert metrics.mae(y, predictions).tolist() == [0.5, 0.25]
    assert metrics.mse(y, predictions).tolist() == [0.5, 0.125]
    # Targets in a column or a flat array give n errors, not n times n.
    assert metrics.mae(np.zeros(3), np.ones((3, 1))).tolist() == [1.0, 1.0, 1.0]


def test_the_accuracy_of_a_row_with_several_labels_is_the_share_of_correct_labels():
    y = np.zeros((2, 2, 2), int)
    predictions = np.zeros((2, 2, 2, 3))
    predictions[..., 0] = 1
    predictions[1, 0, 0] = [0, 1, 0]
    assert metrics.accuracy(y, predictions).tolist() == [1.0, 0.75]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.resolve_metric("f1"), "`metric`.*accuracy.*'f1'"),
        (lambda: metrics.resolve_metric(f1), "`direction`.*function"),
        (lambda: metrics.resolve_metric(f1, "up"), "`direction`.*'up'"),
        (lambda: metrics.resolve_metric("loss", "max"), "`direction`.*'min' for 'loss'"),
        (lambda: LOSS.value(np.array([0]), np.array([[2.0, -1.0]])), "probabilities.*logits"),
        (lambda: ACCURACY.value(np.array([0, 1]), np.array([[2.0], [-3.0]])), "logits"),
        (lambda: ACCURACY.value(np.array([0, 3]), np.eye(2)), r"`y`.*\(2, 2\)"),
        (lambda: ACCURACY.value(np.array(["a", "b"]), np.eye(2)), "`y`"),
        (
            lambda: metrics.mae(np.zeros((3, 2)), np.zeros((3, 1))),
            "`y` must hold numbers that fit",
        ),
        (
            lambda: metrics.Metric("m", "max", lambda y, p: y[:1]).value(np.zeros(3), None),
            "'m' must return a number, or one for each of the 3 rows",
        ),
        (lambda: check_data((np.zeros((3, 2)), np.zeros(2))), "same number of rows.*3 and 2"),
        (lambda: check_data((np.zeros((0, 2)), np.zeros(0))), "at least one"),
        (
            lambda: check_data(({"a": np.zeros(3), "b": np.zeros(2)}, np.zeros(3))),
            "`x`.*number of rows",
        ),
        (lambda: check_data((np.zeros(3), [np.zeros(3), np.zeros(3)])), "`y` must be one array"),
        (lambda: check_data((np.zeros(3), [np.nan, 0, 0])), "`y` must hold finite"),
        (
            lambda: check_data((None, np.zeros(3))),
            "`x` must consist of arrays of rows; got NoneType",
        ),
    ],
)
def test_the_error_names_invalid_data_or_an_invalid_metric(call, message):
    with pytest.raises(PromotionError, match=message):
        call()


def test_a_folder_without_a_model_fails_in_the_fresh_process(tmp_path):
    def check(gate):
        candidate = Candidate("1", np.zeros((1, 1)), folder=tmp_path)
        return gate.check(Evidence(np.zeros((1, 2)), np.zeros(1), candidate))

    refused = check(FreshProcess())
    assert not refused.passed and refused.message.startswith("fails: ")
    assert "MLmodel" in refused.message
    slow = check(FreshProcess(timeout=0.01))
    assert not slow.passed and slow.message == "does not answer within 0.01 s"
    with pytest.raises(PromotionError, match="files"):
        FreshProcess().check(evidence([0], [[0.5]]))
