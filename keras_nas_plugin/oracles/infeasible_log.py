"""The log of candidates that a screen rejected before they became trials.

For each rejected candidate, a line is appended and flushed before ``oracle.json`` counts it. A
process that is killed in between leaves a line that is not counted; it is removed on resume, and
the same candidate is proposed and rejected again.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from keras_nas_plugin.errors import SearchSpaceError, StateError
from keras_nas_plugin.evaluation.constraints import Constraint, broken_by
from keras_nas_plugin.files import write_atomic
from keras_nas_plugin.oracles.screening import Screening
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.space.spec import Values
from keras_nas_plugin.strategies.base import Observation

logger = logging.getLogger("keras_nas_plugin")

# Ids of rejected candidates among the observations of a strategy.
_ID_PREFIX = "infeasible-"
# Number of consecutive rejections between two log messages.
_LOG_EVERY = 500


class InfeasibleCandidate(TypedDict):
    """One line of the log.

    Attributes:
        values: The candidate.
        violation: See `Screening`.
        broken: See `Screening`.
        metrics: See `Screening`.
        ended: Number of trials that had ended: the candidate's position among the
            observations of the strategy.
        reason: Why it is infeasible, for people.
    """

    values: Values
    violation: float
    broken: dict[str, float]
    metrics: dict[str, float]
    ended: int
    reason: NotRequired[str | None]


class InfeasibleLog:
    """Rejected candidates: counts in memory, the candidates themselves in a file.

    The cost per candidate does not depend on how many were rejected before.

    Args:
        limit: Number of consecutive rejections after which the search ends; None for no limit.

    Raises:
        SearchSpaceError: ``limit`` is below 1.
    """

    def __init__(self, limit: int | None) -> None:
        if limit is not None and limit < 1:
            raise SearchSpaceError(
                f"`max_consecutive_infeasible` must be at least 1, or None; got {limit}"
            )
        self.limit = limit
        #: Number of rejected candidates.
        self.count = 0
        #: Number of candidates rejected since the last trial.
        self.consecutive = 0
        #: Number of candidates by violated constraint; one that violates two counts twice.
        self.by_constraint: collections.Counter[str] = collections.Counter()
        #: The smallest violation since the last trial, and its description.
        self.nearest: tuple[float, str] | None = None
        # Size in bytes of the counted lines of the file.
        self._bytes = 0

    @property
    def limit_reached(self) -> bool:
        """Whether ``limit`` consecutive candidates were rejected."""
        return self.limit is not None and self.consecutive >= self.limit

    def append(
        self, project: Path | None, values: Values, screening: Screening, ended: int
    ) -> Observation:
        """Append a rejected candidate to the log and count it.

        Args:
            project: Folder of the search; None writes no file.
            values: The candidate.
            screening: Why it was rejected.
            ended: Number of trials that have ended.

        Returns:
            The observation for the strategy.

        Raises:
            OSError: The file cannot be written; then the candidate is not counted.
        """
        violation = float(screening.violation)
        candidate: InfeasibleCandidate = {
            "values": values,
            "violation": violation,
            "broken": dict(screening.broken),
            "metrics": dict(screening.metrics),
            "ended": ended,
            "reason": screening.message,
        }
        if project is not None:
            self._write(project, json.dumps(candidate) + "\n")
        observation = Observation(self._id(self.count), values, None, violation)
        self.count += 1
        self.consecutive += 1
        self.by_constraint.update([*screening.broken] or ["other"])
        # Not `violation < ...`: a NaN violation must replace the nearest one too.
        if self.nearest is None or not violation >= self.nearest[0]:
            self.nearest = violation, screening.message or f"violation {violation:.4g}"
        if self.consecutive % _LOG_EVERY == 0:
            logger.info("%s", self._summary())
        return observation

    @staticmethod
    def _id(number: int) -> str:
        return f"{_ID_PREFIX}{number}"

    def _write(self, project: Path, line: str) -> None:
        project.mkdir(parents=True, exist_ok=True)
        with open(ProjectLayout(project).infeasible_log, "ab") as file:
            # A full disk may have left a partial line.
            file.truncate(self._bytes)
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
            self._bytes += len(line.encode())

    def reset_consecutive(self) -> None:
        """Reset the number of consecutive rejections, after a feasible candidate."""
        self.consecutive, self.nearest = 0, None

    def stop_reason(self) -> str:
        """Why the search ends: the violated constraints and the nearest candidate."""
        reason = self._summary()
        if self.limit is not None and self.limit_reached:
            return (
                f"{reason} `max_consecutive_infeasible` allows fewer than {self.limit:,} in a row."
            )
        return f"{reason} No other configuration of the search space is left."

    def _summary(self) -> str:
        counts = ", ".join(
            f"{name} ({count:,})" for name, count in self.by_constraint.most_common()
        )
        text = f"{self.consecutive:,} candidates in a row broke a constraint before training"
        if self.nearest is not None:
            text += f"; the nearest: {self.nearest[1]}"
        return f"{text}. Infeasible candidates so far, by constraint: {counts or 'none'}."

    # ------------------------------------------------------------------ saving and resuming

    def state(self) -> dict[str, Any]:
        """The counts, without the candidates; of constant size."""
        return {
            "count": self.count,
            "in_a_row": self.consecutive,
            "by_limit": dict(self.by_constraint),
            "nearest": None if self.nearest is None else list(self.nearest),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the counts.

        Args:
            state: Returned by `state`; empty for a search that had no log.
        """
        nearest = state.get("nearest")
        self.count, self.consecutive = state.get("count", 0), state.get("in_a_row", 0)
        self.by_constraint = collections.Counter(state.get("by_limit", {}))
        self.nearest = None if nearest is None else (nearest[0], nearest[1])

    def read(self, project: Path | None) -> list[InfeasibleCandidate]:
        """Read the counted candidates in order, and remove any lines after them.

        Args:
            project: Folder of the search; None reads nothing.

        Raises:
            StateError: The file has fewer lines than were counted.
        """
        path = None if project is None else ProjectLayout(project).infeasible_log
        content = path.read_bytes() if path is not None and path.exists() else b""
        lines = content.splitlines(keepends=True)[: self.count]
        if len(lines) < self.count or not all(line.endswith(b"\n") for line in lines):
            raise StateError(
                f"`infeasible.jsonl` must have {self.count} complete lines; got {len(lines)}. "
                "Restore the file, or start over with `overwrite=True`."
            )
        self._bytes = sum(map(len, lines))
        if path is not None and self._bytes < len(content):
            counted = b"".join(lines)

            def write(temporary: str) -> None:
                Path(temporary).write_bytes(counted)

            write_atomic(path, write)
        return [json.loads(line) for line in lines]


