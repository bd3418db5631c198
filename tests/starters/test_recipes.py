"""Recipes of tasks and layouts beside those of the journeys, and data that are read in parts."""

import datetime
import functools
import runpy
import subprocess
import sys

import cloudpickle
import keras
import keras_tuner
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from keras_nas_plugin.registry.interface import interface_of
from keras_nas_plugin.registry.served_model import ServedModel
from keras_nas_plugin.starters import (
    Request,
    cached,
    date_features,
    draft_recipe,
    frequent_words,
    in_time_order,
    scaled_number,
    stratified,
    stream_table,
    translate,
)
from tests.starters import sources

# Less than any of the sources, so that they are read in parts.
LITTLE = 100


def fit(request, **changed):
    """What the recipe of a request defines, its data, and a model after an epoch."""
    draft = draft_recipe(request)
    request.output.write_text(draft.recipe)
    recipe = runpy.run_path(str(request.output))
    data = recipe["load_data"]()
    if isinstance(data, tuple):
        (x, y), validation, test = data
        data = {"x": x, "y": y, "validation_data": validation, "test_data": test}
    data = dict(data)
    test = data.pop("test_data")
    model = recipe["build_model"](keras_tuner.HyperParameters())
    model.run_eagerly = True  # tracing an optimizer takes seconds; predictions are traced
    history = model.fit(**data, epochs=1, verbose=0)
    model.run_eagerly = False
    assert np.isfinite(history.history["val_loss"][0])
    return model, test, draft


def series_table(path, steps=120):
    """A wave with a row per step, in reverse order."""
    numbers = np.arange(steps)
    dates = [f"{datetime.date(2026, 1, 1) + datetime.timedelta(int(n))}" for n in numbers]
    frame = pd.DataFrame({"day": dates, "load": np.sin(numbers / 4), "note": "x"})
    frame.iloc[::-1].to_csv(path, index=False)
    return path


def test_a_table_that_does_not_fit_into_memory(tmp_path):
    source = sources.penguins(tmp_path / "penguins.csv")
    request = Request(source, "species", output=tmp_path / "recipe.py", memory=LITTLE)
    model, test, draft = fit(request)
    assert "it is read in parts" in draft.findings[0]
    x, y = next(iter(test))
    assert model.predict(x, verbose=0).shape == (len(y), 3)


def test_a_parquet_file_that_does_not_fit_into_memory(tmp_path):
    frame = pd.read_csv(sources.penguins(tmp_path / "penguins.csv"))
    frame.drop(columns="id").to_parquet(tmp_path / "penguins.parquet")
    request = Request(
        tmp_path / "penguins.parquet", "mass_g", output=tmp_path / "recipe.py", memory=LITTLE
    )
    _, _, draft = fit(request)
    assert draft.task == "regression"


def test_parts_of_a_table_have_each_row_once(tmp_path):
    pd.DataFrame({"x": range(1000), "y": 0.5}).to_csv(tmp_path / "data.csv", index=False)
    stream = functools.partial(stream_table, tmp_path / "data.csv", columns=["x"], target="y")
    parts = [
        np.concatenate([x["x"].numpy() for x, _ in data])
        for data in stream(numbers=["x"]).values()
    ]
    assert sorted(np.concatenate(parts)) == list(range(1000))
    assert 550 < len(parts[0]) < 650
    assert list(parts[0][:20]) != sorted(parts[0][:20])
    again = stream(numbers=["x"])["test_data"]
    assert set(parts[2]) == {float(v) for x, _ in again for v in x["x"].numpy()}


@pytest.mark.parametrize("write", [sources.photos, sources.clips])
def test_files_that_do_not_fit_into_memory(tmp_path, write):
    source = write(tmp_path / "data")
    first = min(source.iterdir())
    for path in sorted(first.iterdir())[3:]:
        path.unlink()
    request = Request(source, output=tmp_path / "recipe.py", memory=LITTLE)
    model, test, draft = fit(request)
    assert any("are read while models are trained" in text for text in draft.findings)
    assert "CLASS_WEIGHT = {0: " in draft.recipe  # a class is rare
    x, y = next(iter(test))
    assert model.predict(x, verbose=0).shape == (len(y), 2)


def test_a_regression_predicts_in_the_unit_of_the_target(tmp_path):
    source = sources.penguins(tmp_path / "penguins.csv")
    request = Request(source, "mass_g", time="measured", output=tmp_path / "recipe.py")
    model, (x, y), _ = fit(request)
    assert np.abs(model.predict(x, verbose=0)[:, 0] - y).mean() < 2000  # masses of 3,500 to 4,900
    assert min(x["measured"]) >= "2009"  # the latest fifth


