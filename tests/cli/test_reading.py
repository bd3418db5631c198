"""`trials`, `best`, `report` and `sync` of searches that are not there, damaged or untracked."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.cli.conftest import RECIPE
from tests.cli.test_bad_input import assert_one_error

READERS = ("trials", "best", "report", "sync")
AWAY = "http://127.0.0.1:9"  # nobody may listen at the port `discard`


@pytest.fixture(scope="module")
def searched(server, tmp_path_factory):
    """A search whose MLflow server was away."""
    folder = tmp_path_factory.mktemp("searched")
    (folder / "recipe.py").write_text(RECIPE)
    words = ["search", "recipe.py", "--max-trials", "2", "--epochs", "1", "--tracking-uri", AWAY]
    done = server.run("tests.integration.forkserver:command_line", cwd=folder, words=words)
    assert done.returncode == 0, done.err
    return folder / "searches"


@pytest.fixture
def project(searched, tmp_path):
    """A copy of its project folder, where the commands look for it."""
    shutil.copytree(searched, tmp_path / "searches")
    return tmp_path / "searches" / "recipe"


@pytest.mark.parametrize("command", READERS)
def test_a_search_that_is_not_there(nas, project, command):
    said = "`--project-name` needs a search in 'searches'; received 'other'. There: recipe"
    assert_one_error(nas(command, "--project-name other"), 2, said)
    assert_one_error(
        nas(command, "--directory x"), 2, "`--directory` needs a folder with searches"
    )


@pytest.mark.parametrize("command", READERS[:-1])
def test_what_only_reads_the_disk_needs_no_server(nas, project, command):
    done = nas(command, "--json")
    assert done.returncode == 0, done.err
    assert json.loads(done.out)


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
def test_a_damaged_file_is_named(project, monkeypatch, capsys, name, damage):
    """In this process: the errors come before anything heavy is loaded."""
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
        shown = capsys.readouterr()
        assert end.value.code == 1
        assert shown.out == "" and shown.err.startswith(f"Error: `searches/recipe/{name}` needs")
        assert len(shown.err.splitlines()) == 1


@pytest.mark.parametrize("damage", ["cut off", "another shape", "no fields"])
def test_a_damaged_retraining_is_named(project, monkeypatch, capsys, damage):
    from keras_nas_plugin.cli.main import main

    monkeypatch.chdir(project.parents[1])
    (project / "retrained").mkdir()
    (project / "retrained" / "retraining.json").write_text(DAMAGED[damage])
    for command in ("best", "report"):
        with pytest.raises(SystemExit) as end:
            main([command])
        shown = capsys.readouterr()
        said = "Error: `searches/recipe/retrained/retraining.json` needs"
        assert end.value.code == 1 and shown.out == ""
        assert shown.err.startswith(said) and len(shown.err.splitlines()) == 1


def test_sync_with_a_server_that_is_away_sends_nothing(nas, project):
    done = nas("sync")
    assert_one_error(done, 1, f"received '{AWAY}'. 2 trials wait in searches/recipe/outbox")
    assert len(list((project / "outbox").glob("*.json"))) == 2


def test_sync_of_a_search_that_was_not_tracked(nas, project):
    (project / "tracking.json").unlink()
    assert_one_error(nas("sync"), 1, "needs the folder of a search that MLflow tracked")


def test_sync_to_an_address_that_mlflow_cannot_use(nas, project):
    done = nas("sync --tracking-uri gopher://nowhere")
    assert_one_error(done, 1, "`tracking_uri` needs")
    assert len(list((project / "outbox").glob("*.json"))) == 2


@pytest.mark.parametrize(("out", "said"), [("recipe.py/x.html", "Not a dir"), (".", "directory")])
def test_a_report_that_cannot_be_written(nas, project, write, out, said):
    write()
    assert_one_error(nas("report --out", out), 2, said)
