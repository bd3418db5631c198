from __future__ import annotations

import pytest

from tests.integration import forkserver


@pytest.fixture(scope="session")
def server():
    """Starts processes that have TensorFlow and MLflow imported already."""
    return forkserver.fork_server()


@pytest.fixture(scope="session")
def new_store():
    """Puts an empty MLflow database into a folder."""
    return forkserver.new_store
