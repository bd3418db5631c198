"""What holds for every preset; a new one is covered by its line in the table of presets."""

import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from catalogue import NEEDED, batch, built, default, made, size_of, small

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space import presets

DOCS = Path(__file__).resolve().parents[3] / "docs" / "presets.md"
SAMPLES = 50
STORED = 5  # each of so many is stored and loaded, which takes as long as all the rest
# Without the slots that Adam makes for every weight.
SGD = {"optimizer": "sgd"}

WRONG = [
    ("darts", {"classes": 1}, "classes"),
    ("darts", {"inputs": (32, 32)}, "inputs"),
    ("darts", {"cells": 2}, "cells"),
    ("darts", {"nodes": 0}, "nodes"),
    ("darts", {"channels": 0}, "channels"),
    ("mobilenet_v3", {"kernels": ()}, "kernels"),
    ("mobilenet_v3", {"kernels": (3, 3)}, "kernels"),
    ("mobilenet_v3", {"expansions": (0,)}, "expansions"),
    ("mobilenet_v3", {"depths": (3, 2)}, "depths"),
    ("mobilenet_v3", {"depths": 3}, "depths"),
    ("mobilenet_v3", {"widths": (1.0, -1.0)}, "widths"),
    ("mobilenet_v3", {"width": 0}, "width"),
    ("mobilenet_v3", {"stages": 6}, "stages"),
    ("mobilenet_v3", {"stem_strides": 0}, "stem_strides"),
    ("mobilenet_v3", {"dropout": 1.0}, "dropout"),
    ("nas_bench_201", {"channels": 0}, "channels"),
    ("nas_bench_201", {"cells_per_stage": 0}, "cells_per_stage"),
    ("nas_bench_201", {"inputs": (32, 32, None)}, "inputs"),
    ("residual_cnn", {"kinds": ("plain",)}, "kinds"),
    ("residual_cnn", {"blocks": (2, 0)}, "blocks"),
    ("residual_cnn", {"resolutions": "half"}, "resolutions"),
    ("residual_cnn", {"inputs": (None, None, 3)}, "resolutions"),
    ("residual_cnn", {"inputs": 32}, "inputs"),
    ("seq2seq", {"source_vocabulary": 1}, "source_vocabulary"),
    ("seq2seq", {"target_vocabulary": 1}, "target_vocabulary"),
    ("seq2seq", {"source_length": 0}, "source_length"),
    ("seq2seq", {"target_length": 2.5}, "target_length"),
    ("seq2seq", {"encoder_depths": (0, 2)}, "encoder_depths"),
    ("seq2seq", {"decoder_depths": (1, 2, 3)}, "decoder_depths"),
    ("seq2seq", {"ratios": (True,)}, "ratios"),
    ("sequence_1d", {"outputs": 3}, "outputs"),
    ("sequence_1d", {"classes": None}, "classes"),
    ("sequence_1d", {"classes": None, "outputs": (24, 0)}, "outputs"),
    ("sequence_1d", {"inputs": (128,)}, "inputs"),
    ("sequence_1d", {"stem_strides": ()}, "stem_strides"),
    ("tabular", {"features": 0}, "features"),
    ("tabular", {"categories": {8: 3}}, "categories"),
    ("tabular", {"categories": [3]}, "categories"),
    ("tabular", {"categories": {1: 0}}, "categories[1]"),
    ("tabular", {"embeddings": (0,)}, "embeddings"),
    ("text_transformer", {"vocabulary": 1}, "vocabulary"),
    ("text_transformer", {"length": None}, "length"),
    ("text_transformer", {"heads": (0,)}, "heads"),
    ("text_transformer", {"dropout": -0.1}, "dropout"),
    ("unet", {"norms": ("layer",)}, "norms"),
    ("unet", {"norms": "batch"}, "norms"),
    ("unet", {"widths": (16.0,)}, "widths"),
    ("unet", {"outputs": 2}, "outputs"),
    ("unet", {"compile": "adam"}, "compile"),
]

each_preset = pytest.mark.parametrize("name", presets.__all__)


def of_keras(model):
    """Whether any process with Keras can load the model."""
    return all(type(layer).__module__.startswith("keras.") for layer in model.layers)


