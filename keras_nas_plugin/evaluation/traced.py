"""Multiply-adds of anything that TensorFlow can trace, read from the operations of its graph.

For custom layers, subclassed models and whatever else has no formula in `rules`. Only operations
that the result depends on count, functions and branches included; the body of a loop counts as
often as it runs where that number is a constant.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from keras_nas_plugin.evaluation.graph import volume
from keras_nas_plugin.evaluation.rules import einsum_multiply_adds

# Operations that multiply and add in a way that is not counted here.
_OPAQUE = frozenset(
    """PyFunc EagerPyFunc PyFuncStateless XlaCallModule XlaLaunch CudnnRNN CudnnRNNV2 CudnnRNNV3
    SparseTensorDenseMatMul SparseMatMul FFT FFT2D FFT3D IFFT IFFT2D IFFT3D RFFT RFFT2D RFFT3D
    IRFFT IRFFT2D IRFFT3D Cholesky MatrixInverse MatrixSolve MatrixTriangularSolve Qr Svd
    SelfAdjointEigV2 Conv2DBackpropFilter Conv3DBackpropFilterV2 Dilation2D""".split()
)
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_LOOPS = ("While", "StatelessWhile")
_BRANCHES = ("If", "StatelessIf", "Case", "StatelessCase")


class Untraceable(Exception):
    """Why the multiply-adds of a graph are not known."""


def traced_multiply_adds(function: Callable[..., Any], specs: Iterable[Any]) -> int:
    """Multiply-adds of one call.

    Args:
        function: Called with a symbolic tensor per spec.
        specs: A `tf.TensorSpec` with a known shape each.

    Raises:
        Untraceable: Shapes, loops or operations are not known.
    """
    import tensorflow as tf

    concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
    definition = concrete.graph.as_graph_def(add_shapes=True)
    library = {one.signature.name: one for one in definition.library.function}
    nodes = {node.name: node for node in definition.node}
    wanted = [tensor.op.name for tensor in tf.nest.flatten(concrete.outputs)]
    return _Body(nodes, {}, wanted, library).multiply_adds()


class _Body:
    """The operations of a graph or of one of its functions.

    Args:
        nodes: Operations by name.
        arguments: Shapes of a function's arguments by name; None where they are not known.
        wanted: Names of operations that compute what is returned.
        library: All functions by name.
    """

    def __init__(
        self,
        nodes: Mapping[str, Any],
        arguments: Mapping[str, list[int] | None],
        wanted: Iterable[str],
        library: Mapping[str, Any],
    ) -> None:
        self.nodes, self.arguments, self.library = nodes, arguments, library
        self.needed: dict[str, Any] = {}
        waiting = list(wanted)
        while waiting:
            name = waiting.pop().lstrip("^").partition(":")[0]
            if name in nodes and name not in self.needed:
                self.needed[name] = nodes[name]
                waiting += nodes[name].input

    @classmethod
    def of_function(cls, name: str, library: Mapping[str, Any]) -> _Body:
        definition = library[name]
        shapes = definition.attr["_input_shapes"].list.shape
        names = [argument.name for argument in definition.signature.input_arg]
        known = dict(zip(names, map(_dimensions, shapes), strict=False))
        nodes = {node.name: node for node in definition.node_def}
        wanted = [*definition.ret.values(), *definition.control_ret.values()]
        return cls(nodes, known, wanted, library)

    def multiply_adds(self) -> int:
        """Sum over all operations that are needed."""
        return sum(map(self._of, self.needed.values()))

    def _of(self, node: Any) -> int:
        if node.op in _OPAQUE:
            raise Untraceable(f"it uses the operation {node.op}")
        if node.op in _CALLS:
            return self._inner(node.attr["f"].func.name)
        if node.op in _BRANCHES:
            return max(map(self._inner, _branches(node)), default=0)
        if node.op in _LOOPS:
            once = self._inner(node.attr["body"].func.name)
            return once * self._trips(node) if once else 0
        counter = _counters().get(node.op)
        if counter is None:
            return 0
        try:
            return counter(self, node)
        except (TypeError, ValueError, IndexError) as error:
            raise Untraceable(f"a shape of {node.op} is not known") from error

    def _inner(self, name: str) -> int:
        return _Body.of_function(name, self.library).multiply_adds()

    def shape(self, source: str) -> list[int]:
        """The shape of an operation's input.

        Raises:
            Untraceable: It is not known.
        """
        name, *rest = source.split(":")
        if name in self.nodes:
            shapes = self.nodes[name].attr["_output_shapes"].list.shape
            index = int(rest[-1]) if rest else 0
            found = _dimensions(shapes[index]) if index < len(shapes) else None
        else:
            found = self.arguments.get(name)
        if found is None:
            raise Untraceable("a shape is not known")
        return found

    def output(self, node: Any) -> list[int]:
        """The shape of an operation's first output."""
        return self.shape(f"{node.name}:0")

    def constant(self, source: str) -> int | None:
        """A whole number that an input is known to be."""
        import tensorflow as tf

        node = self.nodes.get(source.partition(":")[0])
        if node is not None and node.op == "Const":
            value = tf.make_ndarray(node.attr["value"].tensor)
            return int(value) if value.shape == () and value.dtype.kind in "iu" else None
        if node is not None and node.op == "Identity":
            return self.constant(node.input[0])
        if node is not None and node.op == "Max":
            # Of Keras' own loops: the largest of a range of one number.
            return self.constant(node.input[0])
        return None

    def _trips(self, loop: Any) -> int:
        """How often a loop runs: the smallest bound of a counter that grows by one."""
        condition = _Body.of_function(loop.attr["cond"].func.name, self.library)
        body = self.library[loop.attr["body"].func.name]
        names = [argument.name for argument in condition._signature(loop)]
        bounds = []
        for node in condition.needed.values():
            if node.op != "Less" or node.input[0] not in names:
                continue
            at = names.index(node.input[0])
            start = self.constant(loop.input[at])
            end = condition.constant(node.input[1])
            if node.input[1] in names:
                end = self.constant(loop.input[names.index(node.input[1])])
            if None not in (start, end) and _grows_by_one(body, at, self.library):
                bounds.append(max(end - start, 0))
        if not bounds:
            raise Untraceable("how often a loop runs is not a constant")
        return min(bounds)

    def _signature(self, loop: Any) -> Any:
        return self.library[loop.attr["cond"].func.name].signature.input_arg


