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
