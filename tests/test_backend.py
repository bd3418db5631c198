"""Without TensorFlow, the error message names what to install."""

import os
import subprocess
import sys

import pytest

RECIPE = "def build_model(hp): ...\ndef load_data(): ...\n"


@pytest.fixture
def without_tensorflow(tmp_path):
    """An environment in which importing TensorFlow fails as if it were not installed."""
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


def test_the_command_line_names_the_extra_to_install(tmp_path, without_tensorflow):
    completed = run(
        "-m",
        "keras_nas_plugin.cli.main",
        "search",
        "mine.py",
        cwd=tmp_path,
        env=without_tensorflow,
    )
    assert completed.returncode == 1
    assert completed.stdout == ""
    assert "pip install 'keras-nas-plugin[cpu]'" in completed.stderr
    assert "keras-nas-plugin[gpu]" in completed.stderr
    assert "Traceback" not in completed.stderr


@pytest.mark.parametrize("name", ["NASTuner", "RegularizedEvolutionOracle"])
def test_public_names_name_the_extra_to_install(tmp_path, without_tensorflow, name):
    code = (
        "import keras_nas_plugin\n"
        "try:\n"
        f"    keras_nas_plugin.{name}\n"
        "except keras_nas_plugin.NASError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    completed = run("-c", code, cwd=tmp_path, env=without_tensorflow)
    assert completed.stdout.startswith(
        "BackendError Keras needs tensorflow, which is not installed"
    )
    assert "keras-nas-plugin[cpu]" in completed.stdout
