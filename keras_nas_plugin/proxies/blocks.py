"""Where the blocks of a network end, and what flows between them; for the proxies of AZ-NAS."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from keras_nas_plugin.proxies import gradients, layers
from keras_nas_plugin.proxies.base import Event, ProxyError
from keras_nas_plugin.proxies.context import Context


@dataclasses.dataclass(frozen=True)
class Node:
    """One call of a layer in a functional or sequential model.

    Attributes:
        inputs: Ids of the tensors that it got, equal ones repeated.
        output: Id of the tensor that it returned.
        rank: Number of axes of that.
        kernel: Whether the layer has trainable weights with two axes or more.
    """

    inputs: tuple[int, ...]
    output: int
    rank: int
    kernel: bool


def ends_of_blocks(nodes: list[Node]) -> list[int]:
    """Positions of the nodes with whose outputs blocks end.

    A block can end where nothing else goes on: every path from input to output leads through
    that one tensor. Of those it ends where paths meet or part (a residual block, a cell), and
    before the next kernel in a chain (convolution, normalisation and activation are one block).
    Tensors of another rank than the first feature map (pooled or flattened) end none.

    Args:
        nodes: In the order in which they were called.
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
    """Features at the ends of the blocks, channels last, and random gradients through each.

    Attributes:
        features: Shape ``[batch, ..., channels]`` each.
        into: Random signs, in the shape of the features; one per block after the first.
        out: What came out of them at the block's start; one per block after the first.
    """

    features: list[np.ndarray]
    into: list[np.ndarray]
    out: list[np.ndarray]


def blocks_of(context: Context) -> Blocks:
    """Run noise through the network and signs back through each block; once per context.

    Each block gets its input as a constant: one backward pass is enough for all of them.

    Raises:
        ProxyError: Fewer than two blocks were found.
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

    def compute(watch: Any) -> dict[str, Any]:
        first_last.clear()
        signs_rng = np.random.default_rng(sign_seed)
        features: list[Any] = []
        signs: list[Any] = []
        count = -1

        def look(event: Event) -> Any:
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
            "product": sum(keras.ops.sum(one * sign) for one, sign in pairs),
        }

    recording = gradients.of_backend().Recording(compute)
    keys = list(range(len(ends) - 1))
    _, found = recording.pull("product", variables=False, watched=keys)
    out = [_channels_last(found[key], first_last[key]) for key in keys]
    outputs = recording.outputs
    return Blocks(
        [_channels_last(*pair) for pair in zip(outputs["features"], first_last, strict=True)],
        [_channels_last(*pair) for pair in zip(outputs["signs"], first_last[1:], strict=True)],
        out,
    )


def _channels_last(tensor: Any, first: bool) -> np.ndarray:
    array = keras.ops.convert_to_numpy(tensor)
    return np.moveaxis(array, 1, -1) if first else array


def _counts(context: Context, event: Event) -> bool:
    """Whether an event is one of the nodes that positions count."""
    if event.kind != "output":
        return False
    return event.graph if context.blocks is None else event.operation.name in context.blocks


def _find(context: Context) -> frozenset[int]:
    """Positions of the ends among the events that count."""
    nodes: list[Node] = []
    kept: list[Any] = []  # so that no id is taken twice

    def look(event: Event) -> None:
        if _counts(context, event):
            kept.append((event.inputs, event.tensor))
            own = isinstance(event.operation, keras.Layer) and layers.kernels(event.operation)
            ids = tuple(id(one) for one in event.inputs)
            rank = len(event.tensor.shape)
            nodes.append(Node(ids, id(event.tensor), rank, bool(own)))

    context.run(keras.tree.map_structure(lambda one: one[:1], context.x), look)
    ends = ends_of_blocks(nodes) if context.blocks is None else list(range(len(nodes)))
    if len(ends) < 2:
        raise ProxyError(
            "`blocks` needs the names of at least two layers with whose outputs blocks end, "
            f"because {context.model.name!r} has {len(ends)} that "
            + ("can be found" if context.blocks is None else f"are called {context.blocks}")
        )
    return frozenset(ends)
