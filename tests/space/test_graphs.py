"""Architectures as graphs: simplified, hashed, written and read."""

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
    "pool": lambda x: x * x,  # what comes from nothing is nothing, without a bias
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


def of(cells, operations):
    values = {f"cell/{edge}": one for edge, one in zip(EDGES, operations, strict=True)}
    return cells.architecture(values)


def signature(operations):
    """Values of the cell at three points, with a function of one number per operation."""
    found = []
    on = dict(zip(EDGES, operations, strict=True))
    for x in (0.37, -0.81, 1.93):
        states = [x]
        for node in (1, 2, 3):
            parts = [FUNCTIONS[on[f"{i}to{node}"]](state) for i, state in enumerate(states)]
            states.append(math.fsum(parts))
        found.append(round(states[-1], 9))
    return tuple(found)


def test_equal_hashes_mean_equal_functions_in_all_cells_of_nas_bench_201(cells):
    """All 15,625 of them, and hardly the other way round: about 6,000 are different."""
    groups = {}
    for operations in itertools.product(FUNCTIONS, repeat=len(EDGES)):
        groups.setdefault(of(cells, operations).hash(), []).append(operations)
    signatures = set()
    for group in groups.values():
        found = {signature(one) for one in group}
        assert len(found) == 1, group[:4]
        signatures.add((found.pop(), len(of(cells, group[0]).simplified().vertices)))
    # Two convolutions of one input are not one taken twice, which a function of a number
    # cannot tell: hence the number of operations.
    assert len(signatures) <= len(groups) <= 1.02 * len(signatures)
    assert len(groups) < 5**6 / 2


def test_cells_whose_nodes_change_places_are_equal(cells):
    swapped = of(cells, ("one", "three", "none", "none", "skip", "pool"))
    other = of(cells, ("three", "one", "none", "none", "pool", "skip"))
    assert swapped.hash() == other.hash()
    assert swapped.hash() != of(cells, ("three", "one", "none", "none", "skip", "pool")).hash()


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
def test_what_hashes_equal_has_the_same_parameters_when_built(cells, left, right):
    found = [of(cells, one) for one in (left, right)]
    assert found[0].hash() == found[1].hash()
    counts = [cells.build_values(one.values).count_params() for one in found]
    assert counts[0] == counts[1] > 0


def architecture(space, values=None):
    found = SpaceHyperModel(space, inputs=(4, 4, 2), compile=COMPILE)
    return found.architecture(found.spec.fill(values or {}))


def test_arguments_and_order_count_where_they_matter():
    def pair(first, second, merge):
        return architecture(Branches(first, second, merge=merge)).hash()

    one, three = convolution(1), convolution(3)
    for merge in ("add", "multiply", "average", "maximum"):
        assert pair(one, three, merge) == pair(three, one, merge)
    assert pair(one, three, "concatenate") != pair(three, one, "concatenate")
    assert pair(one, three, "add") != pair(one, one, "add")
    assert pair(one, three, "add") != pair(one, three, "maximum")
    assert (
        architecture(Sequential(one, three)).hash() != architecture(Sequential(three, one)).hash()
    )


def test_names_and_places_do_not_count():
    choice = LayerChoice({"a": convolution(3), "b": Identity()})
    plain = architecture(Sequential(convolution(3), "ReLU"))
    chosen = architecture(Sequential(first=Sequential(choice), second=Repeat("ReLU", 1)))
    assert plain.hash() == chosen.hash()


def test_what_is_not_used_is_left_out_and_nothing_else():
    dead = Branches(Sequential(convolution(3), Zero()), convolution(1))
    assert architecture(dead).hash() == architecture(convolution(1)).hash()
    # A bias of what comes in as zeros is a constant, not nothing.
    biased = Branches(Sequential(Zero(), convolution(3)), convolution(1))
    assert architecture(biased).hash() != architecture(convolution(1)).hash()
    without = Layer("Conv2D", filters=2, kernel_size=3, padding="same", use_bias=False)
    empty = Branches(Sequential(Zero(), without, "ReLU"), convolution(1))
    assert architecture(empty).hash() == architecture(convolution(1)).hash()
    # The mean of nothing and x is half of x.
    half = Branches(Zero(), convolution(1), merge="average")
    assert architecture(half).hash() != architecture(convolution(1)).hash()


def test_sums_of_sums_are_sums():
    one, three, five = (convolution(size) for size in (1, 3, 5))
    nested = Branches(one, Branches(three, five))
    flat = Branches(five, one, three)
    assert architecture(nested).hash() == architecture(flat).hash()
    average = [Branches(one, Branches(three, five, merge="average"), merge="average")]
    average.append(Branches(one, three, five, merge="average"))
    assert len({architecture(space).hash() for space in average}) == 2


def test_the_text_says_what_is_built_from_what():
    text = str(architecture(Branches(stem=convolution(3), other=Sequential("ReLU", "ELU"))))
    assert text.splitlines() == [
        "%0 = input  # input",
        "%1 = Conv2D(filters=2, kernel_size=3, padding=same) <- %0  # stem",
        "%2 = ReLU <- %0  # other/0",
        "%3 = ELU <- %2  # other/1",
        "%4 = add <- %1, %3",
        "%5 = output <- %4",
    ]


def test_it_is_read_as_it_was_written():
    space = Sequential(Layer("Dense", units=ValueChoice([3, 4], name="units")), "ReLU")
    written = architecture(space, {"units": 4})
    read = Architecture.from_json(written.to_json())
    assert read == written and read.hash() == written.hash()
    assert read.values == {"units": 4}
    for text in ("no json", "{}", '{"values": {}, "vertices": [{"colour": "red"}]}'):
        with pytest.raises(SearchSpaceError, match="`text` needs to be what"):
            Architecture.from_json(text)


def test_graphviz_reads_the_graph():
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
