"""The recipe for generated images: smoke test, Fréchet distances by hand, the autoencoder."""

from __future__ import annotations

import keras
import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin.recipes import running
from recipes import image_generation as recipe


def test_the_smoke_test_generates(smoke, monkeypatch) -> None:
    monkeypatch.setattr(recipe, "SAMPLES", 100)
    monkeypatch.setattr(recipe, "CLASSIFIER_EPOCHS", 1)
    scores = smoke(recipe, "--limit", "32", values={"depth": 1}, traced=True)
    assert 0 <= scores["search"]["fid_of_real"] < scores["search"]["fid"]


def test_frechet_distances_by_hand() -> None:
    distance = recipe.frechet_distance
    square = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], "float64")  # covariance 4/3
    assert distance(square, square) == pytest.approx(0, abs=1e-9)
    assert distance(square, square + [3, 4]) == pytest.approx(25)
    # tr(C + D - 2 (C D)^(1/2)) with D = 9 C: 2 * 4/3 * (1 + 9 - 6).
    assert distance(square, 3 * square) == pytest.approx(2 * 4 / 3 * 4)
    stretched = square * [1, 2]  # only the second feature differs: 4/3 * (1 + 4 - 4)
    assert distance(square, stretched) == pytest.approx(4 / 3)
    # A feature that never varies, as a unit that is always 0.
    constant = square * [1, 0]
    assert distance(square, constant) == pytest.approx(4 / 3)
    for wrong in (square[:1], square[:, :1]):
        with pytest.raises(ValueError, match="at least two rows and the same features; got"):
            distance(square, wrong)


def test_the_divergence_is_that_of_two_normal_distributions() -> None:
    layer = recipe.Sampling(pixels=10, seed=0)
    layer(np.zeros((5, 6), "float32"))
    assert float(layer.losses[0]) == 0  # a normal distribution itself
    mean, deviation = 2.0, 0.5
    row = np.array([[mean, 0.0, 2 * np.log(deviation), 0.0]], "float32")
    layer(row)
    expected = (deviation**2 + mean**2 - 1 - 2 * np.log(deviation)) / 2
    assert float(layer.losses[0]) == pytest.approx(expected / 10, rel=1e-5)
    drawn = np.asarray(layer(np.repeat(row, 20_000, axis=0)))
    np.testing.assert_allclose(drawn.mean(axis=0), [mean, 0], atol=0.03)
    np.testing.assert_allclose(drawn.std(axis=0), [deviation, 1], atol=0.03)
    again = recipe.Sampling.from_config(layer.get_config())
    assert (again.pixels, again.seed, again.noise_at_inference) == (10, 0, True)


def test_without_noise_at_inference_the_latent_variables_are_the_means() -> None:
    layer = recipe.Sampling(pixels=10, seed=0, noise_at_inference=False)
    row = np.array([[2.0, 0.0, -1.0, 0.0]], "float32")
    assert np.asarray(layer(row)).tolist() == [[2.0, 0.0]]
    divergence = float(layer.losses[0])
    assert np.abs(np.asarray(layer(row, training=True)) - row[:, :2]).min() > 0
    assert float(layer.losses[0]) == divergence > 0
    assert not recipe.Sampling.from_config(layer.get_config()).noise_at_inference


@pytest.mark.parametrize("enlarge", ["transposed", "resize"])
def test_the_decoder_makes_images_of_the_size_of_the_data(enlarge, tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.npz"  # of odd sizes: the decoder crops
    x = np.random.default_rng(0).integers(0, 256, (30, 11, 9, 3), "uint8")
    np.savez(path, x_train=x, y_train=np.arange(30) % 2)
    monkeypatch.setenv("NAS_DATASET", str(path))
    hp = keras_tuner.HyperParameters()
    hp.Fixed("enlarge", enlarge)
    model = recipe.build_model(hp)
    (images, targets), _, _ = recipe.load_data()
    assert images is targets
    assert model.output.shape[1:] == images.shape[1:]
    decoder = model.get_layer("decoder")
    generated = running.predict(decoder, np.zeros((2, *decoder.input.shape[1:]), "float32"))
    assert generated.shape == (2, 11, 9, 3)
    assert generated.min() >= 0
    assert generated.max() <= 1
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(
        tmp_path / "model.keras", custom_objects={"Sampling": recipe.Sampling}
    )
    assert loaded.count_params() == model.count_params()
