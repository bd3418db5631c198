"""Candidates that are judged before they become trials, and what is kept of those refused.

A screen is a function of a candidate's hyperparameters. What breaks a limit costs no training
and no trial: the strategy is told at once and asked again. `NASTuner` installs a screen that
builds the model and looks at its costs; any other function will do::

    oracle.set_screen(lambda hp: Screening(violation=max(0, hp.get("units") - 64) / 64))
"""

from __future__ import annotations

import collections
import dataclasses
import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras_tuner

from keras_nas_plugin.errors import SearchSpaceError, StateError
from keras_nas_plugin.evaluation.constraints import Constraint, broken_by
from keras_nas_plugin.files import write_atomic
from keras_nas_plugin.space.spec import Values
from keras_nas_plugin.strategies.base import Observation

if TYPE_CHECKING:
    from keras_nas_plugin.oracles.base import NASOracle

logger = logging.getLogger("keras_nas_plugin")

#: Ids of refused candidates among the observations of a strategy.
PREFIX = "infeasible-"
_FILE = "infeasible.jsonl"
# How often a search that finds nothing feasible says so.
_SAY_EVERY = 500


@dataclasses.dataclass(frozen=True)
class Screening:
    """What a screen says of a candidate.

    Attributes:
        violation: By how much it breaks limits, relative to them and summed; 0 when it may
            be trained.
        metrics: What was found out, by metric. They become metrics of the trial, and count
            more than what training reports under the same name. Of a refused candidate they
            are kept, so that other limits can be applied when the search goes on.
        broken: Violation by name of the limit, for the account of why.
        message: Why it was refused, for people.
    """

    violation: float = 0.0
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    broken: Mapping[str, float] = dataclasses.field(default_factory=dict)
    message: str | None = None

    @property
    def feasible(self) -> bool:
        """Whether the candidate may be trained; a violation that is NaN refuses it."""
        return self.violation <= 0


#: Judges a candidate. It may build the model: hyperparameters that this adds to its argument
#: come into the search space. It must not train, and not change what it was given otherwise.
Screen = Callable[[keras_tuner.HyperParameters], Screening]


