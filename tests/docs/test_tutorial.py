"""The page `tutorial.md`: its data, its commands and its prediction."""

import contextlib
import io
import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from keras_nas_plugin.cli.main import cli
from tests import stores

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tutorial.md").read_text()
CODE = re.findall(r"^```py(?:thon)?\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
CONSOLE = re.findall(r"^```console\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
# The page prints a search of eight trials.
SHORTER = {"--max-trials 8": "--max-trials 1", "--epochs 20": "--epochs 1"}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """What the commands of the page printed, and what its program did."""
    folder = tmp_path_factory.mktemp("tutorial")
    outputs = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copy(stores.empty_database(), folder / "mlflow.db")
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        writing, predicting = CODE
        exec(writing, {})
        for line in re.findall(r"^\$ keras-nas (.*)$", "\n".join(CONSOLE), re.MULTILINE):
            for text, shorter in SHORTER.items():
                line = line.replace(text, shorter)
            words = shlex.split(line)
            result = CliRunner().invoke(cli, words)
            assert result.exit_code == 0, f"keras-nas {line}\n{result.output}"
            outputs[words[0]] = result.output
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(predicting, {})
        outputs["predict"] = printed.getvalue()
    return outputs


def test_init_prints_what_the_page_shows(outputs):
    shown = next(block for block in CONSOLE if block.startswith("$ keras-nas init"))
    assert outputs["init"] == shown.partition("\n")[2]


def test_the_search_registers_the_model(outputs):
    assert "Registered: models:/penguins@challenger (models:/penguins/1)" in outputs["search"]


def test_the_model_predicts_raw_rows(outputs):
    (answers,) = re.findall(r"^\[.*\]$", outputs["predict"], re.MULTILINE)
    assert re.fullmatch(r"\['\w+', '\w+', '\w+'\]", answers)
