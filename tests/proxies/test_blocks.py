"""Where blocks end, and the proxies of AZ-NAS computed on them."""

import keras
import numpy as np
import pytest

from keras_nas_plugin.proxies import ProxyError, score
from keras_nas_plugin.proxies.blocks import Node, blocks_of, ends_of_blocks
from keras_nas_plugin.proxies.feature_entropy import entropy
from keras_nas_plugin.proxies.spectral import block_score
from tests.proxies import networks
from tests.proxies.networks import L


def node(inputs, output, *, kernel=False, rank=4):
    return Node(tuple(inputs), output, rank, kernel)


def test_blocks_of_a_chain_end_before_the_next_kernel():
    nodes = [
        node([0], 1, kernel=True),  # convolution
        node([1], 2),  # norm
        node([2], 3),  # activation: the end
        node([3], 4, kernel=True),
        node([4], 5),  # activation: the end
        node([5], 6, kernel=True),
        node([6], 7, rank=2),  # pooling
        node([7], 8, kernel=True, rank=2),
    ]
    assert ends_of_blocks(nodes) == [2, 4]


def test_blocks_end_where_paths_merge_and_branch():
    nodes = [
        node([0], 1, kernel=True),
        node([1], 2),  # norm: paths branch
        node([2], 3, kernel=True),
        node([3], 4, kernel=True),  # inside of a branch: no end
        node([2, 4], 5),  # paths merge
        node([5, 5], 6),
        node([6], 7, rank=2),
        node([7], 8, kernel=True, rank=2),
    ]
    assert ends_of_blocks(nodes) == [1, 4, 5]


def test_a_second_output_keeps_its_path_open():
    nodes = [node([0], 1, kernel=True), node([1], 2, kernel=True), node([2], 3, kernel=True)]
    assert ends_of_blocks(nodes) == [0, 1]
    nodes.append(node([0], 4))
    assert ends_of_blocks(nodes) == []


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(2)
    return networks.residual(dtype="float64", blocks=2)


@pytest.fixture(scope="module")
def context_and_blocks(network):
    context = networks.context_of(network, networks.images(64)[0])
    return context, blocks_of(context)


def test_block_features_equal_the_outputs_of_an_extended_model(network, context_and_blocks):
    context, blocks = context_and_blocks
    adds = [layer for layer in network.layers if isinstance(layer, L.Add)]
    stem = next(layer for layer in network.layers if isinstance(layer, L.Conv2D))
    view = keras.Model(network.inputs, [stem.output, *(add.output for add in adds)])
    noise = context.noise(context.rng(2))
    before = networks.values(network)
    expected = view(noise, training=True)
    for variable, value in zip(network.variables, before, strict=True):
        variable.assign(value)
    assert len(blocks.features) == 3
    for feature, output in zip(blocks.features, expected, strict=True):
        np.testing.assert_allclose(
            feature, keras.ops.convert_to_numpy(output), rtol=1e-9, atol=1e-12
        )


def test_block_gradients_agree_with_finite_differences(network, context_and_blocks):
    """By a central difference along one direction, batch norm on the batch included."""
    _, blocks = context_and_blocks
    adds = [layer for layer in network.layers if isinstance(layer, L.Add)]
    block = keras.Model(adds[0].output, adds[1].output)
    rng = np.random.default_rng(0)
    direction = rng.standard_normal(blocks.features[1].shape)
    step = 1e-6
    moved = [blocks.features[1] + sign * step * direction for sign in (1, -1)]
    moved = [keras.ops.convert_to_tensor(point, dtype="float64") for point in moved]
    before = networks.values(network)
    ends = [keras.ops.convert_to_numpy(block(point, training=True)) for point in moved]
    for variable, value in zip(network.variables, before, strict=True):
        variable.assign(value)
    slope = np.sum((ends[0] - ends[1]) / (2 * step) * blocks.into[1])
    assert np.sum(blocks.out[1] * direction) == pytest.approx(slope, rel=1e-5)


def test_az_nas_scores_follow_from_the_block_features(network, context_and_blocks):
    context, blocks = context_and_blocks
    x = networks.images(64)[0]
    names = ("expressivity", "progressivity", "trainability")
    scores = score(network, x, None, names)
    entropies = [entropy(feature) for feature in blocks_of(_context_of_score(network, x)).features]
    assert scores["expressivity"] == pytest.approx(sum(entropies))
    assert scores["progressivity"] == pytest.approx(np.diff(entropies).min())
    recomputed = blocks_of(_context_of_score(network, x))
    pairs = zip(recomputed.into, recomputed.out, strict=True)
    assert scores["trainability"] == pytest.approx(np.mean([block_score(*pair) for pair in pairs]))


def _context_of_score(network, x):
    """A context with the seed that `score` gives by default."""
    return networks.context_of(network, x, seed=(0, 0, 1))


# ------------------------------------------------------------------ the formulas


def test_entropy_of_known_spectra():
    rows = np.array([[3.0, 1.0], [-3.0, 1.0], [3.0, -1.0], [-3.0, -1.0]])  # covariance diag(9, 1)
    expected = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert entropy(rows) == pytest.approx(expected, abs=1e-7)
    assert entropy(rows.reshape(2, 2, 2) + 5) == pytest.approx(expected, abs=1e-7)
    assert entropy(rows[:, :1] * np.ones(3)) == pytest.approx(0, abs=1e-7)
    assert entropy(np.ones((4, 3))) == 0
    assert np.isnan(entropy(np.full((4, 3), np.inf)))


SIGNS = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]], float)  # uncorrelated columns


def test_block_score_of_a_known_matrix():
    matrix = np.array([[3.0, 0.0], [0.0, 0.5]])
    assert block_score(SIGNS, SIGNS @ matrix.T) == pytest.approx(-3 - 1 / (3 + 1e-6) + 2)
    turned = np.array([[0.6, 0.8], [-0.8, 0.6]])
    assert block_score(SIGNS, SIGNS @ turned) == pytest.approx(0, abs=1e-5)
    assert block_score(SIGNS, SIGNS) == -np.inf
    assert block_score(SIGNS, 0 * SIGNS) == pytest.approx(2 - 1e6)
    assert np.isnan(block_score(SIGNS, SIGNS * np.nan))


def test_a_stride_moves_positions_to_channels():
    """Two positions of one channel are one position of two channels: the map is twice identity."""
    into = SIGNS.reshape(4, 1, 2)
    out = 2 * SIGNS.reshape(4, 2, 1)
    assert block_score(into, out) == pytest.approx(-2 - 1 / (2 + 1e-6) + 2)
    rng = np.random.default_rng(0)
    into, out = rng.standard_normal((2, 2, 3, 5)), rng.standard_normal((2, 4, 7, 3))
    rows = [
        out[b, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].ravel()
        for b in range(2) for i in range(2) for j in range(3)
    ]  # fmt: skip
    largest = np.linalg.norm(np.array(rows).T @ into.reshape(12, 5) / 12, ord=2)
    assert block_score(into, out) == pytest.approx(-largest - 1 / (largest + 1e-6) + 2)
    with pytest.raises(ProxyError, match="do not enlarge"):
        block_score(out, into)
