"""The recipe for tables: smoke test, layers inside the models, the CSV file, bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin.recipes import running
from recipes import tabular as recipe

HEADER = "island,mass,bill,species\n"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., running.Splits]:
    def loaded(content: str | bytes, target: str = "") -> running.Splits:
        path = tmp_path / "birds.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        monkeypatch.setenv("NAS_DATASET", f"{path}{target}")
        recipe._load.cache_clear()
        return running.Splits.of(recipe.load_data())

    return loaded


def birds(rows: int = 100) -> str:
    lines = [
        f"{('north', 'south', '', 'islet')[i % 4 if i else 3]},{'' if i % 10 == 5 else 3 + i % 7},"
        f"{i / 10},{'AB'[i % 2]}"
        for i in range(rows)
    ]
    return HEADER + "\n".join(lines)


def test_the_smoke_test_says_who_wins_against_gradient_boosting(smoke) -> None:
    scores = smoke(recipe, "--data", "diabetes", "--limit", "64", "--baseline")
    assert set(scores) == {"search", "gradient boosting"}
    assert all(values["r2"] <= 1 for values in scores.values())


def test_raw_rows_with_texts_and_missing_values_are_predicted(load) -> None:
    splits = load(birds())
    x, y = splits.training
    assert splits.class_names == ["A", "B"]
    assert [len(part[1]) for part in (splits.training, splits.validation, splits.test)] == [
        64,
        16,
        20,
    ]
    assert np.isnan(x["numbers"]).any()
    assert set(recipe._table().vocabularies[0]) == {"north", "south", "islet"}
    model = recipe.build_model(keras_tuner.HyperParameters())
    probabilities = running.predict(model, x)
    assert probabilities.shape == (64, 2)
    assert np.isfinite(probabilities).all()
    boosting = recipe.GradientBoosting(
        splits, running.Budget(trials=2, epochs=1, batch_size=32, seconds=None, seed=0)
    )
    assert boosting.predict(splits.test[0]).shape == (20, 2)
    assert recipe.score(boosting, *splits.test)["accuracy"] > 0.5


def test_a_column_of_numbers_is_predicted_in_its_own_unit(load) -> None:
    splits = load(birds(), ":bill")
    assert splits.class_names is None
    mean, deviation = recipe._table().target_scale
    assert mean == pytest.approx(splits.training[1].mean())
    model = recipe.build_model(keras_tuner.HyperParameters())
    predicted = running.predict(model, splits.test[0])
    assert np.abs(predicted - mean).max() < 5 * deviation
    perfect = type("Perfect", (), {"predict": staticmethod(lambda x: splits.test[1])})
    assert recipe.score(perfect, *splits.test) == {"r2": 1.0}


@pytest.mark.parametrize(
    ("content", "target", "message"),
    [
        (birds(), ":wing", "must have the column 'wing' to predict.*got island, mass"),
        (birds(), ":mass", "'mass' to predict must have a value in every row; 10 are missing"),
        (HEADER + "x,1,2,A\n" * 50, "", "'species' to predict must have two values or more"),
        (HEADER + "x,1,2,A\nx,2,3,B\n", "", "must have enough rows"),
        ("", "", "must be a CSV file in UTF-8"),
        ("é,b\n1,2\n".encode("latin-1"), "", "must be a CSV file in UTF-8"),
        ("a\n1\n2\n", "", "must have the column 'a' to predict, and others; got a"),
    ],
)
def test_errors_of_csv_files_name_the_problem(
    content: str | bytes, target: str, message: str, load
) -> None:
    with pytest.raises(ValueError, match=message):
        load(content, target)


def test_an_unknown_table_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_DATASET", "irsi")
    with pytest.raises(ValueError, match=r"must be breast_cancer, .* file FILE\.csv.*got 'irsi'"):
        recipe.load_data()