def _dimensions(shape: Any) -> list[int] | None:
    sizes = [one.size for one in shape.dim]
    return None if shape.unknown_rank or min(sizes, default=0) < 0 else sizes


def _branches(node: Any) -> list[str]:
    if "branches" in node.attr:
        return [one.name for one in node.attr["branches"].list.func]
    return [node.attr["then_branch"].func.name, node.attr["else_branch"].func.name]


def _grows_by_one(body: Any, at: int, library: Mapping[str, Any]) -> bool:
    """Whether a loop's body adds one to its ``at``-th argument."""
    inner = _Body.of_function(body.signature.name, library)
    argument = body.signature.input_arg[at].name
    source = body.ret[body.signature.output_arg[at].name]
    node = inner.nodes.get(source.partition(":")[0])
    while node is not None and node.op == "Identity":
        node = inner.nodes.get(node.input[0].partition(":")[0])
    if node is None or node.op not in ("Add", "AddV2"):
        return False
    return argument in node.input and 1 in map(inner.constant, node.input)


@functools.cache
def _counters() -> dict[str, Callable[[_Body, Any], int]]:
    return {
        "MatMul": _product("transpose_a", "transpose_b"),
        **dict.fromkeys(
            ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"), _product("adj_x", "adj_y")
        ),
        "Einsum": _einsum,
        **dict.fromkeys(("Conv2D", "Conv3D", "Conv"), _convolution),
        "DepthwiseConv2dNative": _depthwise,
        **dict.fromkeys(("Conv2DBackpropInput", "Conv3DBackpropInputV2"), _transposed),
    }


def _product(first: str, second: str) -> Callable[[_Body, Any], int]:
    def count(body: _Body, node: Any) -> int:
        try:
            shared = body.shape(node.input[0])[-2 if node.attr[first].b else -1]
        except Untraceable:
            shared = body.shape(node.input[1])[-1 if node.attr[second].b else -2]
        return volume(body.output(node)) * shared

    return count


def _einsum(body: _Body, node: Any) -> int:
    counted = einsum_multiply_adds(
        node.attr["equation"].s.decode(), [tuple(body.shape(one)) for one in node.input]
    )
    if counted is None:
        raise Untraceable("it uses an einsum of other than two operands")
    return counted


def _convolution(body: _Body, node: Any) -> int:
    return volume(body.output(node)) * math.prod(body.shape(node.input[1])[:-1])


def _depthwise(body: _Body, node: Any) -> int:
    return volume(body.output(node)) * math.prod(body.shape(node.input[1])[:2])


def _transposed(body: _Body, node: Any) -> int:
    # Each value that comes in meets the kernel [*size, filters, channels] for its channel.
    return volume(body.shape(node.input[2])) * math.prod(body.shape(node.input[1])[:-1])