def test_a_forecast(tmp_path):
    request = Request(
        series_table(tmp_path / "load.csv"),
        task="forecast",
        horizon=3,
        output=tmp_path / "recipe.py",
    )
    model, (x, y), draft = fit(request)
    assert "The rows are not in the order of `day`: they are sorted by it." in draft.findings
    assert model.predict(x, verbose=0).shape == y.shape == (22, 3, 1)
    np.testing.assert_allclose(y[-1, -1, 0], np.sin(119 / 4), atol=1e-6)


def test_arrays_can_be_forecast(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.arange(200.0).reshape(100, 2))
    request = Request(tmp_path / "data.npz", "1", "forecast", output=tmp_path / "recipe.py")
    draft = draft_recipe(request)
    request.output.write_text(draft.recipe)
    recipe = runpy.run_path(str(request.output))
    data = recipe["load_data"]()
    x, y = data["test_data"]
    steps = recipe["HORIZON"]
    assert draft.task == "forecast" and y.shape[1:] == (steps, 1)
    assert (y[:, 0, 0] == x[:, -1, 1] + 2).all()  # the second column, a step later
    assert data["y"].max() < data["validation_data"][1].min() <= y.min()


def test_segmentation(tmp_path):
    random = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "cells" / name).mkdir(parents=True)
    for number in range(10):
        mask = np.zeros((16, 16), "uint8")
        mask[: random.integers(4, 12), 3:9] = 255
        Image.fromarray(mask // 2 + 60).save(tmp_path / "cells" / "images" / f"{number}.png")
        Image.fromarray(mask).save(tmp_path / "cells" / "masks" / f"{number}.png")
    request = Request(tmp_path / "cells", output=tmp_path / "recipe.py")
    model, (x, y), draft = fit(request)
    assert draft.task == "segmentation"
    assert (x.shape, y.shape, set(y.flat)) == ((2, 16, 16, 1), (2, 16, 16), {0, 1})
    assert model.predict(x, verbose=0).shape == (2, 16, 16, 2)


def test_translation(tmp_path):
    random = np.random.default_rng(0)
    words = {"one": "eins", "two": "zwei", "three": "drei", "four": "vier"}
    texts = [" ".join(random.choice([*words], random.integers(1, 6))) for _ in range(60)]
    lines = [f"{text}\t{' '.join(words[w] for w in text.split())}" for text in texts]
    (tmp_path / "numbers.tsv").write_text("\n".join(["en\tde", *lines]))
    request = Request(tmp_path / "numbers.tsv", task="translation", output=tmp_path / "recipe.py")
    model, (x, y), draft = fit(request)
    assert draft.guesses == ["From `en` to `de`; `--target en` overrides this."]
    assert y.shape == (12, 6) and (y.max(axis=1) == 10).all()  # each ends
    interface = interface_of(model, {name: texts[:2] for name, texts in x.items()})
    served = ServedModel(model, interface.description())
    translations = translate(served, ["one two", "four"], [*words.values()], length=5)
    assert set(" ".join(translations).split()) <= set(words.values())
    assert all(len(text.split()) <= 5 for text in translations)


def test_labels_of_series_can_be_numbers(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 12, 2))
    np.savez(
        tmp_path / "data.npz", x=x, y=x.mean(axis=(1, 2)), x_test=x[:5], y_test=np.ones(5) / 3
    )
    request = Request(tmp_path / "data.npz", output=tmp_path / "recipe.py")
    _, (tests, y), draft = fit(request)
    assert draft.task == "regression"
    assert len(tests) == 5 and y[0] == pytest.approx(1 / 3)


def test_the_test_file_beside_a_training_file_is_the_test_set(tmp_path):
    sources.motions(tmp_path / "Motions_TRAIN.ts")
    sources.motions(tmp_path / "Motions_TEST.ts", count=4)
    request = Request(tmp_path / "Motions_TRAIN.ts", output=tmp_path / "recipe.py")
    draft = draft_recipe(request)
    request.output.write_text(draft.recipe)
    data = runpy.run_path(str(request.output))["load_data"]()
    assert len(data["test_data"][0]) == 8
    assert len(data["x"]) + len(data["validation_data"][0]) == 24
    assert "The 8 series of the official test set are the test data." in draft.findings


