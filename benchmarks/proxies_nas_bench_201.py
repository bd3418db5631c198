"""Rank correlation of zero-cost proxies with accuracy on NAS-Bench-201, and their cost.

    python benchmarks/proxies_nas_bench_201.py                  # 200 cells, about an hour
    python benchmarks/proxies_nas_bench_201.py --cells 30 --cells-per-stage 1 --timed 0
    python benchmarks/proxies_nas_bench_201.py --cells 1000 --cells-per-stage 1 --timed 0 \
        --save pool.npz                                         # resumes if interrupted

The networks are built in Keras from the preset of this package, with newly initialised weights.
The sample of cells is stratified by accuracy: all cells are divided into as many equal groups as
there are cells in the sample, and one cell is drawn from each group. Cells that cannot learn at
all are therefore as frequent as in the table. The report lists Spearman's rho (with a 95%
bootstrap interval) and Kendall's tau with the mean validation accuracy over all seeds of the
table (CIFAR-10, CIFAR-100, ImageNet16-120), together with published figures, and compares the
time of each proxy with that of one epoch on 5,000 images.

The batch consists of real images that require no download: scikit-learn's handwritten digits in
ten classes (8x8 pixels, enlarged, repeated in three channels) with their labels. The published
figures were computed on CIFAR's own images.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from scipy import ndimage, stats

from benchmarks import _tables
from keras_nas_plugin.proxies import AZ_NAS, names, rank_aggregate, score

CHEAP = ("synflow", "naswot", "grad_norm")
EDGES = ("0to1", "0to2", "1to2", "0to3", "1to3", "2to3")
LOSS = "sparse_categorical_crossentropy"
CLASSES, CHANNELS = 10, 16
IMAGES = "digits"
COMBINED = "az_nas"
# Spearman's rho on CIFAR-10, CIFAR-100 and ImageNet16-120. Sources: Abdelfattah et al. 2021 and
# Krishnakumar et al. 2022 (NAS-Bench-Suite-Zero); for the last three, their own papers. The last
# digits of ZiCo and MeCo are uncertain. `params` counts only the parameters of convolutions.
PUBLISHED = {
    "synflow": (0.737, 0.763, 0.751),
    "jacob_cov": (0.731, 0.704, 0.701),
    "snip": (0.596, 0.637, 0.578),
    "grad_norm": (0.594, 0.637, 0.578),
    "grasp": (0.514, 0.547, 0.549),
    "fisher": (0.36, 0.385, 0.327),
    "zen": (0.386, 0.361, 0.399),
    "params": (0.753, 0.728, 0.691),
    "flops": (0.753, 0.728, 0.692),
    "zico": (0.80, 0.81, 0.79),
    "meco": (0.89, 0.88, 0.85),
    COMBINED: (0.913, 0.900, 0.886),
}
# Targets on CIFAR-10: proxy, statistic, minimum and maximum.
BARS = (
    ("synflow", "spearman", 0.737 - 0.05, 0.737 + 0.05),
    ("jacob_cov", "spearman", 0.731 - 0.07, 0.731 + 0.07),
    ("snip", "spearman", 0.595 - 0.08, 0.595 + 0.08),
    ("grad_norm", "spearman", 0.595 - 0.08, 0.595 + 0.08),
    ("naswot", "kendall", 0.52, 1.0),
    (COMBINED, "spearman", 0.80, 1.0),
)
TRAINED_ON = 5_000
RESAMPLES = 2_000


def main() -> None:
    """Run the benchmark that the command line requests."""
    options = _parser().parse_args()
    (table,) = _tables.load(("cifar10",))
    rows = sampled(table, options.cells, options.seed)
    settings = {
        "cells_per_stage": options.cells_per_stage,
        "size": options.size,
        "batch": options.batch,
        "images": IMAGES,
        "seed": options.seed,
        "initialisations": options.initialisations,
        "proxies": options.proxies,
    }
    columns = scored(rows, settings, options.save)
    results = {"settings": settings | {"cells": len(rows)}, "tables": {}}
    for i, name in enumerate(_tables.NAS_BENCH_201):
        (table,) = _tables.load((name,))
        results["tables"][name] = agreement(columns, table.truth[rows], i)
    results["bars"] = bars(results["tables"]["cifar10"])
    results["seconds_per_cell"] = float(np.median(columns["seconds"]))
    if options.timed:
        results["times"] = timed(rows, settings, options.timed)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    print(report(results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--cells", type=int, default=200, help="size of the sample; 0 for all")
    add("--cells-per-stage", type=int, default=5, help="5 in the benchmark")
    add("--size", type=int, default=32, help="height and width of the images")
    add("--batch", type=int, default=64, help="images in the batch")
    add("--proxies", type=lambda text: text.split(","), default=names(), metavar="LIST")
    add("--initialisations", type=int, default=1, help="initialisations to average over")
    add("--seed", type=int, default=0, help="seed of the sample, the batch and the weights")
    add("--timed", type=int, default=5, help="cells to time and to train for an epoch")
    add(
        "--save",
        type=Path,
        metavar="FILE.npz",
        help="save the scores to this file; a later run resumes from it",
    )
    add("--json", metavar="FILE", help="write the results as JSON to this file")
    return parser


# ------------------------------------------------------------------ networks and images


def sampled(table: _tables.Table, cells: int, seed: int) -> np.ndarray:
    """Rows of a sample stratified by accuracy, in random order; with 0 cells, all rows."""
    rng = np.random.default_rng([seed, 1])
    ranked = np.argsort(table.truth, kind="stable")
    if not cells:
        return rng.permutation(ranked)
    groups = np.array_split(ranked, cells)
    return rng.permutation([rng.choice(group) for group in groups])


def values_of(table: _tables.Table, row: int) -> dict[str, str]:
    """Values of the preset's decisions for a row of the table."""
    sizes = [len(parameter.values) for parameter in table.parameters]
    indices = np.unravel_index(row, sizes)
    pairs = zip(EDGES, table.parameters, indices, strict=True)
    return {f"cell/{edge}": parameter.values[index] for edge, parameter, index in pairs}


