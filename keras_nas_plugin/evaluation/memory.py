"""Peak memory of activations, by liveness analysis of the graph of calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nas_plugin.evaluation.graph import graph_of, sizes_of, volume

if TYPE_CHECKING:
    import keras


def peak_activation_memory(model: keras.Model, batch_size: int = 1) -> int:
    """Largest number of bytes of tensors that are alive at the same time during one inference.

    Calls run one after another in the order of a depth-first traversal from the outputs. A tensor
    is alive from the call that writes it to the last one that reads it; inputs are alive from the
    start, outputs to the end. Calls neither work in place nor are fused, and neither weights nor
    scratch memory of layers count: a compiled model may need less memory, and a convolution
    by matrix product more.

    Source: liveness analysis as in memory planners, for example Pisarchyk & Lee 2020,
    "Efficient Memory Management for Deep Neural Net Inference", section 2 (its lower bound,
    the largest sum of sizes over all operators).

    Args:
        model: A functional or built Sequential model.
        batch_size: Examples per inference; activations are proportional to it.

    Raises:
        CostError: The model is neither functional nor a built Sequential model, or a shape is
            unknown.
    """
    graph = graph_of(model)
    numbers = sorted(graph.tensors)
    shapes = sizes_of([graph.tensors[number] for number in numbers])
    sizes = {
        number: volume(shape) * item_size(graph.tensors[number].dtype)
        for number, shape in zip(numbers, shapes, strict=True)
    }
    last_read = {number: step for step, call in enumerate(graph.calls) for number in call.reads}
    last_read |= dict.fromkeys(graph.outputs, len(graph.calls))
    alive = set(graph.inputs)
    current = peak = sum(sizes[number] for number in alive)
    for step, call in enumerate(graph.calls):
        allocated = set(call.writes) - alive
        current += sum(sizes[number] for number in allocated)
        alive |= allocated
        peak = max(peak, current)
        # An output that no call reads is freed immediately.
        freed = {
            number
            for number in {*call.reads, *allocated} & alive
            if last_read.get(number, step) <= step
        }
        current -= sum(sizes[number] for number in freed)
        alive -= freed
    return peak * batch_size


def item_size(dtype: object) -> int:
    """Bytes of one value.

    >>> item_size("float32"), item_size("bfloat16"), item_size("bool"), item_size("int8")
    (4, 2, 1, 1)
    """
    digits = "".join(filter(str.isdigit, str(dtype).partition("_")[0]))
    return max(int(digits) // 8, 1) if digits else 1
