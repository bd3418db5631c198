"""Architectures as graphs: simplification, hashes, and reading and writing."""

import itertools
import math

import pytest

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space import (
    Architecture,
    Branches,
    Cell,
    Identity,
    Layer,
    LayerChoice,
    Repeat,
    Sequential,
    SpaceHyperModel,
    ValueChoice,
    Vertex,
    Zero,
)

COMPILE = {"optimizer": "adam", "loss": "mse"}
EDGES = ("0to1", "0to2", "1to2", "0to3", "1to3", "2to3")
FUNCTIONS = {
    "none": lambda x: 0.0,
    "skip": lambda x: x,
    "one": lambda x: math.tanh(2.0 * x) + 0.3,
    "three": lambda x: math.sin(3.0 * x) + x,
    "pool": lambda x: x * x,  # zero for zero, as it has no bias
}


def convolution(size):
    return Layer("Conv2D", filters=2, kernel_size=size, padding="same")


CELL = Cell(
    {
        "none": Zero(),
        "skip": Identity(),
        "one": convolution(1),
        "three": convolution(3),
        "pool": Layer("AveragePooling2D", pool_size=3, strides=1, padding="same"),
    },
    nodes=3,
    name="cell",
)


@pytest.fixture(scope="module")
def cells():
    return SpaceHyperModel(CELL, inputs=(4, 4, 2), compile=COMPILE)


def architecture_of(cells, operations):
    values = {f"cell/{edge}": operation for edge, operation in zip(EDGES, operations, strict=True)}
    return cells.architecture(values)


def signature(operations):
    """Values of the cell at three points, with a function of one number per operation."""
    values = []
    operation_of = dict(zip(EDGES, operations, strict=True))
    for x in (0.37, -0.81, 1.93):
        states = [x]
        for node in (1, 2, 3):
            parts = [
                FUNCTIONS[operation_of[f"{i}to{node}"]](state) for i, state in enumerate(states)
            ]
            states.append(math.fsum(parts))
        values.append(round(states[-1], 9))
    return tuple(values)


def test_equal_hashes_imply_equal_functions_for_all_cells_of_nas_bench_201(cells):
    """For all 15,625 cells; the converse nearly holds, as about 6,000 cells are different."""
    groups = {}
    for operations in itertools.product(FUNCTIONS, repeat=len(EDGES)):
        groups.setdefault(architecture_of(cells, operations).hash(), []).append(operations)
    signatures = set()
    for group in groups.values():
        group_signatures = {signature(member) for member in group}
        assert len(group_signatures) == 1, group[:4]
        signatures.add(
            (group_signatures.pop(), len(architecture_of(cells, group[0]).simplified().vertices))
        )
    # Two convolutions of one input differ from one that is used twice, which functions of a
    # number do not show: hence the number of operations.
    assert len(signatures) <= len(groups) <= 1.02 * len(signatures)
    assert len(groups) < 5**6 / 2


def test_cells_with_permuted_nodes_have_equal_hashes(cells):
    swapped = architecture_of(cells, ("one", "three", "none", "none", "skip", "pool"))
    permuted = architecture_of(cells, ("three", "one", "none", "none", "pool", "skip"))
    assert swapped.hash() == permuted.hash()
    assert (
        swapped.hash()
        != architecture_of(cells, ("three", "one", "none", "none", "skip", "pool")).hash()
    )


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (
            ("one", "three", "none", "skip", "none", "pool"),
            ("three", "one", "none", "skip", "pool", "none"),
        ),
        (
            ("one", "none", "three", "none", "none", "skip"),
            ("none", "one", "none", "none", "skip", "three"),
        ),
    ],
)
def test_cells_with_equal_hashes_have_equal_parameter_counts(cells, left, right):
    architectures = [architecture_of(cells, operations) for operations in (left, right)]
    assert architectures[0].hash() == architectures[1].hash()
    counts = [cells.build_values(each.values).count_params() for each in architectures]
    assert counts[0] == counts[1] > 0


def architecture(space, values=None):
    hypermodel = SpaceHyperModel(space, inputs=(4, 4, 2), compile=COMPILE)
    return hypermodel.architecture(hypermodel.spec.fill(values or {}))


