"""What was decided about a challenger, with every number, in a form that lasts."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_nas_plugin.registry import aliases
from keras_nas_plugin.registry.gates.base import Finding

if TYPE_CHECKING:
    from mlflow import MlflowClient

_FOLDER = "promotion"
# The gates that say why, where nobody else does.
_REASONS = ("thresholds", "comparison")
# What stands in tags of the version, so that a list of versions shows it.
_TAGGED = ("metric", "method", "challenger", "improvement", "min_improvement", "p_value", "alpha")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of `promote`.

    Attributes:
        name: The registered model.
        version: The challenger's version.
        champion: The version it was compared with; None where there was none.
        passed: Whether every gate let it pass.
        promoted: Whether it is champion now; False in a dry run.
        finished_earlier: Whether this call only finished a promotion that was interrupted.
        findings: What each gate found, in order.
        data: Name, digest and shapes of the held-out data.
        costs: What both models cost, by role.
        by: Who asked.
        at: When, in ISO 8601, UTC.
        why: The reason that was given.
    """

    name: str
    version: str
    champion: str | None
    passed: bool
    promoted: bool = False
    finished_earlier: bool = False
    findings: tuple[Finding, ...]
    data: Mapping[str, Any]
    costs: Mapping[str, Mapping[str, float]]
    by: str
    at: str
    why: str

    @property
    def refused_by(self) -> tuple[str, ...]:
        """Names of the gates that refused."""
        return tuple(finding.name for finding in self.findings if not finding.passed)

    def finding(self, name: str) -> Finding | None:
        """What the gate of this name found; None where it was not asked."""
        return next((finding for finding in self.findings if finding.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """As JSON knows it: what is not a number becomes None."""
        return _plain(dataclasses.asdict(self))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Verdict:
        """The reverse of `to_dict`."""
        findings = tuple(Finding(**finding) for finding in data["findings"])
        return cls(**{**data, "findings": findings})

    def tags(self) -> dict[str, str]:
        """Tags of the challenger's version."""
        comparison = self.finding("comparison")
        numbers = comparison.numbers if comparison else {}
        refusals = [f"{f.name}: {f.message}" for f in self.findings if not f.passed]
        tags = {
            "verdict": aliases.PASSED if self.passed else aliases.REFUSED,
            "by": self.by,
            "at": self.at,
            "why": self.why or "; ".join(f.message for f in self.findings if f.name in _REASONS),
            "refused_because": "; ".join(refusals),
            "compared_with": self.champion or "",
            # What `rollback` goes by.
            "previous": (self.champion or "") if self.passed else "",
            "data": f"{self.data['name']} {self.data['digest']}",
            **{name: str(numbers[name]) for name in _TAGGED if name in numbers},
        }
        return {aliases.PROMOTION + key: value for key, value in tags.items() if value}


def store(client: MlflowClient, verdict: Verdict) -> None:
    """Write a verdict to the run of the challenger's version and to the version's tags.

    Tags of an earlier verdict that this one does not have are deleted.
    """
    version = client.get_model_version(verdict.name, verdict.version)
    tags = verdict.tags()
    if version.run_id:  # a version that was registered without a run has tags alone
        moment = verdict.at.replace(":", "").replace("-", "")
        content = verdict.to_dict()
        for later in ("promoted", "finished_earlier"):  # nothing has moved yet
            del content[later]
        path = f"{_FOLDER}/{verdict.name}-{verdict.version}-{moment}.json"
        client.log_text(version.run_id, json.dumps(content, indent=2), path)
        tags[aliases.ARTIFACT] = path
    stale = [key for key in version.tags if key.startswith(aliases.PROMOTION) and key not in tags]
    for key in stale:
        client.delete_model_version_tag(verdict.name, verdict.version, key)
    # The verdict itself last: it is what a later call goes by.
    tags[aliases.VERDICT] = tags.pop(aliases.VERDICT)
    aliases.set_tags(client, verdict.name, verdict.version, tags)


def load(client: MlflowClient, name: str, version: str) -> Verdict:
    """The verdict that `store` wrote; what the tags know of it where it has no file."""
    found = client.get_model_version(name, version)
    path = found.tags.get(aliases.ARTIFACT)
    if path:
        with tempfile.TemporaryDirectory() as folder:
            file = client.download_artifacts(found.run_id, path, folder)
            return Verdict.from_dict(json.loads(Path(file).read_text(encoding="utf-8")))
    tag = {key.removeprefix(aliases.PROMOTION): value for key, value in found.tags.items()}
    return Verdict(
        name=name,
        version=version,
        champion=tag.get("previous"),
        passed=tag.get("verdict") == aliases.PASSED,
        findings=(),
        data={},
        costs={},
        by=tag.get("by", ""),
        at=tag.get("at", ""),
        why=tag.get("why", ""),
    )


def now() -> str:
    """The time, in ISO 8601, UTC."""
    moment = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
