"""How well scores of untrained networks rank NAS-Bench-201, and what they cost.

    python benchmarks/proxies_nas_bench_201.py                  # 200 cells, about an hour
    python benchmarks/proxies_nas_bench_201.py --cells 30 --cells-per-stage 1 --timed 0
    python benchmarks/proxies_nas_bench_201.py --cells 1000 --cells-per-stage 1 --timed 0 \
        --save pool.npz                                         # goes on where it was ended

The networks are built in Keras from the preset of this package, with fresh weights, for a sample
of cells stratified by their accuracy: as many equal groups as cells, one drawn from each, so that
cells that cannot learn at all are in it as often as in the table. Printed are Spearman's rho
(with a 95% bootstrap interval) and Kendall's tau with the mean validation accuracy over all
seeds of the table (CIFAR-10, CIFAR-100, ImageNet16-120), beside published figures; and the
time of each proxy beside that of one epoch on 5,000 images.

The batch is of real images with ten classes that need no network: scikit-learn's handwritten
digits (8x8 pixels, enlarged; the same in three channels) with their labels. The published figures
are from CIFAR's own images.
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
# Spearman on CIFAR-10, CIFAR-100 and ImageNet16-120. Abdelfattah et al. 2021 and Krishnakumar et
# al. 2022 (NAS-Bench-Suite-Zero), except the last three: their own papers, of which the two of
# ZiCo and MeCo are not certain to a digit. `params` counts those of convolutions.
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
# On CIFAR-10: proxy, statistic, smallest and largest figure that passes.
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
    """Run what the command line asks for."""
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
        (other,) = _tables.load((name,))
        results["tables"][name] = agreement(columns, other.truth[rows], i)
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
    add("--initialisations", type=int, default=1, help="drawings of the weights, averaged")
    add("--seed", type=int, default=0, help="of the sample, the batch and the weights")
    add("--timed", type=int, default=5, help="cells that are timed and trained for an epoch")
    add("--save", type=Path, metavar="FILE.npz", help="keep the scores; go on where they end")
    add("--json", metavar="FILE", help="results as JSON")
    return parser


# ------------------------------------------------------------------ networks and images


def sampled(table: _tables.Table, cells: int, seed: int) -> np.ndarray:
    """Rows of a sample stratified by accuracy, in random order; all rows for 0."""
    rng = np.random.default_rng([seed, 1])
    ranked = np.argsort(table.truth, kind="stable")
    if not cells:
        return rng.permutation(ranked)
    groups = np.array_split(ranked, cells)
    return rng.permutation([rng.choice(group) for group in groups])


def values_of(table: _tables.Table, row: int) -> dict[str, str]:
    """Values of the preset's decisions for a row of the table."""
    sizes = [len(parameter.values) for parameter in table.parameters]
    places = np.unravel_index(row, sizes)
    pairs = zip(EDGES, table.parameters, places, strict=True)
    return {f"cell/{edge}": parameter.values[place] for edge, parameter, place in pairs}


