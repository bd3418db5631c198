"""`keras-nas list` and `keras-nas show`, on searches that were written as records."""

import json

import pytest
from click.testing import CliRunner

from keras_nas_plugin.cli.main import cli
from keras_nas_plugin.records.placement import Placement
from keras_nas_plugin.records.trial import Location
from tests.reports.conftest import failed, record_of, save, search_info

CURVES = (({"loss": 0.9, "val_accuracy": 0.5}, {"loss": 0.4, "val_accuracy": 0.75}),)
VALUES = {"width": 8, "depth": 1}


@pytest.fixture(scope="module")
def searches(tmp_path_factory):
    folder = tmp_path_factory.mktemp("searches")
    other = search_info(folder / "empty", name="empty", search_id="empty")
    save(other, [])
    search = search_info(folder / "digits")
    records = [
        record_of(0, VALUES, 0.75, curves=CURVES, first_epoch=2),
        failed(7, {"width": 16, "depth": 2}, "ValueError: no way"),
    ]
    placement = Placement(worker="worker-1", pid=7, node="gpu-3", queue_seconds=0.5)
    error = {**vars(records[1]), "location": Location("model.py", 12, "return Dense(-1)")}
    error["placement"] = placement
    records[1] = type(records[1])(**error)
    save(search, records)
    (folder / "digits" / "trial_0000" / "model_summary.txt").write_text("Dense (8)\n")
    (folder / "digits" / "trial_0007" / "traceback.txt").write_text("Traceback: all of it\n")
    return str(folder)


def run(searches, *words):
    return CliRunner().invoke(cli, [*words, "--directory", searches])


def test_list_shows_every_search_of_a_folder(searches):
    result = run(searches, "list", "--json")
    assert result.exit_code == 0, result.output
    by_name = {search["project"]: search for search in json.loads(result.stdout)}
    assert set(by_name) == {"digits", "empty"}
    assert by_name["digits"]["trials"] == {"finished": 1, "failed": 1}
    assert by_name["digits"]["best"]["score"] == 0.75 and by_name["empty"]["best"] is None
    lines = run(searches, "list").stdout.splitlines()
    assert lines[0].split()[:3] == ["search", "strategy", "finished"]
    (digits,) = [line for line in lines if line.startswith("digits")]
    assert "1 of 60" in digits and "val_accuracy (max)" in digits and "0.75" in digits


def test_list_of_a_folder_without_searches_says_so(tmp_path):
    result = run(str(tmp_path), "list")
    assert result.exit_code == 0 and "has no searches" in result.stderr


@pytest.mark.parametrize("trial_id", ["0000", "0", "best"])
def test_show_prints_values_curve_and_model_of_a_trial(searches, trial_id):
    result = run(searches, "show", trial_id, "--project-name", "digits")
    assert result.exit_code == 0, result.output
    text = result.stdout
    assert "digits: trial 0000, finished, val_accuracy 0.75" in text
    assert "  width: 8" in text and "Dense (8)" in text
    assert [line.split() for line in text.splitlines() if line.startswith(("3 ", "4 "))] == [
        ["3", "0.9", "0.5"],
        ["4", "0.4", "0.75"],
    ]


def test_show_prints_where_and_why_a_trial_failed(searches):
    result = run(searches, "show", "7", "--project-name", "digits")
    assert "error: ValueError: no way" in result.stdout
    assert "at model.py:12: return Dense(-1)" in result.stdout
    assert "Traceback: all of it" in result.stdout
    assert "worker: worker-1 (process 7) on gpu-3\n" in result.stdout
    data = json.loads(run(searches, "show", "7", "--project-name", "digits", "--json").stdout)
    assert data["placement"]["queue_seconds"] == 0.5
    assert data["status"] == "FAILED" and data["traceback"] == "Traceback: all of it"
    assert data["location"]["line"] == 12


def test_show_names_the_trials_if_there_is_none_of_that_id(searches):
    result = run(searches, "show", "9", "--project-name", "digits")
    assert result.exit_code == 2
    assert "got '9'. Trials: 0000, 0007" in result.stderr
    result = run(searches, "show", "best", "--project-name", "empty")
    assert result.exit_code == 2 and "Trials: none" in result.stderr
