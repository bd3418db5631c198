"""Files are written atomically, and temporary files of killed processes are removed."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import pytest

from keras_nas_plugin import files
from keras_nas_plugin.errors import StateError

KILLED_WHILE_WRITING = """
import os, signal, sys
from keras_nas_plugin.files import write_atomic

def write(temporary):
    with open(temporary, "w") as file:
        file.write("half")
    os.kill(os.getpid(), signal.SIGKILL)

write_atomic(sys.argv[1], write)
"""


def test_a_failed_write_leaves_only_the_old_version(tmp_path):
    path = tmp_path / "state.json"
    files.write_json(path, {"version": 1})

    def full(temporary):
        with open(temporary, "w") as file:
            file.write("ha")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        files.write_atomic(path, full)
    assert files.read_json(path) == {"version": 1}
    assert os.listdir(tmp_path) == ["state.json"]


def test_temporary_files_keep_the_suffix_and_files_respect_the_umask(tmp_path):
    seen = []

    def write(temporary):
        seen.append(temporary)
        with open(temporary, "w") as file:
            file.write("x")

    umask = os.umask(0o022)
    try:
        files.write_atomic(tmp_path / "checkpoint.weights.h5", write)
    finally:
        os.umask(umask)
    assert seen[0].endswith(".weights.h5")
    assert (tmp_path / "checkpoint.weights.h5").stat().st_mode & 0o777 == 0o644


def test_temporary_files_of_dead_processes_are_removed_and_others_kept(tmp_path):
    path = tmp_path / "deep" / "state.json"
    path.parent.mkdir()
    completed = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], check=False
    )
    assert completed.returncode == -signal.SIGKILL
    living = files.temporary_neighbour(path)
    living.write_text("in use")
    elsewhere = path.with_name(f"{files.TEMPORARY_PREFIX}another-host-1-abcd.json")
    elsewhere.write_text("in use, perhaps")
    assert len(list(path.parent.iterdir())) == 3
    files.remove_leftovers(tmp_path)
    assert sorted(path.parent.iterdir()) == sorted([living, elsewhere])


def test_an_invalid_json_file_is_named(tmp_path):
    path = tmp_path / "oracle.json"
    path.write_text(json.dumps({"a": 1})[:4])
    with pytest.raises(StateError, match="oracle.json.*overwrite=True"):
        files.read_json(path)


def test_json_value_converts_nan_to_none_and_numpy_to_plain_numbers():
    numpy = pytest.importorskip("numpy")

    @dataclasses.dataclass
    class Point:
        x: float
        y: tuple = (1, float("-inf"))

    data = {
        "point": Point(float("nan")),
        3: [numpy.float32(0.5), numpy.int64(7), numpy.bool_(True), numpy.float64("inf")],
        "text": "nan",
        "none": None,
    }
    assert json.dumps(files.json_value(data), allow_nan=False) == json.dumps(
        {
            "point": {"x": None, "y": [1, None]},
            "3": [0.5, 7, True, None],
            "text": "nan",
            "none": None,
        }
    )