def batch_of(size: int, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of digits with their labels.

    Returns:
        Shape ``[count, size, size, 3]``, mean 0 and deviation 1 over the batch; ``[count]``.
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
    """Of the convolutions of a cell's edges; what all cells have in common is left out.

    A stage has a quarter of the positions and twice the channels of the one before: a
    convolution costs the same in all three.
    """
    operations = list(values_of(table, row).values())
    weights = operations.count("nor_conv_1x1") + 9 * operations.count("nor_conv_3x3")
    return 3 * settings["cells_per_stage"] * weights * (settings["size"] * CHANNELS) ** 2


# ------------------------------------------------------------------ scores


def scored(rows: Sequence[int], settings: dict, path: Path | None) -> dict[str, np.ndarray]:
    """Scores of cells: a column per proxy, and ``flops`` and ``seconds``, in the order of rows.

    Args:
        rows: Of the table.
        settings: What the scores depend on.
        path: File to keep them in; what is in it already is not computed again.
    """
    (table,) = _tables.load(("cifar10",))
    done = _read(path, settings)
    hypermodel = _hypermodel(settings)
    x, y = batch_of(settings["size"], settings["batch"], settings["seed"])
    written = time.monotonic()
    for count, row in enumerate(int(one) for one in rows):
        if row in done:
            continue
        model = hypermodel.build_values(values_of(table, row))
        start = time.perf_counter()
        done[row] = score(
            model,
            x,
            y,
            settings["proxies"],
            loss=LOSS,
            initialisations=settings["initialisations"],
            seed=settings["seed"],
        )
        done[row]["seconds"] = time.perf_counter() - start
        done[row]["flops"] = multiply_adds(table, row, settings)
        del model
        _forget()
        if path and time.monotonic() - written > 20:
            _write(path, settings, done)
            written = time.monotonic()
            print(f"{count + 1} of {len(rows)} cells", file=sys.stderr, flush=True)
    if path:
        _write(path, settings, done)
    return {name: np.array([done[int(row)][name] for row in rows]) for name in done[int(rows[0])]}


def _forget() -> None:
    """Free what Keras keeps of a model."""
    import keras

    keras.backend.clear_session(free_memory=False)
    gc.collect()


def load_scores(path: Path) -> tuple[dict, dict[int, dict[str, float]]]:
    """A file of ``--save``: the settings, and the scores by row of the table."""
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
    found, scores = load_scores(path)
    if found != settings:
        sys.exit(f"--save needs a file of the same settings; {path} has {found}")
    return scores


def _write(path: Path, settings: dict, scores: dict[int, dict[str, float]]) -> None:
    columns = list(next(iter(scores.values())))
    data = {name: np.array([one[name] for one in scores.values()]) for name in columns}
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
    """Rank correlations of each proxy, and of the ranks of AZ-NAS, with the accuracy."""
    columns = {name: column for name, column in columns.items() if name != "seconds"}
    parts = (*AZ_NAS, "flops")
    if all(name in columns for name in parts):
        columns[COMBINED] = rank_aggregate({name: columns[name] for name in parts})
    found = {}
    for name, column in columns.items():
        # The worst score is a rank like any other; infinity is no number for the statistics.
        ranks = stats.rankdata(column)
        low, high = _interval(ranks, truth)
        found[name] = {
            "spearman": float(stats.spearmanr(ranks, truth).statistic),
            "low": low,
            "high": high,
            "kendall": float(stats.kendalltau(ranks, truth).statistic),
            "published": PUBLISHED.get(name, (None,) * 3)[dataset],
        }
    return found


def _interval(ranks: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Of Spearman's rho, 95%, by the bootstrap over cells."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(ranks), (RESAMPLES, len(ranks)))
    values = [stats.spearmanr(ranks[one], truth[one]).statistic for one in drawn]
    return tuple(float(one) for one in np.nanpercentile(values, (2.5, 97.5)))


def bars(found: dict[str, dict]) -> list[dict]:
    """What was asked for, and whether it came."""
    return [
        {
            "proxy": name,
            "statistic": statistic,
            "from": low,
            "to": high,
            "found": found[name][statistic],
            "met": low <= found[name][statistic] <= high,
        }
        for name, statistic, low, high in BARS
        if name in found
    ]


def timed(rows: Sequence[int], settings: dict, count: int) -> dict[str, float]:
    """Medians over some cells, in milliseconds, of fresh networks: nothing is warm but Keras.

    ``build`` is that of the network, ``pass`` a plain forward and backward pass over the batch,
    ``cheap`` three proxies in one call, ``all`` all of them, ``epoch`` one epoch of training on
    5,000 images, tracing included.
    """
    (table,) = _tables.load(("cifar10",))
    hypermodel = _hypermodel(settings)
    x, y = batch_of(settings["size"], settings["batch"], settings["seed"])
    many = np.resize(np.arange(len(x)), TRAINED_ON)
    asked = {name: (name,) for name in settings["proxies"]}
    asked |= {"cheap": CHEAP, "all": tuple(settings["proxies"])}
    found: dict[str, list[float]] = {name: [] for name in ("build", "pass", *asked, "epoch")}
    for row in [int(one) for one in rows[:count]]:
        for name, proxies in asked.items():
            start = time.perf_counter()
            model = hypermodel.build_values(values_of(table, row))
            built = time.perf_counter()
            score(model, x, y, proxies, loss=LOSS)
            found[name].append(time.perf_counter() - built)
            found["build"].append(built - start)
        model = hypermodel.build_values(values_of(table, row))
        start = time.perf_counter()
        _plain_pass(model, x, y)
        found["pass"].append(time.perf_counter() - start)
        model.compile("sgd", LOSS)
        start = time.perf_counter()
        model.fit(x[many], y[many], batch_size=settings["batch"], verbose=0)
        found["epoch"].append(time.perf_counter() - start)
        _forget()
    return {name: 1000 * statistics.median(times) for name, times in found.items()}


def _plain_pass(model, x: np.ndarray, y: np.ndarray) -> None:
    """Forward and backward without this package."""
    import keras
    import tensorflow as tf

    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(keras.losses.get(LOSS)(y, model(x, training=True)))
    tape.gradient(loss, model.trainable_variables)


def report(results: dict) -> str:
    """Everything as text."""
    settings = results["settings"]
    lines = [", ".join(f"{name} {value}" for name, value in settings.items()), ""]
    tables = list(results["tables"])
    lines.append(f"{'Spearman (published)':15}" + "".join(f"{name:>32}" for name in tables))
    for name in results["tables"][tables[0]]:
        row = f"{name:15}"
        for table in tables:
            one = results["tables"][table][name]
            told = "" if one["published"] is None else f"({one['published']:.3f})"
            row += f"{one['spearman']:8.3f} [{one['low']:6.3f}, {one['high']:6.3f}] {told:>7}"
        lines.append(row)
    lines += ["", f"{'Kendall':15}" + "".join(f"{name:>16}" for name in tables)]
    for name in results["tables"][tables[0]]:
        kendall = [results["tables"][table][name]["kendall"] for table in tables]
        lines.append(f"{name:15}" + "".join(f"{one:16.3f}" for one in kendall))
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
