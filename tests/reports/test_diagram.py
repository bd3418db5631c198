from xml.etree import ElementTree

import pytest

from keras_nas_plugin.reports import draw_architecture
from keras_nas_plugin.reports.diagram import layered
from keras_nas_plugin.space import Architecture, Vertex


def graph(*edges):
    """Vertices with the given inputs."""
    return [Vertex(f"op{index}", {}, inputs) for index, inputs in enumerate(edges)]


def crossings(vertices, places):
    """Pairs of lines between two neighbouring layers that cross."""
    lines = [
        (places[source], places[index])
        for index, vertex in enumerate(vertices)
        for source in vertex.inputs
    ]
    return sum(
        (a[0] - c[0]) * (b[0] - d[0]) < 0
        for at, (a, b) in enumerate(lines)
        for c, d in lines[at + 1 :]
        if a[1] == c[1] and b[1] == d[1]
    )


def test_each_stands_below_what_feeds_it():
    vertices = graph((), (0,), (1,), (0, 2), (3, 0))
    places, routes = layered(vertices)
    assert routes[0, 3] == [places[0], *routes[0, 3][1:-1], places[3]]
    assert [y for _, y in routes[0, 3]] == [0.0, 1.0, 2.0, 3.0]
    # A long line runs beside what stands in the layers between.
    assert not set(routes[0, 3][1:-1]) & set(places)
    assert [y for _, y in places] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_places_are_different_and_lines_do_not_cross_without_need():
    # Two chains side by side, listed so that they would cross.
    vertices = graph((), (0,), (0,), (2,), (1,), (4,), (3,), (5, 6))
    places, _ = layered(vertices)
    assert len(set(places)) == len(vertices)
    assert crossings(vertices, places) == 0


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_a_picture_of_each_kind(tmp_path, ending):
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
        shapes = [one for one in root.iter() if one.tag.endswith("}g")]
        patches = [one for one in shapes if one.get("id", "").startswith("patch_")]
        # The page, five boxes and five arrows.
        assert len(patches) >= 1 + len(vertices) + 5


def test_what_is_not_used_is_drawn_only_on_request(tmp_path):
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
