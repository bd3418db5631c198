"""What TensorFlow writes when it is imported, and what a search without output writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTES = (
    b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n"
    b"I0000 00:00:1.0 1 port.cc:153] oneDNN custom operations are on. You may see different\n"
    b"I0000 00:00:1.0 1 cpu_feature_guard.cc:227] This TensorFlow binary is optimized to use "
    b"available CPU instructions in performance-critical operations.\n"
    b"To enable the following instructions: AVX2, in other operations, rebuild TensorFlow.\n"
)


def run(program, **environment):
    ours = ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS")  # as a user's shell has them: unset
    settings = {key: value for key, value in os.environ.items() if key not in ours}
    settings |= {"PYTHONPATH": str(ROOT), "NOTES": NOTES.decode(), **environment}
    return subprocess.run(
        [sys.executable, "-c", program], env=settings, capture_output=True, check=False
    )


START = "import os, sys; from keras_nas_plugin import quiet\nnotes = os.environb[b'NOTES']\n"
INSIDE = START + "with quiet.tensorflow_start():\n    "


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_notes_are_dropped_and_everything_else_is_kept():
    process = run(
        INSIDE + "os.write(2, notes + b'E0000 a real error\\n' + notes + b'W0000 partial ')\n"
        "    print('of Python', file=sys.stderr)\n"
        "os.write(2, b'after: ' + notes[-20:])\n"
        "print(os.environ['TF_CPP_MIN_LOG_LEVEL'])"
    )
    lines = process.stderr.splitlines(keepends=True)
    assert lines == [
        b"E0000 a real error\n",
        b"W0000 partial of Python\n",
        b"after: " + NOTES[-20:],
    ]
    assert (process.returncode, process.stdout) == (0, b"1\n")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("end", ["os.abort()", "os._exit(3)", "raise OSError('no file')"])
def test_the_last_words_of_a_process_that_dies_are_kept(end):
    process = run(INSIDE + f"os.write(2, notes + b'F0000 the reason'); {end}")
    assert process.stderr.startswith(b"F0000 the reason") and process.returncode != 0
    assert (b"no file" in process.stderr) == ("OSError" in end)


@pytest.mark.parametrize(
    "before",
    [
        "import threading; threading.Thread(target=threading.Event().wait, daemon=True).start()\n",
        "sys.modules['tensorflow'] = None\n",
        "os.environ['TF_CPP_MIN_LOG_LEVEL'] = '0'\n",
        "os.close(2)\n",
    ],
    ids=["threads", "loaded already", "all messages wanted", "standard error is closed"],
)
def test_the_program_may_not_allow_it(before):
    process = run(f"{START}{before}with quiet.tensorflow_start():\n    print(len(notes))")
    assert process.returncode == 0, process.stderr
    assert process.stdout == b"%d\n" % len(NOTES)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_file_of_the_command_line_imports_tensorflow_without_notes(tmp_path):
    (tmp_path / "tensorflow.py").write_text("import os; os.write(2, os.environb[b'NOTES'])\n")
    (tmp_path / "user.py").write_text(
        "import sys, tensorflow\ndef build_model(hp): ...\ndef load_data(): ...\n"
        "print('of the file', file=sys.stderr)\n"
    )
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    program += "from keras_nas_plugin.cli.recipe import Recipe\n"
    process = run(f"{program}Recipe({str(tmp_path / 'user.py')!r})")
    assert (process.returncode, process.stderr) == (0, b"of the file\n")


SEARCH = """
from keras_nas_plugin import NASTuner, RandomOracle
import keras, numpy, sys

def build(hp):
    units = hp.Int("units", 2, 9)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model

x = numpy.zeros((8, 2), "float32")
NASTuner(build, RandomOracle("loss", max_trials=6, seed=0), directory=sys.argv[1]).search(
    x, x[:, 0], verbose=0
)
"""


def test_a_search_with_verbose_0_writes_no_line_of_tensorflow(tmp_path):
    """Six small models, enough for TensorFlow's warning that a function is traced often."""
    program = SEARCH.replace("sys.argv[1]", repr(str(tmp_path)))
    process = run(program)
    assert process.returncode == 0, process.stderr
    lines = process.stderr.decode().splitlines()
    assert process.stdout == b""
    assert [line for line in lines if not line.startswith("No GPU is visible")] == []
