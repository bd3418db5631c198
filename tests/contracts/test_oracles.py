"""The contract suite on every oracle that the package exports, each in its own process."""

import concurrent.futures
import json
import subprocess
import sys

import pytest

from keras_nas_plugin.oracles import STRATEGIES
from keras_nas_plugin.testing.stand_ins import target_of
from tests.integration import forkserver

_SECONDS = 280
_TARGETS = {name: target_of(strategy) for strategy, name in STRATEGIES.items()}


@pytest.fixture(scope="module")
def reports(tmp_path_factory, memory_folder):
    """A future per oracle, of the process's exit code and output; they run side by side."""
    # Thousands of small files are flushed, which is slow on a disk.
    environment = {"TMPDIR": str(memory_folder)}

    def run(name, folder):
        child = forkserver.fork_server().run(
            "keras_nas_plugin.testing.__main__:main",
            cwd=folder,
            timeout=_SECONDS,
            environment=environment,
            arguments=[_TARGETS[name]],
        )
        return child.returncode, child.out, child.err

    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        yield {
            name: pool.submit(run, name, tmp_path_factory.mktemp(name))
            for name in STRATEGIES.values()
        }


@pytest.mark.parametrize("name", STRATEGIES.values())
def test_every_oracle_satisfies_the_contract_suite(reports, name):
    from keras_nas_plugin.testing import PROPERTIES

    code, out, err = reports[name].result()
    checked = [json.loads(line) for line in out.splitlines()]
    broken = [f"{check['property']}:\n{check['error']}" for check in checked if check["error"]]
    assert not broken, "\n\n".join(broken)
    assert [check["property"] for check in checked] == list(PROPERTIES), err
    assert code == 0


def test_the_suite_is_a_program(tmp_path):
    """As users start it, with two of the properties."""
    properties = ["wire_changes_nothing", "too_many_failures_end_the_search"]
    completed = subprocess.run(
        [sys.executable, "-m", "keras_nas_plugin.testing", _TARGETS["RandomOracle"], *properties],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        cwd=tmp_path,
    )
    assert completed.returncode == 0, completed.stderr
    checked = [json.loads(line) for line in completed.stdout.splitlines()]
    assert checked == [{"property": name, "error": None} for name in properties]
