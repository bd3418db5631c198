import math
from types import SimpleNamespace

import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin.errors import HyperModelError, InvalidResultError, ObjectiveError
from keras_nas_plugin.evaluation.results import epochs_of, result_of

ACCURACY = keras_tuner.Objective("val_accuracy", "max")
LOSS = keras_tuner.Objective("val_loss", "min")
DEFAULT = keras_tuner.Oracle().objective
SIGNED_SUM = keras_tuner.Oracle(
    objective=[ACCURACY, keras_tuner.Objective("size", "min")]
).objective
NAN, INF = math.nan, math.inf


def history(**curves):
    """The part of a Keras `History` that is read."""
    return SimpleNamespace(history=curves)


def test_the_best_epoch_is_the_result_for_both_directions():
    curves = history(val_accuracy=[0.1, 0.9, 0.5], val_loss=[2.0, 1.5, 1.0])
    best = result_of(curves, ACCURACY)
    assert (best.score, best.step) == (0.9, 1)
    assert best.metrics == {"val_accuracy": 0.9, "val_loss": 1.5}
    assert (result_of(curves, LOSS).score, result_of(curves, LOSS).step) == (1.0, 2)


def test_the_first_of_equally_good_epochs_is_the_result():
    assert result_of(history(val_accuracy=[0.5, 0.5]), ACCURACY).step == 0


@pytest.mark.parametrize("loss", ["loss", "val_loss"])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_epochs_without_a_finite_loss_are_ignored(loss, bad):
    result = result_of(history(val_accuracy=[0.2, 0.9], **{loss: [1.0, bad]}), ACCURACY)
    assert (result.score, result.step) == (0.2, 0)


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_result_without_a_finite_epoch_is_invalid(bad):
    with pytest.raises(
        InvalidResultError, match="`val_accuracy` and the loss must be finite .*2 epochs"
    ):
        result_of(history(val_accuracy=[0.1, 0.1], loss=[bad, bad]), ACCURACY)
    for returned in (history(val_accuracy=[bad]), {"val_accuracy": bad}, bad, np.float32(bad)):
        with pytest.raises(InvalidResultError, match="`val_accuracy` .*must be finite"):
            result_of(returned, ACCURACY)


def test_validation_may_run_in_only_some_epochs():
    curves = history(loss=[3.0, 2.0, 1.0], val_accuracy=[0.4])
    assert len(epochs_of(curves)) == 3
    assert result_of(curves, ACCURACY).metrics == {"loss": 3.0, "val_accuracy": 0.4}


@pytest.mark.parametrize(
    "number", [0.25, np.float32(0.25), np.float64(0.25), np.array(0.25), np.int64(1), 1]
)
def test_a_number_is_the_value_of_the_objective(number):
    result = result_of(number, DEFAULT)
    assert result.metrics == {"default_objective": float(number)}
    assert type(result.score) is float and result.score == float(number) and result.step == 0


def test_a_scalar_tensor_is_accepted_as_a_number():
    keras = pytest.importorskip("keras")
    assert result_of(keras.ops.convert_to_tensor(0.25), DEFAULT).score == 0.25


def test_a_dictionary_is_read_as_metrics():
    result = result_of({"val_accuracy": np.float32(0.5), "size": 3}, ACCURACY)
    assert result.metrics == {"val_accuracy": 0.5, "size": 3.0}
    assert all(type(value) is float for value in result.metrics.values())


def test_metrics_of_several_executions_are_averaged():
    returned = [
        history(val_accuracy=[0.2, 0.4], loss=[2.0, 1.0]),
        history(val_accuracy=[0.8, 0.6], loss=[4.0, 3.0]),
        {"val_accuracy": 0.0, "size": 7.0},
    ]
    result = result_of(returned, ACCURACY)
    assert result.score == pytest.approx(0.4) == result.metrics["val_accuracy"]
    assert result.metrics["loss"] == pytest.approx(2.5) and result.metrics["size"] == 7.0
    assert result.step == 0
    assert result_of([1.0, 2.0], DEFAULT).score == 1.5


def test_one_invalid_execution_makes_the_trial_invalid():
    with pytest.raises(InvalidResultError):
        result_of([0.5, NAN], DEFAULT)


def test_several_objectives_are_summed_with_their_signs():
    result = result_of(history(val_accuracy=[0.5, 0.9], size=[1.0, 5.0]), SIGNED_SUM)
    assert (result.score, result.step) == (0.5, 0)
    assert result.metrics["multi_objective"] == 0.5
    assert result_of({"val_accuracy": 0.5, "size": 1.0}, SIGNED_SUM).score == 0.5
    with pytest.raises(ObjectiveError, match="got 'multi_objective'"):
        result_of({"val_accuracy": 0.5}, SIGNED_SUM)
    with pytest.raises(InvalidResultError):
        result_of({"val_accuracy": 0.5, "size": INF}, SIGNED_SUM)


def test_a_missing_objective_is_named_with_a_hint():
    with pytest.raises(
        ObjectiveError, match=r"got 'val_accuracy', and training reported \['loss'\]"
    ):
        result_of({"loss": 1.0}, ACCURACY)
    with pytest.raises(ObjectiveError, match="Pass `validation_data`"):
        result_of(history(loss=[1.0]), ACCURACY)
    with pytest.raises(ObjectiveError) as raised:
        result_of(history(val_loss=[1.0]), ACCURACY)
    assert "validation_data" not in str(raised.value)
    with pytest.raises(ObjectiveError, match="must be the name of a metric unless"):
        result_of(history(loss=[1.0]), DEFAULT)
    with pytest.raises(ObjectiveError):
        result_of(history(), ACCURACY)


@pytest.mark.parametrize("returned", [None, "0.5", object(), np.zeros(2), [], [None]])
def test_results_of_other_types_are_rejected(returned):
    with pytest.raises(HyperModelError, match="must return"):
        result_of(returned, ACCURACY)


def test_the_message_suggests_a_missing_return():
    with pytest.raises(HyperModelError, match="NoneType. Is a `return model.fit"):
        result_of([None], ACCURACY)
