"""The scores of one network."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_nas_plugin.proxies import table
from keras_nas_plugin.proxies.base import WORST, Proxy, ProxyError
from keras_nas_plugin.proxies.context import Context
from keras_nas_plugin.proxies.inputs import prepared
from keras_nas_plugin.proxies.state import redraw, untouched

#: Cheap together: one forward and backward pass over the batch, and one over a single sample.
CHEAP = ("synflow", "naswot", "grad_norm")

_RULES = ("raise", "skip")


def score(
    model: keras.Model,
    x: Any,
    y: Any = None,
    proxies: Sequence[str | Callable[[keras.Model], float]] = CHEAP,
    *,
    loss: Any = None,
    initialisations: int | None = None,
    seed: int = 0,
    blocks: Sequence[str] | None = None,
    unsupported: str = "raise",
) -> dict[str, float]:
    """Score an untrained network on one batch.

    Passes over the network are shared between the proxies of one call. The model is as it was
    afterwards: weights, moving statistics, seeds and metrics. Larger is better for every proxy,
    and the worst is ``-inf``, never NaN: a network for which a proxy is not defined (it answers
    the same to every input) or is not finite.

    ```python
    score(model, x, y, ("synflow", "naswot", count_flops), loss="mse", initialisations=3)
    ```

    Args:
        model: Any Keras model, compiled or not.
        x: One batch, in the structure of the model's inputs; 16 to 64 samples serve well.
        y: Its labels, in the structure of the outputs; `naswot`, `synflow` and other proxies
            that need no gradient of a loss need none.
        proxies: Names (see `names`), or functions of the model that give a number, under whose
            name it is reported: the FLOPs, say.
        loss: What `keras.losses.get` takes, or a list or dictionary of it for several outputs;
            None for the loss that the model was compiled with.
        initialisations: Draw the weights so many times from their initializers by ``seed`` and
            give the mean; None for the weights that the model has.
        seed: Of the drawn weights, and of the noise that some proxies put in. The same seed
            gives the same scores.
        blocks: Names of the layers with whose outputs the blocks of the network end, for
            `expressivity`, `progressivity` and `trainability`; None to find them.
        unsupported: What happens when a proxy cannot handle the network: ``raise``, or
            ``skip`` to leave it out with one warning that says why.

    Returns:
        A score per proxy, in the order asked for.

    Raises:
        ProxyError: A proxy is unknown or cannot handle the network, or ``x`` or ``y`` do not
            fit it.
    """
    _check(proxies, initialisations, unsupported)
    functions = {_name(one): one for one in proxies}
    known = {one: table.get(one) for one in proxies if isinstance(one, str)}
    if not known:
        return {name: float(one(model)) for name, one in functions.items()}
    x, y = prepared(model, x, y)
    if not model.built:
        model(x)
    found: dict[str, list[float]] = {name: [] for name in known}
    with untouched(model):
        for draw in range(initialisations or 1):
            if initialisations is not None:
                redraw(model, np.random.default_rng([seed, draw, 0]))
            context = Context(
                model,
                x,
                y,
                loss=loss,
                seed=(seed, draw, 1),
                proxies=known,
                blocks=None if blocks is None else tuple(blocks),
            )
            for name, value in _computed(context, known, unsupported).items():
                found[name].append(value)
            known = {name: one for name, one in known.items() if len(found[name]) == draw + 1}
    scores = {name: _mean(name, values, model) for name, values in found.items() if values}
    counted = {name: float(one(model)) for name, one in functions.items() if callable(one)}
    return {name: (scores | counted)[name] for name in functions if name in scores | counted}


def _check(proxies: Any, initialisations: Any, unsupported: Any) -> None:
    if isinstance(proxies, str) or not proxies:
        raise ProxyError(f"`proxies` needs a list of at least one; received {proxies!r}")
    labels = [_name(one) for one in proxies]
    if len(set(labels)) < len(labels):
        raise ProxyError(f"`proxies` needs each name once; received {labels}")
    if initialisations is not None and not (
        isinstance(initialisations, int) and initialisations >= 1
    ):
        raise ProxyError(f"`initialisations` needs at least 1 or None; received {initialisations}")
    if unsupported not in _RULES:
        raise ProxyError(f"`unsupported` needs one of {_RULES}; received {unsupported!r}")


def _name(proxy: Any) -> str:
    if isinstance(proxy, str):
        return proxy
    if not callable(proxy):
        raise ProxyError(f"`proxies` needs names or callables; received {proxy!r}")
    return getattr(proxy, "__name__", type(proxy).__name__)


def _computed(
    context: Context, proxies: Mapping[str, Proxy], unsupported: str
) -> dict[str, float]:
    """A score for every proxy that can handle the network.

    Those that share the pass over the batch go first: others need its memory, and change the
    weights for a while, after which PyTorch would not differentiate it any more.
    """
    values = {}
    shared = [name for name, one in proxies.items() if one.observe or one.needs]
    for name in [*shared, *(name for name in proxies if name not in shared)]:
        if name not in shared:
            context.forget_batch()
        proxy = proxies[name]
        try:
            values[name] = float(proxy.compute(context))
        except ProxyError as error:
            if unsupported == "raise":
                raise
            warnings.warn(f"the proxy {name!r} was left out: {error}", stacklevel=3)
    return values


def _mean(name: str, values: list[float], model: keras.Model) -> float:
    mean = math.fsum(values) / len(values) if WORST not in values else WORST
    if math.isfinite(mean) or mean == WORST:
        return mean
    warnings.warn(
        f"the proxy {name!r} is {mean} for the model {model.name!r}: it overflowed, or its "
        "activations are not finite; it scores -inf",
        stacklevel=3,
    )
    return WORST
