"""Where a trial trained, and how long it and its worker waited."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Placement:
    """The process that trained a trial.

    Attributes:
        worker: Name of the worker among those of the search; a process that searches alone has
            the name that KerasTuner gives it, ``"tuner0"``.
        pid: Id of the process; None if it is not known.
        node: Host name of its machine; None if it is not known.
        device: The GPU or processor; None if it is not known.
        queue_seconds: Seconds from the moment at which the oracle handed the trial out until its
            training began.
        idle_seconds: Seconds for which the worker trained nothing before this trial: since its
            last one ended, or since the search started or was resumed.
    """

    worker: str = ""
    pid: int | None = None
    node: str | None = None
    device: str | None = None
    queue_seconds: float = 0.0
    idle_seconds: float = 0.0

    def __str__(self) -> str:
        """The process and its machine.

        >>> print(Placement(worker="worker-0", pid=31657, node="gpu-3", device="NVIDIA H200"))
        worker-0 (process 31657) on gpu-3, NVIDIA H200
        """
        process = f" (process {self.pid})" if self.pid is not None else ""
        machine = ", ".join(part for part in (self.node, self.device) if part)
        return f"{self.worker}{process} on {machine}" if machine else f"{self.worker}{process}"
