"""Worker processes that start in milliseconds: forked from a server that imported TensorFlow."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.integration import forkserver


class ForkedPopen:
    """`subprocess.Popen` for the command of a worker."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        pass_fds: Sequence[int],
        start_new_session: bool,
        **streams: Any,
    ) -> None:
        python, option, module, descriptor, payload = command
        assert (python, option, start_new_session) == (sys.executable, "-m", True)
        assert [int(descriptor)] == list(pass_fds)
        self._child = forkserver.fork_server().start(
            "tests.integration.forkserver:run_module",
            cwd=Path(payload).parent,
            environment={**env, "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"},
            descriptor=int(descriptor),
            module=module,
            arguments=[descriptor, payload],
        )
        self.stdout = None  # goes to a file in the folder of the payload
        while self.poll() is None and os.getpgid(self.pid) != self.pid:
            time.sleep(0.001)  # until it has a process group, which can be killed

    @property
    def pid(self) -> int:
        return self._child.pid

    def poll(self) -> int | None:
        return self._child.poll()

    def wait(self, timeout: float = 60.0) -> int:
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("a forked worker", timeout)
            time.sleep(0.005)
        return code


#: Replaces the module `subprocess` in the module that starts workers.
FORKING = types.SimpleNamespace(**{**vars(subprocess), "Popen": ForkedPopen})
