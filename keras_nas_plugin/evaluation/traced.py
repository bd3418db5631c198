"""Multiply-adds of anything that TensorFlow can trace, counted from the operations of its graph.

This is used for custom layers, subclassed models and everything else without a formula in `rules`.
Only operations that the result depends on are counted, including those in functions and branches.
The body of a loop is counted as often as it runs, which must be a constant number of times.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.evaluation.graph import volume
from keras_nas_plugin.evaluation.rules import einsum_multiply_adds

if TYPE_CHECKING:
    import tensorflow as tf

# Operations that perform multiply-adds of which the number is not known here.
_OPAQUE = frozenset(
    """PyFunc EagerPyFunc PyFuncStateless XlaCallModule XlaLaunch CudnnRNN CudnnRNNV2 CudnnRNNV3
    SparseTensorDenseMatMul SparseMatMul FFT FFT2D FFT3D IFFT IFFT2D IFFT3D RFFT RFFT2D RFFT3D
    IRFFT IRFFT2D IRFFT3D Cholesky MatrixInverse MatrixSolve MatrixTriangularSolve Qr Svd
    SelfAdjointEigV2 Conv2DBackpropFilter Conv3DBackpropFilterV2 Dilation2D""".split()
)
# Protocol buffers for which TensorFlow has no public name.
_FunctionDef = Any
_TensorShapeProto = Any

_CALLS = ("PartitionedCall", "StatefulPartitionedCall")
_LOOPS = ("While", "StatelessWhile")
_BRANCHES = ("If", "StatelessIf", "Case", "StatelessCase")


class Untraceable(Exception):
    """The multiply-adds of a graph cannot be determined; the message says why."""


def traced_multiply_adds(function: Callable[..., Any], specs: Iterable[tf.TensorSpec]) -> int:
    """Multiply-adds of one call.

    Args:
        function: Called with one symbolic tensor per spec.
        specs: Specs with fully defined shapes.

    Raises:
        Untraceable: A shape, a loop or an operation is unknown.
    """
    import tensorflow as tf

    concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
    definition = concrete.graph.as_graph_def(add_shapes=True)
    library = {item.signature.name: item for item in definition.library.function}
    nodes = {node.name: node for node in definition.node}
    outputs = [tensor.op.name for tensor in tf.nest.flatten(concrete.outputs)]
    return _Body(nodes, {}, outputs, library).multiply_adds()


class _Body:
    """The operations of a graph or of one of its functions.

    Args:
        nodes: Operations by name.
        arguments: Shapes of a function's arguments by name; None for unknown ones.
        outputs: Names of the operations that compute the returned tensors.
        library: All functions by name.
    """

    def __init__(
        self,
        nodes: Mapping[str, tf.compat.v1.NodeDef],
        arguments: Mapping[str, list[int] | None],
        outputs: Iterable[str],
        library: Mapping[str, _FunctionDef],
    ) -> None:
        self.nodes, self.arguments, self.library = nodes, arguments, library
        self.needed: dict[str, tf.compat.v1.NodeDef] = {}
        stack = list(outputs)
        while stack:
            name = stack.pop().lstrip("^").partition(":")[0]
            if name in nodes and name not in self.needed:
                self.needed[name] = nodes[name]
                stack += nodes[name].input

    @classmethod
    def of_function(cls, name: str, library: Mapping[str, _FunctionDef]) -> _Body:
        """The body of a function of the library."""
        definition = library[name]
        shapes = definition.attr["_input_shapes"].list.shape
        names = [argument.name for argument in definition.signature.input_arg]
        arguments = dict(zip(names, map(_dimensions, shapes), strict=False))
        nodes = {node.name: node for node in definition.node_def}
        outputs = [*definition.ret.values(), *definition.control_ret.values()]
        return cls(nodes, arguments, outputs, library)

    def multiply_adds(self) -> int:
        """Sum over all operations that the outputs depend on."""
        return sum(map(self._count, self.needed.values()))

    def _count(self, node: tf.compat.v1.NodeDef) -> int:
        if node.op in _OPAQUE:
            raise Untraceable(f"it uses the operation {node.op}")
        if node.op in _CALLS:
            return self._count_function(node.attr["f"].func.name)
        if node.op in _BRANCHES:
            return max(map(self._count_function, _branches(node)), default=0)
        if node.op in _LOOPS:
            per_iteration = self._count_function(node.attr["body"].func.name)
            return per_iteration * self._iterations(node) if per_iteration else 0
        counter = _counters().get(node.op)
        if counter is None:
            return 0
        try:
            return counter(self, node)
        except (TypeError, ValueError, IndexError) as error:
            raise Untraceable(f"a shape of {node.op} is unknown") from error

    def _count_function(self, name: str) -> int:
        return _Body.of_function(name, self.library).multiply_adds()

    def shape(self, source: str) -> list[int]:
        """The shape of an operation's input.

        Args:
            source: Name of the input, with the index of the output of its operation.

        Raises:
            Untraceable: It is unknown.
        """
        name, *rest = source.split(":")
        if name in self.nodes:
            shapes = self.nodes[name].attr["_output_shapes"].list.shape
            index = int(rest[-1]) if rest else 0
            dimensions = _dimensions(shapes[index]) if index < len(shapes) else None
        else:
            dimensions = self.arguments.get(name)
        if dimensions is None:
            raise Untraceable("a shape is unknown")
        return dimensions

    def output(self, node: tf.compat.v1.NodeDef) -> list[int]:
        """The shape of an operation's first output."""
        return self.shape(f"{node.name}:0")

    def constant(self, source: str) -> int | None:
        """The value of an input that is a constant integer; None for any other input."""
        import tensorflow as tf

        node = self.nodes.get(source.partition(":")[0])
        if node is not None and node.op == "Const":
            value = tf.make_ndarray(node.attr["value"].tensor)
            return int(value) if value.shape == () and value.dtype.kind in "iu" else None
        if node is not None and node.op == "Identity":
            return self.constant(node.input[0])
        if node is not None and node.op == "Max":
            # Keras' own loops take the maximum of a single number.
            return self.constant(node.input[0])
        return None

    def _iterations(self, loop: tf.compat.v1.NodeDef) -> int:
        """Number of iterations of a loop: the smallest bound on a counter that grows by one."""
        condition = _Body.of_function(loop.attr["cond"].func.name, self.library)
        body = self.library[loop.attr["body"].func.name]
        signature = self.library[loop.attr["cond"].func.name].signature
        names = [argument.name for argument in signature.input_arg]
        bounds = []
        for node in condition.needed.values():
            if node.op != "Less" or node.input[0] not in names:
                continue
            counter = names.index(node.input[0])
            start = self.constant(loop.input[counter])
            end = condition.constant(node.input[1])
            if node.input[1] in names:
                end = self.constant(loop.input[names.index(node.input[1])])
            if start is None or end is None or not _grows_by_one(body, counter, self.library):
                continue
            bounds.append(max(end - start, 0))
        if not bounds:
            raise Untraceable("the number of iterations of a loop is not a constant")
        return min(bounds)


