"""The contract suite, for everybody who writes an oracle.

With pytest, derive from `OracleContract`; without, run
``python -m keras_nas_plugin.testing mymodule:MyOracle``. `run_cluster` searches with
KerasTuner's chief and real worker processes.
"""

from keras_nas_plugin.testing.cluster import Cluster, run_cluster
from keras_nas_plugin.testing.contract import PROPERTIES, OracleContract, check_oracle
from keras_nas_plugin.testing.driving import Search, check_values

__all__ = [
    "PROPERTIES",
    "Cluster",
    "OracleContract",
    "Search",
    "check_oracle",
    "check_values",
    "run_cluster",
]
