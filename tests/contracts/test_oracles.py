"""The contract suite on every oracle that the package exports."""

import json
import subprocess
import sys
import tempfile

import pytest

from keras_nas_plugin.oracles import STRATEGIES
from keras_nas_plugin.testing import PROPERTIES, check_oracle
from keras_nas_plugin.testing.stand_ins import maker_of, target_of


@pytest.fixture
def temporary_folder(tmp_path, monkeypatch):
    """What the suite calls temporary is a folder of the test run, which is in memory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.mark.usefixtures("temporary_folder")
@pytest.mark.parametrize("name", PROPERTIES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_oracle_satisfies_the_contract_suite(strategy, name):
    check_oracle(maker_of(strategy), name)


def test_the_suite_is_a_program(tmp_path):
    """As users start it, with two of the properties."""
    properties = ["wire_changes_nothing", "too_many_failures_end_the_search"]
    completed = subprocess.run(
        [sys.executable, "-m", "keras_nas_plugin.testing", target_of("random"), *properties],
        capture_output=True,
        text=True,
        timeout=280,
        cwd=tmp_path,
    )
    assert completed.returncode == 0, completed.stderr
    checked = [json.loads(line) for line in completed.stdout.splitlines()]
    assert checked == [{"property": name, "error": None} for name in properties]
