"""Facts from the papers: sizes of networks, equal cells, masks, resolutions."""

import keras
import numpy as np
import pytest
from catalogue import batch, built, default, small

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space import presets
from keras_nas_plugin.space.presets.attention import steps_to_the_last
from keras_nas_plugin.space.presets.darts_cells import DARTS_V2, canonical_order, darts_values
from keras_nas_plugin.space.presets.scaling import count


def trainable(hypermodel):
    return count(hypermodel, default(hypermodel))


# ------------------------------------------------------------------------ sizes of networks


def test_nas_bench_201_has_the_parameter_count_of_the_paper():
    """1.531546 MB in the benchmark's table for 3x3 convolutions everywhere."""
    assert trainable(presets.nas_bench_201()) == 1_531_546


def test_darts_has_the_parameter_count_of_the_paper():
    """3.3 million in table 1; the authors' code prints 3.349342 MB for DARTS_V2."""
    hypermodel = presets.darts(channels=36, cells=20)
    assert darts_values(**DARTS_V2) == default(hypermodel)
    assert trainable(hypermodel) == 3_349_342


@pytest.mark.parametrize(
    ("kind", "blocks", "parameters"),
    # As torchvision counts ResNet-18 and ResNet-50.
    [("basic", (2, 2, 2, 2), 11_689_512), ("bottleneck", (3, 4, 6, 3), 25_557_032)],
)
def test_residual_networks_have_the_parameter_counts_of_the_paper(kind, blocks, parameters):
    hypermodel = presets.residual_cnn(
        (64, 64, 3),
        1000,
        blocks=blocks,
        channels=64,
        kinds=(kind,),
        depths=(1.0,),
        widths=(1.0,),
        resolutions=(1.0,),
        stem_strides=4,
    )
    assert hypermodel.spec.decisions == ()
    assert trainable(hypermodel) == parameters


def test_coefficients_scale_depth_width_and_resolution():
    hypermodel = presets.residual_cnn((32, 24, 3), blocks=(1, 2), channels=8, kinds=("basic",))
    values = {"depth": 2.0, "width": 2.0, "resolution": 0.5}
    stages = [v for v in hypermodel.architecture(values).vertices if v.label == "residual_stage"]
    assert [(v.arguments["blocks"], v.arguments["filters"]) for v in stages] == [(2, 16), (4, 32)]
    model = hypermodel.build_values(values)
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert convolutions[0].output.shape == (None, 16, 12, 16)


def test_mobilenet_depth_and_width_follow_their_decisions():
    hypermodel = small("mobilenet_v3", width=1.0)
    values = default(hypermodel) | {"stage1/depth": 1, "stage1/0/filters": 32}
    model = hypermodel.build_values(hypermodel.spec.restrict(values))
    depthwise = [
        layer for layer in model.layers if isinstance(layer, keras.layers.DepthwiseConv2D)
    ]
    # The fixed first block and one block in each of two stages, expanded by a factor of 4.
    assert [layer.output.shape[-1] for layer in depthwise] == [16, 4 * 16, 4 * 32]


# ----------------------------------------------------------------------------- DARTS' cells


def renumbered(wiring, order):
    """The same cell whose nodes are computed in another order."""
    position = {0: 0, 1: 1} | {old + 2: new + 2 for new, old in enumerate(order)}
    return [sorted((position[source], name) for name, source in wiring[old]) for old in order]


def values_of(wiring, kind):
    values = {}
    for node, pairs in enumerate(wiring, start=2):
        if node > 2:
            values[f"{kind}/{node}/from"] = "+".join(str(source) for source, _ in pairs)
        values |= {f"{kind}/{node}/op{slot}": name for slot, (_, name) in enumerate(pairs)}
    return values


def test_isomorphic_cells_have_equal_hashes():
    """Any order of the nodes in which each follows its sources is the same network."""
    hypermodel = presets.darts((8, 8, 3), channels=2, cells=3)
    rng = np.random.default_rng(5)
    renumbered_cells = 0
    for _ in range(40):
        values = hypermodel.spec.sample(rng)
        same = dict(values)
        for kind in ("normal", "reduction"):
            cell = hypermodel_cell(hypermodel, kind)
            wiring = cell.wiring(lambda name, domain, values=values: values[name], kind)
            order = topological(wiring, rng)
            renumbered_cells += order != sorted(order)
            same |= values_of(renumbered(wiring, order), kind)
        hypermodel.spec.validate(same)
        assert hypermodel.architecture(same).hash() == hypermodel.architecture(values).hash()
    assert renumbered_cells > 10, "too few cells were renumbered for a meaningful test"


def hypermodel_cell(hypermodel, kind):
    return next(
        fork.into for fork in hypermodel.space.parts["cells"].cells if fork.into.name == kind
    )


