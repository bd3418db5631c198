"""The recipe for detection: smoke test, average precision by hand, loss, archives, bad input."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from recipes import object_detection as recipe
from recipes import scenes
from tests.starters import sources

LEFT, RIGHT = (0.0, 0.0, 0.4, 0.4), (0.6, 0.6, 1.0, 1.0)


def boxes(*rows: tuple) -> np.ndarray:
    """From (class, box) or (class, probability, box)."""
    return np.array([(*row[:-1], *row[-1]) for row in rows], "float64")


def test_the_smoke_test_detects(smoke) -> None:
    scores = smoke(recipe, "--limit", "16", traced=True)
    assert set(scores["search"]) == {"map_50", "map_50_95"}
    assert all(0 <= value <= 1 for value in scores["search"].values())


def test_overlaps_of_boxes() -> None:
    first = np.array([[0, 0, 2, 2], [0, 0, 0, 0]], "float64")
    second = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [2, 0, 4, 2]], "float64")
    np.testing.assert_allclose(recipe.overlaps(first, second), [[1, 1 / 7, 0], [0, 0, 0]])


def test_average_precision_by_hand() -> None:
    precision = recipe.average_precision
    assert precision(np.array([True, True]), 2) == 1
    assert precision(np.array([], bool), 2) == 0
    assert precision(np.array([True]), 2) == 0.5  # one box is missed
    assert precision(np.array([False, True]), 1) == 0.5
    # Precision at the hits 1, 2/4, 3/5: made non-increasing 1, 3/5, 3/5, of 4 boxes.
    hits = np.array([True, False, False, True, True])
    assert precision(hits, 4) == pytest.approx((1 + 0.6 + 0.6) / 4)


def test_mean_average_precision_by_hand() -> None:
    score = recipe.mean_average_precision
    truths = [boxes((0, LEFT), (1, RIGHT)), boxes((0, RIGHT))]
    perfect = [boxes((0, 0.9, LEFT), (1, 0.8, RIGHT)), boxes((0, 0.7, RIGHT))]
    assert score(perfect, truths, 0.5) == 1
    # Class 0: hit 0.9, a second detection of the same box 0.8 is false, hit 0.7: (1 + 2/3) / 2.
    # Class 1: right place, wrong class, so that none is left: 0.
    objects = [boxes((0, 0.9, LEFT), (0, 0.8, LEFT)), boxes((0, 0.7, RIGHT))]
    assert score(objects, truths, 0.5) == pytest.approx((1 + 2 / 3) / 4)
    # A box shifted by half of its width overlaps by 1/3.
    shifted = [boxes((0, 0.9, (0.2, 0.0, 0.6, 0.4)))]
    assert score(shifted, [boxes((0, LEFT))], 0.3) == 1
    assert score(shifted, [boxes((0, LEFT))], 0.5) == 0
    # A detection in an image without boxes of its class is false, and comes first here.
    objects = [boxes((0, 0.9, LEFT)), boxes((0, 0.8, RIGHT))]
    truths = [boxes((1, LEFT)), boxes((0, RIGHT))]
    assert score(objects, truths, 0.5) == pytest.approx((0.5 + 0) / 2)
    with pytest.raises(ValueError, match="must have 2 images"):
        score(objects[:1], truths, 0.5)
    with pytest.raises(ValueError, match="must have boxes; got none"):
        score([np.zeros((0, 6))], [np.zeros((0, 5))], 0.5)


def grid_of(box: tuple, kind: int, size: int = 6) -> np.ndarray:
    """The grid that a perfect model of two classes predicts for a box."""
    grid = np.full((size, size, 2 + 4), -12.0, "float32")
    grid[..., 2:] = 0
    left, top, right, bottom = (side * size for side in box)
    x, y = (left + right) / 2, (top + bottom) / 2
    cell = grid[int(y), int(x)]
    cell[kind] = 12
    cell[2:] = x % 1, y % 1, np.log(right - left), np.log(bottom - top)
    return grid


def test_a_perfect_grid_has_no_loss_and_gives_its_box() -> None:
    box = (0.1, 0.3, 0.45, 0.6)
    grid = grid_of(box, kind=1)
    (detection,) = recipe.detections(grid)
    assert detection[0] == 1
    assert detection[1] > 0.99
    np.testing.assert_allclose(detection[2:], box, atol=1e-6)
    label = np.array([[[1, *box], [-1, 0, 0, 0, 0]]], "float32")
    loss = recipe.DetectionLoss()
    assert float(loss(label, grid[np.newaxis])) < 1e-3
    # The wrong class, place or size costs.
    for wrong in (grid_of(box, kind=0), grid_of((0.6, 0.3, 0.95, 0.6), 1)):
        assert float(loss(label, wrong[np.newaxis])) > 5
    larger = grid.copy()
    larger[..., 4] += np.log(2.0)
    assert float(loss(label, larger[np.newaxis])) == pytest.approx(np.log(2), abs=1e-3)
    # An image without objects has a loss for what is seen in it.
    none = np.array([[[-1, 0, 0, 0, 0]]], "float32")
    assert float(loss(none, grid[np.newaxis])) > 5
    again = keras.losses.deserialize(keras.losses.serialize(loss), {"DetectionLoss": type(loss)})
    assert isinstance(again, recipe.DetectionLoss)


def test_the_weaker_of_two_detections_of_an_object_is_left_out() -> None:
    box = (0.1, 0.1, 0.6, 0.6)
    grid = grid_of(box, kind=0)
    neighbour = grid[2, 3]
    neighbour[:] = grid[2, 2]
    neighbour[0] = 1.0
    neighbour[2] -= 1  # the same centre, from the next cell
    assert len(recipe.detections(grid)) == 1
    neighbour[1], neighbour[0] = neighbour[0], -12  # of another class: both are given
    assert sorted(recipe.detections(grid)[:, 0]) == [0, 1]


def write(path: Path, **changed) -> Path:
    rows = [[image, image % 2, *LEFT] for image in range(20)] + [[3, 1, *RIGHT]]
    arrays = {"x_train": np.zeros((20, 32, 32, 3), "uint8"), "boxes_train": np.array(rows)}
    np.savez(path, **(arrays | changed))
    return path


def test_archives_are_read_and_divided(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", classes=np.array(["red", "white"]))
    parts, names = recipe.read_arrays(path)
    assert names == ["red", "white"]
    assert [len(x) for x, _ in parts] == [12, 4, 4]
    labels = np.concatenate([y for _, y in parts])
    assert labels.shape == (20, 2, 5)
    assert (labels[..., 0] >= 0).sum() == 21


def test_a_folder_of_images_with_boxes_is_read(tmp_path: Path, monkeypatch) -> None:
    sources.squares(tmp_path / "squares", count=20)
    monkeypatch.setenv("NAS_DATASET", str(tmp_path / "squares"))
    data = recipe.load_data()
    assert (data["x"].shape, data["y"].shape) == ((12, 24, 32, 1), (12, 1, 5))
    assert set(data["y"][:, 0, 0]) == {0, 1}
    path = tmp_path / "squares" / "boxes.csv"
    path.write_text(path.read_text() + "1.png,dark,3,3,3,9\n")
    with pytest.warns(UserWarning, match="1 boxes have no area and are left out: row 21 of"):
        recipe.read_folder(tmp_path / "squares")


def test_boxes_without_area_are_left_out_and_named(tmp_path: Path) -> None:
    rows = np.array([[0, 0, *LEFT], [1, 0, 0.5, 0.5, 0.5, 0.5], [2, 1, *RIGHT]])
    path = write(tmp_path / "a.npz", boxes_train=rows)
    with pytest.warns(UserWarning, match="boxes without area in boxes_train are left out: 1"):
        parts, _ = recipe.read_arrays(path)
    assert sum((y[..., 0] >= 0).sum() for _, y in parts) == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"boxes_train": np.zeros((3, 5))}, r"boxes_train of shape \(m, 6\); got"),
        ({"x_train": np.zeros((20, 8, 8, 3))}, "images of type uint8, 0 to 255; got.*float64"),
        (
            {"x_val": np.zeros((3, 8, 8, 3), "uint8"), "boxes_val": np.array([[0, 0, *LEFT]])},
            "images of one shape; got",
        ),
        ({"boxes_train": np.array([[0, 0, *LEFT[:3], np.nan]])}, "finite numbers; got NaN"),
        ({"boxes_train": np.array([[0, 0, 0, 0, 0, 1]])}, "with an area in boxes_train; got none"),
        ({"x_train": np.zeros((3, 8, 8))}, r"x_train of shape \(n, height, width, channels\)"),
        ({"x_val": np.zeros((3, 8, 8, 1))}, r"boxes_val of shape"),
        (
            {"boxes_train": np.zeros((0, 6))},
            "must have boxes with an area in boxes_train; got none",
        ),
        ({"boxes_train": np.array([[20, 0, *LEFT]])}, "one of 20 images.*got images 20 to 20"),
        ({"boxes_train": np.array([[0, -1, *LEFT]])}, "classes from -1"),
        ({"boxes_train": np.array([[0, 0, 0.5, 0, 0.4, 1]])}, "left <= right.*got \\[0.5"),
        ({"boxes_train": np.array([[0, 0, 10, 10, 20, 20]])}, "from 0 to 1; got \\[10"),
        ({"classes": np.array(["red"])}, "a name in `classes` for each of 2; got"),
    ],
)
def test_errors_of_archives_name_the_problem(tmp_path: Path, changed, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe.read_arrays(write(tmp_path / "a.npz", **changed))


def test_other_data_are_refused(monkeypatch) -> None:
    monkeypatch.setenv("NAS_DATASET", "photos")
    with pytest.raises(
        ValueError, match="a folder with images/ and boxes, or an .npz file; got 'photos'"
    ):
        recipe.load_data()


def test_boxes_and_masks_of_scenes_agree() -> None:
    scene, _, _ = scenes.scene_splits(*recipe.GENERATED)
    assert scene.images.dtype == np.uint8
    for mask, labels in zip(scene.masks[:50], scene.boxes[:50], strict=True):
        covered = np.zeros(mask.shape, bool)
        for kind, *sides in labels[labels[:, 0] >= 0]:
            left, top, right, bottom = np.round(np.array(sides) * scenes.SIZE).astype(int)
            inside = mask[top:bottom, left:right]
            assert inside.shape >= (4, 4)
            for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]):
                assert np.any(edge == 1 + kind)
            covered[top:bottom, left:right] = True
        assert not mask[~covered].any()
