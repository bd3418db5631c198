"""Fixtures shared by all tests."""

import functools
import gc
import importlib.metadata
import logging
import os
import pathlib
import shutil
import sys

import hypothesis
import pytest

from tests import stores

# Where flushing a file is free, and what the files of a run need there.
_MEMORY = pathlib.Path("/dev/shm")
_MEMORY_NEEDED = 4 * 1024**3

# The same examples in every run, and no deadline that depends on the machine.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("fixed")


def pytest_configure():
    """Put temporary folders into memory: searches flush thousands of small files."""
    if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _MEMORY_NEEDED:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))


@pytest.fixture(scope="session", autouse=True)
def shared_database(tmp_path_factory):
    """The workers of a test run share the empty MLflow database."""
    folder = tmp_path_factory.getbasetemp()
    stores.share(folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)


@pytest.fixture(scope="session", autouse=True)
def installed_packages():
    """What is installed is listed once per `sys.path`: it takes half a second."""
    read = importlib.metadata.packages_distributions
    listed = functools.cache(lambda path: read())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            importlib.metadata, "packages_distributions", lambda: listed(tuple(sys.path))
        )
        yield


@pytest.fixture(autouse=True)
def package_logging():
    """Undo what a command that ran in this process has set, perhaps for a whole module."""
    logger = logging.getLogger("keras_nas_plugin")
    logger.setLevel(logging.NOTSET)
    logger.handlers.clear()
    logger.propagate = True


@pytest.fixture(autouse=True)
def ordinary_operations():
    """Undo `deterministic=True`, which TensorFlow's public interface cannot."""
    yield
    if "tensorflow" in sys.modules:
        from tensorflow.python.framework import config

        config.disable_op_determinism()


@pytest.fixture(autouse=True)
def ordinary_names():
    """Layers have the names that they have in a new process: `dense`, `dense_1`, ...

    TensorFlow compiles the creation of a variable for each new name, in 0.6 ms.
    """
    if "keras" in sys.modules:
        from keras.src.utils import naming

        naming.reset_uids()


@pytest.fixture(scope="module", autouse=True)
def frozen_imports():
    """Exclude objects that exist before the tests of a module from garbage collection.

    Stock tuners collect garbage three times per trial, and traversing everything that
    TensorFlow, Keras and MLflow imported takes most of a second. Models are created later and
    are still collected.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def forked_workers(monkeypatch):
    """Worker processes start in milliseconds: see `tests.executors.forked`."""
    from keras_nas_plugin.executors import worker_process
    from tests.executors.forked import FORKING

    monkeypatch.setattr(worker_process, "subprocess", FORKING)
