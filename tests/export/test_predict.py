"""`keras-nas predict`: raw rows of a CSV file or a folder, in chunks."""

from __future__ import annotations

import click
import keras
import numpy as np
import pandas as pd
import pytest

from keras_nas_plugin.registry import register_model
from keras_nas_plugin.registry.predicting import as_table
from tests.export.test_formats import keras_nas


def predicted(champion, rows, output, *words):
    target = ["predict", "digits@champion", rows, "-o", output, "--tracking-uri", champion.uri]
    keras_nas(*target, *words)
    return pd.read_csv(output)


def table_of(x):
    return pd.DataFrame(x.reshape((len(x), 64)), columns=[f"pixel {i}" for i in range(64)])


@pytest.mark.parametrize("chunk_rows", [7, 1024])
def test_rows_of_a_table_are_predicted_in_chunks(champion, tmp_path, chunk_rows):
    rows = table_of(champion.x)
    rows.insert(0, "id", [f"row {i}" for i in range(len(rows))])
    rows.to_csv(tmp_path / "rows.csv", index=False)
    options = ["--keep", "id", "--chunk-rows", chunk_rows]
    table = predicted(champion, tmp_path / "rows.csv", tmp_path / "out.csv", *options)
    assert table["id"].tolist() == rows["id"].tolist()
    expected = champion.predicted
    assert table["class"].tolist() == [f"digit {i}" for i in expected.argmax(axis=-1)]
    np.testing.assert_allclose(table["probability"], expected.max(axis=-1), atol=1e-5)
    np.testing.assert_allclose(table.filter(like="probability_"), expected, atol=1e-5)
    assert not (tmp_path / "out.csv.part").exists()


def test_a_table_without_names(champion, tmp_path):
    table_of(champion.x[:3]).to_csv(tmp_path / "rows.csv", index=False, header=False)
    table = predicted(champion, tmp_path / "rows.csv", tmp_path / "out.csv", "--no-header")
    assert len(table) == 3


def test_files_of_a_folder(champion, tmp_path):
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    pixels = (champion.x[:2] * 255).astype("uint8")
    keras.utils.save_img(folder / "a.png", pixels[0], scale=False)
    np.save(folder / "more" / "b.npy", pixels[1])
    table = predicted(champion, folder, tmp_path / "out.csv")
    assert table["file"].tolist() == ["a.png", "more/b.npy"]
    expected = champion.model.predict(pixels.astype("float32"), verbose=0)
    np.testing.assert_allclose(table.filter(like="probability_"), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "'rows.csv' must have 64 columns, the inputs of the model; got 2"),
        ("", "must be a CSV file in UTF-8; reading"),
        (",".join(f"p{i}" for i in range(64)) + "\n", "must have at least one row"),
        (
            ",".join(f"p{i}" for i in range(64)) + "\n" + ",".join(["x"] * 64) + "\n",
            "must hold values of type float32",
        ),
        (None, "must be an existing file or folder"),
    ],
)
def test_bad_rows_are_one_sentence(champion, tmp_path, content, message):
    path = tmp_path / "rows.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(click.UsageError, match=message):
        predicted(champion, path, tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists() and not (tmp_path / "out.csv.part").exists()


def test_a_folder_that_does_not_fit(champion, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(click.UsageError, match="must be a folder with files of the types .png"):
        predicted(champion, tmp_path / "empty", tmp_path / "out.csv")
    np.save(tmp_path / "empty" / "a.npy", np.zeros((3, 3)))
    with pytest.raises(click.UsageError, match="'a.npy' of shape \\(3, 3\\)"):
        predicted(champion, tmp_path / "empty", tmp_path / "out.csv")
    (tmp_path / "empty" / "a.npy").unlink()
    (tmp_path / "empty" / "a.png").write_bytes(b"no image")
    with pytest.raises(click.UsageError, match="cannot be read: 'a.png'"):
        predicted(champion, tmp_path / "empty", tmp_path / "out.csv")


def test_columns_are_found_by_name(champion, tmp_path):
    """A table with texts: an empty cell is an empty text, and other columns are ignored."""
    words = keras.layers.TextVectorization(20, output_sequence_length=3)
    words.adapt(["free prize", "see you"])
    inputs = {
        "text": keras.Input((1,), dtype="string", name="text"),
        "age": keras.Input((1,), name="age"),
    }
    embedded = keras.layers.Flatten()(keras.layers.Embedding(20, 2)(words(inputs["text"])))
    joined = keras.layers.Concatenate()([embedded, inputs["age"]])
    model = keras.Model(inputs, keras.layers.Dense(1)(joined))
    texts, ages = np.array([["free"], ["see you"]]), np.array([[3.0], [1.5]], "float32")
    register_model(
        model,
        name="mixed",
        run_id=champion.run_id,
        tracking_uri=champion.uri,
        sample={"text": texts, "age": ages},
    )
    rows = pd.DataFrame({"age": [3.0, 1.5], "other": [0, 1], "text": ["free", None]})
    rows.to_csv(tmp_path / "rows.csv", index=False)
    words = ["mixed/1", tmp_path / "rows.csv", "-o", tmp_path / "out.csv"]
    keras_nas("predict", *words, "--tracking-uri", champion.uri)
    import tensorflow as tf

    expected = model({"text": tf.constant([["free"], [""]]), "age": tf.constant(ages)})
    table = pd.read_csv(tmp_path / "out.csv")
    np.testing.assert_allclose(table["prediction"], np.ravel(expected), rtol=1e-5)
    rows.drop(columns="age").to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(click.UsageError, match="must have the columns text, age; got no age"):
        keras_nas("predict", *words, "--tracking-uri", champion.uri)


def test_tables_of_predictions():
    several = {"a": np.zeros((2, 2)), "b": np.ones((2, 1))}
    assert as_table(several).columns.tolist() == ["a_0", "a_1", "b"]
    multilabel = pd.DataFrame({"classes": [["x", "y"], []], "probabilities": [{"x": 1.0}] * 2})
    assert as_table(multilabel)["classes"].tolist() == ["x;y", ""]
