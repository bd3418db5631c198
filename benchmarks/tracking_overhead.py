"""What tracking costs a trial, beside MLflow's fluent API in the same run.

    python benchmarks/tracking_overhead.py              # sqlite, and a server with one worker
    python benchmarks/tracking_overhead.py --stores sqlite --trials 100

A trial has 20 parameters, 30 epochs of 6 metrics, 10 tags and one artifact. Ours is what
`MLflowTracker` does between the start and the end of a trial, the parent's note and best score
included; the fluent API opens a nested run and calls `log_params`, `log_metrics` once per epoch,
`set_tags` and `log_text`. The two take turns. Printed are medians and quartiles in milliseconds,
and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import contextlib
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

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

PARAMS, EPOCHS, METRICS, TAGS = 20, 30, 6, 10
# Most milliseconds per trial, by store.
BARS = {"sqlite": 60.0, "server": 160.0}
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
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
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


def measured(uri: str, folder: Path, trials: int) -> dict[str, list[float]]:
    """Milliseconds of each trial, by who logged it."""
    found: dict[str, list[float]] = {"ours": [], "fluent": []}
    with our_trial(uri, folder) as ours, fluent_trial(uri) as fluent:
        for number in range(trials + 5):
            for name, log in (("ours", ours), ("fluent", fluent)):
                start = time.perf_counter()
                log(number)
                if number >= 5:
                    found[name].append(1000 * (time.perf_counter() - start))
    return found


def curve(number: int) -> list[dict[str, float]]:
    """The metrics of a trial, by epoch."""
    return [
        {f"metric{m}": 1.0 / (1 + epoch + m + number) for m in range(METRICS)}
        for epoch in range(EPOCHS)
    ]


@contextlib.contextmanager
def our_trial(uri: str, folder: Path) -> Iterator[Callable[[int], None]]:
    """Through `MLflowTracker`."""
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

    def log(number: int) -> None:
        trial_id = f"{number:04d}"
        place = Path(search.directory) / f"trial_{trial_id}"
        place.mkdir()
        (place / ARCHITECTURE).write_text('{"hash": "abc", "values": {}, "vertices": []}')
        values = {f"param{i}": i * 0.1 + number for i in range(PARAMS)}
        now = time.time_ns() // 1_000_000
        tracker.trial_started(trial_id, values)
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

    yield log
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
    """Print medians, quartiles and the ratio."""
    print(f"\n{name}: milliseconds per trial, {len(found['ours'])} of each")
    medians = {}
    for who, times in found.items():
        low, medians[who], high = statistics.quantiles(times, n=4)
        print(f"  {who:7s} {medians[who]:8.1f}  (quartiles {low:.1f} to {high:.1f})")
    print(f"  fluent / ours: {medians['fluent'] / medians['ours']:.1f}")
    verdict = "met" if medians["ours"] <= BARS[name] else "MISSED"
    print(f"  {verdict}: at most {BARS[name]:.0f} ms", flush=True)


if __name__ == "__main__":
    main()
