"""The recipe for forecasts: smoke test, windows, seasons, the naive forecast, bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin.recipes import running
from recipes import forecasting as recipe

BUDGET = running.Budget(trials=1, epochs=1, batch_size=8, seconds=None, seed=0)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., recipe.Task]:
    def loaded(content: str, suffix: str = "") -> recipe.Task:
        path = tmp_path / "sales.csv"
        path.write_text(content, encoding="utf-8")
        monkeypatch.setenv("NAS_DATASET", f"{path}{suffix}")
        recipe._load.cache_clear()
        return recipe._task()

    return loaded


def sales(rows: int, season: int = 7) -> str:
    week = np.random.default_rng(0).permutation(season) * 10
    lines = [f"{i},{week[i % season] + i},shop" for i in range(rows)]
    return "day,units,name\n" + "\n".join(lines)


def test_the_smoke_test_forecasts(smoke) -> None:
    scores = smoke(recipe, "--limit", "32", values={"network/layers/blocks/depth": 1})
    assert scores["search"]["mase"] > 0


def test_splits_follow_one_another_and_share_no_value_to_forecast(load) -> None:
    task = load(sales(200))
    assert task.season == 7
    units = np.array([float(line.split(",")[1]) for line in sales(200).splitlines()[1:]])
    seen: set[float] = set()
    for (x, y), first, last in zip(
        (task.splits.training, task.splits.validation, task.splits.test),
        (14, 120, 160),
        (120, 160, 200),
        strict=True,
    ):
        assert x.shape[1:] == (14, 1)
        np.testing.assert_array_equal(np.unique(y), np.unique(units[first:last]))
        np.testing.assert_array_equal(x[0, :, 0], units[first - 14 : first])
        assert len(y) == last - first - 6
        seen |= set(range(first, last))
    assert len(seen) == 186


def test_the_seasonal_naive_forecast_repeats_the_season(load) -> None:
    task = load(sales(200), ":units:7")
    naive = recipe.SeasonalNaive(task.splits, BUDGET)
    x, y = task.splits.test
    np.testing.assert_array_equal(naive.predict(x), x[:, 7:, 0])
    # The series rises by a unit a day, and the scale is that of the same error in training.
    assert recipe.score(naive, x, y) == {"mase": 1.0, "mae": 7.0}


@pytest.mark.parametrize("anchor", recipe.ANCHORS)
def test_a_model_follows_the_level_and_the_scale_of_its_window(anchor: str, load) -> None:
    task = load(sales(200))
    hp = keras_tuner.HyperParameters()
    hp.Fixed("anchor", anchor)
    model = recipe.build_model(hp)
    x, _ = task.splits.test
    forecast = running.predict(model, x[:3])
    assert forecast.shape == (3, 7)
    np.testing.assert_allclose(
        running.predict(model, 10 * x[:3] + 500), 10 * forecast + 500, rtol=1e-3
    )


@pytest.mark.parametrize("season", [2, 7, 24, 48])
def test_the_season_of_a_series_is_found_in_noise_and_with_a_trend(season: int) -> None:
    rng = np.random.default_rng(season)
    smooth = np.sin(2 * np.pi * np.arange(season) / season) + rng.permutation(season) / season
    values = np.tile(smooth, 12) + rng.normal(0, 0.05, 12 * season) + 0.01 * np.arange(12 * season)
    assert recipe.season_of(values) == season


@pytest.mark.parametrize(
    ("content", "suffix", "message"),
    [
        (sales(200), ":price", "must have a column 'price' of numbers; .* are day, units"),
        (sales(200), ":name", "must have a column 'name' of numbers"),
        (sales(200), ":units:x", "must be 2 steps or more; got 'x'"),
        (sales(200), ":units:90", "must have enough values for windows of 180 .*got 200"),
        (sales(8), "", "must have 10 values in its training part or more"),
        ("a\n" + "5\n" * 90, "", "not all the same"),
        ("a,b\n1,2\n,2\n", ":a", "'a' must have a number in every row; 1 are missing"),
        ("", "", "must be a CSV file in UTF-8"),
        ("a\nx\n", "", "must have a column '' of numbers; its columns of numbers are none"),
    ],
)
def test_errors_of_csv_files_name_the_problem(
    content: str, suffix: str, message: str, load
) -> None:
    with pytest.raises(ValueError, match=message):
        load(content, suffix)


def test_an_unknown_series_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_DATASET", "bikes")
    with pytest.raises(ValueError, match="must be generated, bike_sharing or .*got 'bikes'"):
        recipe.load_data()