def rejected_observations(
    candidates: Sequence[InfeasibleCandidate],
    constraints: Sequence[Constraint],
    logged_constraints: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[int, Observation]]:
    """Observations of rejected candidates, under the constraints of the resumed search.

    A candidate that the current constraints allow becomes the observation of a failed trial with
    violation 0, and may be proposed again.

    Args:
        candidates: The logged candidates.
        constraints: The constraints of the resumed search.
        logged_constraints: The constraints under which the candidates were rejected, as
            `constraint_data` returns them.

    Yields:
        The number of trials that had ended when the candidate was rejected, and its
        observation.
    """
    changed = list(logged_constraints) != constraint_data(constraints)
    names = {constraint["name"] for constraint in logged_constraints} if changed else set()
    for number, candidate in enumerate(candidates):
        violation = candidate["violation"]
        if names & candidate["broken"].keys():
            # Only violations of constraints change, not the verdicts of a custom screen.
            violation = sum(broken_by(constraints, candidate["metrics"]).values())
        observation = Observation(f"{_ID_PREFIX}{number}", candidate["values"], None, violation)
        yield candidate["ended"], observation


def constraint_data(constraints: Iterable[Constraint]) -> list[dict[str, Any]]:
    """Constraints as JSON data."""
    return [dataclasses.asdict(constraint) for constraint in constraints]
