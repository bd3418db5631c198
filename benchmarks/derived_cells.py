"""Accuracy of the cells that differentiable searches derive, against random cells.

    python benchmarks/derived_cells.py                      # digits, 8 random cells, 3 seeds

Random cells of the space of `supernet_ranks.py` are trained alone. Each method searches the space
with each seed; half of the training rows train the weights of the supernet, the other half the
alphas. The derived cell is trained alone like the random ones, on all training rows, and its
accuracy on the rows that no part of the search has seen is printed, with its number of skips and
zeros among the six operations, and why the supernet ended early, if it did.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks.supernet_ranks import batches, cells, digits, in_a_process, space

METHODS = ("gdas", "darts", "drnas", "darts-second-order")


def main() -> None:
    """Run the benchmark that the command line requests."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--methods", nargs="+", choices=METHODS, default=METHODS)
    add("--cells", type=int, default=8, help="random cells")
    add("--epochs", type=int, default=8, help="epochs of a cell alone")
    add("--supernet-epochs", type=int, default=12, help="epochs of a supernet")
    add("--rows", type=int, default=800, help="training rows")
    add("--seeds", type=int, default=3)
    add("--json", metavar="FILE", help="write the results as JSON to this file")
    options = parser.parse_args()
    random = in_a_process(train_random, options)["accuracy"]
    print(f"random cells: mean {np.mean(random):.4f}, best {max(random):.4f}", flush=True)
    results = []
    for method, seed in itertools.product(options.methods, range(options.seeds)):
        result = in_a_process(search, options, method, seed)
        results.append(result)
        print(json.dumps(result), flush=True)
    print(report(random, results))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"random": random, "derived": results}, file, indent=1)


def report(random: list[float], results: list[dict[str, Any]]) -> str:
    """The results as a table of Markdown.

    Args:
        random: Accuracy of each random cell.
        results: What `search` returned for each method and seed.
    """
    lines = [
        "| cells | mean accuracy | each | skips and zeros of 6 | ended early | CPU s |",
        "|---|---|---|---|---|---|",
        f"| {len(random)} random | {np.mean(random):.4f} | {min(random):.4f} to "
        f"{max(random):.4f} | | | |",
    ]
    for method in dict.fromkeys(result["method"] for result in results):
        own = [result for result in results if result["method"] == method]
        each = [f"{result['accuracy']:.4f}" for result in own]
        mean = np.mean([result["accuracy"] for result in own])
        empty = [str(result["empty"]) for result in own]
        stopped = sum(result["stopped"] is not None for result in own)
        seconds = np.mean([result["seconds"] for result in own])
        lines.append(
            f"| {method} | {mean:.4f} | {', '.join(each)} | {', '.join(empty)} | {stopped} of "
            f"{len(own)} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def train_random(options: argparse.Namespace) -> dict[str, Any]:
    """Train random cells alone; returns their accuracies."""
    drawn = enumerate(cells(options.cells, 0))
    return {"accuracy": [accuracy_alone(options, number, values) for number, values in drawn]}


def accuracy_alone(options: argparse.Namespace, seed: int, values: dict[str, Any]) -> float:
    """Accuracy of a cell that is trained alone."""
    import keras

    x, y, x_test, y_test = digits(options.rows)
    hypermodel = space()
    keras.utils.set_random_seed(seed)
    model = hypermodel.build_values(hypermodel.spec.fill(values))
    hypermodel.compile_model(model, values)
    model.fit(x, y, epochs=options.epochs, verbose=0)
    result = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
    keras.backend.clear_session()
    return float(result["accuracy"])


def search(options: argparse.Namespace, method: str, seed: int) -> dict[str, Any]:
    """Search a cell and train it alone; returns what is known of both."""
    import keras

    from keras_nas_plugin.supernet import DifferentiableTrainer, Guards, Supernet
    from keras_nas_plugin.supernet.relaxation import METHODS as RELAXATIONS

    started, epochs = time.process_time(), options.supernet_epochs
    x, y, _, _ = digits(options.rows)
    half = len(x) // 2
    keras.utils.set_random_seed(seed)
    supernet, rng = Supernet(space()), np.random.default_rng(seed)
    first = batches(x[:half], y[:half], rng)
    trainer = DifferentiableTrainer(
        supernet,
        RELAXATIONS[method](supernet.layout),
        rng,
        epochs=epochs,
        steps=len(first),
        warmup=epochs // 5,
    )
    guards = Guards(supernet.layout, supernet.empty, epochs)
    history: list[np.ndarray] = []
    verdict = None
    for _ in range(epochs):
        logs = trainer.epoch(batches(x[:half], y[:half], rng), _endless(x[half:], y[half:], rng))
        history.append(trainer.weights)
        verdict = guards.check(history, logs)
        if verdict is not None:
            break
    good = history[-2] if verdict is not None and verdict.discard else history[-1]
    values, seconds = supernet.layout.strongest(good), time.process_time() - started
    return {
        "accuracy": accuracy_alone(options, seed, values),
        "method": method,
        "seed": seed,
        "values": values,
        "empty": sum(values[name] in options for name, options in supernet.empty.items()),
        "entropy": guards.entropy(good),
        "stopped": None if verdict is None else verdict.sentence,
        "epochs": len(history),
        "seconds": seconds,
    }


def _endless(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Iterator[Any]:
    while True:
        yield from batches(x, y, rng)


if __name__ == "__main__":
    main()
