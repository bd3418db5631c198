"""The contract suites for authors of oracles and of executors.

With pytest, subclass `OracleContract` or `ExecutorContract`; without pytest, run
``python -m keras_nas_plugin.testing mymodule:MyOracle``, or call `check_executor`. `run_cluster`
searches with KerasTuner's chief and real worker processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nas_plugin.lazy import attach

_MODULES = {
    "PROPERTIES": "contract",
    "EXECUTOR_PROPERTIES": "executors",
    "Cluster": "cluster",
    "ExecutorContract": "executors",
    "OracleContract": "contract",
    "Search": "driving",
    "check_executor": "executors",
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
    from keras_nas_plugin.testing.executors import EXECUTOR_PROPERTIES as EXECUTOR_PROPERTIES
    from keras_nas_plugin.testing.executors import ExecutorContract as ExecutorContract
    from keras_nas_plugin.testing.executors import check_executor as check_executor

__getattr__, __dir__ = attach(__name__, _MODULES)
