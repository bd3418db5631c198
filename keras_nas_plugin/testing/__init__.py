"""The contract suite for authors of oracles.

With pytest, subclass `OracleContract`; without pytest, run
``python -m keras_nas_plugin.testing mymodule:MyOracle``. `run_cluster` searches with
KerasTuner's chief and real worker processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nas_plugin.lazy import attach

_MODULES = {
    "PROPERTIES": "contract",
    "Cluster": "cluster",
    "OracleContract": "contract",
    "Search": "driving",
    "check_oracle": "contract",
    "check_values": "driving",
    "run_cluster": "cluster",
}

__all__ = [*_MODULES]

if TYPE_CHECKING:
    from keras_nas_plugin.testing.cluster import Cluster as Cluster
    from keras_nas_plugin.testing.cluster import run_cluster as run_cluster
    from keras_nas_plugin.testing.contract import PROPERTIES as PROPERTIES
    from keras_nas_plugin.testing.contract import OracleContract as OracleContract
    from keras_nas_plugin.testing.contract import check_oracle as check_oracle
    from keras_nas_plugin.testing.driving import Search as Search
    from keras_nas_plugin.testing.driving import check_values as check_values

__getattr__, __dir__ = attach(__name__, _MODULES)
