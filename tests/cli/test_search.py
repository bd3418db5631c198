"""`keras-nas search`: output, runs in MLflow, resuming, and options."""

from __future__ import annotations

import json
import shutil

import pytest

from keras_nas_plugin.files import read_json
from tests.cli.conftest import RECIPE, TARGET
from tests.integration import forkserver

SEARCH = (
    "search recipe.py --max-trials 4 --epochs 2 --batch-size 8 --seed 0 --tracking-uri {store} "
    "--experiment tiny --register tiny-model --executions-per-trial 2 --max-model-size 300 --json"
)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A finished search: its folder and its completed process."""
    folder = tmp_path_factory.mktemp("search")
    text = RECIPE + '\nCLASS_NAMES = ["low", "high"]\n'
    (folder / "recipe.py").write_text(text, encoding="utf-8")
    words = SEARCH.format(store=forkserver.new_store(folder)).split()
    process = forkserver.fork_server().run(TARGET, cwd=folder, words=words)
    assert process.returncode == 0, process.err
    return folder, process


@pytest.fixture
def searched(original, tmp_path):
    """The test's folder with the finished search in it."""
    shutil.copytree(original[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


def records(folder, project="recipe"):
    paths = sorted((folder / "searches" / project).glob("trial_*/record.json"))
    return [read_json(path) for path in paths]


def test_json_is_one_document_and_the_only_output(original):
    folder, process = original
    result = json.loads(process.out)
    scores = {r["trial_id"]: r["score"] for r in records(folder) if r["status"] == "FINISHED"}
    failed = [r for r in records(folder) if r["status"] == "FAILED"]
    assert all(7 * r["values"]["units"] + 2 > 300 for r in failed)
    assert result["trials"] == {"finished": len(scores), "failed": len(failed)}
    assert len(scores) + len(failed) == 4
    assert (result["objective"], result["direction"]) == ("val_loss", "min")
    best = result["best"]
    assert best["score"] == scores[best["trial_id"]] == min(scores.values())
    assert best["values"].keys() == {"units"} and "val_accuracy" in best["metrics"]
    assert result["model"]["name"] == "tiny-model" and result["model"]["version"] in (1, "1")
    assert result["stopped_by"] is None
    assert "mlflow ui" in result["ui_command"]


def test_progress_is_plain_lines_when_piped(original):
    lines = original[1].err.splitlines()
    assert any("Searching with RegularizedEvolutionOracle for val_loss (min)" in x for x in lines)
    for number in range(1, 5):
        assert any(f"({number}/4)" in line for line in lines)
    assert "\x1b" not in original[1].err and "\r" not in original[1].err
    assert any("(best so far)" in line for line in lines)


def test_mlflow_has_the_runs_of_the_search(original):
    from mlflow import MlflowClient
    from mlflow.models import Model

    folder, process = original
    best = json.loads(process.out)["best"]
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    run = client.get_run(best["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.params == {"units": str(best["values"]["units"])}
    version = client.get_model_version_by_alias("tiny-model", "challenger")
    assert version.tags["nas.search_id"] == json.loads(process.out)["search_id"]
    model = Model.load(version.source.removeprefix("file://"))
    assert model.metadata == {"class_names": ["low", "high"]}, "those of the file"
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.data.tags["nas.resume_command"].startswith("keras-nas search recipe.py")
    assert parent.data.tags["nas.resume_command"].endswith("--resume")


def test_trials_lists_finished_trials_best_first(searched, nas):
    finished = [r for r in records(searched) if r["status"] == "FINISHED"]
    finished.sort(key=lambda record: record["score"])
    listed = json.loads(nas("trials --json").out)
    assert [(t["trial_id"], t["score"]) for t in listed] == [
        (r["trial_id"], r["score"]) for r in finished
    ]
    assert all(trial["run_id"] for trial in listed)
    table = nas("trials --limit 2")
    assert table.returncode == 0
    heading, *rows = table.out.splitlines()
    assert heading.split() == ["rank", "trial", "val_loss", "parameters", "seconds", "values"]
    assert [row.split()[1] for row in rows] == [r["trial_id"] for r in finished[:2]]
    assert rows[0].split()[-1] == f"units={finished[0]['values']['units']}"
    failed = json.loads(nas("trials --failed --json").out)
    assert len(failed) == 4 - len(finished)
    assert all("max_model_size" in trial["error"] for trial in failed)


def test_best_shows_the_best_trial(searched, nas, original):
    expected = json.loads(original[1].out)["best"]
    result = json.loads(nas("best --json").out)
    assert result["best"] == expected
    text = nas("best --project-name recipe").out
    assert f"trial {expected['trial_id']}, the best of" in text
    assert f"val_loss: {expected['score']:.6g}" in text
    assert f"units: {expected['values']['units']}" in text
    assert f"run id: {expected['run_id']}" in text
    assert "model: tiny-model@challenger version 1" in text


def test_resuming_a_finished_search_adds_no_trial_run_or_model_version(searched, nas, original):
    shutil.copy(original[0] / "mlflow.db", searched / "mlflow.db")
    before = records(searched)
    runs = count_runs(searched)
    resumed = nas(SEARCH.format(store=f"sqlite:///{searched}/mlflow.db"), "--resume")
    assert resumed.returncode == 0, resumed.err
    first, second = json.loads(original[1].out), json.loads(resumed.out)
    assert second["best"] == first["best"] and second["search_id"] == first["search_id"]
    assert second["model"]["version"] == first["model"]["version"]
    assert records(searched) == before and count_runs(searched) == runs == 5


def test_a_finished_search_resumes_with_more_trials(searched, nas):
    before = records(searched)
    resumed = nas("search recipe.py --max-trials 6 --epochs 2 --no-tracking --json --seed 0")
    assert resumed.returncode == 0, resumed.err
    assert sum(json.loads(resumed.out)["trials"].values()) == 6
    assert records(searched)[:4] == before
    assert len({json.dumps(r["values"]) for r in records(searched)}) == 6


def test_overwrite_starts_a_new_search(searched, nas):
    previous_id = read_json(searched / "searches/recipe/search.json")["search_id"]
    process = nas(
        "search recipe.py --strategy random --max-trials 2 --epochs 1 --no-tracking --overwrite"
        " --json --seed 7"
    )
    assert process.returncode == 0, process.err
    result = json.loads(process.out)
    assert sum(result["trials"].values()) == len(records(searched)) == 2
    assert result["search_id"] != previous_id and result["strategy"] == "RandomOracle"


def count_runs(folder):
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    ids = [experiment.experiment_id for experiment in client.search_experiments()]
    return len(client.search_runs(ids))


# ---------------------------------------------------------------------- files and options


SEVERAL_BUILDERS = (
    RECIPE
    + """
def other_model(hp):
    return build_model(hp)

class Wide(keras_tuner.HyperModel):
    def build(self, hp):
        hp.Int("width", 3, 9)
        return build_model(hp)

def other_data():
    x, y = load_data()[0]
    return x, y
"""
)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("my.recipe.py:other_model --data-function other_data", {"units"}),
        ("my.recipe.py:Wide", {"units", "width"}),
    ],
    ids=["function", "hypermodel"],
)
def test_a_name_after_the_path_selects_another_builder(write, nas, tmp_path, words, names):
    write(SEVERAL_BUILDERS, "my.recipe.py")
    options = "--max-trials 1 --epochs 1 --no-tracking --json --objective val_accuracy"
    process = nas("search", words, options, "--directory elsewhere --project-name mine")
    assert process.returncode == 0, process.err
    result = json.loads(process.out)
    assert result["best"]["values"].keys() == names
    assert (result["objective"], result["direction"]) == ("val_accuracy", "max")
    assert (tmp_path / "elsewhere" / "mine" / "search.json").is_file()
    assert nas("best --directory elsewhere").out.startswith("mine: trial 0")


def test_objective_direction_precision_and_distribution(write, nas):
    write()
    process = nas(
        "search recipe.py --max-trials 1 --epochs 1 --no-tracking --json --objective val_accuracy"
        " --direction min --precision mixed_bfloat16 --distribute mirrored"
    )
    assert process.returncode == 0, process.err
    result = json.loads(process.out)
    assert (result["objective"], result["direction"]) == ("val_accuracy", "min")
    assert result["environment"]["precision"] == "mixed_bfloat16"
    assert result["environment"]["distribution"] == "MirroredStrategy"


def test_without_json_a_summary_is_printed(write, nas):
    write()
    process = nas("search recipe.py --max-trials 2 --epochs 1 --no-tracking --seed 3")
    assert process.returncode == 0, process.err
    summary, best, *_ = process.out.splitlines()
    assert summary == "2 trials finished." and best.startswith("Best: trial ")


def test_limits_on_costs_are_checked_before_training(write, nas, tmp_path):
    write()
    words = "search recipe.py --max-trials 2 --epochs 1 --no-tracking --seed 3 --measure latency"
    process = nas(words, "--constraint params<=0.1k --constraint flops>=12 --json")
    assert process.returncode == 0, process.err
    result = json.loads(process.out)
    # 64 units and 450 parameters at most, 100 allowed.
    costs_of_trials = [record["costs"] for record in records(tmp_path)]
    assert len(costs_of_trials) == 2 and all(
        costs["parameters"] <= 100 for costs in costs_of_trials
    )
    assert all(
        {"flops", "peak_memory_bytes", "latency_ms"} <= costs.keys() for costs in costs_of_trials
    )
    assert result["infeasible"]["by_constraint"].keys() == {"params"}
    assert result["infeasible"]["count"] > 0
    process = nas(words, "--constraint params<=0.1k --constraint flops>=12")
    count = result["infeasible"]["count"]
    assert process.out.splitlines()[1] == (
        f"{count} candidate{'s were' if count > 1 else ' was'} infeasible and not trained "
        f"(params {count})."
    )


def test_constraints_that_no_candidate_satisfies_end_the_search(write, nas):
    write(RECIPE.replace("2, 64", "2, 9"))
    process = nas("search recipe.py --max-trials 2 --no-tracking --constraint params<=3")
    assert process.returncode == 1
    assert "8 candidates in a row broke a constraint before training; the nearest" in process.err
    assert "params 16 (at most 3)" in process.err


def test_user_code_that_prints_does_not_change_the_output(write, nas):
    write(RECIPE + '\nprint("loaded")\n')
    process = nas("search recipe.py --max-trials 1 --epochs 1 --no-tracking --json")
    assert json.loads(process.out)["trials"]["finished"] == 1
    assert "loaded" in process.err


def test_workers_train_the_trials_of_a_file_whose_data_they_load(write, nas):
    write()  # whose data sets cannot be sent to them
    words = "search recipe.py --max-trials 2 --epochs 1 --seed 0 --no-tracking --json --workers 2"
    process = nas(words)
    assert process.returncode == 0, process.err
    assert json.loads(process.out)["trials"] == {"finished": 2, "failed": 0}


def test_a_timeout_without_workers_is_refused(write, nas):
    write(RECIPE)
    process = nas("search recipe.py --trial-timeout 5")
    assert process.returncode == 2
    assert "`--trial-timeout` must be combined with `--workers`" in process.err
