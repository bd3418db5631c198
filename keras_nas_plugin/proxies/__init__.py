"""Zero-cost proxies: scores of an untrained network on one batch that predict its quality.

`score` computes them, `rank_aggregate` combines them over a pool of networks. Names are imported
on first use, so that importing this package does not import Keras.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nas_plugin.lazy import attach

_MODULES = {
    "AZ_NAS": "ranking",
    "Proxy": "context",
    "ProxyError": "base",
    "names": "table",
    "rank_aggregate": "ranking",
    "score": "scoring",
}

__all__ = list(_MODULES)

if TYPE_CHECKING:
    from keras_nas_plugin.proxies.base import ProxyError as ProxyError
    from keras_nas_plugin.proxies.context import Proxy as Proxy
    from keras_nas_plugin.proxies.ranking import AZ_NAS as AZ_NAS
    from keras_nas_plugin.proxies.ranking import rank_aggregate as rank_aggregate
    from keras_nas_plugin.proxies.scoring import score as score
    from keras_nas_plugin.proxies.table import names as names

__getattr__, __dir__ = attach(__name__, _MODULES)
