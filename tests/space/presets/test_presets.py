"""Tests of every preset; a new one is covered by its line in the table of presets."""

import json
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from catalogue import REQUIRED, batch, built, default, make, size_of, small

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space import presets
from keras_nas_plugin.space.language.checking import CheckingBuilder
from keras_nas_plugin.space.presets.scaling import (
    FEWEST_PARAMETERS,
    count,
    extreme,
    size_range,
)

DOCS = Path(__file__).resolve().parents[3] / "docs" / "presets.md"
SAMPLES = 30
# Without the variables that Adam creates for every weight.
SGD = {"optimizer": "sgd"}

INVALID = [
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
    ("residual_cnn", {"rows": 0}, "rows"),
    ("darts", {"budget": -1}, "budget"),
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
    """Whether the model can be loaded without this package."""
    return all(type(layer).__module__.startswith("keras.") for layer in model.layers)


@pytest.fixture
def half_precision():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    yield
    keras.mixed_precision.set_global_policy("float32")


def samples_of(hypermodel):
    rng = np.random.default_rng(201)
    return [hypermodel.spec.sample(rng) for _ in range(SAMPLES)]


def options(values):
    """The values of decisions, whatever the number of their block, node or edge."""
    return {(re.sub(r"\d+", "", name), value) for name, value in values.items()}


def covering(samples):
    """A few of the samples that cover every value of every kind of decision in all samples."""
    missing = set().union(*map(options, samples))
    while missing:
        values = max(samples, key=lambda values: len(missing & options(values)))
        missing -= options(values)
        yield values


@each_preset
def test_layers_of_sampled_configurations_fit_together(name):
    """Every distinct layer call of all samples is checked once, on symbolic tensors."""
    hypermodel = small(name)
    builder = CheckingBuilder({})
    inputs = [keras.Input(shape, name=key) for key, shape in hypermodel.inputs.items()]
    for values in samples_of(hypermodel):
        hypermodel.spec.validate(values)
        builder.values = values
        assert builder.part(hypermodel.space, "", inputs).dtype == "float32"


@pytest.mark.slow
@each_preset
def test_every_sampled_option_trains_and_survives_saving(name, tmp_path):
    """Sampled configurations become models that learn, and can be stored and loaded."""
    loss = small(name).compile["loss"]
    hypermodel = small(name, compile=SGD | {"loss": loss})
    stored = set()
    for index, values in enumerate(covering(samples_of(hypermodel))):
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
        operations = {type(operation) for operation in model.operations}
        if operations <= stored:
            continue  # layers and operations of every type are stored, not every model
        stored |= operations
        path = tmp_path / f"{name}.keras"
        model.save(path)
        loaded = keras.models.load_model(path)
        # Some layers, such as `Resizing`, treat a call without `training` as training.
        expected = model(inputs, training=False)
        np.testing.assert_allclose(loaded(inputs, training=False), expected, rtol=1e-6, atol=1e-6)


@each_preset
def test_default_builds_at_full_size(name):
    hypermodel = make(name, **REQUIRED.get(name, {}))
    values = default(hypermodel)
    hypermodel.spec.validate(values)
    model = built(hypermodel, values)
    assert model.name == name
    assert model.count_params() > 1000
    assert model.output.dtype == "float32"
    inputs, labels = batch(model, size=1)
    assert np.isfinite(model.evaluate(inputs, labels, verbose=0, return_dict=True)["loss"])


@each_preset
def test_outputs_are_float32_under_mixed_precision(name, half_precision):
    hypermodel = small(name)
    model = built(hypermodel, default(hypermodel))
    assert {layer.compute_dtype for layer in model.layers} >= {"bfloat16", "float32"}
    assert model.output.dtype == "float32"
    inputs, labels = batch(model)
    assert np.isfinite(model.train_on_batch(inputs, labels)[0])


@each_preset
def test_architecture_is_written_as_json_and_text(name):
    hypermodel = small(name)
    values = hypermodel.spec.sample(np.random.default_rng(0))
    architecture = hypermodel.architecture(values)
    stored = json.loads(architecture.to_json())
    assert stored["values"] == values
    assert stored["hash"] == architecture.hash()
    assert len(str(architecture).splitlines()) == len(stored["vertices"])


@each_preset
def test_every_active_decision_has_an_effect(name):
    """Changing an active decision changes the graph; a decision without effect is inactive."""
    hypermodel = small(name)
    spec = hypermodel.spec
    assert len(spec.names) == len(spec.decisions), "two decisions have the same name"
    rng = np.random.default_rng(3)
    seen = set()
    for _ in range(25):
        values = spec.sample(rng)
        vertices = hypermodel.architecture(values).vertices
        for decision, active in spec.active(values).items():
            seen.add(decision)
            for neighbour in active.domain.neighbours(values[decision], rng):
                changed = spec.complete(values | {decision: neighbour}, rng)
                assert hypermodel.architecture(changed).vertices != vertices, decision
    assert seen == spec.names


@each_preset
def test_size_is_as_documented(name):
    row = re.search(rf"^\| `{name}` \|.*$", DOCS.read_text("utf-8"), re.MULTILINE)
    cells = [cell.strip() for cell in row.group().split("|")]
    size = size_of(make(name, **REQUIRED.get(name, {})).spec)
    assert cells[4] == (f"{size:,}" if size < 10**7 else f"{size:.1e}"), cells


@each_preset
def test_the_range_of_sizes_is_as_documented(name):
    """Smallest and largest are counted; `first` is the default that another test builds."""
    sizes = size_range(make(name, **REQUIRED.get(name, {})))
    table = DOCS.read_text("utf-8").partition("## Sizes")[2]
    row = re.search(rf"^\| `{name}` \|.*$", table, re.MULTILINE)
    assert f"| {sizes} |" in row.group()
    assert f"{sizes}; see ``rows`` and ``budget``." in getattr(presets, name).__doc__


@each_preset
def test_no_sampled_model_is_outside_the_range_of_sizes(name):
    hypermodel = small(name)
    sizes = size_range(hypermodel)
    counts = [count(hypermodel, values) for values in samples_of(hypermodel)[:2]]
    assert sizes.smallest <= min(*counts, sizes.first), counts
    assert sizes.largest >= max(*counts, sizes.first), counts


# Small graphs are built fast; the default vocabularies have more parameters than the budget.
BUDGETED = {
    "darts": {"cells": 3, "nodes": 2},
    "nas_bench_201": {"cells_per_stage": 1},
    "seq2seq": {"source_vocabulary": 50, "target_vocabulary": 60},
    "text_transformer": {"vocabulary": 100, "length": 16},
}


@each_preset
def test_the_largest_model_has_at_most_the_budget(name):
    arguments = REQUIRED.get(name, {}) | BUDGETED.get(name, {})
    hypermodel = make(name, **arguments, budget=40_000)
    values = extreme(hypermodel.spec, largest=True)
    hypermodel.spec.validate(values)
    assert 4_000 < count(hypermodel, values) <= 40_000
    assert count(hypermodel, default(hypermodel)) <= 40_000


def test_few_rows_get_a_small_space():
    """288 images of 28 x 28 pixels began with 2.8 million parameters, and were offered 26."""
    few = size_range(make("residual_cnn", inputs=(28, 28, 1), rows=288))
    assert few.first < few.largest <= FEWEST_PARAMETERS
    most = make("residual_cnn", inputs=(28, 28, 1), rows=10**6)
    assert most.spec == make("residual_cnn", inputs=(28, 28, 1)).spec


def test_given_arguments_are_not_reduced():
    hypermodel = make("tabular", features=4, outputs=1, widths=(32, 64), rows=100)
    domains = {decision.name: decision.domain for decision in hypermodel.spec.decisions}
    assert domains["network/mlp/units"].choices == (32, 64)
    assert domains["network/mlp/depth"].high < 6


def test_a_vocabulary_may_be_larger_than_few_rows_allow():
    hypermodel = make("text_transformer", classes=2, rows=10)
    assert size_range(hypermodel).smallest > FEWEST_PARAMETERS
    with pytest.raises(SearchSpaceError, match=r"`budget` must be at least [\d,]+ .*; got 50,000"):
        make("text_transformer", classes=2, budget=50_000)


@pytest.mark.parametrize(
    ("name", "inputs", "expected"),
    [
        ("residual_cnn", (32, 32, 3), (4, 4)),
        ("residual_cnn", (28, 28, 1), (4, 4)),
        ("residual_cnn", (8, 8, 1), (4, 4)),
        ("residual_cnn", (16, 24, 1), (4, 6)),
        ("mobilenet_v3", (32, 32, 3), (2, 2)),
        ("mobilenet_v3", (8, 8, 3), (2, 2)),
    ],
)
def test_stages_follow_the_size_of_the_images(name, inputs, expected):
    hypermodel = make(name, inputs=inputs)
    chosen = {"resolution": 1.0} if name == "residual_cnn" else {}
    architecture = hypermodel.build_values(hypermodel.spec.fill(chosen))
    (pooled,) = (
        layer
        for layer in architecture.layers
        if layer.name.startswith("global_average_pooling2d") and not layer.keepdims
    )
    assert pooled.input.shape[1:3] == expected


def test_levels_of_a_unet_follow_the_size_of_the_images():
    def depths(size):
        hypermodel = make("unet", inputs=(size, size, 1), classes=2)
        decision = next((d for d in hypermodel.spec.decisions if d.name == "depth"), None)
        return None if decision is None else (decision.domain.low, decision.domain.high)

    assert [depths(size) for size in (None, 128, 16, 8, 4)] == [(2, 4), (2, 4), (2, 3), None, None]


@pytest.mark.parametrize(("name", "arguments", "argument"), INVALID)
def test_invalid_arguments_are_named(name, arguments, argument):
    with pytest.raises(SearchSpaceError, match=re.escape(f"`{argument}`")):
        make(name, **REQUIRED.get(name, {}) | arguments)


def test_single_values_are_not_decisions():
    hypermodel = small("unet", widths=(4,), kernels=(3,), norms=("batch",), depths=(1, 1))
    assert {decision.name for decision in hypermodel.spec.decisions} == {"level0/gate"}
    model = built(hypermodel, default(hypermodel))
    assert model.output_shape == (None, 5, 4, 3)


def test_examples_of_the_documentation_run():
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert len(blocks) > len(presets.__all__)
    # The first is a complete search, on data that would have to be downloaded.
    for block in blocks[1:]:
        exec(compile(block, str(DOCS), "exec"), {})


def test_importing_the_package_does_not_load_keras():
    program = (
        "import sys, keras_nas_plugin.space.presets as presets; dir(presets); "
        "print(sorted({'keras', 'keras_tuner', 'tensorflow'} & set(sys.modules)))"
    )
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert completed.stdout.strip() == "[]"


def test_unknown_names_raise_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_preset"):
        presets.no_such_preset  # noqa: B018