def batch_of(size: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of digits with their labels.

    Returns:
        Images of shape ``[count, size, size, 3]`` with mean 0 and standard deviation 1 over the
        batch, and labels of shape ``[count]``.
    """
    from sklearn.datasets import load_digits

    data = load_digits()
    rng = np.random.default_rng([seed, 2])
    chosen = rng.choice(len(data.images), count, replace=count > len(data.images))
    images = ndimage.zoom(data.images[chosen], (1, size / 8, size / 8), order=1)
    x = np.repeat(images[..., None], 3, axis=-1)
    return ((x - x.mean()) / x.std()).astype("float32"), data.target[chosen]


def _hypermodel(settings: dict):
    from keras_nas_plugin.space.presets import nas_bench_201

    size = settings["size"]
    return nas_bench_201(
        inputs=(size, size, 3),
        classes=CLASSES,
        channels=CHANNELS,
        cells_per_stage=settings["cells_per_stage"],
    )


def multiply_adds(table: _tables.Table, row: int, settings: dict) -> int:
    """Multiply-adds of the convolutions on a cell's edges, without those that all cells share.

    A stage has a quarter of the positions and twice the channels of the previous one, so a
    convolution has the same cost in all three stages.
    """
    operations = list(values_of(table, row).values())
    weights = operations.count("nor_conv_1x1") + 9 * operations.count("nor_conv_3x3")
    return 3 * settings["cells_per_stage"] * weights * (settings["size"] * CHANNELS) ** 2


# ------------------------------------------------------------------ scores


def scored(rows: Sequence[int], settings: dict, path: Path | None) -> dict[str, np.ndarray]:
    """Scores of cells in the order of ``rows``: one column per proxy, ``flops`` and ``seconds``.

    Args:
        rows: Rows of the table.
        settings: The settings that affect the scores.
        path: File in which to save the scores; scores already in it are not computed again.
    """
    (table,) = _tables.load(("cifar10",))
    scores_of = _read(path, settings)
    hypermodel = _hypermodel(settings)
    x, y = batch_of(settings["size"], settings["batch"], settings["seed"])
    written = time.monotonic()
    for count, row in enumerate(int(row) for row in rows):
        if row in scores_of:
            continue
        model = hypermodel.build_values(values_of(table, row))
        start = time.perf_counter()
        scores_of[row] = score(
            model,
            x,
            y,
            settings["proxies"],
            loss=LOSS,
            initialisations=settings["initialisations"],
            seed=settings["seed"],
        )
        scores_of[row]["seconds"] = time.perf_counter() - start
        scores_of[row]["flops"] = multiply_adds(table, row, settings)
        del model
        _forget()
        if path and time.monotonic() - written > 20:
            _write(path, settings, scores_of)
            written = time.monotonic()
            print(f"{count + 1} of {len(rows)} cells", file=sys.stderr, flush=True)
    if path:
        _write(path, settings, scores_of)
    return {
        name: np.array([scores_of[int(row)][name] for row in rows])
        for name in scores_of[int(rows[0])]
    }


def _forget() -> None:
    """Free Keras' global state of a model."""
    import keras

    keras.backend.clear_session(free_memory=False)
    gc.collect()


def load_scores(path: Path) -> tuple[dict, dict[int, dict[str, float]]]:
    """Load a file of ``--save``: the settings, and the scores by row of the table."""
    with np.load(path) as content:
        settings = json.loads(str(content["settings"]))
        columns = {name: content[name] for name in content["columns"]}
        rows = content["rows"]
    return settings, {
        int(row): {name: float(column[i]) for name, column in columns.items()}
        for i, row in enumerate(rows)
    }


def _read(path: Path | None, settings: dict) -> dict[int, dict[str, float]]:
    if path is None or not path.exists():
        return {}
    saved_settings, scores = load_scores(path)
    if saved_settings != settings:
        sys.exit(f"--save must be a file with the same settings; {path} has {saved_settings}")
    return scores


def _write(path: Path, settings: dict, scores: dict[int, dict[str, float]]) -> None:
    columns = list(next(iter(scores.values())))
    data = {
        name: np.array([row_scores[name] for row_scores in scores.values()]) for name in columns
    }
    temporary = path.with_name(f"{path.stem}.part.npz")
    np.savez_compressed(
        temporary,
        settings=json.dumps(settings),
        columns=np.array(columns),
        rows=np.array(list(scores)),
        **data,
    )
    temporary.replace(path)


# ------------------------------------------------------------------ figures


def agreement(columns: dict[str, np.ndarray], truth: np.ndarray, dataset: int) -> dict[str, dict]:
    """Rank correlation of each proxy, and of AZ-NAS' combined ranks, with the accuracy."""
    columns = {name: column for name, column in columns.items() if name != "seconds"}
    parts = (*AZ_NAS, "flops")
    if all(name in columns for name in parts):
        columns[COMBINED] = rank_aggregate({name: columns[name] for name in parts})
    results = {}
    for name, column in columns.items():
        # Ranks, because the worst score is -inf and the statistics need finite numbers.
        ranks = stats.rankdata(column)
        low, high = _interval(ranks, truth)
        results[name] = {
            "spearman": float(stats.spearmanr(ranks, truth).statistic),
            "low": low,
            "high": high,
            "kendall": float(stats.kendalltau(ranks, truth).statistic),
            "published": PUBLISHED.get(name, (None,) * 3)[dataset],
        }
    return results


def _interval(ranks: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """95% bootstrap interval of Spearman's rho over cells."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(ranks), (RESAMPLES, len(ranks)))
    values = [stats.spearmanr(ranks[sample], truth[sample]).statistic for sample in drawn]
    return tuple(float(bound) for bound in np.nanpercentile(values, (2.5, 97.5)))


def bars(results: dict[str, dict]) -> list[dict]:
    """The targets, and whether they were met."""
    return [
        {
            "proxy": name,
            "statistic": statistic,
            "from": low,
            "to": high,
            "found": results[name][statistic],
            "met": low <= results[name][statistic] <= high,
        }
        for name, statistic, low, high in BARS
        if name in results
    ]


def timed(rows: Sequence[int], settings: dict, count: int) -> dict[str, float]:
    """Median milliseconds over some cells, each measured on a newly built network.

    ``build`` is the time to build the network, ``pass`` a plain forward and backward pass over
    the batch, ``cheap`` three proxies in one call, ``all`` all proxies in one call, and ``epoch``
    one epoch of training on 5,000 images, including tracing.
    """
    (table,) = _tables.load(("cifar10",))
    hypermodel = _hypermodel(settings)
    x, y = batch_of(settings["size"], settings["batch"], settings["seed"])
    many = np.resize(np.arange(len(x)), TRAINED_ON)
    proxy_sets = {name: (name,) for name in settings["proxies"]}
    proxy_sets |= {"cheap": CHEAP, "all": tuple(settings["proxies"])}
    times: dict[str, list[float]] = {name: [] for name in ("build", "pass", *proxy_sets, "epoch")}
    for row in [int(row) for row in rows[:count]]:
        for name, proxies in proxy_sets.items():
            start = time.perf_counter()
            model = hypermodel.build_values(values_of(table, row))
            built = time.perf_counter()
            score(model, x, y, proxies, loss=LOSS)
            times[name].append(time.perf_counter() - built)
            times["build"].append(built - start)
        model = hypermodel.build_values(values_of(table, row))
        start = time.perf_counter()
        _plain_pass(model, x, y)
        times["pass"].append(time.perf_counter() - start)
        model.compile("sgd", LOSS)
        start = time.perf_counter()
        model.fit(x[many], y[many], batch_size=settings["batch"], verbose=0)
        times["epoch"].append(time.perf_counter() - start)
        _forget()
    return {name: 1000 * statistics.median(seconds) for name, seconds in times.items()}


def _plain_pass(model, x: np.ndarray, y: np.ndarray) -> None:
    """A forward and a backward pass without this package."""
    import keras
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(keras.losses.get(LOSS)(y, model(x, training=True)))
    tape.gradient(loss, model.trainable_variables)


def report(results: dict) -> str:
    """All results as text."""
    settings = results["settings"]
    lines = [", ".join(f"{name} {value}" for name, value in settings.items()), ""]
    tables = list(results["tables"])
    lines.append(f"{'Spearman (published)':15}" + "".join(f"{name:>32}" for name in tables))
    for name in results["tables"][tables[0]]:
        row = f"{name:15}"
        for table in tables:
            entry = results["tables"][table][name]
            published = "" if entry["published"] is None else f"({entry['published']:.3f})"
            row += f"{entry['spearman']:8.3f} [{entry['low']:6.3f}, {entry['high']:6.3f}]"
            row += f" {published:>7}"
        lines.append(row)
    lines += ["", f"{'Kendall':15}" + "".join(f"{name:>16}" for name in tables)]
    for name in results["tables"][tables[0]]:
        kendall = [results["tables"][table][name]["kendall"] for table in tables]
        lines.append(f"{name:15}" + "".join(f"{value:16.3f}" for value in kendall))
    lines.append("")
    for bar in results["bars"]:
        lines.append(
            f"{'met   ' if bar['met'] else 'MISSED'} {bar['proxy']} {bar['statistic']} "
            f"{bar['found']:.3f}, {bar['from']:.3f} to {bar['to']:.3f}"
        )
    lines.append(f"\nall proxies of a cell in one call: {results['seconds_per_cell']:.2f} s")
    times = results.get("times", {})
    lines += [f"{name:15} {value:9.0f} ms" for name, value in times.items()]
    if times:
        allowed = times["build"] + 2 * times["pass"]
        lines.append(
            f"{'met   ' if times['cheap'] <= allowed else 'MISSED'} {', '.join(CHEAP)} together: "
            f"{times['cheap']:.0f} ms; one build and two passes: {allowed:.0f} ms"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
