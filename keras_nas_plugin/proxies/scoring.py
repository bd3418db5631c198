"""Scoring a network by proxies."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np

from keras_nas_plugin.proxies import table
from keras_nas_plugin.proxies.base import WORST, ProxyError, Structure
from keras_nas_plugin.proxies.context import Context, Proxy
from keras_nas_plugin.proxies.inputs import prepared
from keras_nas_plugin.proxies.state import redraw, untouched

#: Cheap proxies: all of them take one forward and backward pass over the batch, and one over a
#: single sample.
CHEAP = ("synflow", "naswot", "grad_norm")

_RULES = ("raise", "skip")


def score(
    model: keras.Model,
    x: Structure,
    y: Structure | None = None,
    proxies: Sequence[str | Callable[[keras.Model], float]] = CHEAP,
    *,
    loss: object = None,
    initialisations: int | None = None,
    seed: int = 0,
    blocks: Sequence[str] | None = None,
    unsupported: str = "raise",
) -> dict[str, float]:
    """Score an untrained network on one batch.

    The proxies of one call share passes over the network. The model is unchanged afterwards:
    weights, moving statistics, seeds and metrics. Larger is better for every proxy. The worst
    score is ``-inf``: the proxy is not defined for this network (its output is the same for every
    input), or is not finite. A score is never NaN.

    ```python
    score(model, x, y, ("synflow", "naswot", count_flops), loss="mse", initialisations=3)
    ```

    Args:
        model: Any Keras model, compiled or not.
        x: A batch in the structure of the model's inputs; 16 to 64 samples are sufficient.
        y: Its labels in the structure of the outputs; not required by proxies without a
            gradient of the loss, such as `naswot` and `synflow`.
        proxies: Names (see `names`), or functions from the model to a number, for example the
            FLOPs, which are reported under the name of the function.
        loss: A loss for `keras.losses.get`, or a list or dictionary of losses for several
            outputs; None for the loss that the model was compiled with.
        initialisations: Number of draws of the weights from their initializers, over which
            scores are averaged; None for the current weights of the model.
        seed: Seed of the drawn weights, and of the noise that some proxies use as input. The
            same seed gives the same scores.
        blocks: Names of the layers whose outputs are the ends of blocks, for `expressivity`,
            `progressivity` and `trainability`; None to find them.
        unsupported: What to do if a proxy does not support the network: ``raise``, or ``skip``
            to omit it with a warning that says why.

    Returns:
        A score per proxy, in the order of ``proxies``.

    Raises:
        ProxyError: A proxy is unknown or does not support the network, or ``x`` or ``y`` do not
            match it.
    """
    _check(proxies, initialisations, unsupported)
    labels = [_name(proxy) for proxy in proxies]
    named = {proxy: table.get(proxy) for proxy in proxies if isinstance(proxy, str)}
    functions = {_name(proxy): proxy for proxy in proxies if not isinstance(proxy, str)}
    if not named:
        return {name: float(function(model)) for name, function in functions.items()}
    x, y = prepared(model, x, y)
    if not model.built:
        model(x)
    draws: dict[str, list[float]] = {name: [] for name in named}
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
                proxies=named,
                blocks=None if blocks is None else tuple(blocks),
            )
            for name, value in _computed(context, named, unsupported).items():
                draws[name].append(value)
            # A proxy that was skipped in one draw is skipped in all others as well.
            named = {n: proxy for n, proxy in named.items() if len(draws[n]) == draw + 1}
    scores = {name: _mean(name, values, model) for name, values in draws.items() if values}
    scores |= {name: float(function(model)) for name, function in functions.items()}
    return {name: scores[name] for name in labels if name in scores}


def _check(
    proxies: Sequence[str | Callable[[keras.Model], float]],
    initialisations: int | None,
    unsupported: str,
) -> None:
    if isinstance(proxies, str) or not proxies:
        raise ProxyError(f"`proxies` must be a list of at least one proxy; got {proxies!r}")
    labels = [_name(proxy) for proxy in proxies]
    if len(set(labels)) < len(labels):
        raise ProxyError(f"`proxies` must have unique names; got {labels}")
    if initialisations is not None and not (
        isinstance(initialisations, int) and initialisations >= 1
    ):
        raise ProxyError(f"`initialisations` must be at least 1 or None; got {initialisations}")
    if unsupported not in _RULES:
        raise ProxyError(f"`unsupported` must be one of {_RULES}; got {unsupported!r}")


def _name(proxy: object) -> str:
    if isinstance(proxy, str):
        return proxy
    if not callable(proxy):
        raise ProxyError(f"`proxies` must be names or callables; got {proxy!r}")
    return getattr(proxy, "__name__", type(proxy).__name__)


def _computed(
    context: Context, proxies: Mapping[str, Proxy], unsupported: str
) -> dict[str, float]:
    """The score of every proxy that supports the network.

    Proxies that share the pass over the batch come first; then the recorded pass is freed. The
    other proxies need its memory, and they change the weights temporarily, after which PyTorch
    could not differentiate the pass any more.
    """
    values = {}
    shared = [name for name, proxy in proxies.items() if proxy.observe or proxy.needs]
    for name in [*shared, *(name for name in proxies if name not in shared)]:
        if name not in shared:
            context.forget_batch()
        proxy = proxies[name]
        try:
            values[name] = float(proxy.compute(context))
        except ProxyError as error:
            if unsupported == "raise":
                raise
            warnings.warn(f"the proxy {name!r} was skipped: {error}", stacklevel=3)
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
