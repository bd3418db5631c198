"""The page `your-data.md` from an empty folder: its file, its commands and its request."""

import json
import re
import shlex
import shutil
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner
from mlflow.pyfunc import scoring_server

from keras_nas_plugin.cli.main import cli
from tests import stores

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "your-data.md").read_text()
PYTHON = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)

# The page prints a search of six trials; one test process needs no other to load a model.
SHORTER = {
    "--max-trials 6": "--max-trials 1",
    "--epochs 5": "--epochs 1",
    "--seeds 2": "--seeds 1",
    "'accuracy>=0.75'": "'accuracy>=0.01' --no-smoke-test",
}


@pytest.fixture(scope="module")
def journey(tmp_path_factory):
    """A folder in which the commands of the page were run, and what each printed."""
    folder = tmp_path_factory.mktemp("journey")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copy(stores.empty_database(), folder / "mlflow.db")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        exec(PYTHON[0], {})
        Path("customers.py").write_text(next(c for c in PYTHON if c.startswith("# customers.py")))
        lines = re.findall(r"^\$ keras-nas (.*)$", PAGE, re.MULTILINE)
        outputs = {}
        for line in lines:
            for text, shorter in SHORTER.items():
                line = line.replace(text, shorter)
            words = shlex.split(line)
            result = CliRunner().invoke(cli, words)
            assert result.exit_code == 0, f"keras-nas {line}\n{result.output}"
            outputs[words[0]] = result.output
        yield folder, outputs


def test_the_csv_file_is_the_one_that_is_shown(journey):
    folder, _ = journey
    shown = re.search(r"^```text\n(plan.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[1]
    assert (folder / "customers.csv").read_text().startswith(shown)


def test_every_command_of_the_journey_is_on_the_page(journey):
    _, outputs = journey
    expected = {"search", "trials", "show", "report", "retrain", "register", "promote"}
    assert outputs.keys() == expected
    assert "on 120 test rows, seed 0" in outputs["retrain"]
    assert "Registered: models:/customers@challenger (models:/customers/1)" in outputs["register"]
    assert "Champion: version 1 (models:/customers@champion)" in outputs["promote"]


def test_the_request_is_answered_as_shown(journey, monkeypatch):
    folder, _ = journey
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    request = re.search(r"-d '(\{.*\})'", PAGE)[1]
    shown = json.loads(re.search(r'^\{"predictions".*$', PAGE, re.MULTILINE)[0])
    loaded = mlflow.pyfunc.load_model("models:/customers@champion")
    schema = loaded.metadata.get_input_schema()
    response = scoring_server.invocations(request, "application/json", loaded, schema)
    assert response.status == 200, response.response
    answer = json.loads(response.response)["predictions"][0]
    (expected,) = shown["predictions"]
    assert answer.keys() == expected.keys()
    assert answer["probabilities"].keys() == expected["probabilities"].keys()
    assert answer["class"] in expected["probabilities"]


def test_the_recipe_of_the_page_can_be_written(journey, monkeypatch):
    folder, _ = journey
    monkeypatch.chdir(folder)
    words = shlex.split(re.search(r"`keras-nas (init .*?)`", PAGE)[1])
    result = CliRunner().invoke(cli, [*words, "-o", "written.py"])
    assert result.exit_code == 0, result.output
    assert 'TARGET = "left"' in Path("written.py").read_text()
