"""The recipe for segmentation: smoke test, scores by hand, folders and archives, bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recipes import segmentation as recipe


def test_the_smoke_test_segments(smoke) -> None:
    scores = smoke(recipe, "--limit", "16")
    assert 0 < scores["search"]["mean_iou"] <= scores["search"]["dice"] <= 1


def test_scores_by_hand() -> None:
    y = np.array([[0, 0, 0], [1, 1, 2]])
    assert recipe.mean_scores(y, y) == {"mean_iou": 1, "dice": 1}
    # 0: 2 of 3 pixels; 1: 2 right and 1 wrong; 2: missed, and 3 does not occur.
    scores = recipe.mean_scores(y, np.array([[0, 0, 1], [1, 1, 3]]))
    assert scores["mean_iou"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert scores["dice"] == pytest.approx((4 / 5 + 4 / 5 + 0) / 3)


def test_folders_are_read(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(10):
        Image.new("RGB", (20, 16), (i, 0, 0)).save(tmp_path / "images" / f"{i}.png")
        mask = np.zeros((16, 20), "uint8")
        mask[:, :8] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{i}.png")
    parts = recipe.read_folder(tmp_path)
    assert [len(x) for x, _ in parts] == [6, 2, 2]
    x, y = parts[0]
    assert x.shape[1:] == (128, 128, 3)
    assert set(np.unique(y)) == {0, 1}
    (tmp_path / "masks" / "3.png").unlink()
    with pytest.raises(ValueError, match=r"got none of 3\.png"):
        recipe.read_folder(tmp_path)
    with pytest.raises(ValueError, match=r"must have the folders images/ and masks/; lacks"):
        recipe.read_folder(tmp_path / "images")


def test_archives_are_read_and_errors_name_the_problem(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.npz"
    x, y = np.zeros((20, 8, 8, 1), "uint8"), np.ones((20, 8, 8), "uint8")
    np.savez(path, x_train=x, y_train=y, x_test=x[:3], y_test=y[:3])
    assert [len(labels) for _, labels in recipe.read_arrays(path)] == [16, 4, 3]
    for changed, message in (
        ({"y_train": y[:, :4]}, r"masks y_train of shape \(n, height, width\); got"),
        ({"y_train": y / 2}, "y_train must be integers from 0; got float64"),
        ({"y_train": y.astype("int8") - 2}, "must be integers from 0; got int8 from -1"),
        ({"x_val": x}, "must have images x_val"),
        ({"x_train": x / 255}, "images of type uint8, 0 to 255; got.*float64"),
        ({"x_val": x[:, :4], "y_val": y[:, :4]}, "images of one shape; got"),
    ):
        np.savez(path, **({"x_train": x, "y_train": y} | changed))
        with pytest.raises(ValueError, match=message):
            recipe.read_arrays(path)
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match="must be an .npz file of plain arrays"):
        recipe.read_arrays(path)
    monkeypatch.setenv("NAS_DATASET", "photos")
    with pytest.raises(ValueError, match="must be generated, a folder.*got 'photos'"):
        recipe.load_data()
