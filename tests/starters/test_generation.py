"""Folders of images to generate others like them."""

import runpy

import keras_tuner
import numpy as np
import pytest
from PIL import Image

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters import Request, draft_recipe, unlabelled_image_splits
from tests.starters import sources

PLENTY = 10**12


def images(folder, count=12, size=(9, 11), mode="RGB"):
    folder.mkdir(parents=True)
    for number in range(count):
        Image.new(mode, size, 20 * number).save(folder / f"{number}.png")
    return folder


def request(source, **options):
    return Request(source, task="generation", **{"memory": PLENTY, **options})


def test_the_written_autoencoder_draws_images_of_the_size_of_the_data(tmp_path):
    source = images(tmp_path / "faces")  # of odd sizes: the decoder crops
    draft = draft_recipe(request(source, output=tmp_path / "recipe.py"))
    assert draft.summary == "12 colour images of 9x11 pixels"
    (tmp_path / "recipe.py").write_text(draft.recipe)
    recipe = runpy.run_path(str(tmp_path / "recipe.py"))
    model = recipe["build_model"](keras_tuner.HyperParameters())
    _, _, (x, y) = recipe["load_data"]()
    assert x.shape == (2, 11, 9, 3) and x.dtype == np.uint8
    np.testing.assert_allclose(y, x / 255, atol=1e-6)
    # The same each time, unlike in training: exports are compared by their predictions.
    first, again = (model.predict(x, verbose=0) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    new_images = recipe["new_images"]
    drawn = new_images(model, 5)
    assert drawn.shape == (5, 11, 9, 3)
    assert 0 <= drawn.min() < drawn.max() <= 1
    assert np.ptp(drawn, axis=0).max() > 0  # different images
    assert (drawn != new_images(model, 5, seed=1)).any()


@pytest.mark.parametrize(
    ("write", "count", "findings"),
    [
        (sources.photos, 24, []),
        (sources.squares, 12, []),
        (lambda folder: images(folder, 200), 200, None),
        (
            lambda folder: images(folder / "masks") and images(folder / "images").parent,
            12,
            ["Only the images in `images/` are used."],
        ),
        (
            lambda folder: images(folder, size=(100, 200)),
            12,
            ["Images are resized to 64x128 pixels."],
        ),
    ],
    ids=["class folders", "with boxes", "enough", "with masks", "large"],
)
def test_what_is_noticed_is_said_and_is_in_the_recipe(tmp_path, write, count, findings):
    source = write(tmp_path / "data")
    draft = draft_recipe(request(source))
    assert draft.task == "generation"
    few = (
        f"WARNING: {count} images are few; with fewer than 200, generated images tend to be "
        "blurred averages of them."
    )
    assert list(draft.findings) == ([] if findings is None else [few, *findings])
    recipe = " ".join(line.strip() for line in draft.recipe.splitlines())
    assert all(sentence in recipe for sentence in draft.findings)
    compile(draft.recipe, "recipe.py", "exec")
    assert len(draft.recipe.splitlines()) < 120


def test_images_beside_masks_are_read_without_the_masks(tmp_path):
    folder = images(tmp_path / "masks") and images(tmp_path / "images").parent
    recipe = draft_recipe(request(folder, output=tmp_path / "recipe.py")).recipe
    (tmp_path / "recipe.py").write_text(recipe)
    parts = runpy.run_path(str(tmp_path / "recipe.py"))["load_data"]()
    assert [len(x) for x, _ in parts] == [8, 2, 2]


def test_splits_have_each_image_once_and_are_the_same_again(tmp_path):
    folder = images(tmp_path / "faces", mode="L")
    images(folder / "more", 3, mode="L")
    parts = unlabelled_image_splits(folder, size=(11, 9), channels=1, seed=1)
    assert [x.shape for x in parts] == [(9, 11, 9, 1), (3, 11, 9, 1), (3, 11, 9, 1)]
    grey = np.concatenate(parts)[:, 0, 0, 0].tolist()
    assert sorted(grey) == sorted([*range(0, 240, 20), 0, 20, 40])
    again = unlabelled_image_splits(folder, size=(11, 9), channels=1, seed=1)
    assert all((x == y).all() for x, y in zip(parts, again, strict=True))


def broken(folder):
    (images(folder) / "broken.png").write_bytes(b"no image")
    return folder


def texts(folder):
    (folder / "good").mkdir(parents=True)
    (folder / "good" / "1.txt").write_text("words")
    return folder


@pytest.mark.parametrize(
    ("write", "options", "message"),
    [
        (broken, {}, "broken.png` must be an image"),
        (lambda folder: images(folder, 9), {}, "must have at least 10 images; got 9"),
        (images, {"memory": 1000}, "must fit into memory with 0 MB"),
        (
            texts,
            {},
            "must be classification for texts; got generation, which takes a folder of im",
        ),
    ],
    ids=["unreadable image", "few images", "memory", "texts"],
)
def test_images_that_cannot_be_used_are_refused(tmp_path, write, options, message):
    with pytest.raises(SourceError) as caught:
        draft_recipe(request(write(tmp_path / "data"), **options))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_of_images_is_not_generated_unasked(tmp_path):
    with pytest.raises(SourceError, match="12 images without a class"):
        draft_recipe(Request(images(tmp_path / "faces"), memory=PLENTY))
