"""`load_data` of the image recipe: its splits, file formats and error messages."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from recipes import image_classification as recipe


@pytest.fixture(autouse=True)
def _empty_cache() -> Iterator[None]:
    recipe._load.cache_clear()
    yield
    recipe._load.cache_clear()


@pytest.fixture
def load_npz(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[recipe.Split, recipe.Split, recipe.Split]]:
    def load(**arrays: np.ndarray) -> tuple[recipe.Split, recipe.Split, recipe.Split]:
        path = tmp_path / "images.npz"
        np.savez(path, **arrays)
        monkeypatch.setenv("NAS_DATASET", str(path))
        recipe._load.cache_clear()
        return recipe.load_data()

    return load


def images(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype("uint8")


def labels(count: int, classes: int = 5) -> np.ndarray:
    return np.arange(count) % classes


def rows(split: recipe.Split) -> set[bytes]:
    return {image.tobytes() for image in split[0]}


def test_digits_are_the_default_and_are_scaled() -> None:
    splits = recipe.load_data()
    assert [len(x) for x, _ in splits] == [1149, 288, 360]
    for x, y in splits:
        assert x.shape[1:] == (8, 8, 1)
        assert x.dtype == np.float32
        assert (x.min(), x.max()) == (0, 1)
        assert y.shape == (len(x),)
        # Splits are stratified: each class has about 10% of the rows.
        assert np.all(np.abs(np.bincount(y) / len(y) - 0.1) < 0.01)
    assert recipe.image_shape_and_classes() == ((8, 8, 1), 10)


def test_splits_share_no_image() -> None:
    train, validation, test = map(rows, recipe.load_data())
    assert not train & test
    assert not train & validation
    assert not validation & test


def test_splits_are_the_same_every_time() -> None:
    first = recipe.load_data()
    assert recipe.load_data() is first  # `build_model` calls it for every trial
    recipe._load.cache_clear()
    for (x, y), (x_again, y_again) in zip(first, recipe.load_data(), strict=True):
        np.testing.assert_array_equal(x, x_again)
        np.testing.assert_array_equal(y, y_again)


def test_the_limit_reduces_every_split(monkeypatch: pytest.MonkeyPatch) -> None:
    complete = recipe.load_data()
    monkeypatch.setenv("NAS_LIMIT", "100")
    part = recipe.load_data()
    assert [len(y) for _, y in part] == [100, 100, 100]
    for limited, all_rows in zip(part, complete, strict=True):
        assert rows(limited) <= rows(all_rows)
        assert len(np.unique(limited[1])) == 10


def test_an_npz_file_may_contain_every_split(load_npz: Callable) -> None:
    train, validation, test = load_npz(
        x_train=images(30, 6, 7, 3),
        y_train=labels(30),
        x_val=images(10, 6, 7, 3, seed=1),
        y_val=labels(10),
        x_test=images(20, 6, 7, 3, seed=2),
        y_test=labels(20),
    )
    assert [len(y) for _, y in (train, validation, test)] == [30, 10, 20]
    assert recipe.image_shape_and_classes() == ((6, 7, 3), 5)
    assert train[0].max() <= 1


def test_missing_splits_of_an_npz_file_are_taken_from_the_training_images(
    load_npz: Callable,
) -> None:
    train, validation, test = load_npz(x=images(100, 5, 5), y=labels(100))
    assert [len(y) for _, y in (train, validation, test)] == [64, 16, 20]
    assert not rows(train) & rows(test)
    train, validation, test = load_npz(
        x_train=images(100, 5, 5), y_train=labels(100), x_test=images(7, 5, 5), y_test=labels(7)
    )
    assert [len(y) for _, y in (train, validation, test)] == [80, 20, 7]


def test_npz_labels_may_be_one_hot_a_column_or_floats_without_fraction(load_npz: Callable) -> None:
    x, y = images(50, 4, 4), labels(50)
    _, _, (_, plain) = load_npz(x=x, y=y)
    for same in (np.eye(5)[y], y[:, np.newaxis], y.astype("float32"), y.astype("uint8")):
        _, _, (_, loaded) = load_npz(x=x, y=same)
        np.testing.assert_array_equal(loaded, plain)
        assert loaded.dtype == np.int64


def test_npz_floats_are_not_scaled(load_npz: Callable) -> None:
    x = np.linspace(-3, 9, 50 * 16).reshape(50, 4, 4)
    splits = load_npz(x=x, y=labels(50))
    assert min(part.min() for part, _ in splits) == -3
    assert max(part.max() for part, _ in splits) == 9


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": images(9, 4, 4)}, r"must have x_train and y_train; got \['images'\]"),
        ({"x": images(9, 4, 4)}, r"must have y; got \['x'\]"),
        (
            {"x_train": images(9, 4, 4), "y_train": labels(9), "x_test": images(9, 4, 4)},
            "must have y_test",
        ),
        ({"x": images(9, 16), "y": labels(9)}, r"train: `x` must have .*; got \(9, 16\)"),
        ({"x": images(0, 4, 4), "y": labels(0)}, r"got \(0, 4, 4, 1\)"),
        (
            {"x": images(9, 4, 4), "y": labels(8)},
            r"one label for each of 9 .*got shape \(8,\)",
        ),
        ({"x": images(9, 4, 4), "y": labels(9) - 1}, "integer labels from 0"),
        ({"x": images(9, 4, 4), "y": labels(9) / 2}, "integer labels from 0"),
        ({"x": images(9, 4, 4), "y": np.array(["cat"] * 9)}, "integer labels from 0"),
        ({"x": images(9, 4, 4), "y": np.array([["a", "b"]] * 9)}, "integer labels from 0"),
        ({"x": images(9, 4, 4), "y": np.array([])}, "one label for each of 9"),
        ({"x": images(9, 4, 4), "y": np.array(3)}, "one label for each of 9"),
        ({"x": images(9, 4, 4), "y": np.ones((9, 3))}, "one-hot"),
        (
            {"x": images(9, 4, 4), "y": np.array([{}] * 9, dtype=object)},
            "must be an .npz file of plain arrays",
        ),
        (
            {
                "x_train": images(40, 4, 4),
                "y_train": labels(40),
                "x_test": images(9, 5, 4),
                "y_test": labels(9),
            },
            r"one shape; got \[\(4, 4, 1\), \(5, 4, 1\)\]",
        ),
    ],
)
def test_errors_of_npz_files_name_the_problem(
    arrays: dict[str, np.ndarray], message: str, load_npz: Callable
) -> None:
    with pytest.raises(ValueError, match=message):
        load_npz(**arrays)


def test_a_file_that_is_not_npz_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "images.npz"
    monkeypatch.setenv("NAS_DATASET", str(path))
    with pytest.raises(FileNotFoundError, match=r"images\.npz"):
        recipe.load_data()
    for content in (b"", b"no archive", b"PK\x03\x04 cut off"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"images\.npz must be an \.npz file"):
            recipe.load_data()
    with path.open("wb") as file:
        np.save(file, labels(3))
    with pytest.raises(ValueError, match=r"images\.npz must be an \.npz file"):
        recipe.load_data()


def test_an_unknown_dataset_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_DATASET", "mnits")
    with pytest.raises(ValueError, match="must be digits, fashion_mnist.*got 'mnits'"):
        recipe.load_data()


def idx(array: np.ndarray) -> bytes:
    """The idx format: zero, zero, type, rank; big-endian sizes; the values."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.astype("uint8").tobytes()