class Refusals:
    """The account of refused candidates: counts in memory, the candidates in a file.

    One line is appended per refused candidate and flushed, before ``oracle.json`` counts it.
    A process that died between the two left a line that is not counted; it is cut off, and the
    same candidate is proposed and refused again. The cost per refusal does not depend on how
    many came before.

    Args:
        limit: Refusals in a row after which a search gives up; None never does.

    Raises:
        SearchSpaceError: ``limit`` is below 1.
    """

    def __init__(self, limit: int | None) -> None:
        if limit is not None and limit < 1:
            raise SearchSpaceError(
                f"`max_consecutive_infeasible` needs at least 1 or None; received {limit}"
            )
        self.limit = limit
        #: All candidates that were refused.
        self.count = 0
        #: Those since the last trial.
        self.in_a_row = 0
        #: How many broke each limit; one that breaks two counts twice.
        self.by_limit: collections.Counter[str] = collections.Counter()
        #: The smallest violation since the last trial, and what it was.
        self.nearest: tuple[float, str] | None = None
        self._bytes = 0

    @property
    def hopeless(self) -> bool:
        """Whether so many came in a row that the search gives up."""
        return self.limit is not None and self.in_a_row >= self.limit

    def append(
        self, project: Path | None, values: Values, screening: Screening, ended: int
    ) -> Observation:
        """Write down a refused candidate and count it.

        Args:
            project: Folder of the search, or None.
            values: The candidate.
            screening: Why.
            ended: How many trials had ended: its place among the observations.

        Returns:
            What the strategy is to be told.
        """
        violation = float(screening.violation)
        line = {
            "values": values,
            "violation": violation,
            "broken": dict(screening.broken),
            "metrics": dict(screening.metrics),
            "ended": ended,
        }
        if project is not None:
            self._write(project, json.dumps(line) + "\n")
        observation = Observation(f"{PREFIX}{self.count}", values, None, violation)
        self.count += 1
        self.in_a_row += 1
        self.by_limit.update([*screening.broken] or ["other"])
        # NaN is smaller than nothing and nothing is smaller than NaN.
        if self.nearest is None or not violation >= self.nearest[0]:
            self.nearest = violation, screening.message or f"violation {violation:.4g}"
        if self.in_a_row % _SAY_EVERY == 0:
            logger.info("%s", self.reason())
        return observation

    def _write(self, project: Path, line: str) -> None:
        project.mkdir(parents=True, exist_ok=True)
        with open(project / _FILE, "ab") as file:
            # A full disk may have left half a line.
            file.truncate(self._bytes)
            file.write(line.encode())
            file.flush()
            os.fsync(file.fileno())
            self._bytes += len(line.encode())

    def trial_began(self) -> None:
        """A candidate was feasible."""
        self.in_a_row, self.nearest = 0, None

    def reason(self) -> str:
        """Why nothing feasible is found: which limits block, and how near candidates came."""
        blocking = ", ".join(f"{name} ({n:,})" for name, n in self.by_limit.most_common())
        text = f"{self.in_a_row:,} candidates in a row broke a constraint before training"
        if self.nearest is not None:
            text += f"; the nearest: {self.nearest[1]}"
        return f"{text}. Candidates refused so far, by constraint: {blocking or 'none'}."

    # ------------------------------------------------------------------ state

    def state(self) -> dict[str, Any]:
        """Everything but the candidates; its size does not depend on their number."""
        return {
            "count": self.count,
            "in_a_row": self.in_a_row,
            "by_limit": dict(self.by_limit),
            "nearest": None if self.nearest is None else list(self.nearest),
        }

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Take over what `state` returned; None is a search of an earlier version."""
        state = state or {}
        nearest = state.get("nearest")
        self.count, self.in_a_row = state.get("count", 0), state.get("in_a_row", 0)
        self.by_limit = collections.Counter(state.get("by_limit", {}))
        self.nearest = None if nearest is None else (nearest[0], nearest[1])

    def read(self, project: Path | None) -> list[dict[str, Any]]:
        """The refused candidates that count, first to last; a line too many is cut off.

        Raises:
            StateError: The file holds fewer than were counted.
        """
        path = None if project is None else project / _FILE
        content = path.read_bytes() if path is not None and path.exists() else b""
        lines = content.splitlines(keepends=True)
        known = lines[: self.count]
        if len(known) < self.count or not all(line.endswith(b"\n") for line in known):
            raise StateError(
                f"`{_FILE}` needs {self.count} lines; received {len(known)}. Restore the file, "
                "or start over with `overwrite=True`."
            )
        self._bytes = sum(map(len, known))
        if self._bytes < len(content):
            kept = b"".join(known)
            write_atomic(path, lambda name: Path(name).write_bytes(kept))
        return [json.loads(line) for line in known]


def restored(
    oracle: NASOracle, lines: Sequence[Mapping[str, Any]], limits: Sequence[Mapping[str, Any]]
) -> dict[int, list[Observation]]:
    """What a strategy is told again of refused candidates, by how many trials had ended.

    Under the oracle's present constraints: a candidate that they allow is told as one that
    failed, and may be proposed again.

    Args:
        oracle: Whose search goes on.
        lines: What was written down of each.
        limits: The constraints when they were refused.
    """
    changed = list(limits) != limits_of(oracle.constraints)
    about = {limit["name"] for limit in limits} if changed else set()
    told: dict[int, list[Observation]] = {}
    for number, line in enumerate(lines):
        violation = line["violation"]
        if about & line["broken"].keys():
            # What a screen of somebody's own refused stays as it was judged.
            violation = sum(broken_by(oracle.constraints, line["metrics"]).values())
        name = f"{PREFIX}{number}"
        if violation > 0:
            oracle.ledger.record_key(name, oracle.spec.key(line["values"]))
        one = Observation(name, line["values"], None, violation)
        told.setdefault(line["ended"], []).append(one)
    return told


def limits_of(constraints: Iterable[Constraint]) -> list[dict[str, Any]]:
    """Constraints as plain data."""
    return [dataclasses.asdict(constraint) for constraint in constraints]
