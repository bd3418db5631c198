"""Scores of an untrained network on one batch: how well it may train, without training it.

`score` computes them, `rank_aggregate` combines them over a pool of networks. Names load on
first use; importing this package loads no large library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras_nas_plugin.lazy import load

_MODULES = {
    "AZ_NAS": "ranking",
    "Proxy": "base",
    "ProxyError": "base",
    "names": "table",
    "rank_aggregate": "ranking",
    "score": "scoring",
}

__all__ = list(_MODULES)

if TYPE_CHECKING:
    from keras_nas_plugin.proxies.base import Proxy as Proxy
    from keras_nas_plugin.proxies.base import ProxyError as ProxyError
    from keras_nas_plugin.proxies.ranking import AZ_NAS as AZ_NAS
    from keras_nas_plugin.proxies.ranking import rank_aggregate as rank_aggregate
    from keras_nas_plugin.proxies.scoring import score as score
    from keras_nas_plugin.proxies.table import names as names


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = load(f"{__name__}.{_MODULES[name]}", name)
    globals()[name] = value
    return value
