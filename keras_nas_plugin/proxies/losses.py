"""The loss that gradients are taken of."""

from __future__ import annotations

from typing import Any

import keras

from keras_nas_plugin.proxies.base import ProxyError


def loss_of(model: keras.Model, loss: Any, x: Any, y: Any, outputs: Any) -> Any:
    """The mean loss of a batch, a scalar.

    Args:
        model: Any Keras model.
        loss: What `keras.losses.get` takes, or a list or dictionary of it in the structure of
            the outputs (their losses are added); None for what the model was compiled with: its
            losses, their weights and the penalties of its layers, by `Model.compute_loss`.
        x: Inputs.
        y: Labels, in the structure of the outputs.
        outputs: Of the model.

    Raises:
        ProxyError: There is no loss, or it does not fit the outputs.
    """
    if loss is None:
        if not model.compiled or model.loss is None:
            raise ProxyError(
                "`loss` needs a Keras loss for a model that was not compiled with one; "
                "received None"
            )
        return model.compute_loss(x=x, y=y, y_pred=outputs, sample_weight=None)
    parts = _paired(loss, y, outputs)
    return sum(keras.ops.mean(keras.losses.get(one)(true, got)) for one, true, got in parts)


def _paired(loss: Any, y: Any, outputs: Any) -> list[tuple[Any, Any, Any]]:
    """A loss, labels and an output for every output."""
    if isinstance(outputs, dict):
        names = list(outputs)
        losses = loss if isinstance(loss, dict) else dict.fromkeys(names, loss)
        truth = y if isinstance(y, dict) else {}
        _same("loss", losses, names)
        _same("y", truth, names)
        return [(losses[name], truth[name], outputs[name]) for name in names]
    if isinstance(outputs, list | tuple):
        losses = loss if isinstance(loss, list | tuple) else [loss] * len(outputs)
        truth = y if isinstance(y, list | tuple) else [y]
        for argument, values in (("loss", losses), ("y", truth)):
            if len(values) != len(outputs):
                raise ProxyError(
                    f"`{argument}` needs one entry for each of the {len(outputs)} outputs; "
                    f"received {len(values)}"
                )
        return list(zip(losses, truth, outputs, strict=True))
    return [(loss, y, outputs)]


def _same(argument: str, values: dict, names: list) -> None:
    if set(values) != set(names):
        raise ProxyError(
            f"`{argument}` needs an entry for each output of {sorted(names)}; "
            f"received {sorted(values)}"
        )
