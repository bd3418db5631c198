"""Builds the graph of a supernet from the description of a space."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Domain
from keras_nas_plugin.space.language.base import Builder, LayerKind, Node, join, label_of
from keras_nas_plugin.space.language.building import KerasBuilder
from keras_nas_plugin.space.language.values import Value
from keras_nas_plugin.space.spec import SearchSpec
from keras_nas_plugin.supernet import sharing
from keras_nas_plugin.supernet.keys import Location, choice_key, input_key, layer_key
from keras_nas_plugin.supernet.layout import MaskLayout
from keras_nas_plugin.supernet.vertices import (
    ChoiceVertex,
    Gate,
    InputVertex,
    JoinedWidth,
    KernelMask,
    LayerVertex,
    MixedWidth,
    PaddedWidth,
    SearchedWidth,
    Vertex,
    Width,
    ZeroVertex,
    channels,
    repeated,
)

# A value of a layer with more options than this is not searched by a supernet.
MAX_VALUES = 256
# Layers that are built for the values of one or several decisions, such as an activation.
_MAX_VARIANTS = 16


@dataclasses.dataclass(frozen=True)
class _Searched:
    """An argument of a layer that depends on decisions.

    Attributes:
        value: The value.
        path: Its path.
    """

    value: Value
    path: str


class SupernetBuilder(Builder[Vertex]):
    """Builds every option of every decision once.

    Args:
        spec: The space.
        inputs: Symbolic inputs of the model, by name.

    Attributes:
        layout: Layout of the mask, with all decisions that the supernet could search.
        searched: Names of the decisions that the supernet searches.
        read: Decisions that a node reads as plain values, with the value that it gets.
        vertices: Everything that was built, by key.
        inputs: The inputs of the model.
        separate: Paths of arguments for each of whose values there is a layer of its own.
        sliced: Names of the decisions whose options are parts of one layer: widths and kernel
            sizes.
        empty: Options that compute nothing, by decision: those that are zero, or return one of
            their inputs. Only decisions are listed of which another option has weights.
    """

    def __init__(self, spec: SearchSpec, inputs: Mapping[str, keras.KerasTensor]) -> None:
        super().__init__({})
        self._keras = KerasBuilder({})
        self._location = Location()
        self.vertices: dict[str, Vertex] = {}
        self._count = 0
        self._defaults = {decision.name: decision.default for decision in spec.decisions}
        domains = {decision.name: decision.domain for decision in spec.decisions}
        self.layout = MaskLayout(
            {
                name: tuple(domain.values())
                for name, domain in domains.items()
                if domain.size is not None and domain.size <= MAX_VALUES
            }
        )
        self.searched: set[str] = set()
        self.read: dict[str, Any] = {}
        self.separate: list[str] = []
        self.sliced: set[str] = set()
        self.empty: dict[str, tuple[Any, ...]] = {}
        self.inputs = [
            self._add(InputVertex(input_key(name), tensor, position=position))
            for position, (name, tensor) in enumerate(inputs.items())
        ]

    def _add(self, vertex: Vertex) -> Vertex:
        vertex.index, self._count = self._count, self._count + 1
        return self.vertices.setdefault(vertex.key, vertex)

    # ------------------------------------------------------------------ decisions

    def part(self, node: Node, path: str, inputs: Sequence[Vertex]) -> Vertex:
        """See `Builder.part`."""
        own_path = node.name or path
        with self._location.entered(path, own_path):
            return node.build(self, own_path, inputs)

    def value(self, path: str, domain: Domain) -> Any:
        """See `Builder.value`: the default; a node that reads a value cannot vary it."""
        return self.read.setdefault(path, self._defaults[path])

    def resolve(self, value: Any, path: str) -> Any:
        """See `Builder.resolve`; the values of arguments are looked up in `layer`."""
        return _Searched(value, path) if isinstance(value, Value) else value

    def choose(
        self,
        path: str,
        options: Mapping[Any, Callable[[], Vertex]],
        inputs: Sequence[Vertex],
    ) -> Vertex:
        """See `Builder.choose`: the weighted sum of all options.

        Raises:
            SearchSpaceError: The outputs of the options have different shapes.
        """
        if path not in self.layout.options:
            raise SearchSpaceError(
                f"the decision {path!r} must have at most {MAX_VALUES} options to be shared by "
                f"the architectures of a supernet; got {len(options)}"
            )
        self.searched.add(path)
        key = choice_key(self._location.of(path), [vertex.key for vertex in inputs])
        outputs: dict[Vertex, list[int]] = {}
        empty, before = [], set(self.vertices)
        for option, build in options.items():
            output = build()
            outputs.setdefault(output, []).append(self.layout.index(path, option))
            if isinstance(output, ZeroVertex) or output in inputs:
                empty.append(option)
        new = (vertex for name, vertex in self.vertices.items() if name not in before)
        if empty and any(isinstance(v, LayerVertex) and v.layer.weights for v in new):
            self.empty[path] = tuple(empty)
        return self._choice(key, path, (path,), outputs)

    def _choice(
        self, key: str, path: str, names: tuple[str, ...], outputs: Mapping[Vertex, list[int]]
    ) -> Vertex:
        vertices = tuple(outputs)
        gate = Gate(names, tuple(tuple(group) for group in outputs.values()))
        spec, width = _matched(path, vertices, gate)
        return self._add(ChoiceVertex(key, spec, vertices, width, gate=gate))

    # ------------------------------------------------------------------ layers

    def zero(self, value: Vertex, path: str) -> Vertex:
        """See `Builder.zero`."""
        key = layer_key(self._location.of(path), "zero", {}, [value.key])
        return self._add(ZeroVertex(key, value.spec, (value,), value.width))

    def merge(self, merge: str, inputs: Sequence[Vertex], path: str) -> Vertex:
        """See `Builder.merge`."""
        if len(inputs) == 1:
            return inputs[0]
        return self.layer(merge.capitalize(), {}, path, inputs)

    def layer(
        self,
        kind: LayerKind,
        arguments: Mapping[str, Any],
        path: str,
        inputs: Sequence[Vertex],
    ) -> Vertex:
        """See `Builder.layer`.

        Widths and kernel sizes are parts of the largest. For the values of any other argument
        that is searched, layers of their own are built.

        Raises:
            SearchSpaceError: The layer cannot be shared; the message says why.
        """
        fixed = {
            name: value for name, value in arguments.items() if not isinstance(value, _Searched)
        }
        key = layer_key(self._location.of(path), kind, fixed, [vertex.key for vertex in inputs])
        if key in self.vertices:
            return self.vertices[key]
        searched = {
            name: value for name, value in arguments.items() if isinstance(value, _Searched)
        }
        sliced, others = self._split(kind, fixed, searched)
        names = self._names(others.values())
        if not names:
            plain = {name: self._value_of(value, {}) for name, value in others.items()}
            return self._single(kind, {**fixed, **plain}, sliced, path, inputs, key)
        return self._variants(kind, fixed, sliced, others, names, path, inputs, key)

    def _names(self, values: Any) -> tuple[str, ...]:
        """The decisions that some arguments depend on and that a mask can express."""
        names = (
            choice.path(searched.path) for searched in values for choice in searched.value.choices
        )
        return tuple(dict.fromkeys(name for name in names if name in self.layout.options))

    def _value_of(self, searched: _Searched, values: Mapping[str, Any]) -> Any:
        """Value of an argument; decisions without a value have their defaults."""

        def decide(name: str, domain: Domain) -> Any:
            if name in values:
                return values[name]
            return self.read.setdefault(name, self._defaults[name])

        return searched.value.resolve(decide, searched.path)

    def _split(
        self, kind: LayerKind, fixed: Mapping[str, Any], searched: Mapping[str, _Searched]
    ) -> tuple[dict[str, _Searched], dict[str, _Searched]]:
        """Arguments that are parts of the largest, and those that need layers of their own."""
        sliced = {}
        for name, value in searched.items():
            if not self._names([value]):
                continue
            if name == sharing.width_argument(kind):
                sliced[name] = value
            if name == "kernel_size" and sharing.kernel_attribute(kind):
                sizes = [_sizes(kind, size) for size in self._values_of(value)[1]]
                if sharing.kernels_nest(sizes, dict(fixed)):
                    sliced[name] = value
        others = {name: value for name, value in searched.items() if name not in sliced}
        varied = set(self._names(others.values()))
        for name, value in list(sliced.items()):
            if varied & set(self._names([value])):
                others[name] = sliced.pop(name)
        return sliced, others

    def _values_of(self, searched: _Searched) -> tuple[tuple[str, ...], list[Any]]:
        """The decisions that an argument depends on, and its value for each combination."""
        names = self._names([searched])
        combinations = self.layout.combinations(names)
        return names, [self._value_of(searched, values) for values in combinations]

    def _variants(
        self,
        kind: LayerKind,
        fixed: Mapping[str, Any],
        sliced: Mapping[str, _Searched],
        others: Mapping[str, _Searched],
        names: tuple[str, ...],
        path: str,
        inputs: Sequence[Vertex],
        key: str,
    ) -> Vertex:
        combinations = self.layout.combinations(names)
        by_arguments: dict[str, tuple[dict[str, Any], list[int]]] = {}
        for index, values in enumerate(combinations):
            plain = {name: self._value_of(value, values) for name, value in others.items()}
            by_arguments.setdefault(repr(plain), (plain, []))[1].append(index)
        if len(by_arguments) > _MAX_VARIANTS:
            raise SearchSpaceError(
                f"{label_of(kind)} at {path!r} must have at most {_MAX_VARIANTS} combinations of "
                f"{sorted(others)} to be shared by the architectures of a supernet; got "
                f"{len(by_arguments)}"
            )
        self.searched.update(names)
        self.separate += [join(path, name) for name in others]
        outputs: dict[Vertex, list[int]] = {}
        for number, (plain, group) in enumerate(by_arguments.values()):
            own_key = layer_key(f"{key}#{number}", kind, {}, ())
            vertex = self._single(kind, {**fixed, **plain}, sliced, path, inputs, own_key)
            outputs.setdefault(vertex, []).extend(group)
        return self._choice(key, path, names, outputs)

    def _single(
        self,
        kind: LayerKind,
        arguments: Mapping[str, Any],
        sliced: Mapping[str, _Searched],
        path: str,
        inputs: Sequence[Vertex],
        key: str,
    ) -> Vertex:
        """One layer, with the largest width and kernel size."""
        largest, kernel = dict(arguments), None
        width: Width | None = None
        for name, value in sliced.items():
            names, values = self._values_of(value)
            self.searched.update(names)
            self.sliced.update(names)
            if name == "kernel_size":
                sizes = tuple(_sizes(kind, size) for size in values)
                largest[name] = tuple(max(axis) for axis in zip(*sizes, strict=True))
                attribute = sharing.kernel_attribute(kind) or ""
                kernel = KernelMask(attribute, names, sizes, largest[name])
            else:
                largest[name] = max(values)
                width = SearchedWidth(names, tuple(values))
        tensors = [
            keras.Input(batch_shape=vertex.spec.shape, dtype=vertex.spec.dtype)
            for vertex in inputs
        ]
        layer, output = self._keras.create(kind, largest, path, tensors)
        if any(output is tensor for tensor in tensors):  # a block that does nothing here
            return inputs[[output is tensor for tensor in tensors].index(True)]
        if not isinstance(layer, keras.layers.Layer):
            layer = keras.Model(tensors[0] if len(tensors) == 1 else tensors, output)
        sharing.check_layer(layer, path)
        if width is not None:
            sharing.check_searched_width(layer, path)
        if any(vertex.width is not None for vertex in inputs):
            width = _output_width(layer, path, inputs, width)
        masks = width is not None and not sharing.preserves_zeros(layer)
        return self._add(
            LayerVertex(
                key,
                output,
                tuple(inputs),
                width,
                layer=layer,
                kernel=kernel,
                masks_output=masks,
                path=path,
            )
        )


def _sizes(kind: LayerKind, size: Any) -> tuple[int, ...]:
    """A kernel size for each dimension."""
    if not isinstance(size, int):
        return tuple(size)
    dimensions = next(int(letter) for letter in label_of(kind) if letter.isdigit())
    return (size,) * dimensions


def _output_width(
    layer: Any, path: str, inputs: Sequence[Vertex], own: Width | None
) -> Width | None:
    rule = sharing.check_searched_inputs(layer, path)
    if rule == "own":
        return own
    widths = [vertex.width for vertex in inputs]
    if rule == "joined":
        return JoinedWidth(tuple(vertex.width or channels(vertex.spec) for vertex in inputs))
    first = next(width for width in widths if width is not None)
    if rule == "flattened":
        return repeated(first, inputs[0].spec.shape[1:])
    # In each architecture, tensors that are merged have the same width.
    return None if rule == "merged" and None in widths and len(widths) > 1 else first


def _matched(path: str, vertices: Sequence[Vertex], gate: Gate) -> tuple[Any, Width | None]:
    """Common shape of the options of a decision, and its active channels.

    Raises:
        SearchSpaceError: They differ in more than their channels.
    """
    first = vertices[0].spec
    shapes: list[Any] = [getattr(vertex.spec, "shape", None) for vertex in vertices]
    if len(vertices) == 1 or None in shapes:
        return first, vertices[0].width
    if len({tuple(shape[:-1]) for shape in shapes}) > 1 or len({*map(len, shapes)}) > 1:
        raise SearchSpaceError(
            f"the options of {path!r} must have outputs of the same shape, except for the number "
            f"of channels, to be shared by the architectures of a supernet; got {shapes}"
        )
    if all(vertex.width is None for vertex in vertices) and len({*shapes}) == 1:
        return first, None
    total = max(channels(vertex.spec) for vertex in vertices)
    widths = tuple(_padded(vertex, total) for vertex in vertices)
    spec = keras.KerasTensor((*first.shape[:-1], total), first.dtype)
    return spec, widths[0] if len({*widths}) == 1 else MixedWidth(gate, widths)


def _padded(vertex: Vertex, total: int) -> Width:
    size = channels(vertex.spec)
    if vertex.width is not None and size == total:
        return vertex.width
    return PaddedWidth(vertex.width, size, total)
