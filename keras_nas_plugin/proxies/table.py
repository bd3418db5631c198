"""The table of proxies. A new one is one file and one line here."""

from __future__ import annotations

import importlib

from keras_nas_plugin.proxies.base import Proxy, ProxyError

# Name of the proxy, and of the module that has it under this name.
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
        ProxyError: There is none of this name.
    """
    if name not in _MODULES:
        raise ProxyError(
            f"`proxies` needs callables or names of {', '.join(_MODULES)}; received {name!r}"
        )
    module = importlib.import_module(f"keras_nas_plugin.proxies.{_MODULES[name]}")
    return getattr(module, name)
