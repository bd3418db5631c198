"""Memory of worker processes: how much each uses, and whether the system ended one for it."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import psutil

from keras_nas_plugin.errors import ArgumentError

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
# Files in which Linux counts the processes that it ended when memory ran out: of this process's
# control group (version 2, version 1), and of the machine.
_COUNTERS = (
    Path("/sys/fs/cgroup/memory.events"),
    Path("/sys/fs/cgroup/memory/memory.oom_control"),
    Path("/proc/vmstat"),
)
# Limits of control groups with what is used of them, by version.
_LIMITS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def parse_bytes(value: int | str, name: str) -> int:
    """A number of bytes from ``2_000_000_000``, ``"2GB"`` or ``"1.5 GiB"``.

    Args:
        value: The number, or the text.
        name: The argument that it is, for the error.

    Raises:
        ArgumentError: It is no such number above 0.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", str(value))
    unit = _UNITS.get(match[2].lower()) if match and not isinstance(value, bool) else None
    if match is None or unit is None or float(match[1]) <= 0:
        raise ArgumentError(
            f"`{name}` must be a number of bytes above 0, or text such as '2GB'; got {value!r}"
        )
    return int(float(match[1]) * unit)


def used_bytes(pid: int) -> int | None:
    """Memory that a process uses alone: pages of files that it maps do not count.

    Args:
        pid: Id of the process.

    Returns:
        Bytes; None if the process has ended or cannot be read.
    """
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return None
    return int(memory.rss) - int(getattr(memory, "shared", 0))


def available_bytes() -> int:
    """Memory that further processes may use, also in a container with a limit."""
    available = [int(psutil.virtual_memory().available)]
    for limit, usage in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such version, or "max"
            available.append(int(limit.read_text()) - int(usage.read_text()))
    return max(min(available), 0)


def kernel_kills() -> int:
    """How many processes the system has ended because memory ran out; 0 where it does not say."""
    count = 0
    for path in _COUNTERS:
        with contextlib.suppress(OSError):
            count += sum(int(n) for n in re.findall(r"^oom_kill (\d+)$", path.read_text(), re.M))
    return count


def volunteer() -> None:
    """Let Linux end this process, and not its driver, when memory runs out."""
    with contextlib.suppress(OSError):  # another system, or it is not allowed
        Path("/proc/self/oom_score_adj").write_text("500")
