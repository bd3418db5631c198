"""The gradients of the backend that Keras runs on: one module per backend.

Each has the same two names. Where an activation enters, a proxy marks it with ``watch``.

``Recording(compute, variables)``
    Calls ``compute(watch)``, which returns a dictionary of float tensors, and keeps what is
    needed to differentiate them. ``watch(key, tensor)`` returns a tensor to go on with, with
    respect to which can be differentiated later. ``outputs`` is the dictionary;
    ``pull(target, variables=..., watched=...)`` is the gradient of the sum of ``outputs[target]``
    with respect to the variables (a list) and to the watched keys (a dictionary), zeros where
    it does not depend on them. A recording can be pulled several times. ``compute`` may run
    twice, and must leave tensors nowhere else.

``hessian_product(compute, variables)``
    For ``compute()``, a scalar f: its gradient g, and the product of its Hessian with g.
"""

from __future__ import annotations

import importlib
from types import ModuleType

import keras

from keras_nas_plugin.errors import BackendError

_MODULES = {name: f"{__name__}_{name}" for name in ("tensorflow", "jax", "torch")}


def of_backend() -> ModuleType:
    """The module for the backend in use.

    Raises:
        BackendError: It has no gradients, or none that this package knows.
    """
    name = keras.config.backend()
    if name not in _MODULES:
        raise BackendError(f"proxies need the backend {', '.join(_MODULES)}; received {name!r}")
    return importlib.import_module(_MODULES[name])