def _dimensions(shape: _TensorShapeProto) -> list[int] | None:
    sizes = [dimension.size for dimension in shape.dim]
    return None if shape.unknown_rank or min(sizes, default=0) < 0 else sizes


def _branches(node: tf.compat.v1.NodeDef) -> list[str]:
    if "branches" in node.attr:
        return [function.name for function in node.attr["branches"].list.func]
    return [node.attr["then_branch"].func.name, node.attr["else_branch"].func.name]


def _grows_by_one(body: _FunctionDef, index: int, library: Mapping[str, _FunctionDef]) -> bool:
    """Whether the body of a loop adds one to the argument with this index."""
    inner = _Body.of_function(body.signature.name, library)
    argument = body.signature.input_arg[index].name
    source = body.ret[body.signature.output_arg[index].name]
    node = inner.nodes.get(source.partition(":")[0])
    while node is not None and node.op == "Identity":
        node = inner.nodes.get(node.input[0].partition(":")[0])
    if node is None or node.op not in ("Add", "AddV2"):
        return False
    return argument in node.input and 1 in map(inner.constant, node.input)


@functools.cache
def _counters() -> dict[str, Callable[[_Body, tf.compat.v1.NodeDef], int]]:
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


def _product(first: str, second: str) -> Callable[[_Body, tf.compat.v1.NodeDef], int]:
    def count(body: _Body, node: tf.compat.v1.NodeDef) -> int:
        try:
            shared = body.shape(node.input[0])[-2 if node.attr[first].b else -1]
        except Untraceable:
            shared = body.shape(node.input[1])[-1 if node.attr[second].b else -2]
        return volume(body.output(node)) * shared

    return count


def _einsum(body: _Body, node: tf.compat.v1.NodeDef) -> int:
    shapes = [tuple(body.shape(source)) for source in node.input]
    multiply_adds = einsum_multiply_adds(node.attr["equation"].s.decode(), shapes)
    if multiply_adds is None:
        raise Untraceable(f"it uses an einsum of {len(shapes)} operands instead of two")
    return multiply_adds


def _convolution(body: _Body, node: tf.compat.v1.NodeDef) -> int:
    return volume(body.output(node)) * math.prod(body.shape(node.input[1])[:-1])


def _depthwise(body: _Body, node: tf.compat.v1.NodeDef) -> int:
    return volume(body.output(node)) * math.prod(body.shape(node.input[1])[:2])


def _transposed(body: _Body, node: tf.compat.v1.NodeDef) -> int:
    # Each input value is multiplied by the kernel [*size, filters, channels] of its channel.
    return volume(body.shape(node.input[2])) * math.prod(body.shape(node.input[1])[:-1])
