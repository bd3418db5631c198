"""`keras-nas search` of a file that was edited: --on-change, --retry-failed, tags in MLflow."""

from __future__ import annotations

import json

import pytest
from mlflow import MlflowClient

from tests.cli.conftest import RECIPE
from tests.integration import forkserver

WORDS = "search recipe.py --max-trials 2 --epochs 1 --seed 0 --experiment tiny"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A search, and the same search after edits of its file: output by step."""
    folder = tmp_path_factory.mktemp("changed")
    store = forkserver.new_store(folder)
    server = forkserver.fork_server()

    def nas(words):
        return server.run(
            "tests.integration.forkserver:command_line", cwd=folder, words=words.split()
        )

    outputs = {}
    recipe = folder / "recipe.py"
    search = f"{WORDS} --tracking-uri {store}"
    edited = RECIPE.replace('hp.Int("units", 2, 64)', 'hp.Choice("units", [1, 2, 3])')
    for step, text, words in (
        ("first", RECIPE, search),
        ("again", RECIPE, search),
        ("refused", edited, f"{search} --on-change error"),
        ("edited", edited, search),
        ("best", edited, "best --project-name recipe"),
        ("trials", edited, "trials --project-name recipe --json"),
        ("list", edited, "list"),
    ):
        recipe.write_text(text, encoding="utf-8")
        outputs[step] = nas(words)
    return MlflowClient(store), outputs


def test_a_complete_search_says_so(runs):
    again = runs[1]["again"]
    assert again.returncode == 0
    assert "2 of 2 trials are done: raise `max_trials` (`--max-trials`)" in again.err


def test_an_edited_file_is_refused_on_request(runs):
    refused = runs[1]["refused"]
    assert refused.returncode != 0
    assert "`units`: Int 2 to 64 -> Choice of int 1, 2, 3" in refused.err


def test_an_edited_file_is_searched_as_it_is_now(runs):
    _, outputs = runs
    edited = outputs["edited"]
    assert edited.returncode == 0, edited.err
    assert "2 of 2 earlier trials are not in the space now" in edited.err
    assert "2 trials do not count, because the program was changed" in edited.out
    assert "(1/2)" in edited.err and "(2/2)" in edited.err
    assert "2 trials do not count" in outputs["best"].out
    assert "trial 2," in outputs["best"].out or "trial 3," in outputs["best"].out
    shown = json.loads(outputs["trials"].out)
    assert {trial["trial_id"] for trial in shown} == {"2", "3"}
    assert " 2 of 2 " in outputs["list"].out


def test_mlflow_tags_what_was_changed_and_which_trials_do_not_count(runs):
    client, _ = runs
    experiment = client.get_experiment_by_name("tiny").experiment_id
    tags = [run.data.tags for run in client.search_runs([experiment])]
    parent = next(tag for tag in tags if tag["nas.kind"] == "search")
    assert "`units`: Int 2 to 64 -> Choice of int 1, 2, 3" in parent["nas.changed"]
    assert parent["nas.best_trial_id"] in ("2", "3")
    assert "2 of them do not count" in parent["mlflow.note.content"]
    excluded = {tag["nas.trial_id"]: tag.get("nas.excluded") for tag in tags if tag is not parent}
    assert excluded.keys() == {"0", "1", "2", "3"}
    assert excluded["0"] == excluded["1"] == "'units' had another type"
    assert excluded["2"] is excluded["3"] is None


def test_failed_trials_run_again_on_request(tmp_path):
    """After the cause of their failure is gone."""
    server = forkserver.fork_server()

    def nas(words):
        return server.run(
            "tests.integration.forkserver:command_line", cwd=tmp_path, words=words.split()
        )

    words = "search recipe.py --max-trials 2 --epochs 1 --seed 0 --no-tracking"
    units = 'units = hp.Int("units", 2, 64)'
    # The default, which is built before the first trial, is no error.
    failure = 'if units > 2: raise ValueError("no driver")'
    broken = RECIPE.replace(units, f"{units}\n    {failure}")
    for text, options, failed, finished in (
        (broken, "", 2, 0),
        (RECIPE, "", 2, 0),
        (RECIPE, "--retry-failed", 0, 2),
    ):
        (tmp_path / "recipe.py").write_text(text, encoding="utf-8")
        nas(f"{words} {options}")
        shown = [nas(f"trials --json {option}").out for option in ("--failed", "")]
        assert [len(json.loads(trials)) for trials in shown] == [failed, finished]
