import json

import numpy as np
import pytest

from keras_nas_plugin.evaluation import datasets
from keras_nas_plugin.evaluation.datasets import describe_data, sample_rows


def describe(data):
    described = describe_data("digits", "training", data)
    assert set(described) == {"name", "context", "digest", "profile"}
    assert len(described["digest"]) == 16 and int(described["digest"], 16) >= 0
    json.dumps(described)
    return described


def digest(data):
    return describe(data)["digest"]


def images(rows=10):
    return np.arange(rows * 4, dtype="float32").reshape(rows, 2, 2)


def test_the_digest_depends_on_the_content():
    assert digest(images()) == digest(images().copy()) == digest(images()[::-1][::-1])
    changed = images()
    changed[7, 1, 1] += 1
    variants = [changed, images(9), images().astype("float64"), images().reshape(10, 4)]
    assert len({digest(data) for data in [images(), *variants]}) == 5


def test_the_digest_depends_on_each_part_of_nested_data():
    x, y = images(), np.arange(10)
    base = {"x": {"left": x, "right": x + 1}, "y": y}
    assert describe(base)["profile"] == {
        "x": {
            "left": {"shape": [10, 2, 2], "dtype": "float32"},
            "right": {"shape": [10, 2, 2], "dtype": "float32"},
        },
        "y": {"shape": [10], "dtype": "int64"},
    }
    changed = [
        {"x": {"left": x, "right": x}, "y": y},
        {"x": {"left": x, "right": x + 1}, "y": y[::-1]},
    ]
    assert len({digest(data) for data in (base, *changed)}) == 3
    assert digest((x, y)) == digest([x, y]) != digest([x, y + 1])
    assert describe((x, y, None))["profile"] == describe((x, y))["profile"]


def test_lists_and_strings_are_digested_as_arrays():
    assert describe([1, 2, 3])["profile"]["shape"] == [3]
    assert digest([1, 2, 3]) != digest([1, 2, 4])
    words = np.array(["a", "bc"], dtype=object)
    assert digest(words) == digest(words.copy()) != digest(words[::-1])


def test_large_arrays_are_hashed_by_blocks(monkeypatch):
    monkeypatch.setattr(datasets, "_HASHED_BYTES", 1024)
    data = np.arange(64 * 100, dtype="float32").reshape(6400 // 10, 10)
    assert data.nbytes > 1024
    original = digest(data)
    assert original == digest(data.copy())
    for row in (0, len(data) - 1):
        changed = data.copy()
        changed[row, 0] += 1
        assert digest(changed) != original
    assert digest(data[:-1]) != original
    assert digest(np.asfortranarray(data)) == original


def test_a_large_array_with_few_rows_is_hashed_by_content(monkeypatch):
    monkeypatch.setattr(datasets, "_HASHED_BYTES", 256)
    for rows in (1, 3):
        data = np.zeros((rows, 1000), "float32")
        changed = data.copy()
        changed[0, 0] = 1.0
        assert digest(changed) != digest(data)


def test_tf_datasets_are_described_without_consuming_them():
    tf = pytest.importorskip("tensorflow")
    x, y = images(), np.arange(10)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    profile = describe(data)["profile"]
    assert profile["batches"] == 3 and "float32" in profile["elements"]
    assert digest(data) == digest(tf.data.Dataset.from_tensor_slices((x, y)).batch(4))
    assert digest(data) != digest(data.take(2))
    infinite = describe(data.repeat())
    assert infinite["profile"]["batches"] == -1
    assert np.array_equal(sample_rows(data), x[:4])
    assert np.array_equal(sample_rows(data, 2), x[:2])
    named = tf.data.Dataset.from_tensor_slices(({"a": x, "b": x + 1}, y)).batch(4)
    assert np.array_equal(sample_rows(named, 2)["b"], x[:2] + 1)
    assert describe(tf.constant(x))["profile"] == {"shape": [10, 2, 2], "dtype": "float32"}


def test_data_of_unknown_types_are_described_by_their_type():
    assert describe(iter(()))["profile"] == {"type": "tuple_iterator"}
    assert sample_rows(iter(())) is None
    assert sample_rows(None) is None


def test_a_sample_of_a_py_dataset_is_its_first_batch():
    keras = pytest.importorskip("keras")

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return images()[index * 4 : index * 4 + 4], np.arange(4)

    assert describe(Batches())["profile"]["type"] == "Batches"
    assert np.array_equal(sample_rows(Batches(), 3), images()[:3])


def test_sample_rows_keeps_the_structure():
    x = images()
    assert np.array_equal(sample_rows(x), x[:4])
    nested = sample_rows({"a": x, "b": [x, x + 1]}, 3)
    assert np.array_equal(nested["b"][1], x[:3] + 1)
    assert len(sample_rows((x, x), 1)) == 2 and sample_rows((x, x), 1)[0].shape == (1, 2, 2)
    frame = pytest.importorskip("pandas").DataFrame({"a": [1, 2, 3]})
    assert sample_rows(frame, 2).tolist() == [[1], [2]]
