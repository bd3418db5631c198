from __future__ import annotations

import shutil

import pytest

from tests.integration.forkserver import fork_server


@pytest.fixture(scope="session")
def server():
    """Starts processes that have TensorFlow and MLflow imported already."""
    return fork_server()


@pytest.fixture(scope="session")
def new_store(server, tmp_path_factory):
    """Puts an empty MLflow database into a folder: creating its tables takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    target = "tests.integration.forkserver:create_store"
    made = server.run(target, cwd=folder, uri=f"sqlite:///{folder}/mlflow.db")
    assert made.returncode == 0, made.err

    def copy(folder_of_test):
        shutil.copy(folder / "mlflow.db", folder_of_test / "mlflow.db")
        return f"sqlite:///{folder_of_test}/mlflow.db"

    return copy
