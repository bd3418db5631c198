"""The recipe for classes of time series: smoke test, files of the UCR archive, bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin.recipes import running
from recipes import time_series_classification as recipe

HEADER = "# Note\n@problemName Walk\n@timeStamps false\n@classLabel true walk run\n@data\n"


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., running.Splits]:
    def loaded(train: str, test: str | None = None) -> running.Splits:
        (tmp_path / "Walk_TRAIN.ts").write_text(train, encoding="utf-8")
        if test is not None:
            (tmp_path / "Walk_TEST.ts").write_text(test, encoding="utf-8")
        monkeypatch.setenv("NAS_DATASET", str(tmp_path / "Walk_TRAIN.ts"))
        recipe._load.cache_clear()
        return running.Splits.of(recipe.load_data())

    return loaded


def walks(rows: int) -> str:
    rng = np.random.default_rng(rows)
    lines = []
    for row in range(rows):
        channels = rng.normal(row % 2, 0.1, (2, 5 + row % 3)).round(2)
        lines.append(
            ":".join(",".join(map(str, c)) for c in channels) + f":{'walk run'.split()[row % 2]}"
        )
    return HEADER + "\n".join(lines)


def test_the_smoke_test_classifies(smoke) -> None:
    scores = smoke(recipe, "--limit", "32", values={"network/blocks/depth": 1})
    assert 0 <= scores["search"]["accuracy"] <= 1


def test_train_and_test_files_of_unequal_lengths_are_read(load) -> None:
    splits = load(walks(40), walks(6))
    assert splits.class_names == ["run", "walk"]
    assert [x.shape for x, _ in (splits.training, splits.validation, splits.test)] == [
        (32, 7, 2),
        (8, 7, 2),
        (6, 7, 2),
    ]
    x, y = splits.test
    np.testing.assert_array_equal(x[0, 4:], np.repeat(x[0, 4:5], 3, axis=0))  # five steps
    np.testing.assert_array_equal(y, [1, 0, 1, 0, 1, 0])
    model = recipe.build_model(keras_tuner.HyperParameters())
    assert running.predict(model, x).shape == (6, 2)
    budget = running.Budget(trials=1, epochs=1, batch_size=8, seconds=None, seed=0)
    nearest = recipe.NearestNeighbour(splits, budget)
    assert running.accuracy(nearest, x, y) == {"accuracy": 1.0}


def test_test_series_are_taken_from_the_training_file_if_there_is_no_other(load) -> None:
    splits = load(walks(40))
    assert [len(y) for _, y in (splits.training, splits.validation, splits.test)] == [25, 7, 8]


def test_missing_values_are_interpolated() -> None:
    nan = np.nan
    values = np.array([[nan, 1, nan, 3, nan], [nan] * 5]).T
    np.testing.assert_array_equal(recipe.interpolated(values).T, [[1, 1, 2, 3, 3], [0] * 5])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER, "must have series below `@data`; got none"),
        (HEADER + "1,2:walk\n1,2:1,2:run", r"same channels; got .* and \[1, 2\] channels"),
        (HEADER + "1,2:walk\n" * 9, r"two classes or more .*; got the classes \['walk'\]"),
        (HEADER + "1,2:walk\n1,2:run", "must have enough rows"),
    ],
)
def test_errors_of_files_name_the_problem(content: str, message: str, load) -> None:
    with pytest.raises(ValueError, match=message):
        load(content)


def test_an_unknown_data_set_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_DATASET", "GunPoimt")
    with pytest.raises(
        ValueError, match="must be generated, an existing file .ts, .*got 'GunPoimt'"
    ):
        recipe.load_data()
