"""The contract suite on every oracle that the package exports, each in its own process."""

import concurrent.futures
import json
import os
import subprocess
import sys

import pytest

from keras_nas_plugin.oracles import STRATEGIES
from tests.integration import forkserver

_SECONDS = 280
# One that needs models to score gets some that cost nothing.
_TARGETS = {name: f"keras_nas_plugin.oracles:{name}" for name in STRATEGIES.values()}
_TARGETS["GradientProxyOracle"] = "keras_nas_plugin.testing.proxied:make"


@pytest.fixture(scope="module")
def reports(tmp_path_factory, memory_folder):
    """A future per oracle, of the process's exit code and output; they run side by side."""
    # Thousands of small files, each flushed to the disk, would wait for the disk.
    environment = {"TMPDIR": str(memory_folder)}

    def run(name, folder):
        if name == "RandomOracle":  # as its users start it
            command = [sys.executable, "-m", "keras_nas_plugin.testing", _TARGETS[name]]
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                env={**os.environ, **environment},
                cwd=folder,
            )
            return done.returncode, done.stdout, done.stderr
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
def test_an_oracle_keeps_all_contracts(reports, name):
    from keras_nas_plugin.testing import PROPERTIES

    code, out, err = reports[name].result()
    checked = [json.loads(line) for line in out.splitlines()]
    broken = [f"{one['property']}:\n{one['error']}" for one in checked if one["error"]]
    assert not broken, "\n\n".join(broken)
    assert [one["property"] for one in checked] == list(PROPERTIES), err
    assert code == 0
