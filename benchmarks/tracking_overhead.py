"""Tracking overhead per trial, compared with MLflow's fluent API in the same run.

    python benchmarks/tracking_overhead.py              # all stores
    python benchmarks/tracking_overhead.py --stores sqlite --trials 100

A trial has 20 parameters, 30 epochs of 6 metrics, 10 tags and one artifact. The output lists
medians and quartiles in milliseconds per trial for

- `delivered`: everything that `MLflowTracker` does for one trial, from its start to its end, when
  it waits for every call and combines no calls: the run, its parameters, its end, the artifact,
  and the description and best score of the search;
- `back to back`: the same for trials that follow each other without a pause, until all are sent,
  divided by their number;
- `training waits`: how long the training thread is blocked while another thread sends;
- `fluent API`: a nested run, `log_params`, `log_metrics` once per epoch, `set_tags`, `log_text`.

The four measurements alternate, so that other load on the machine affects all of them. The target
applies to `delivered`.

Two further stores never answer: `dead` is a port without a server, and `stuck` is a server that
accepts every connection and never replies. For these, only `training waits` is measured; the
target is 1 s.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

PARAMS, EPOCHS, METRICS, TAGS = 20, 30, 6, 10
# Maximum milliseconds per trial, by store.
BARS = {"sqlite": 60.0, "server": 160.0, "dead": 1000.0, "stuck": 1000.0}
SILENT = ("dead", "stuck")
EXPERIMENT = "overhead"
START_SECONDS = 120.0


def main() -> None:
    """Run the benchmark that the command line requests."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--trials",
        type=int,
        default=40,
        help="trials of each kind, after five warm-up trials",
    )
    parser.add_argument("--stores", type=lambda text: text.split(","), default=list(BARS))
    parser.add_argument("--json", metavar="FILE", help="write the results as JSON to this file")
    options = parser.parse_args()
    results = {}
    for name in options.stores:
        with tempfile.TemporaryDirectory() as folder, open_store(name, Path(folder)) as uri:
            if name in SILENT:
                results[name] = measure_waits(uri, Path(folder), options.trials)
            else:
                results[name] = measure(uri, Path(folder), options.trials)
        report(name, results[name])
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n", "utf-8")


@contextlib.contextmanager
def open_store(name: str, folder: Path) -> Iterator[str]:
    """Create a new store and yield its URI."""
    os.chdir(folder)
    if name == "sqlite":
        yield f"sqlite:///{folder / 'mlflow.db'}"
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        if name == "dead":
            yield f"http://127.0.0.1:{port}"
            return
        if name == "stuck":
            free.listen(100)
            yield f"http://127.0.0.1:{port}"
            return
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open(folder / "server.log", "w") as log:
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    uri = f"http://127.0.0.1:{port}"
    try:
        wait_for(uri)
        yield uri
    finally:
        os.killpg(server.pid, 9)
        server.wait()


def wait_for(uri: str) -> None:
    """Wait until the server answers."""
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


WARM_UP, BACK_TO_BACK = 5, 10
PAUSE = 0.25  # seconds of training, during which the tracker retries the store


def measure(uri: str, folder: Path, trials: int) -> dict[str, list[float]]:
    """Milliseconds per trial, by kind of measurement."""
    times: dict[str, list[float]] = {
        name: [] for name in ("delivered", "back to back", "training waits", "fluent API")
    }
    numbers = itertools.count()

    def timed(name: str, call: Callable[[], None], share: int = 1) -> None:
        start = time.perf_counter()
        call()
        if rounds >= WARM_UP:
            times[name].append(1000 * (time.perf_counter() - start) / share)

    def back_to_back() -> None:
        for _ in range(BACK_TO_BACK):
            ours(next(numbers))
        tracker.flush()

    with our_trial(uri, folder) as (ours, tracker), fluent_trial(uri) as fluent:
        for rounds in range(trials + WARM_UP):
            timed("delivered", lambda: ours(next(numbers), tracker.flush))
            timed("training waits", lambda: ours(next(numbers)))
            tracker.flush()
            timed("fluent API", lambda: fluent(next(numbers)))
            if rounds % BACK_TO_BACK == 0:
                timed("back to back", back_to_back, BACK_TO_BACK)
    return times


