"""The program of a worker process, which ends with its driver also while it starts.

Its arguments are the descriptor of its pipe and the file that it loads: see `worker_process.py`.
"""

from __future__ import annotations

import functools
import pickle
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from keras_nas_plugin.executors.driver_link import PipeLink
from keras_nas_plugin.executors.memory import volunteer
from keras_nas_plugin.lazy import load


def _load(path: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        sys.path[:] = pickle.load(file)
        content: dict[str, Any] = pickle.load(file)
    return content


def main() -> None:
    """Train trials until the driver ends."""
    descriptor, path = int(sys.argv[1]), sys.argv[2]
    volunteer()
    link = PipeLink(Connection(descriptor), Path(path).parent)
    serve = load("keras_nas_plugin.executors.worker", "serve")
    serve(link, functools.partial(_load, path))


if __name__ == "__main__":
    main()