def topological(wiring, rng):
    """A random order in which each node follows its sources."""
    order, waiting = [], list(rng.permutation(len(wiring)))
    while waiting:
        ready = [
            node
            for node in waiting
            if all(source < 2 or source - 2 in order for _, source in wiring[node])
        ]
        order.append(int(ready[0]))
        waiting.remove(ready[0])
    return order


def test_different_cells_have_different_hashes():
    hypermodel = presets.darts((8, 8, 3), channels=2, cells=3)
    values = default(hypermodel)
    digest = hypermodel.architecture(values).hash()
    for change in ({"normal/5/from": "0+4"}, {"reduction/4/op1": "avg_pool_3x3"}):
        assert hypermodel.architecture(values | change).hash() != digest
    # Nodes 2 and 3 of that cell are equal, so that either may be the source.
    assert hypermodel.architecture(values | {"normal/5/from": "0+3"}).hash() == digest


def test_the_canonical_order_of_nodes_ignores_their_numbers():
    plain = [[("skip", 0), ("pool", 1)], [("conv", 0), ("pool", 1)], [("conv", 0), ("conv", 2)]]
    swapped = [plain[1], plain[0], [("conv", 0), ("conv", 3)]]
    labels = [{2: "a", 3: "b", 4: "c"}, {3: "a", 2: "b", 4: "c"}]
    first, second = canonical_order(plain), canonical_order(swapped)
    assert [labels[0][node] for node in first] == [labels[1][node] for node in second]


@pytest.mark.parametrize("operation", ["sep_conv_3x3", "dil_conv_5x5", "avg_pool_3x3"])
def test_reduction_cells_halve_odd_sizes_rounding_up(operation):
    hypermodel = small("darts", inputs=(9, 7, 1))
    values = default(hypermodel) | {"reduction/2/op0": operation}
    model = hypermodel.build_values(values)
    # 3 cells, of which the last two reduce: 9x7 -> 5x4 -> 3x2, 2 nodes of 8 channels.
    assert model.layers[-3].output.shape == (None, 3, 2, 16)


def test_strided_dilated_convolution_agrees_with_the_authors_code():
    """Strides in the pointwise convolution are strides in the dilated one."""
    image = np.random.default_rng(0).normal(size=(1, 6, 6, 1)).astype("float32")
    kernel = np.random.default_rng(1).normal(size=(3, 3)).astype("float32")
    depthwise = keras.layers.DepthwiseConv2D(3, dilation_rate=2, padding="same", use_bias=False)
    pointwise = keras.layers.Conv2D(1, 1, strides=2, padding="same", use_bias=False)
    pointwise(depthwise(image))
    depthwise.set_weights([kernel[:, :, None, None]])
    pointwise.set_weights([np.ones((1, 1, 1, 1))])
    padded = np.pad(image[0, :, :, 0], 2)  # PyTorch: padding 2, dilation 2, stride 2
    expected = [
        [(padded[y : y + 5 : 2, x : x + 5 : 2] * kernel).sum() for x in (0, 2, 4)]
        for y in (0, 2, 4)
    ]
    output = np.asarray(pointwise(depthwise(image)))[0, :, :, 0]
    np.testing.assert_allclose(output, expected, rtol=1e-5)


def test_invalid_genotypes_are_rejected():
    with pytest.raises(SearchSpaceError, match="`reduction`"):
        darts_values(DARTS_V2["normal"], [("conv_7x7", 0), ("skip_connect", 1)])
    with pytest.raises(SearchSpaceError, match="`normal`"):
        darts_values([("skip_connect", 1), ("skip_connect", 1)], DARTS_V2["reduction"])
    with pytest.raises(SearchSpaceError, match="`normal`"):
        darts_values(DARTS_V2["normal"][:3], DARTS_V2["reduction"])


# --------------------------------------------------------------------------- texts and masks


