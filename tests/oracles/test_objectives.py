import keras_tuner
import pytest

from keras_nas_plugin.errors import ObjectiveError
from keras_nas_plugin.oracles.objectives import check_direction, checked_objective

# Larger is better, but KerasTuner 1.4.8 minimises these or rejects the name.
MISREAD = ["f1_score", "r2_score", "cosine_similarity", "pearson_correlation", "mean_io_u"]


@pytest.mark.parametrize("name", [*MISREAD, *(f"val_{name}" for name in MISREAD)])
def test_names_that_keras_tuner_misreads_are_rejected_with_the_right_direction(name):
    with pytest.raises(ObjectiveError) as raised:
        checked_objective(name)
    assert f'`keras_tuner.Objective("{name}", direction="max")`' in str(raised.value)
    assert f"--objective {name} --direction max" in str(raised.value)


@pytest.mark.parametrize("name", ["val_auc_1", "my_metric", "val_latency_ms", "MeanIoU", ""])
def test_names_without_a_known_direction_are_rejected(name):
    with pytest.raises(ObjectiveError, match="cannot be inferred from the name"):
        checked_objective(name)


@pytest.mark.parametrize(
    ("name", "direction"),
    [
        ("val_accuracy", "max"),
        ("acc", "max"),
        ("val_auc", "max"),
        ("val_weighted_accuracy", "max"),
        ("val_sparse_top_k_categorical_accuracy", "max"),
        ("loss", "min"),
        ("val_loss", "min"),
        ("val_mean_squared_error", "min"),
        ("mae", "min"),
        ("false_negatives", "min"),
    ],
)
def test_the_direction_of_known_names_is_inferred(name, direction):
    assert checked_objective(name) == keras_tuner.Objective(name, direction)


@pytest.mark.parametrize("name", ["val_accuracy", "val_precision", "val_loss", "mse"])
def test_inferred_directions_agree_with_keras_tuner(name):
    assert checked_objective(name) == keras_tuner.Oracle(objective=name).objective


def test_explicit_directions_are_unchanged():
    objective = keras_tuner.Objective("val_f1_score", "max")
    assert checked_objective(objective) is objective
    assert checked_objective(None) is None
    objectives = checked_objective(("val_loss", objective))
    assert objectives == [keras_tuner.Objective("val_loss", "min"), objective]


def test_an_invalid_direction_is_rejected():
    with pytest.raises(ObjectiveError, match="must be 'min' or 'max'; got 'up'"):
        checked_objective(keras_tuner.Objective("score", "up"))
    with pytest.raises(ObjectiveError, match="must be 'min' or 'max'; got None"):
        checked_objective([keras_tuner.Objective("score", None)])


@pytest.mark.parametrize("name", MISREAD)
def test_objectives_misread_by_keras_tuner_are_rejected(name):
    for objective in (
        keras_tuner.Objective(f"val_{name}", "min"),
        keras_tuner.Oracle(objective=["val_loss", keras_tuner.Objective(name, "min")]).objective,
    ):
        with pytest.raises(ObjectiveError, match="would be minimised, but larger is better"):
            check_direction(objective)
    check_direction(keras_tuner.Objective(name, "max"))
    check_direction(keras_tuner.Oracle().objective)
