"""The search space of the image recipe: random configurations build, and some train."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import keras_tuner
import numpy as np
import pytest

from recipes import image_classification as recipe


@pytest.fixture(autouse=True)
def _fresh_graph() -> Iterator[None]:
    yield
    keras.backend.clear_session()


def space() -> keras_tuner.HyperParameters:
    hp = keras_tuner.HyperParameters()
    recipe.build_model(hp)
    return hp


def sample(hp: keras_tuner.HyperParameters, rng: np.random.Generator):
    sampled = hp.copy()
    for parameter in hp.space:
        sampled.values[parameter.name] = parameter.random_sample(int(rng.integers(2**31)))
    return sampled


def test_one_build_declares_the_complete_space() -> None:
    hp = space()
    names = {parameter.name for parameter in hp.space}
    hp.values["stages"] = 3
    hp.ensure_active_values()
    recipe.build_model(hp)
    assert {parameter.name for parameter in hp.space} == names
    assert {"stages", "stage1_width", "stage3_pooling", "learning_rate", "dropout"} <= names


def test_stages_beyond_the_depth_are_inactive() -> None:
    hp = space()
    for stages, active in ((1, [True, False, False]), (2, [True, True, False])):
        hp.values["stages"] = stages
        assert [hp.is_active(f"stage{stage}_block") for stage in (1, 2, 3)] == active


def test_fifty_random_configurations_build_and_five_train() -> None:
    (x, y), _, _ = recipe.load_data()
    hp, rng = space(), np.random.default_rng(0)
    shapes = set()
    for number in range(50):
        model = recipe.build_model(sample(hp, rng))
        assert model.output_shape == (None, 10)
        shapes.add(tuple(layer.name.rstrip("_0123456789") for layer in model.layers))
        if number % 10 == 0:
            model.run_eagerly = True  # one step: tracing a graph takes longer
            assert np.isfinite(model.train_on_batch(x[:32], y[:32])[0])
    assert len(shapes) > 40  # architectures, not learning rates alone


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (2, 9, 1), (3, 3, 3), (8, 8, 1), (28, 28, 1), (33, 50, 3)]
)
def test_feature_maps_have_at_least_two_pixels_for_images_of_every_size(
    shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "image_shape_and_classes", lambda: (shape, 3))
    hp = space()
    max_stages = next(p for p in hp.space if p.name == "stages").max_value
    assert 1 <= max_stages <= 4
    for pooling in ("max", "average", "strided"):
        for head in ("average", "flatten"):
            hp.values.update(
                {f"stage{stage}_pooling": pooling for stage in range(2, max_stages + 1)}
            )
            hp.values.update(stages=max_stages, head_pooling=head)
            hp.ensure_active_values()
            model = recipe.build_model(hp)
            sides = [
                min(lay.output.shape[1:3]) for lay in model.layers if len(lay.output.shape) == 4
            ]
            assert head == "flatten" or min(sides) >= min(2, *shape[:2])
            assert model(np.zeros((2, *shape), "float32")).shape == (2, 3)


def test_the_output_is_float32_in_mixed_precision() -> None:
    before = keras.mixed_precision.dtype_policy()
    try:
        keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
        assert recipe.build_model(keras_tuner.HyperParameters()).output.dtype == "float32"
    finally:
        keras.mixed_precision.set_dtype_policy(before)
