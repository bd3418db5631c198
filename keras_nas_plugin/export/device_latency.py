"""Measures exported layers on a device: needs numpy and ai-edge-litert, and nothing else.

This file is copied into a folder of operations by `write_operations`. On the device:

    python device_latency.py FOLDER --output table.json [--threads 1] [--runs 50]

It imports nothing of keras_nas_plugin, which a device does not have.
"""

import argparse
import json
import os
import platform
import time
from typing import Any

import numpy as np

MANIFEST = "operations.json"


def milliseconds(path: str, threads: int, runs: int, warm_up: int) -> tuple[float, float]:
    """Median and 95th percentile of one inference on zeros."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    seconds = []
    for run in range(warm_up + runs):
        start = time.perf_counter()
        interpreter.invoke()
        if run >= warm_up:
            seconds.append(time.perf_counter() - start)
    p50, p95 = np.percentile(np.array(seconds) * 1e3, [50, 95])
    return float(p50), float(p95)


def measure_folder(
    folder: str, threads: int = 1, runs: int = 50, warm_up: int = 5
) -> dict[str, Any]:
    """The latency table of a folder of operations, as a dictionary.

    Args:
        folder: What `write_operations` wrote.
        threads: Threads of an inference.
        runs: Inferences that are timed.
        warm_up: Untimed inferences before them.
    """
    with open(os.path.join(folder, MANIFEST), encoding="utf-8") as file:
        manifest = json.load(file)

    def timed(entry: dict[str, Any]) -> dict[str, Any]:
        p50, p95 = milliseconds(os.path.join(folder, entry["file"]), threads, runs, warm_up)
        return {**entry, "p50_ms": p50, "p95_ms": p95}

    return {
        "device": f"{platform.node()} ({platform.machine()}, {platform.system()})",
        "threads": threads,
        "runs": runs,
        "quantize": manifest["quantize"],
        "overhead_ms": timed(manifest["overhead"])["p50_ms"],
        "operations": {key: timed(entry) for key, entry in manifest["operations"].items()},
        "models": [timed(entry) for entry in manifest["models"]],
    }


def main() -> None:
    """Read the arguments, measure, and write the table."""
    parser = argparse.ArgumentParser(description="Measure exported layers on this device.")
    parser.add_argument("folder", help="folder that write_operations wrote")
    parser.add_argument("--output", default="table.json", help="the table to write")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=50)
    arguments = parser.parse_args()
    table = measure_folder(arguments.folder, arguments.threads, arguments.runs)
    with open(arguments.output, "w", encoding="utf-8") as file:
        json.dump(table, file, indent=1)
    print(f"{len(table['operations'])} operations measured: {arguments.output}")


if __name__ == "__main__":
    main()