def test_recipes_have_no_unused_names_and_no_long_lines(tmp_path):
    table = sources.penguins(tmp_path / "penguins.csv")
    requests = [Request(table, "mass_g", memory=LITTLE), Request(table, "species", memory=LITTLE)]
    requests += [Request(table, "mass_g"), Request(table, "species", time="measured")]
    requests += [
        Request(sources.photos(tmp_path / "photos")),
        Request(series_table(tmp_path / "s.csv"), task="forecast"),
    ]
    requests += [
        Request(sources.clips(tmp_path / "clips")),
        Request(sources.motions(tmp_path / "m.ts")),
    ]
    squares = sources.squares(tmp_path / "squares")
    requests += [Request(sources.messages(tmp_path / "messages.tsv"))]
    requests += [Request(squares), Request(squares, task="generation")]
    for number, request in enumerate(requests):
        recipe = draft_recipe(request).recipe.replace(str(tmp_path), "/data")
        (tmp_path / f"recipe_{number}.py").write_text(recipe)
    words = ["ruff", "check", "--isolated", "--select", "E,F,I", "--line-length", "99", tmp_path]
    # In a checkout, `keras_nas_plugin.recipes` is outside the package's folder.
    words += ["--config", 'lint.isort.known-first-party = ["keras_nas_plugin"]']
    result = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_dates_become_age_season_and_weekday():
    dates = np.array(["2024-02-29", "2026-11-29", "2000-01-01", ""], dtype=object)
    inputs = keras.Input((1,), dtype="string")
    model = keras.Model(inputs, date_features(inputs, dates, "%Y-%m-%d"))
    rows = keras.ops.convert_to_numpy(
        model(keras.ops.convert_to_tensor(dates.astype(str)[:, None]))
    )
    assert rows.shape == (4, 6)
    assert rows[:, 1].tolist() == [0, 0, 0, 1]
    assert rows[:3, 0].mean() == pytest.approx(0, abs=1e-3)
    assert rows[:3, 0].std() == pytest.approx(1, abs=1e-3)
    turns = np.arctan2(rows[:3, 4], rows[:3, 5]) / (2 * np.pi) * 7
    weekdays = [datetime.date.fromisoformat(date).weekday() for date in dates[:3]]
    differences = (turns - weekdays) % 7  # a week begins somewhere
    assert np.allclose(differences, differences[0], atol=1e-2)
    assert not rows[3, [0, 2, 3, 4, 5]].any()


def test_words_of_a_text_column_are_features():
    texts = np.array(["a red car", "a blue car", ""], dtype=object)
    inputs = keras.Input((1,), dtype="string")
    model = keras.Model(inputs, frequent_words(inputs, texts, words=4))
    rows = keras.ops.convert_to_numpy(
        model(keras.ops.convert_to_tensor(texts.astype(str)[:, None]))
    )
    assert rows.shape == (3, 4)  # words that are not frequent share the first
    assert rows[0].sum() == 3 and rows[2].sum() == 0


def test_missing_numbers_are_zero_and_marked():
    values = np.array([1, 2, 3, np.nan], "float32")
    inputs = keras.Input((1,))
    model = keras.Model(inputs, scaled_number(inputs, values))
    rows = model.predict(values[:, None], verbose=0)
    scale = np.sqrt(1.5)
    assert rows == pytest.approx(np.array([[-scale, 0], [0, 0], [scale, 0], [0, 1]]), abs=1e-4)


def test_splits_have_each_row_once_and_are_the_same_again():
    labels = np.repeat(["a", "b", "c"], [50, 10, 3])
    parts = stratified(labels, seed=1)
    assert sorted(np.concatenate(parts)) == list(range(63))
    assert [sorted(set(labels[rows])) for rows in parts] == [["a", "b", "c"]] * 3
    assert all((a == b).all() for a, b in zip(parts, stratified(labels, seed=1), strict=True))
    assert any((a != b).any() for a, b in zip(parts, stratified(labels, seed=2), strict=True))


def test_the_latest_rows_are_the_test_rows():
    times = [f"{day:02d}.01.2026" for day in (5, 1, 4, 2, 3)]
    training, validation, test = in_time_order(times)
    assert (list(training), list(validation), list(test)) == ([1, 3, 4], [2], [0])


def test_a_cached_function_is_called_once_and_can_be_sent_to_workers():
    calls = []

    @cached
    def load_data():
        """Rows."""
        calls.append(1)
        return 5

    assert load_data() + load_data() == 10
    assert calls == [1]
    assert load_data.__doc__ == "Rows."
    assert cloudpickle.loads(cloudpickle.dumps(load_data))() == 5