def write_fashion(folder: Path, *, compress: bool) -> None:
    for stem, count in (("train", 50), ("t10k", 20)):
        for name, array in (
            (f"{stem}-images-idx3-ubyte", images(count, 28, 28, seed=count)),
            (f"{stem}-labels-idx1-ubyte", labels(count, 10)),
        ):
            if compress:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (folder / name).write_bytes(idx(array))


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("dataset", ["fashion_mnist", "folder"])
def test_idx_files_are_read_from_a_folder(
    compress: bool, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fashion(tmp_path, compress=compress)
    monkeypatch.setattr(recipe, "DEBIAN_FASHION_MNIST", tmp_path)
    monkeypatch.setenv("NAS_DATASET", str(tmp_path) if dataset == "folder" else dataset)
    train, validation, test = recipe.load_data()
    assert [x.shape for x, _ in (train, validation, test)] == [
        (40, 28, 28, 1),
        (10, 28, 28, 1),
        (20, 28, 28, 1),
    ]
    brightest = images(50, 28, 28, seed=50).max()
    original = images(20, 28, 28, seed=20)[..., np.newaxis].astype("float32") / brightest
    assert rows(test) == {image.tobytes() for image in original.astype("float32")}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "unsigned bytes"),
        (b"\0\0\x0d\1\0\0\0\1\0\0\0\0", "unsigned bytes"),  # floats
        (b"\0\0\x08\3\0\0\0\1", "unsigned bytes"),  # sizes cut off
        (idx(labels(50))[:-1], r"must have 50 values of shape \(50,\); got 49"),
    ],
)
def test_errors_of_idx_files_name_the_problem(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_fashion(tmp_path, compress=False)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(content)
    monkeypatch.setenv("NAS_DATASET", str(tmp_path))
    with pytest.raises(ValueError, match=message):
        recipe.load_data()


def test_a_missing_idx_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_fashion(tmp_path, compress=True)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    monkeypatch.setenv("NAS_DATASET", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="t10k-labels-idx1-ubyte"):
        recipe.load_data()
