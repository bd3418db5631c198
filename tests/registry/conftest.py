from __future__ import annotations

import pytest

from tests import stores


@pytest.fixture(scope="session")
def empty_store():
    """An SQLite file with MLflow's tables, which take seconds to create."""
    return stores.empty_database()


@pytest.fixture
def database(tmp_path, monkeypatch):
    """URI of a new SQLite store; artifacts are written beside it."""
    monkeypatch.chdir(tmp_path)
    return stores.new_database(tmp_path)
