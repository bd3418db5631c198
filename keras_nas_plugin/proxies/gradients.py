"""Gradients on the backend of Keras: one module per backend, with the same two names.

``Recording(compute, variables)``
    Calls ``compute(watch)``, which returns a dictionary of float tensors, and records what is
    needed to differentiate them. ``watch(key, tensor)`` returns the tensor that ``compute`` must
    use in place of ``tensor``, so that gradients with respect to it can be taken later.
    ``outputs`` is the dictionary. ``pull(target, variables=..., watched=...)`` returns the
    gradient of the sum of ``outputs[target]`` with respect to the variables (a list) and to the
    watched keys (a dictionary); it is zero where the target does not depend on them. ``pull``
    can be called several times. ``compute`` may be called twice, and must not store tensors
    elsewhere.

``hessian_product(compute, variables)``
    For the scalar f that ``compute()`` returns: its gradient g, and the product of its Hessian
    with g.
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
        BackendError: The backend has no gradients, or is not supported.
    """
    name = keras.config.backend()
    if name not in _MODULES:
        raise BackendError(
            f"the backend for proxies must be one of {', '.join(_MODULES)}; got {name!r}"
        )
    return importlib.import_module(_MODULES[name])