def repaint(model, vocabulary):
    """Change the embedding of the padding token, which must not change any result."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Embedding) and layer.input_dim == vocabulary:
            (table,) = layer.get_weights()
            table[0] += 100.0
            layer.set_weights([table])


TEXT = np.array([[3, 4, 5, 0, 0, 0], [1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 0]])


@pytest.mark.parametrize("mixer", ["attention", "convolution"])
def test_padding_does_not_change_the_result_of_a_text(mixer):
    hypermodel = small("text_transformer")
    values = {"blocks/depth": 2, "blocks/0/mixer": mixer, "blocks/1/mixer": mixer}
    model = built(hypermodel, hypermodel.spec.fill(values))
    before = np.asarray(model(TEXT))
    repaint(model, 11)
    np.testing.assert_allclose(model(TEXT), before, atol=1e-5)
    assert np.isfinite(before).all(), "an empty text must have a finite result"
    assert np.abs(before[0] - before[1]).max() > 1e-3


DECODERS = ["attention", "recurrent", "recurrent_attention"]
SOURCE = np.array([[3, 4, 5, 0, 0, 0]])
TARGET = np.array([[1, 7, 8, 9, 0]])


@pytest.fixture(scope="module", params=DECODERS)
def translator(request):
    """A model with one kind of decoder, and a matching encoder."""
    hypermodel = small("seq2seq", source_length=6, target_length=5)
    encoder = {"attention": "convolution", "recurrent": "recurrent"}
    values = {
        "decoder/depth": 2,
        "decoder/0/mixer": request.param,
        "decoder/1/mixer": request.param,
        "encoder/0/mixer": encoder.get(request.param, "attention"),
    }
    return built(hypermodel, hypermodel.spec.fill(values))


def test_a_step_does_not_depend_on_later_steps(translator):
    later = TARGET.copy()
    later[0, 3] = 2
    first = np.asarray(translator({"source": SOURCE, "target": TARGET}))
    second = np.asarray(translator({"source": SOURCE, "target": later}))
    np.testing.assert_allclose(first[:, :3], second[:, :3], atol=1e-6)
    assert np.abs(first[:, 3] - second[:, 3]).max() > 1e-5


def test_every_decoder_depends_on_the_source(translator):
    changed = SOURCE[:, [1, 2, 0, 3, 4, 5]] + [[1, 1, 1, 0, 0, 0]]
    first = np.asarray(translator({"source": SOURCE, "target": TARGET}))
    second = np.asarray(translator({"source": changed, "target": TARGET}))
    assert np.abs(first - second).max() > 1e-5


def test_padding_affects_neither_outputs_nor_loss(translator):
    inputs = {"source": SOURCE, "target": TARGET}
    labels = np.array([[7, 8, 9, 2, 0]])
    relabelled = np.array([[7, 8, 9, 2, 11]])
    first = translator.evaluate(inputs, labels, verbose=0, return_dict=True)
    assert translator.evaluate(inputs, relabelled, verbose=0, return_dict=True) == first
    weights = translator.get_weights()
    before = np.asarray(translator(inputs))
    repaint(translator, 11)
    np.testing.assert_allclose(translator(inputs), before, atol=1e-5)
    translator.set_weights(weights)


def test_masks_of_recurrent_layers_are_contiguous_and_never_empty():
    """cuDNN rejects masks with gaps and masks without any step."""
    mask = np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]], bool)
    expected = [[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    assert np.asarray(steps_to_the_last(mask)).astype(int).tolist() == expected


# --------------------------------------------------------------------- images and sequences


def test_unet_predicts_for_images_of_any_size(tmp_path):
    hypermodel = small("unet", inputs=(None, None, 1), depths=(3, 3), outputs=2, classes=None)
    model = built(hypermodel, hypermodel.spec.fill({"level1/gate": True}))
    model.save(tmp_path / "any_size.keras")
    loaded = keras.models.load_model(tmp_path / "any_size.keras")
    for size in ((1, 1), (5, 9), (16, 7), (13, 8)):
        image = np.random.default_rng(0).normal(size=(1, *size, 1)).astype("float32")
        output = np.asarray(model(image))
        assert output.shape == (1, *size, 2)
        np.testing.assert_allclose(loaded(image), output, atol=1e-6)


def test_unets_of_fixed_and_variable_size_agree():
    fixed = small("unet", inputs=(5, 7, 1))
    free = small("unet", inputs=(None, None, 1))
    values = fixed.spec.fill({"depth": 2, "level0/gate": True})
    first, second = built(fixed, values), built(free, values)
    second.set_weights(first.get_weights())
    image, _ = batch(first)
    np.testing.assert_allclose(first(image), second(image), atol=1e-6)


@pytest.mark.parametrize("block", ["convolution", "recurrent", "attention"])
def test_sequences_of_any_length_can_be_forecast(block):
    hypermodel = small("sequence_1d", inputs=(None, 2), classes=None, outputs=(4, 2))
    model = built(hypermodel, hypermodel.spec.fill({"blocks/0": block, "pool": "last"}))
    for length in (3, 10):
        assert model(np.ones((2, length, 2), "float32")).shape == (2, 4, 2)


def test_tabular_models_embed_categories_and_keep_numbers():
    """Categories have no order; numbers are used as they are, without rounding."""
    hypermodel = small("tabular", depths=(1, 1))
    model = built(hypermodel, default(hypermodel))
    table = np.random.default_rng(0).uniform(0, 1, size=(4, 5)).astype("float32")
    table[:, [1, 3]] = [[0, 1], [1, 0], [1, 1], [0, 0]]
    embeddings = [layer for layer in model.layers if isinstance(layer, keras.layers.Embedding)]
    assert [layer.input_dim for layer in embeddings] == [2, 2]
    dense = [layer for layer in model.layers if isinstance(layer, keras.layers.Dense)]
    assert dense[0].input.shape == (None, 3 + 2 * embeddings[0].output_dim)
    before = np.asarray(model(table))
    for layer in embeddings:
        (vectors,) = layer.get_weights()
        layer.set_weights([vectors[::-1]])
    table[:, [1, 3]] = 1 - table[:, [1, 3]]
    np.testing.assert_allclose(model(table), before, atol=1e-6)
