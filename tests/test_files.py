"""Files are the old or the new version, and what a killed process leaves is tidied up."""

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


def test_a_failed_write_leaves_the_old_version_and_nothing_else(tmp_path):
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


def test_names_keep_their_suffixes_and_files_the_umask(tmp_path):
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


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path):
    path = tmp_path / "deep" / "state.json"
    path.parent.mkdir()
    done = subprocess.run([sys.executable, "-c", KILLED_WHILE_WRITING, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    living = files.temporary_neighbour(path)
    living.write_text("in use")
    elsewhere = path.with_name(f"{files.TEMPORARY_PREFIX}another-host-1-abcd.json")
    elsewhere.write_text("in use, perhaps")
    assert len(list(path.parent.iterdir())) == 3
    files.remove_leftovers(tmp_path)
    assert sorted(path.parent.iterdir()) == sorted([living, elsewhere])


def test_a_file_that_is_no_json_names_itself(tmp_path):
    path = tmp_path / "oracle.json"
    path.write_text(json.dumps({"a": 1})[:4])
    with pytest.raises(StateError, match="oracle.json.*overwrite=True"):
        files.read_json(path)
