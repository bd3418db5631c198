"""Ranks of cells by a supernet, against the same cells trained alone; time and memory of both.

    python benchmarks/supernet_ranks.py                      # digits, 16 cells, 3 minutes

Random cells of a small space of NAS-Bench-201 are trained alone. Supernets of the space are
trained with each sampling, for the same number of paths. Kendall's tau of their validation
accuracy with that of the cells alone is printed with an interval of 95% over the cells: with the
statistics of batch normalisation of each cell, and with those that training left (``raw``); and
beside it that of the number of parameters. The intervals do not include the variance between
trainings.

The time of a training step is the mean over the steps after the first ten, with the same batches
and the same call (`train_on_batch`). Each part runs in its own process, whose largest resident
memory is printed, less that after the imports.
"""

from __future__ import annotations

import argparse
import functools
import json
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np

SAMPLINGS = ("uniform", "fair")
_BATCH, _WARM_UP = 32, 10
_CHANNELS = 8


def main() -> None:
    """Run the benchmark that the command line requests."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--cells", type=int, default=16, help="cells that are trained alone")
    add("--epochs", type=int, default=8, help="epochs of a cell alone")
    add("--supernet-epochs", type=int, default=40, help="epochs, counted in paths")
    add("--rows", type=int, default=800, help="training rows")
    add("--seed", type=int, default=0)
    add("--json", metavar="FILE", help="write the results as JSON to this file")
    options = parser.parse_args()
    alone = in_a_process(train_alone, options)
    supernets = {name: in_a_process(train_supernet, options, name) for name in SAMPLINGS}
    print(report(alone, supernets))
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"alone": alone, "supernets": supernets}, file, indent=1)


def in_a_process(function: Any, *arguments: Any) -> dict[str, Any]:
    """Call a function in a process of its own, so that its memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def report(alone: dict[str, Any], supernets: dict[str, dict[str, Any]]) -> str:
    """The results as a table of Markdown.

    Args:
        alone: What `train_alone` returned.
        supernets: What `train_supernet` returned, by sampling.
    """
    from keras_nas_plugin.strategies.calibration import kendall

    truth = alone["accuracy"]
    lines = [
        f"{len(truth)} cells alone: accuracy {min(truth):.3f} to {max(truth):.3f}, "
        f"{alone['milliseconds']:.2f} ms per step, {alone['megabytes']:.0f} MiB",
        "",
        "| ranks by | Kendall's tau | raw statistics | ms per step | times the mean cell | MiB |",
        "|---|---|---|---|---|---|",
    ]
    for name, supernet in supernets.items():
        tau, raw = kendall(supernet["accuracy"], truth), kendall(supernet["raw"], truth)
        ratio = supernet["milliseconds"] / alone["milliseconds"]
        lines.append(
            f"| supernet, {name} | {_interval(tau)} | {_interval(raw)} | "
            f"{supernet['milliseconds']:.2f} | {ratio:.2f} | {supernet['megabytes']:.0f} |"
        )
    parameters = kendall(alone["parameters"], truth)
    lines.append(f"| parameters | {_interval(parameters)} | | | | |")
    return "\n".join(lines)


def _interval(tau: Any) -> str:
    return f"{tau.value:.2f} ({tau.low:.2f} to {tau.high:.2f})"


# ---------------------------------------------------------------------- in processes


def space() -> Any:
    """One cell in each of three stages, for digits of 8 x 8 pixels."""
    from keras_nas_plugin.space.presets.nasbench201 import nas_bench_201

    return nas_bench_201((8, 8, 1), 10, channels=_CHANNELS, cells_per_stage=1)


def cells(count: int, seed: int) -> list[dict[str, Any]]:
    """Distinct random cells."""
    spec, rng = space().spec, np.random.default_rng(seed)
    drawn: dict[str, dict[str, Any]] = {}
    while len(drawn) < count:
        values = spec.sample(rng)
        drawn[spec.key(values)] = values
    return list(drawn.values())


def digits(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and validation rows of scikit-learn's digits."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x.reshape(-1, 8, 8, 1) / 16.0).astype("float32")
    order = np.random.default_rng(0).permutation(len(x))
    train, held_out = order[:rows], order[rows:]
    return x[train], y[train], x[held_out], y[held_out]


def batches(x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> list[Any]:
    """The batches of an epoch, without the last rows that fill none."""
    order = rng.permutation(len(x))
    full = range(0, len(x) - _BATCH + 1, _BATCH)
    return [(x[i], y[i], None) for i in (order[start : start + _BATCH] for start in full)]


class Clock:
    """Milliseconds per call, without the first ones."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def time(self, function: Any, *arguments: Any, **named: Any) -> Any:
        """Call a function and note how long it took."""
        started = time.perf_counter()
        result = function(*arguments, **named)
        self.seconds.append(time.perf_counter() - started)
        return result

    def milliseconds(self) -> float:
        """The mean."""
        return 1e3 * float(np.mean(self.seconds[_WARM_UP:]))


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def train_alone(options: argparse.Namespace) -> dict[str, Any]:
    """Train cells alone: accuracy, parameters, time of a step, memory."""
    import keras

    hypermodel, (x, y, x_val, y_val) = space(), digits(options.rows)
    accuracy, parameters, milliseconds = [], [], []
    before = _megabytes()
    for number, values in enumerate(cells(options.cells, options.seed)):
        keras.utils.set_random_seed(number)
        model = hypermodel.build_values(values)
        hypermodel.compile_model(model, values)
        rng, clock = np.random.default_rng(number), Clock()
        for _ in range(options.epochs):
            for rows, labels, _ in batches(x, y, rng):
                clock.time(model.train_on_batch, rows, labels)
        result = model.evaluate(x_val, y_val, verbose=0, return_dict=True)
        accuracy.append(result["accuracy"])
        parameters.append(model.count_params())
        milliseconds.append(clock.milliseconds())
        keras.backend.clear_session()
    return {
        "accuracy": accuracy,
        "parameters": parameters,
        "milliseconds": float(np.mean(milliseconds)),
        "megabytes": _megabytes() - before,
    }


def train_supernet(options: argparse.Namespace, sampling: str) -> dict[str, Any]:
    """Train a supernet and score the cells with it: accuracy, time of a path, memory."""
    import keras

    from keras_nas_plugin.supernet import Supernet, SupernetTrainer
    from keras_nas_plugin.supernet.sampling import SAMPLERS

    x, y, x_val, y_val = digits(options.rows)
    before = _megabytes()
    keras.utils.set_random_seed(options.seed)
    supernet = Supernet(space())
    sampler, rng = SAMPLERS[sampling](supernet.spec), np.random.default_rng(options.seed)
    trainer, clock = SupernetTrainer(supernet, sampler, rng), Clock()
    step = supernet.model.train_on_batch
    supernet.model.train_on_batch = functools.partial(clock.time, step)
    for _ in range(max(1, options.supernet_epochs // sampler.paths)):
        trainer.epoch(batches(x, y, rng))
    training = [rows for rows, _, _ in batches(x, y, np.random.default_rng(0))]
    validation = [(x_val, y_val, None)]
    drawn = cells(options.cells, options.seed)
    return {
        "accuracy": [trainer.score(values, training, validation)["accuracy"] for values in drawn],
        "raw": [
            trainer.evaluate(supernet.mask(values), validation)["accuracy"] for values in drawn
        ],
        "milliseconds": clock.milliseconds(),
        "megabytes": _megabytes() - before,
    }


if __name__ == "__main__":
    main()
