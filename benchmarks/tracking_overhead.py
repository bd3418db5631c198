"""What tracking costs a trial, beside MLflow's fluent API in the same run.

    python benchmarks/tracking_overhead.py              # all stores
    python benchmarks/tracking_overhead.py --stores sqlite --trials 100

A trial has 20 parameters, 30 epochs of 6 metrics, 10 tags and one artifact. Printed are medians
and quartiles in milliseconds per trial, of

- `delivered`: what `MLflowTracker` has to do for one trial, from its start to its end, when each
  call is waited for and nothing is put together: the run, its parameters, its end, the artifact,
  the search's note and best score;
- `back to back`: the same for trials that follow each other without a pause, until all is sent,
  divided by their number;
- `training waits`: how long the thread that trains is kept, since another one sends;
- `fluent API`: a nested run, `log_params`, `log_metrics` once per epoch, `set_tags`, `log_text`.

The four take turns, so that a busy machine is busy for all of them. The bar is for `delivered`.

Two more stores answer nothing: `dead` is a port that nobody listens at, `stuck` one that takes
every request and never replies. For these, `training waits` is all there is; the bar is 1 s.
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
# Most milliseconds per trial, by store.
BARS = {"sqlite": 60.0, "server": 160.0, "dead": 1000.0, "stuck": 1000.0}
SILENT = ("dead", "stuck")
EXPERIMENT = "overhead"
STARTS_WITHIN = 120.0


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--trials", type=int, default=40, help="of each kind, after five to warm up"
    )
    parser.add_argument("--stores", type=lambda text: text.split(","), default=list(BARS))
    parser.add_argument("--json", metavar="FILE", help="results as JSON")
    options = parser.parse_args()
    found = {}
    for name in options.stores:
        with tempfile.TemporaryDirectory() as folder, opened(name, Path(folder)) as uri:
            if name in SILENT:
                found[name] = waited(uri, Path(folder), options.trials)
            else:
                found[name] = measured(uri, Path(folder), options.trials)
        report(name, found[name])
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n", "utf-8")


@contextlib.contextmanager
def opened(name: str, folder: Path) -> Iterator[str]:
    """A fresh store: its URI."""
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
    """Until the server answers."""
    end = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            urllib.request.urlopen(f"{uri}/health", timeout=1).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


WARM_UP, BACK_TO_BACK = 5, 10
PAUSE = 0.25  # seconds of training, so that the store is asked again meanwhile


def measured(uri: str, folder: Path, trials: int) -> dict[str, list[float]]:
    """Milliseconds of each trial, by who logged it and what is counted."""
    found: dict[str, list[float]] = {
        name: [] for name in ("delivered", "back to back", "training waits", "fluent API")
    }
    numbers = itertools.count()

    def timed(name: str, call: Callable[[], None], share: int = 1) -> None:
        start = time.perf_counter()
        call()
        if rounds >= WARM_UP:
            found[name].append(1000 * (time.perf_counter() - start) / share)

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
    return found


def waited(uri: str, folder: Path, trials: int) -> dict[str, list[float]]:
    """Milliseconds that each trial waits for a store that does not answer."""
    found = []
    with our_trial(uri, folder) as (ours, _):
        for number in range(trials + WARM_UP):
            start = time.perf_counter()
            ours(number)
            found.append(1000 * (time.perf_counter() - start))
            time.sleep(PAUSE)
    return {"training waits": found[WARM_UP:]}


def curve(number: int) -> list[dict[str, float]]:
    """The metrics of a trial, by epoch."""
    return [
        {f"metric{m}": 1.0 / (1 + epoch + m + number) for m in range(METRICS)}
        for epoch in range(EPOCHS)
    ]


@contextlib.contextmanager
def our_trial(uri: str, folder: Path) -> Iterator[tuple[Callable[..., None], Any]]:
    """Through `MLflowTracker`: a function that logs a trial, and the tracker."""
    from keras_nas_plugin.tracking import MLflowTracker, SearchInfo, TrialRecord
    from keras_nas_plugin.tracking.records import ARCHITECTURE

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
    # With those that every run has, ten.
    tags = {f"tag{i}": f"value {i}" for i in range(TAGS - 6)}
    tracker = MLflowTracker(EXPERIMENT, tracking_uri=uri, tags=tags)
    Path(search.directory).mkdir()
    tracker.search_started(search, [])

    def log(number: int, wait: Callable[[], None] = lambda: None) -> None:
        trial_id = f"{number:04d}"
        place = Path(search.directory) / f"trial_{trial_id}"
        place.mkdir()
        (place / ARCHITECTURE).write_text('{"hash": "abc", "values": {}, "vertices": []}')
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
    """As the documentation of MLflow shows it, once per epoch."""
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


def report(name: str, found: dict[str, list[float]]) -> None:
    """Print medians, quartiles and ratios."""
    bar = "training waits" if name in SILENT else "delivered"
    print(f"\n{name}: milliseconds per trial, {len(found[bar])} of each")
    medians = {}
    for what, times in found.items():
        low, medians[what], high = statistics.quantiles(times, n=4)
        print(f"  {what:14s} {medians[what]:8.1f}  (quartiles {low:.1f} to {high:.1f})", end="")
        print(f", at most {max(times):.1f}" if name in SILENT else "")
    for what in ("delivered", "back to back") if "fluent API" in medians else ():
        print(f"  fluent API / {what}: {medians['fluent API'] / medians[what]:.1f}")
    verdict = "met" if medians[bar] <= BARS[name] else "MISSED"
    print(f"  {verdict}: {bar} at most {BARS[name]:.0f} ms", flush=True)


if __name__ == "__main__":
    main()
