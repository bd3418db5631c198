"""The image recipe as a program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recipes import image_classification as recipe
from tests.integration import forkserver

FILE = Path(recipe.__file__)


def run(*arguments: str, cwd: Path) -> str:
    process = forkserver.fork_server().run(
        forkserver.SCRIPT, cwd=cwd, timeout=240, file=str(FILE), arguments=list(arguments)
    )
    assert process.returncode == 0, process.out + process.err
    return process.out


@pytest.mark.slow
def test_the_smoke_test_searches_registers_and_loads_a_model_and_leaves_no_files(
    tmp_path: Path,
) -> None:
    out = run("--smoke", cwd=tmp_path)
    last = out.strip().splitlines()[-1]
    assert re.fullmatch(
        r"models:/image-classifier@challenger classifies \d+\.\d\d% of 200 test images correctly "
        r"\(the search never saw them\)",
        last,
    )
    assert [path for path in tmp_path.iterdir() if not path.name.startswith(".process")] == []


def test_help_names_every_dataset_and_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        recipe.main(["--help"])
    out = capsys.readouterr().out
    for word in ("digits", "fashion_mnist", ".npz", "--smoke", "--evaluate", "--limit"):
        assert word in out


def test_options_of_the_command_line_select_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_DATASET", "digits")
    monkeypatch.setenv("NAS_LIMIT", "0")
    loaded = []
    monkeypatch.setattr(recipe, "search", lambda options: loaded.append(recipe.load_data()))
    recipe.main(["--dataset", "digits", "--limit", "70"])
    assert [len(y) for _, y in loaded[0]] == [70, 70, 70]
