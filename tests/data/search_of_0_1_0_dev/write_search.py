"""Writes the search in this folder; run it with the version of the package to record.

    PYTHONPATH=CHECKOUT python write_search.py

It replaces everything in this folder but the two programs and the README.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
#: Stands for the absolute path of the folder in which the search ran.
ROOT = "{ROOT}"
PROJECT, EXPERIMENT = "flowers", "earlier"
TRIALS, ENLARGED, EPOCHS, SEED, LIMIT = 8, 12, 2, 3, 700
#: Scores that are reported for the proposals after the stored trials, none of which is trained.
SCORES = (0.9, 0.3, 0.6, 0.7)
TEXT = (".json", ".jsonl", ".html", ".md", ".sql", ".yaml", ".svg", "")


def command_line(*words: object) -> str:
    """Run `keras-nas` in this process and return its standard output."""
    from keras_nas_plugin.cli.main import main

    output = io.StringIO()
    sys.argv = ["keras-nas", *map(str, words)]
    with contextlib.redirect_stdout(output):
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"{words} ended with {end.code}") from end
    return output.getvalue()


def open_tuner(root: Path, max_trials: int = ENLARGED, **options):
    """The tuner of the stored search, with a higher maximum of trials."""
    from keras_nas_plugin import Constraint, NASTuner, RegularizedEvolutionOracle
    from keras_nas_plugin.cli.recipe import Recipe

    oracle = RegularizedEvolutionOracle(
        "val_accuracy", max_trials, seed=SEED, constraints=[Constraint("params", max=LIMIT)]
    )
    recipe = Recipe(str(root / "recipe.py"))
    return NASTuner(
        recipe.hypermodel,
        oracle=oracle,
        dataset="recipe",
        directory=str(root / "searches"),
        project_name=PROJECT,
        deterministic=True,
        **options,
    )


def search_arguments(root: Path) -> dict:
    """The arguments of `NASTuner.search` with which the command line searched."""
    from keras_nas_plugin.cli.recipe import Recipe

    data = Recipe(str(root / "recipe.py")).fit_arguments()
    return {"epochs": EPOCHS, "batch_size": 16, "verbose": 0, **data}


def next_proposals(root: Path) -> list[dict]:
    """Values that the search proposes next, if its trials score `SCORES`."""
    tuner, proposals = open_tuner(root), []
    for score in SCORES:
        trial = tuner.oracle.create_trial("tuner0")
        proposals.append(dict(trial.hyperparameters.values))
        metrics = {"val_accuracy": score, "parameters": 100.0}
        tuner.oracle.update_trial(trial.trial_id, metrics)
        trial.status = "COMPLETED"
        tuner.oracle.end_trial(trial)
    return proposals


def runs_of(root: Path) -> dict[str, str]:
    """Run id by trial id, and of the search under the empty id."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name(EXPERIMENT)
    runs = client.search_runs([experiment.experiment_id])
    return {run.data.tags.get("nas.trial_id", ""): run.info.run_id for run in runs}


def write_expected(root: Path) -> dict:
    """What this version says about the search."""
    place = ["--directory", root / "searches", "--project-name", PROJECT, "--json"]
    copy = Path(tempfile.mkdtemp())
    shutil.copytree(root / "searches", copy / "searches")
    shutil.copy(root / "recipe.py", copy)
    tuner = open_tuner(root)
    return {
        "trials": json.loads(command_line("trials", *place)),
        "failed": json.loads(command_line("trials", "--failed", *place)),
        "best": json.loads(command_line("best", *place)),
        "report": json.loads(command_line("report", *place)),
        "best_trials": [trial.trial_id for trial in tuner.oracle.get_best_trials(TRIALS)],
        "runs": runs_of(root),
        "proposals": next_proposals(copy),
    }


def main() -> None:
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    root = Path(tempfile.mkdtemp()).resolve()
    shutil.copy(FOLDER / "recipe.py", root)
    os.chdir(root)
    command_line(
        *("search", root / "recipe.py", "--directory", root / "searches"),
        *("--project-name", PROJECT, "--experiment", EXPERIMENT, "--deterministic"),
        *("--strategy", "evolution", "--max-trials", TRIALS, "--epochs", EPOCHS),
        *("--seed", SEED, "--constraint", f"params<={LIMIT}", "--batch-size", 16),
        *("--tracking-uri", f"sqlite:///{root}/mlflow.db"),
    )
    expected = write_expected(root)
    (root / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", "utf-8")
    with contextlib.closing(sqlite3.connect(root / "mlflow.db")) as database:
        database.execute("VACUUM")
        dump = "\n".join(database.iterdump())
    (root / "mlflow.sql").write_text(dump + "\n", "utf-8")
    for name in ("searches", "mlruns"):
        shutil.rmtree(FOLDER / f"stored_{name}", ignore_errors=True)
        shutil.copytree(root / name, FOLDER / f"stored_{name}")
    for name in ("expected.json", "mlflow.sql"):
        shutil.copy(root / name, FOLDER)
    files = [FOLDER / "expected.json", FOLDER / "mlflow.sql", *FOLDER.glob("stored_*/**/*")]
    for path in files:
        if path.is_file() and path.suffix in TEXT:
            path.write_text(path.read_text("utf-8").replace(str(root), ROOT), "utf-8")
    shutil.rmtree(root)


if __name__ == "__main__":
    main()
