"""The image recipe as a program: what a reader gets who runs the file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from recipes import image_classification as recipe

FILE = Path(recipe.__file__)


def run(*arguments: str, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NAS_")}
    environment["PYTHONPATH"] = str(FILE.parents[1])
    done = subprocess.run(
        [sys.executable, str(FILE), *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_smoke_searches_registers_loads_back_and_leaves_nothing(tmp_path: Path) -> None:
    out = run("--smoke", cwd=tmp_path)
    last = out.strip().splitlines()[-1]
    assert re.fullmatch(
        r"models:/image-classifier@challenger classifies \d+\.\d\d% of 200 test images correctly "
        r"\(the search never saw them\)",
        last,
    )
    assert list(tmp_path.iterdir()) == []


def test_help_names_every_source_of_data(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        recipe.main(["--help"])
    out = capsys.readouterr().out
    for word in ("digits", "fashion_mnist", ".npz", "--smoke", "--evaluate", "--limit"):
        assert word in out


def test_command_line_reaches_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_DATASET", "digits")
    monkeypatch.setenv("NAS_LIMIT", "0")
    seen = []
    monkeypatch.setattr(recipe, "search", lambda options: seen.append(recipe.load_data()))
    recipe.main(["--dataset", "digits", "--limit", "70"])
    assert [len(y) for _, y in seen[0]] == [70, 70, 70]
