"""The blocks of a network, and the features and gradients between them, for AZ-NAS."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_nas_plugin.proxies import gradients, layers
from keras_nas_plugin.proxies.base import Event, ProxyError, Tensor, Watch
from keras_nas_plugin.proxies.context import Context


@dataclasses.dataclass(frozen=True)
class Node:
    """One call of a layer in a functional or sequential model.

    Attributes:
        inputs: Ids of its input tensors; a tensor that is used twice occurs twice.
        output: Id of its output tensor.
        rank: Number of axes of the output.
        kernel: Whether the layer has trainable weights with two axes or more.
    """

    inputs: tuple[int, ...]
    output: int
    rank: int
    kernel: bool


def ends_of_blocks(nodes: list[Node]) -> list[int]:
    """Indices of the nodes whose outputs are ends of blocks.

    A block can end where every path from input to output leads through a single tensor. Of
    these tensors, blocks end where paths meet or branch (a residual block, a cell), and before
    the next layer with a kernel in a chain (convolution, normalisation and activation are one
    block). Tensors whose rank differs from that of the first feature map, because they were
    pooled or flattened, are not ends of blocks.

    Args:
        nodes: Calls of layers, in the order in which they were made.
    """
    last_use = {tensor: i for i, node in enumerate(nodes) for tensor in node.inputs}
    users: dict[int, list[int]] = {}
    for i, node in enumerate(nodes):
        for tensor in set(node.inputs):
            users.setdefault(tensor, []).append(i)
    alive: set[int] = set()
    ends = []
    for i, node in enumerate(nodes):
        alive |= {tensor for tensor in (*node.inputs, node.output) if last_use.get(tensor, i) > i}
        alive -= {tensor for tensor in node.inputs if last_use[tensor] <= i}
        if alive != {node.output}:
            continue
        following = users[node.output]
        meets = len(node.inputs) > 1 or len(following) > 1
        if meets or nodes[following[0]].kernel:
            ends.append(i)
    features = [nodes[i].rank for i in ends if nodes[i].rank > 2]
    rank = features[0] if features else 2
    return [i for i in ends if nodes[i].rank == rank]


@dataclasses.dataclass(frozen=True)
class Blocks:
    """Features at the ends of the blocks, and random signs propagated backward through each.

    All arrays have the shape ``[batch, ..., channels]``.

    Attributes:
        features: One array per block.
        into: Random signs at the end of a block; one array per block after the first.
        out: The gradients at the start of the block that result from these signs; one array
            per block after the first.
    """

    features: list[np.ndarray]
    into: list[np.ndarray]
    out: list[np.ndarray]


def blocks_of(context: Context) -> Blocks:
    """Propagate noise forward, and random signs backward through each block; cached.

    The input of each block is treated as a constant, so that one backward pass is enough for all
    blocks.

    Raises:
        ProxyError: The network has fewer than two blocks.
    """
    if "blocks" not in context.shared:
        context.shared["blocks"] = _computed(context)
    return context.shared["blocks"]


def _computed(context: Context) -> Blocks:
    ends = _find(context)
    rng = context.rng(2)
    noise = context.noise(rng)
    sign_seed = int(rng.integers(2**31))
    first_last: list[bool] = []

    def compute(watch: Watch) -> dict[str, Any]:
        first_last.clear()
        signs_rng = np.random.default_rng(sign_seed)
        features: list[Tensor] = []
        signs: list[Tensor] = []
        count = -1

        def look(event: Event) -> Tensor | None:
            nonlocal count
            if not _counts(context, event):
                return None
            count += 1
            if count not in ends:
                return None
            drawn = signs_rng.integers(0, 2, tuple(event.tensor.shape)) * 2.0 - 1.0
            signs.append(keras.ops.convert_to_tensor(drawn, dtype=event.tensor.dtype))
            features.append(event.tensor)
            first_last.append(layers.channels_first(event.operation))
            return watch(len(features) - 1, keras.ops.stop_gradient(event.tensor))

        context.run(noise, look)
        pairs = zip(features[1:], signs[1:], strict=True)
        return {
            "features": features,
            "signs": signs[1:],
            "product": sum(keras.ops.sum(feature * sign) for feature, sign in pairs),
        }

    recording = gradients.of_backend().Recording(compute)
    keys = list(range(len(ends) - 1))
    _, by_key = recording.pull("product", variables=False, watched=keys)
    out = [_channels_last(by_key[key], first_last[key]) for key in keys]
    outputs = recording.outputs
    return Blocks(
        [_channels_last(*pair) for pair in zip(outputs["features"], first_last, strict=True)],
        [_channels_last(*pair) for pair in zip(outputs["signs"], first_last[1:], strict=True)],
        out,
    )


def _channels_last(tensor: Tensor, first: bool) -> np.ndarray:
    array = keras.ops.convert_to_numpy(tensor)
    return np.moveaxis(array, 1, -1) if first else array


def _counts(context: Context, event: Event) -> bool:
    """Whether a block may end at this event; the indices of ends count only such events."""
    if event.kind != "output":
        return False
    return event.graph if context.blocks is None else event.operation.name in context.blocks


def _find(context: Context) -> frozenset[int]:
    """Indices of the ends of blocks among the events for which `_counts` is true."""
    nodes: list[Node] = []
    alive: list[Tensor] = []  # keeps the tensors, so that their ids are not reused

    def look(event: Event) -> None:
        if _counts(context, event):
            alive.append((event.inputs, event.tensor))
            own = isinstance(event.operation, keras.Layer) and layers.kernels(event.operation)
            ids = tuple(id(tensor) for tensor in event.inputs)
            rank = len(event.tensor.shape)
            nodes.append(Node(ids, id(event.tensor), rank, bool(own)))

    context.run(keras.tree.map_structure(lambda array: array[:1], context.x), look)
    ends = ends_of_blocks(nodes) if context.blocks is None else list(range(len(nodes)))
    if len(ends) < 2:
        raise ProxyError(
            "`blocks` must name at least two layers whose outputs are ends of blocks; "
            f"{context.model.name!r} has {len(ends)} that "
            + ("can be found" if context.blocks is None else f"are called {context.blocks}")
        )
    return frozenset(ends)