def measure_waits(uri: str, folder: Path, trials: int) -> dict[str, list[float]]:
    """Milliseconds for which each trial is blocked by a store that does not answer."""
    times = []
    with our_trial(uri, folder) as (ours, _):
        for number in range(trials + WARM_UP):
            start = time.perf_counter()
            ours(number)
            times.append(1000 * (time.perf_counter() - start))
            time.sleep(PAUSE)
    return {"training waits": times[WARM_UP:]}


def curve(number: int) -> list[dict[str, float]]:
    """The metrics of a trial, by epoch."""
    return [
        {f"metric{m}": 1.0 / (1 + epoch + m + number) for m in range(METRICS)}
        for epoch in range(EPOCHS)
    ]


@contextlib.contextmanager
def our_trial(uri: str, folder: Path) -> Iterator[tuple[Callable[..., None], Any]]:
    """Yield a function that logs a trial with `MLflowTracker`, and the tracker."""
    from keras_nas_plugin.project import TrialLayout
    from keras_nas_plugin.tracking import MLflowTracker, SearchInfo, TrialRecord

    search = SearchInfo(
        search_id="overhead",
        name="overhead",
        objective="metric0",
        direction="min",
        strategy="RandomOracle",
        max_trials=None,
        environment={"device": "CPU", "precision": "float32"},
        directory=str(folder / "project"),
        resume_command="keras-nas search recipe.py --resume",
    )
    # Ten in total, including the tags that every run has.
    tags = {f"tag{i}": f"value {i}" for i in range(TAGS - 6)}
    tracker = MLflowTracker(EXPERIMENT, tracking_uri=uri, tags=tags)
    Path(search.directory).mkdir()
    tracker.search_started(search, [])

    def log(number: int, wait: Callable[[], None] = lambda: None) -> None:
        trial_id = f"{number:04d}"
        trial_folder = Path(search.directory) / f"trial_{trial_id}"
        trial_folder.mkdir()
        TrialLayout(trial_folder).architecture.write_text(
            '{"hash": "abc", "values": {}, "vertices": []}'
        )
        values = {f"param{i}": i * 0.1 + number for i in range(PARAMS)}
        now = time.time_ns() // 1_000_000
        tracker.trial_started(trial_id, values)
        wait()
        epochs = curve(number)
        tracker.trial_ended(
            TrialRecord(
                trial_id=trial_id,
                values=values,
                status="FINISHED",
                score=epochs[-1]["metric0"],
                metrics=epochs[-1],
                best_step=EPOCHS - 1,
                curves=(tuple(epochs),),
                costs={"parameters": 1000.0 + number, "train_seconds": 1.0},
                started_ms=now,
                ended_ms=now + 1,
            )
        )
        wait()

    yield log, tracker
    tracker.search_ended("FINISHED")


@contextlib.contextmanager
def fluent_trial(uri: str) -> Iterator[Callable[[int], None]]:
    """Yield a function that logs a trial once per epoch, as in MLflow's documentation."""
    import mlflow

    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment(f"{EXPERIMENT}-fluent")

    def log(number: int) -> None:
        with mlflow.start_run(nested=True, run_name=f"t{number}"):
            mlflow.log_params({f"param{i}": i * 0.1 + number for i in range(PARAMS)})
            for epoch, metrics in enumerate(curve(number)):
                mlflow.log_metrics(metrics, step=epoch)
            mlflow.set_tags({f"tag{i}": f"value {i}" for i in range(TAGS)})
            mlflow.log_text("{}", "architecture.json")

    with mlflow.start_run(run_name="parent"):
        yield log


def report(name: str, results: dict[str, list[float]]) -> None:
    """Print medians, quartiles and ratios."""
    bar = "training waits" if name in SILENT else "delivered"
    print(f"\n{name}: milliseconds per trial, {len(results[bar])} trials")
    medians = {}
    for kind, times in results.items():
        low, medians[kind], high = statistics.quantiles(times, n=4)
        print(f"  {kind:14s} {medians[kind]:8.1f}  (quartiles {low:.1f} to {high:.1f})", end="")
        print(f", at most {max(times):.1f}" if name in SILENT else "")
    for kind in ("delivered", "back to back") if "fluent API" in medians else ():
        print(f"  fluent API / {kind}: {medians['fluent API'] / medians[kind]:.1f}")
    verdict = "met" if medians[bar] <= BARS[name] else "MISSED"
    print(f"  {verdict}: {bar} at most {BARS[name]:.0f} ms", flush=True)


if __name__ == "__main__":
    main()