@pytest.fixture
def half_precision():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.mark.slow
@each_preset
def test_samples_train_and_survive_saving(name, memory_folder):
    """Valid configurations of any preset become models that learn and can be stored."""
    loss = small(name).compile["loss"]
    hypermodel = small(name, compile=SGD | {"loss": loss})
    rng = np.random.default_rng(201)
    for index in range(SAMPLES):
        values = hypermodel.spec.sample(rng)
        hypermodel.spec.validate(values)
        model = built(hypermodel, values)
        assert of_keras(model)
        assert model.output.dtype == "float32"
        inputs, labels = batch(model, seed=index)
        before = [weight.numpy() for weight in model.trainable_weights]
        assert np.isfinite(model.train_on_batch(inputs, labels)), values
        assert any(
            (weight.numpy() != old).any()
            for weight, old in zip(model.trainable_weights, before, strict=True)
        )
        if index % STORED:
            continue
        path = memory_folder / f"{name}.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        # Some layers, such as `Resizing`, make a plain call one of training.
        expected = model(inputs, training=False)
        np.testing.assert_allclose(loaded(inputs, training=False), expected, rtol=1e-6, atol=1e-6)


@each_preset
def test_default_builds_at_full_size(name):
    hypermodel = made(name, **NEEDED.get(name, {}))
    values = default(hypermodel)
    hypermodel.spec.validate(values)
    model = built(hypermodel, values)
    assert model.name == name
    assert model.count_params() > 1000
    assert model.output.dtype == "float32"
    inputs, labels = batch(model, size=1)
    assert np.isfinite(model.evaluate(inputs, labels, verbose=0, return_dict=True)["loss"])


@each_preset
def test_heads_are_exact_under_half_precision(name, half_precision):
    hypermodel = small(name)
    model = built(hypermodel, default(hypermodel))
    assert {layer.compute_dtype for layer in model.layers} >= {"bfloat16", "float32"}
    assert model.output.dtype == "float32"
    inputs, labels = batch(model)
    assert np.isfinite(model.train_on_batch(inputs, labels)[0])


@each_preset
def test_architecture_is_written_down(name):
    hypermodel = small(name)
    values = hypermodel.spec.sample(np.random.default_rng(0))
    architecture = hypermodel.architecture(values)
    stored = json.loads(architecture.to_json())
    assert stored["values"] == values
    assert stored["hash"] == architecture.hash()
    assert len(str(architecture).splitlines()) == len(stored["vertices"])


@each_preset
def test_every_active_decision_has_an_effect(name):
    """Changing what is active changes the graph; what has no effect must not be decided."""
    hypermodel = small(name)
    spec = hypermodel.spec
    assert len(spec.names) == len(spec.decisions), "a name stands for two decisions"
    rng = np.random.default_rng(3)
    seen = set()
    for _ in range(25):
        values = spec.sample(rng)
        vertices = hypermodel.architecture(values).vertices
        for decision, active in spec.active(values).items():
            seen.add(decision)
            for other in active.domain.neighbours(values[decision], rng):
                changed = spec.complete(values | {decision: other}, rng)
                assert hypermodel.architecture(changed).vertices != vertices, decision
    assert seen == spec.names


@each_preset
def test_size_is_as_documented(name):
    row = re.search(rf"^\| `{name}` \|.*$", DOCS.read_text("utf-8"), re.MULTILINE)
    cells = [cell.strip() for cell in row.group().split("|")]
    size = size_of(made(name, **NEEDED.get(name, {})).spec)
    assert cells[4] == (f"{size:,}" if size < 10**7 else f"{size:.1e}"), cells


@pytest.mark.parametrize(("name", "arguments", "argument"), WRONG)
def test_wrong_arguments_are_named(name, arguments, argument):
    with pytest.raises(SearchSpaceError, match=re.escape(f"`{argument}`")):
        made(name, **NEEDED.get(name, {}) | arguments)


def test_single_values_are_no_decisions():
    hypermodel = small("unet", widths=(4,), kernels=(3,), norms=("batch",), depths=(1, 1))
    assert {one.name for one in hypermodel.spec.decisions} == {"level0/gate"}
    model = built(hypermodel, default(hypermodel))
    assert model.output_shape == (None, 5, 4, 3)


def test_examples_of_the_page_run():
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert len(blocks) > len(presets.__all__)
    # The first is a whole search, on data that takes a download.
    for block in blocks[1:]:
        exec(compile(block, str(DOCS), "exec"), {})


def test_importing_the_table_loads_no_keras():
    program = (
        "import sys, keras_nas_plugin.space.presets as presets; dir(presets); "
        "print(sorted({'keras', 'keras_tuner', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_unknown_names_are_refused():
    with pytest.raises(AttributeError, match="no_such_preset"):
        presets.no_such_preset  # noqa: B018
