"""Fixtures of all tests."""

import gc
import pathlib
import shutil
import tempfile

import hypothesis
import pytest

# The same examples in every run, and no clock that decides whether a test passes.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("fixed")


@pytest.fixture(scope="session")
def memory_folder(tmp_path_factory):
    """A folder in memory where the system has one; flushing to it costs nothing."""
    shared = pathlib.Path("/dev/shm")
    if not shared.is_dir():
        yield tmp_path_factory.mktemp("memory")
        return
    folder = pathlib.Path(tempfile.mkdtemp(dir=shared, prefix="keras-nas-tests-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def frozen_imports():
    """Keep what is there before a file's tests out of the collections that searches make.

    Stock tuners collect garbage three times for each trial, and to walk all that TensorFlow,
    Keras and MLflow imported takes most of a second. Models are built later, and collected.
    """
    gc.collect()
    gc.freeze()
