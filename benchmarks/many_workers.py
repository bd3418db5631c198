"""Many trials in flight: time per trial in oracle and tracker, and what late results cost.

    python benchmarks/many_workers.py                     # all tables; hours
    python benchmarks/many_workers.py --only time --strategies evolution,surrogate
    python benchmarks/many_workers.py --only mlflow --trials 3000
    python benchmarks/many_workers.py --only pending --reps 20

Workers are simulated with a clock of their own: a trial takes a random time (lognormal, sigma .5),
and when it ends, its worker asks for the next one. The oracle is called as a tuner calls it.

Time: 1,000 workers, 10,000 trials, 20 hyperparameters, and a project folder on disk. The report
lists the median CPU time of `create_trial`, `update_trial` and `end_trial` together over the first
1,000 trials that ended, and over the last 1,000 that were followed by a new trial.

MLflow: the same numbers of workers and trials without an oracle; `MLflowTracker` logs to SQLite
trials with five epochs of four metrics. The report lists the CPU time of the process per trial,
from one end to the next, when it waits after every hundred trials until all of them are sent.

Pending: NAS-Bench-201 with 1 (sequential), 4, 8 and 32 workers. The report lists how many more
evaluations each strategy needs than with one worker to reach the mean accuracy that it has with
one worker after 100 evaluations: see `benchmarks/nas_bench_201.py` for scores and the judgement.
Accuracy grows slowly there, so that the number is uncertain: the interval has 80% of the numbers
of bootstrap samples of the repetitions.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# One core per process; numpy reads these variables when it is imported.
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import _driving, _peers
from benchmarks._tables import Oven, Table, load

#: Milliseconds of CPU time per trial.
TIME_TARGETS = {"surrogate": 50.0}
TIME_TARGET = 10.0
#: More evaluations with four workers, as a share.
PENDING_TARGET = 0.10
WORKERS = (1, 4, 8, 32)
GOAL_AT, EVALUATIONS = 100, 300
_SIGMA = 0.5
_HYPERPARAMETERS = 20
_WINDOW, _BLOCK = 1_000, 100
_EPOCHS = 5
_BOOTSTRAP = 500


def main() -> None:
    """Run the benchmark that the command line requests."""
    names = list(_peers.ours())
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["time", "mlflow", "pending"], action="append")
    parser.add_argument("--strategies", type=_driving.list_of(names), default=names)
    parser.add_argument("--workers", type=int, default=1_000, help="in the table of times")
    parser.add_argument("--trials", type=int, default=10_000, help="in the table of times")
    parser.add_argument("--datasets", default="cifar10,cifar100,imagenet16-120", metavar="LIST")
    parser.add_argument("--reps", type=int, default=100, help="repetitions with pending trials")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results: dict[str, Any] = {}
    for kind in options.only or ["time", "mlflow", "pending"]:
        if kind == "time":
            results[kind] = {}
            for name in options.strategies:
                results[kind][name] = _times(name, options.workers, options.trials)
                print(f"{name}: {results[kind][name]}", file=sys.stderr, flush=True)
            text = _time_report(results[kind], options)
        elif kind == "mlflow":
            results[kind] = _tracking_times(options.workers, options.trials)
            text = _tracking_report(results[kind], options)
        else:
            results[kind] = _pending(options)
            text = _pending_report(results[kind])
        if not options.json:
            print(text, flush=True)
    if options.json:
        print(json.dumps(results, indent=2))


def simulate(
    oracle: Any,
    score: Callable[[Mapping[str, Any]], float],
    metric: str,
    workers: int,
    seed: int,
) -> Iterator[tuple[Mapping[str, Any], float, float]]:
    """Run an oracle with simulated workers until it stops.

    Args:
        oracle: The oracle.
        score: Returns the score of a configuration.
        metric: Name of the objective.
        workers: Number of workers.
        seed: Seed of the durations.

    Yields:
        For each trial, in the order in which they end: its values, its score, and the seconds of
        CPU time that the oracle took for it and the proposal after it.
    """
    rng = np.random.default_rng(seed)
    running: list[tuple[float, int, Any]] = []
    for worker in range(workers):
        _start(oracle, worker, 0.0, rng, running)
    while running:
        now, worker, trial = heapq.heappop(running)
        values = trial.hyperparameters.values
        result = score(values)
        before = time.process_time()
        oracle.update_trial(trial.trial_id, {metric: result})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
        _start(oracle, worker, now, rng, running)
        yield values, result, time.process_time() - before


def _start(oracle: Any, worker: int, now: float, rng: Any, running: list) -> None:
    trial = oracle.create_trial(f"worker-{worker}")
    if trial.status == "RUNNING":
        heapq.heappush(running, (now + rng.lognormal(sigma=_SIGMA), worker, trial))
    elif trial.status != "STOPPED":
        raise RuntimeError(f"{type(oracle).__name__} waits: {trial.status}")


# ------------------------------------------------------------------ time per trial


def _times(name: str, workers: int, trials: int) -> dict[str, float]:
    import keras_tuner

    from keras_nas_plugin import oracles

    space = keras_tuner.HyperParameters()
    for number in range(_HYPERPARAMETERS):
        space.Choice(f"h{number}", list(range(5)))
    oracle = getattr(oracles, oracles.STRATEGIES[name])(
        keras_tuner.Objective("score", "max"), max_trials=trials, seed=1, hyperparameters=space
    )
    oracle.verbose = 0

    def score(values: Mapping[str, Any]) -> float:
        return -sum((values[f"h{i}"] - i % 5) ** 2 for i in range(_HYPERPARAMETERS)) / 100

    with tempfile.TemporaryDirectory() as folder:
        os.mkdir(Path(folder) / "search")
        oracle._set_project_dir(folder, "search")  # as a tuner does
        seconds = [taken for _, _, taken in simulate(oracle, score, "score", workers, 0)]
    # When the last trials end, no trial follows them: they do not count.
    proposing = seconds[: max(1, len(seconds) - workers)]
    return _first_and_last(proposing, _WINDOW)


def _first_and_last(seconds: Sequence[float], window: int) -> dict[str, float]:
    """Medians of the first and the last ``window`` numbers, in milliseconds."""
    window = min(window, (len(seconds) + 1) // 2)
    return {
        "first": statistics.median(seconds[:window]) * 1e3,
        "last": statistics.median(seconds[-window:]) * 1e3,
    }


def _time_report(results: Mapping[str, Mapping[str, float]], options: argparse.Namespace) -> str:
    lines = [
        f"{options.workers} workers, {options.trials} trials: CPU milliseconds of the oracle per "
        "trial",
        f"{'':16}{'first 1,000':>12}{'last 1,000':>12}",
    ]
    for name, row in results.items():
        target = TIME_TARGETS.get(name, TIME_TARGET)
        verdict = "PASS" if row["last"] <= target else "FAIL"
        lines.append(
            f"{name:16}{row['first']:12.1f}{row['last']:12.1f}  {verdict} (at most {target:.0f})"
        )
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------ time per trial in MLflow


def _tracking_times(workers: int, trials: int) -> dict[str, float]:
    from keras_nas_plugin.tracking import MLflowTracker

    with tempfile.TemporaryDirectory() as folder:
        tracker = MLflowTracker("many", tracking_uri=f"sqlite:///{folder}/mlflow.db")
        tracker.search_started(_search_info(Path(folder) / "search"), [])
        for number in range(min(workers, trials)):
            tracker.trial_started(f"{number:05d}", _values_of(number))
        tracker.flush()
        seconds, before = [], time.process_time()
        for number in range(trials - workers):
            tracker.trial_ended(_record(number))
            tracker.trial_started(f"{number + workers:05d}", _values_of(number + workers))
            if number % _BLOCK == _BLOCK - 1:
                tracker.flush()
                now = time.process_time()
                seconds.append((now - before) / _BLOCK)
                before = now
        tracker.search_ended("KILLED")
    return _first_and_last(seconds, _WINDOW // _BLOCK)


def _search_info(directory: Path) -> Any:
    from keras_nas_plugin.tracking import SearchInfo

    directory.mkdir()
    return SearchInfo(
        search_id="many",
        name="many",
        objective="val_accuracy",
        direction="max",
        strategy="RandomOracle",
        max_trials=None,
        environment={"device": "CPU", "precision": "float32"},
        directory=str(directory),
        resume_command="",
    )


def _values_of(number: int) -> dict[str, float]:
    return {f"h{i}": (number * (i + 1)) % 5 for i in range(_HYPERPARAMETERS)}


def _record(number: int) -> Any:
    """A trial that trained for five epochs of a second."""
    from keras_nas_plugin.records.placement import Placement
    from keras_nas_plugin.tracking import TrialRecord

    names = ("loss", "accuracy", "val_loss", "val_accuracy")
    curve = tuple(
        {name: (number * 7919 % 1_000 + epoch + i) / 1_010 for i, name in enumerate(names)}
        for epoch in range(_EPOCHS)
    )
    started = 1_700_000_000_000 + number * 10
    return TrialRecord(
        trial_id=f"{number:05d}",
        values=_values_of(number),
        status="FINISHED",
        score=curve[-1]["val_accuracy"],
        metrics=curve[-1],
        best_step=_EPOCHS - 1,
        curves=(curve,),
        costs={"parameters": 1000.0 + number % 50, "train_seconds": 1.0 * _EPOCHS},
        started_ms=started,
        ended_ms=started + 1_000 * _EPOCHS,
        placement=Placement(worker=f"worker-{number % 1_000}", idle_seconds=0.1),
    )


def _tracking_report(row: Mapping[str, float], options: argparse.Namespace) -> str:
    return (
        f"{options.workers} workers, {options.trials} trials to SQLite: CPU milliseconds of the "
        f"process per trial\n{'':16}{'first 1,000':>12}{'last 1,000':>12}\n"
        f"{'MLflowTracker':16}{row['first']:12.1f}{row['last']:12.1f}\n"
    )


# ------------------------------------------------------------------ pending trials


#: For a number of workers: the share of further evaluations, and its interval; infinite if the
#: accuracy is never reached.
Loss = tuple[float, float, float]


def _pending(options: argparse.Namespace) -> dict[str, dict[str, list[Loss]]]:
    """By data set and strategy: the share of further evaluations for each number of workers."""
    results: dict[str, dict[str, list[Loss]]] = {}
    for table in load(options.datasets.split(",")):
        rows = results[table.name] = {}
        for name in options.strategies:
            curves = [
                table.sign
                * np.array([_truth(name, table, workers, rep) for rep in range(options.reps)])
                for workers in WORKERS
            ]
            rows[name] = _losses_with_intervals(curves)
            print(f"{table.name} {name} {rows[name]}", file=sys.stderr, flush=True)
    return results


def _truth(name: str, table: Table, workers: int, repetition: int) -> np.ndarray:
    """The judged score of the incumbent after each evaluation: see `_driving.drive`."""
    job = _driving.Job(table.name, name, EVALUATIONS, repetition)
    oracle = _peers.make(name, table, EVALUATIONS, job.seed).oracle
    oven, best, incumbent = Oven(table, job.seed), -np.inf, 0
    truth = []

    def score(values: Mapping[str, Any]) -> float:
        return oven.train(table.row(values))

    for values, result, _ in simulate(oracle, score, table.metric, workers, job.seed):
        if table.sign * result > best:
            best, incumbent = table.sign * result, table.row(values)
        truth.append(table.truth[incumbent])
    return np.array(truth)


def _losses_with_intervals(curves: Sequence[np.ndarray]) -> list[Loss]:
    """For each number of workers, the loss and its interval; curves have a row per repetition."""
    rng, repetitions = np.random.default_rng(0), len(curves[0])
    # Repetitions share their seeds, whatever the number of workers.
    samples = rng.integers(repetitions, size=(_BOOTSTRAP, repetitions))
    losses = _losses([curve.mean(axis=0) for curve in curves])
    drawn = [_losses([curve[sample].mean(axis=0) for curve in curves]) for sample in samples]
    low, high = np.quantile(drawn, [0.1, 0.9], axis=0, method="nearest")
    return [(float(loss), float(low[i]), float(high[i])) for i, loss in enumerate(losses)]


def _losses(curves: Sequence[np.ndarray]) -> list[float]:
    """For each number of workers, the share of further evaluations to the same mean accuracy."""
    goal = curves[0][GOAL_AT - 1]
    # The mean may have had this value before.
    first = int(np.argmax(curves[0] >= goal)) + 1
    losses = []
    for curve in curves[1:]:
        reached = curve >= goal
        losses.append((np.argmax(reached) + 1) / first - 1 if reached.any() else np.inf)
    return losses


def _pending_report(results: Mapping[str, Mapping[str, Sequence[Loss]]]) -> str:
    lines = []
    for dataset, rows in results.items():
        titles = "".join(f"{f'{workers} workers':>22}" for workers in WORKERS[1:])
        lines += [
            f"{dataset}: more evaluations than with one worker, to its mean after {GOAL_AT}",
            f"{'':16}{titles}",
        ]
        for name, losses in rows.items():
            cells = "".join(f"{_cell(loss):>22}" for loss in losses)
            passed = losses[0][0] <= PENDING_TARGET
            lines.append(f"{name:16}{cells}  {'PASS' if passed else 'FAIL'} (4: at most 10%)")
        lines.append("")
    return "\n".join(lines)


def _cell(loss: Loss) -> str:
    share, low, high = ("never" if np.isinf(number) else f"{number:.0%}" for number in loss)
    return f"{share} ({low} to {high})"


if __name__ == "__main__":
    main()