def test_hashes_depend_on_arguments_and_on_order_where_it_matters():
    def pair(first, second, merge):
        return architecture(Branches(first, second, merge=merge)).hash()

    conv1, conv3 = convolution(1), convolution(3)
    for merge in ("add", "multiply", "average", "maximum"):
        assert pair(conv1, conv3, merge) == pair(conv3, conv1, merge)
    assert pair(conv1, conv3, "concatenate") != pair(conv3, conv1, "concatenate")
    assert pair(conv1, conv3, "add") != pair(conv1, conv1, "add")
    assert pair(conv1, conv3, "add") != pair(conv1, conv3, "maximum")
    assert (
        architecture(Sequential(conv1, conv3)).hash()
        != architecture(Sequential(conv3, conv1)).hash()
    )


def test_hashes_ignore_names_and_paths():
    choice = LayerChoice({"a": convolution(3), "b": Identity()})
    plain = architecture(Sequential(convolution(3), "ReLU"))
    chosen = architecture(Sequential(first=Sequential(choice), second=Repeat("ReLU", 1)))
    assert plain.hash() == chosen.hash()


def test_only_unused_and_zero_branches_are_removed():
    dead = Branches(Sequential(convolution(3), Zero()), convolution(1))
    assert architecture(dead).hash() == architecture(convolution(1)).hash()
    # A convolution of zeros with a bias is a constant, not zero.
    biased = Branches(Sequential(Zero(), convolution(3)), convolution(1))
    assert architecture(biased).hash() != architecture(convolution(1)).hash()
    without = Layer("Conv2D", filters=2, kernel_size=3, padding="same", use_bias=False)
    empty = Branches(Sequential(Zero(), without, "ReLU"), convolution(1))
    assert architecture(empty).hash() == architecture(convolution(1)).hash()
    # The mean of zero and x is half of x.
    half = Branches(Zero(), convolution(1), merge="average")
    assert architecture(half).hash() != architecture(convolution(1)).hash()


def test_nested_sums_are_flattened_but_averages_are_not():
    conv1, conv3, conv5 = (convolution(size) for size in (1, 3, 5))
    nested = Branches(conv1, Branches(conv3, conv5))
    flat = Branches(conv5, conv1, conv3)
    assert architecture(nested).hash() == architecture(flat).hash()
    average = [Branches(conv1, Branches(conv3, conv5, merge="average"), merge="average")]
    average.append(Branches(conv1, conv3, conv5, merge="average"))
    assert len({architecture(space).hash() for space in average}) == 2


def test_the_text_lists_each_vertex_with_its_inputs():
    text = str(architecture(Branches(stem=convolution(3), other=Sequential("ReLU", "ELU"))))
    assert text.splitlines() == [
        "%0 = input  # input",
        "%1 = Conv2D(filters=2, kernel_size=3, padding=same) <- %0  # stem",
        "%2 = ReLU <- %0  # other/0",
        "%3 = ELU <- %2  # other/1",
        "%4 = add <- %1, %3",
        "%5 = output <- %4",
    ]


def test_the_json_round_trip_keeps_the_architecture():
    space = Sequential(Layer("Dense", units=ValueChoice([3, 4], name="units")), "ReLU")
    written = architecture(space, {"units": 4})
    read = Architecture.from_json(written.to_json())
    assert read == written and read.hash() == written.hash()
    assert read.values == {"units": 4}
    for text in ("no json", "{}", '{"values": {}, "vertices": [{"colour": "red"}]}'):
        with pytest.raises(SearchSpaceError, match="`text` must be JSON"):
            Architecture.from_json(text)


def test_the_dot_output_has_all_edges():
    dot = architecture(Sequential(convolution(3), Branches("ReLU", "ELU"))).to_dot()
    lines = dot.splitlines()
    assert lines[0] == "digraph architecture {" and lines[-1] == "}"
    arrows = {line.strip(" ;") for line in lines if "->" in line}
    assert arrows == {"v0 -> v1", "v1 -> v2", "v1 -> v3", "v2 -> v4", "v3 -> v4", "v4 -> v5"}


def test_hashes_are_the_same_in_every_process():
    vertices = (Vertex("input"), Vertex("Dense", {"units": 3}, (0,)), Vertex("output", {}, (1,)))
    assert Architecture(vertices, {}).hash() == "c3e69343eaabb9b711c60cbbdc6b54b7"


def test_a_deep_network_is_hashed():
    deep = Architecture(
        (
            Vertex("input"),
            *(Vertex("Dense", {"units": 3}, (index,)) for index in range(3000)),
            Vertex("output", {}, (3000,)),
        ),
        {},
    )
    assert len(deep.hash()) == 32
