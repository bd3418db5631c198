"""The loss whose gradients are computed."""

from __future__ import annotations

from typing import Any

import keras

from keras_nas_plugin.proxies.base import ProxyError, Structure, Tensor


def loss_of(
    model: keras.Model, loss: object, x: Structure, y: Structure, outputs: Structure
) -> Tensor:
    """The mean loss of a batch, a scalar.

    Args:
        model: Any Keras model.
        loss: A loss for `keras.losses.get`, or a list or dictionary of losses in the structure
            of the outputs, which are summed; None for the compiled losses of the model, with
            their weights and the regularisation of its layers, see `Model.compute_loss`.
        x: Inputs.
        y: Labels in the structure of the outputs.
        outputs: Outputs of the model.

    Raises:
        ProxyError: There is no loss, or it does not match the outputs.
    """
    if loss is None:
        if not model.compiled or model.loss is None:
            raise ProxyError(
                "`loss` must be a Keras loss for a model that was compiled without one; got None"
            )
        return model.compute_loss(x=x, y=y, y_pred=outputs, sample_weight=None)
    return sum(
        keras.ops.mean(keras.losses.get(function)(labels, output))
        for function, labels, output in _paired(loss, y, outputs)
    )


def _paired(
    loss: object, y: Structure, outputs: Structure
) -> list[tuple[Any, Structure, Structure]]:
    """A tuple for each output: its loss, its labels and the output."""
    if isinstance(outputs, dict):
        names = list(outputs)
        loss_by_name = loss if isinstance(loss, dict) else dict.fromkeys(names, loss)
        y_by_name = y if isinstance(y, dict) else {}
        _check_names("loss", loss_by_name, names)
        _check_names("y", y_by_name, names)
        return [(loss_by_name[name], y_by_name[name], outputs[name]) for name in names]
    if isinstance(outputs, list | tuple):
        losses = loss if isinstance(loss, list | tuple) else [loss] * len(outputs)
        labels = y if isinstance(y, list | tuple) else [y]
        for argument, values in (("loss", losses), ("y", labels)):
            if len(values) != len(outputs):
                raise ProxyError(
                    f"`{argument}` must have one entry for each of the {len(outputs)} outputs; "
                    f"got {len(values)}"
                )
        return list(zip(losses, labels, outputs, strict=True))
    return [(loss, y, outputs)]


def _check_names(argument: str, values: dict[str, Any], names: list[str]) -> None:
    if set(values) != set(names):
        raise ProxyError(
            f"`{argument}` must have one entry for each output of {sorted(names)}; "
            f"got {sorted(values)}"
        )
