"""The table of proxies. To add a proxy, write a module and add a line here."""

from __future__ import annotations

import importlib

from keras_nas_plugin.proxies.base import ProxyError
from keras_nas_plugin.proxies.context import Proxy

# Names of the proxies and of the modules that define them.
_MODULES = {
    "grad_norm": "gradient_norm",
    "snip": "saliency",
    "grasp": "gradient_flow",
    "synflow": "synaptic_flow",
    "fisher": "fisher_information",
    "jacob_cov": "jacobian",
    "naswot": "activation_codes",
    "zen": "gaussian_complexity",
    "zico": "gradient_variation",
    "meco": "correlation",
    "expressivity": "feature_entropy",
    "progressivity": "feature_entropy",
    "trainability": "spectral",
    "params": "size",
}


def names() -> list[str]:
    """Names of all proxies."""
    return list(_MODULES)


def get(name: str) -> Proxy:
    """A proxy by its name.

    Raises:
        ProxyError: There is no proxy of this name.
    """
    if name not in _MODULES:
        raise ProxyError(
            f"`proxies` must be callables or names of {', '.join(_MODULES)}; got {name!r}"
        )
    module = importlib.import_module(f"keras_nas_plugin.proxies.{_MODULES[name]}")
    return getattr(module, name)
