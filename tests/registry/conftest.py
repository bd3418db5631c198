from __future__ import annotations

import shutil

import pytest


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory):
    """An SQLite file with MLflow's tables, which take seconds to create."""
    from keras_nas_plugin.tracking.connection import connect

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def database(tmp_path, monkeypatch, empty_store):
    """URI of a fresh SQLite store; artifacts land beside it."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"
