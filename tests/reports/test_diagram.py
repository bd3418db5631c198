from xml.etree import ElementTree

import pytest

from keras_nas_plugin.reports import draw_architecture
from keras_nas_plugin.reports.layering import layered
from keras_nas_plugin.space import Architecture, Vertex


def graph(*edges):
    """Vertices with the given inputs."""
    return [Vertex(f"op{index}", {}, inputs) for index, inputs in enumerate(edges)]


def crossings(vertices, positions):
    """Pairs of lines between two neighbouring layers that cross."""
    lines = [
        (positions[source], positions[number])
        for number, vertex in enumerate(vertices)
        for source in vertex.inputs
    ]
    return sum(
        (a[0] - c[0]) * (b[0] - d[0]) < 0
        for index, (a, b) in enumerate(lines)
        for c, d in lines[index + 1 :]
        if a[1] == c[1] and b[1] == d[1]
    )


def test_vertices_are_below_their_inputs():
    vertices = graph((), (0,), (1,), (0, 2), (3, 0))
    positions, routes = layered(vertices)
    assert routes[0, 3] == [positions[0], *routes[0, 3][1:-1], positions[3]]
    assert [y for _, y in routes[0, 3]] == [0.0, 1.0, 2.0, 3.0]
    # An edge that spans several layers passes beside the vertices of the layers between.
    assert not set(routes[0, 3][1:-1]) & set(positions)
    assert [y for _, y in positions] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_positions_are_distinct_and_avoidable_crossings_are_avoided():
    # Two chains side by side, listed so that they would cross.
    vertices = graph((), (0,), (0,), (2,), (1,), (4,), (3,), (5, 6))
    positions, _ = layered(vertices)
    assert len(set(positions)) == len(vertices)
    assert crossings(vertices, positions) == 0


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_an_architecture_is_drawn_in_each_format(tmp_path, ending):
    vertices = (
        Vertex("input"),
        Vertex("Conv2D", {"filters": 8, "kernel_size": 3, "padding": "same"}, (0,)),
        Vertex("ReLU", {}, (0,)),
        Vertex("add", {}, (1, 2)),
        Vertex("output", {}, (3,)),
    )
    path = draw_architecture(Architecture(vertices, {}), tmp_path / f"picture.{ending}")
    content = path.read_bytes()
    assert content.startswith({"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[ending])
    if ending == "svg":
        root = ElementTree.fromstring(content)
        shapes = [element for element in root.iter() if element.tag.endswith("}g")]
        patches = [element for element in shapes if element.get("id", "").startswith("patch_")]
        # The page, five boxes and five arrows.
        assert len(patches) >= 1 + len(vertices) + 5


def test_unused_operations_are_drawn_on_request_only(tmp_path):
    vertices = (
        Vertex("input"),
        Vertex("Dense", {}, (0,)),
        *(Vertex("Dense", {}, (1,)) for _ in range(5)),
        Vertex("output", {}, (1,)),
    )
    sizes = [
        len(
            draw_architecture(
                Architecture(vertices, {}), tmp_path / f"{simplified}.svg", simplified=simplified
            ).read_bytes()
        )
        for simplified in (True, False)
    ]
    assert sizes[0] < sizes[1]
