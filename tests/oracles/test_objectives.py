import keras_tuner
import pytest

from keras_nas_plugin.errors import ObjectiveError
from keras_nas_plugin.oracles.objectives import check_direction, checked_objective

# Larger is better, and KerasTuner 1.4.8 minimises them or fails on the name.
MISREAD = ["f1_score", "r2_score", "cosine_similarity", "pearson_correlation", "mean_io_u"]


@pytest.mark.parametrize("name", [*MISREAD, *(f"val_{name}" for name in MISREAD)])
def test_names_that_keras_tuner_misreads_are_refused_with_their_direction(name):
    with pytest.raises(ObjectiveError) as raised:
        checked_objective(name)
    assert f'`keras_tuner.Objective("{name}", direction="max")`' in str(raised.value)
    assert f"--objective {name} --direction max" in str(raised.value)


@pytest.mark.parametrize("name", ["val_auc_1", "my_metric", "val_latency_ms", "MeanIoU", ""])
def test_names_that_nobody_knows_are_refused(name):
    with pytest.raises(ObjectiveError, match="which its name does not tell for certain"):
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
def test_certain_names_are_taken(name, direction):
    assert checked_objective(name) == keras_tuner.Objective(name, direction)


@pytest.mark.parametrize("name", ["val_accuracy", "val_precision", "val_loss", "mse"])
def test_the_direction_is_that_of_keras_tuner_where_that_is_right(name):
    assert checked_objective(name) == keras_tuner.Oracle(objective=name).objective


def test_given_directions_are_kept():
    objective = keras_tuner.Objective("val_f1_score", "max")
    assert checked_objective(objective) is objective
    assert checked_objective(None) is None
    both = checked_objective(("val_loss", objective))
    assert both == [keras_tuner.Objective("val_loss", "min"), objective]


def test_a_direction_that_is_none_is_refused():
    with pytest.raises(ObjectiveError, match="needs 'min' or 'max'; received 'up'"):
        checked_objective(keras_tuner.Objective("score", "up"))
    with pytest.raises(ObjectiveError, match="needs 'min' or 'max'; received None"):
        checked_objective([keras_tuner.Objective("score", None)])


@pytest.mark.parametrize("name", MISREAD)
def test_an_oracle_of_keras_tuner_that_misread_a_name_is_refused(name):
    for objective in (
        keras_tuner.Objective(f"val_{name}", "min"),
        keras_tuner.Oracle(objective=["val_loss", keras_tuner.Objective(name, "min")]).objective,
    ):
        with pytest.raises(ObjectiveError, match="would be minimised, but larger is better"):
            check_direction(objective)
    check_direction(keras_tuner.Objective(name, "max"))
    check_direction(keras_tuner.Oracle().objective)
