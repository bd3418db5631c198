"""The recipe for texts: smoke test, the layer that splits texts, its file formats, bad input."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf

from keras_nas_plugin.recipes import running
from recipes import text_classification as recipe


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., running.Splits]:
    def loaded(content: bytes, name: str = "texts.tsv") -> running.Splits:
        path = tmp_path / name
        path.write_bytes(content)
        monkeypatch.setenv("NAS_DATASET", str(path))
        recipe._load.cache_clear()
        return running.Splits.of(recipe.load_data())

    return loaded


def test_the_smoke_test_compares_with_two_baselines(smoke) -> None:
    scores = smoke(recipe, "--limit", "64", "--baseline", values={"encoder/blocks/depth": 1})
    assert set(scores) == {"search", "mean of word vectors", "tf-idf"}
    assert scores["tf-idf"]["accuracy"] > 0.5  # of four topics


def test_models_take_texts_and_padding_has_no_effect(load) -> None:
    lines = "".join(f"{'ham' if i % 2 else 'spam'}\tword{i % 7} and you\n" for i in range(60))
    splits = load(lines.encode())
    assert splits.class_names == ["ham", "spam"]
    for build in (recipe.build_model, recipe.baseline_model):
        _check_padding(build(keras_tuner.HyperParameters()))


def _check_padding(model: keras.Model) -> None:
    texts = tf.constant([["word1 and you"], ["WORD1, and you!"], [""]])
    first, second, empty = running.predict(model, texts)
    np.testing.assert_allclose(first, second, rtol=1e-5)
    assert np.isfinite(empty).all()


def test_splits_of_a_compressed_file_are_as_it_says(load) -> None:
    rows = [("train", 40), ("validation", 10), ("test", 6)]
    lines = [f"{split}\t{'ab'[i % 2]}\ttext {i}" for split, count in rows for i in range(count)]
    splits = load(gzip.compress("\n".join(lines).encode()), "texts.tsv.gz")
    assert [len(y) for _, y in (splits.training, splits.validation, splits.test)] == [40, 10, 6]
    splits = load("\n".join(lines[:40]).encode())
    assert [len(y) for _, y in (splits.training, splits.validation, splits.test)] == [25, 7, 8]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must have lines with training texts; got none"),
        (b"ham\thello\nspam", r"line 2: must be label<TAB>text.*got 'spam'"),
        (b"dev\tham\thello", "split train, validation, test; got 'dev"),
        (b"ham\t", "line 1: must be"),
        (b"test\tham\thello", "must have lines with training texts"),
        (b"ham\thello\n" * 9, r"must have two labels or more; got \['ham'\]"),
        ("ham\tgrüß".encode("latin-1"), "must be a text file in UTF-8"),
    ],
)
def test_errors_of_files_name_the_line(content: bytes, message: str, load) -> None:
    with pytest.raises(ValueError, match=message):
        load(content)


def test_a_damaged_archive_and_an_unknown_name_are_errors(load, monkeypatch) -> None:
    with pytest.raises(ValueError, match="must be a text file in UTF-8"):
        load(b"no gzip", "texts.gz")
    monkeypatch.setenv("NAS_DATASET", "imbd")
    with pytest.raises(ValueError, match="must be generated, imdb, .*got 'imbd'"):
        recipe.load_data()


def test_the_archive_of_film_reviews_is_read(tmp_path: Path) -> None:
    path = tmp_path / "reviews.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in (
            "train/pos/0_9.txt",
            "train/neg/1_2.txt",
            "train/unsup/2_0.txt",
            "imdb.vocab",
        ):
            text = f"{name}<br />seen".encode()
            member = tarfile.TarInfo(f"aclImdb/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text))
    texts = recipe.read_imdb(path)
    assert texts == {
        "train": [("good", "train/pos/0_9.txt seen"), ("bad", "train/neg/1_2.txt seen")],
        "test": [],
    }


def test_generated_texts_have_four_topics_of_which_one_needs_two_words() -> None:
    rows = list(recipe.generated(200, seed=1))
    assert rows == list(recipe.generated(200, seed=1))
    assert set(Counter(label for label, _ in rows)) == {
        "weather",
        "kitchen",
        "travel",
        "none of them",
    }
    assert all(("not" in text.split()) == (label == "none of them") for label, text in rows)
