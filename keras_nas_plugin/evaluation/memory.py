"""The most memory that activations take at a time, by liveness over the graph of calls."""

from __future__ import annotations

from typing import Any

from keras_nas_plugin.evaluation.graph import graph_of, sizes_of, volume


def peak_activation_memory(model: Any, batch_size: int = 1) -> int:
    """Bytes of the tensors that are alive at the same time during one inference, at most.

    Calls run one after the other in the order of a depth-first walk back from the outputs. A
    tensor is alive from the call that makes it to the last one that takes it; inputs from the
    beginning, outputs to the end. Nothing is done in place, no result is merged into another,
    and a layer's own scratch memory and weights do not count: a compiler may need less, and a
    convolution by matrix product more.

    Source: liveness analysis as memory planners do it, for example Pisarchyk & Lee 2020,
    "Efficient Memory Management for Deep Neural Net Inference", section 2 (its lower bound,
    the largest sum of sizes over all operators).

    Args:
        model: A functional or built Sequential `keras.Model`.
        batch_size: Examples at a time; activations grow with it in proportion.

    Raises:
        CostError: The model is of another kind, or a shape is not known.
    """
    graph = graph_of(model)
    numbers = sorted(graph.tensors)
    shapes = sizes_of([graph.tensors[number] for number in numbers])
    sizes = {
        number: volume(shape) * item_size(graph.tensors[number].dtype)
        for number, shape in zip(numbers, shapes, strict=True)
    }
    last = {number: at for at, call in enumerate(graph.calls) for number in call.reads}
    last |= dict.fromkeys(graph.outputs, len(graph.calls))
    alive = set(graph.inputs)
    now = peak = sum(sizes[number] for number in alive)
    for at, call in enumerate(graph.calls):
        made = set(call.writes) - alive
        now += sum(sizes[number] for number in made)
        alive |= made
        peak = max(peak, now)
        # A result that nobody takes goes at once.
        gone = {n for n in {*call.reads, *made} if n in alive and last.get(n, at) <= at}
        now -= sum(sizes[number] for number in gone)
        alive -= gone
    return peak * batch_size


def item_size(dtype: Any) -> int:
    """Bytes of one value.

    >>> item_size("float32"), item_size("bfloat16"), item_size("bool"), item_size("int8")
    (4, 2, 1, 1)
    """
    digits = "".join(filter(str.isdigit, str(dtype).partition("_")[0]))
    return max(int(digits) // 8, 1) if digits else 1
