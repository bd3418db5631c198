"""Without TensorFlow, one sentence says what to install."""

import os
import subprocess
import sys

import pytest

RECIPE = "def build_model(hp): ...\ndef load_data(): ...\n"


@pytest.fixture
def without_tensorflow(tmp_path):
    """An environment in which importing TensorFlow fails as it does where it is missing."""
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "tensorflow.py").write_text(
        'raise ModuleNotFoundError("No module named \'tensorflow\'", name="tensorflow")\n'
    )
    (tmp_path / "mine.py").write_text(RECIPE)
    return {**os.environ, "PYTHONPATH": str(tmp_path / "shadow"), "KERAS_BACKEND": "tensorflow"}


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, **options
    )


def test_command_line_says_what_to_install(tmp_path, without_tensorflow):
    done = run(
        "-m",
        "keras_nas_plugin.cli.main",
        "search",
        "mine.py",
        cwd=tmp_path,
        env=without_tensorflow,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "pip install 'keras-nas-plugin[cpu]'" in done.stderr
    assert "keras-nas-plugin[gpu]" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["NASTuner", "RegularizedEvolutionOracle"])
def test_public_names_say_what_to_install(tmp_path, without_tensorflow, name):
    code = (
        "import keras_nas_plugin\n"
        "try:\n"
        f"    keras_nas_plugin.{name}\n"
        "except keras_nas_plugin.NASError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    done = run("-c", code, cwd=tmp_path, env=without_tensorflow)
    assert done.stdout.startswith("BackendError Keras needs tensorflow, which is not installed")
    assert "keras-nas-plugin[cpu]" in done.stdout
