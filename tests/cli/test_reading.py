"""`trials`, `best`, `report` and `sync` of searches that are missing, damaged or untracked."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.cli.conftest import DATASETS, RECIPE
from tests.cli.test_bad_input import assert_one_error

READERS = ("trials", "best", "report", "sync")
UNREACHABLE = "http://127.0.0.1:9"  # no server listens at the port `discard`


@pytest.fixture(scope="module")
def searched(server, tmp_path_factory):
    """A search whose MLflow server did not answer."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "recipe.py").write_text(RECIPE + DATASETS)
    words = [
        "search",
        "recipe.py",
        "--max-trials",
        "2",
        "--epochs",
        "1",
        "--tracking-uri",
        UNREACHABLE,
    ]
    process = server.run("tests.integration.forkserver:command_line", cwd=folder, words=words)
    assert process.returncode == 0, process.err
    return folder / "searches"


@pytest.fixture
def project(searched, tmp_path):
    """A copy of that search's project folder, in the place where the commands look for it."""
    shutil.copytree(searched, tmp_path / "searches")
    return tmp_path / "searches" / "recipe"


@pytest.mark.parametrize("command", READERS)
def test_a_missing_search_is_wrong_usage(nas, project, command):
    message = (
        "`--project-name` must be a search in 'searches'; got 'other'. Searches there: recipe"
    )
    assert_one_error(nas(command, "--project-name other"), 2, message)
    assert_one_error(
        nas(command, "--directory x"), 2, "`--directory` must be a folder with searches"
    )


@pytest.mark.parametrize("command", READERS[:-1])
def test_commands_that_only_read_the_disk_need_no_server(nas, project, command):
    process = nas(command, "--json")
    assert process.returncode == 0, process.err
    assert json.loads(process.out)


DAMAGED = {
    "cut off": '{"trial_id": "0"',
    "empty": "",
    "another shape": "[]",
    "no fields": "{}",
    "a field too many": None,
    "no text": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("name", ["search.json", "trial_0/record.json"])
def test_the_error_names_a_damaged_file(project, monkeypatch, capsys, name, damage):
    """Runs in this process: the error is raised before a framework is imported."""
    from keras_nas_plugin.cli.main import main

    monkeypatch.chdir(project.parents[1])
    path = project / name
    text = DAMAGED[damage]
    if text is None:
        text = json.dumps({**json.loads(path.read_text()), "colour": "red"})
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for command in READERS:
        with pytest.raises(SystemExit) as end:
            main([command])
        output = capsys.readouterr()
        assert end.value.code == 1
        assert output.out == "" and output.err.startswith(f"Error: `searches/recipe/{name}` ")
        assert len(output.err.splitlines()) == 1


@pytest.mark.parametrize("damage", ["cut off", "another shape", "no fields"])
def test_the_error_names_a_damaged_retraining(project, monkeypatch, capsys, damage):
    from keras_nas_plugin.cli.main import main

    monkeypatch.chdir(project.parents[1])
    (project / "retrained").mkdir()
    (project / "retrained" / "retraining.json").write_text(DAMAGED[damage])
    for command in ("best", "report"):
        with pytest.raises(SystemExit) as end:
            main([command])
        output = capsys.readouterr()
        message = "Error: `searches/recipe/retrained/retraining.json` "
        assert end.value.code == 1 and output.out == ""
        assert output.err.startswith(message) and len(output.err.splitlines()) == 1


def test_sync_uploads_nothing_when_the_server_does_not_answer(nas, project):
    process = nas("sync")
    assert_one_error(
        process,
        1,
        f"got '{UNREACHABLE}', which does not. 2 trials are kept in searches/recipe/outbox",
    )
    assert len(list((project / "outbox").glob("*.json"))) == 2


def test_sync_of_an_untracked_search_is_an_error(nas, project):
    (project / "tracking.json").unlink()
    assert_one_error(nas("sync"), 1, "must be the folder of a search that MLflow tracked")


def test_sync_to_an_address_that_mlflow_cannot_use_is_an_error(nas, project):
    process = nas("sync --tracking-uri gopher://nowhere")
    assert_one_error(process, 1, "`tracking_uri` must be")
    assert len(list((project / "outbox").glob("*.json"))) == 2


@pytest.mark.parametrize(
    ("out", "message"), [("recipe.py/x.html", "Not a dir"), (".", "directory")]
)
def test_a_report_that_cannot_be_written_is_wrong_usage(nas, project, write, out, message):
    write()
    assert_one_error(nas("report --out", out), 2, message)
