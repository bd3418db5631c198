"""The decision about a challenger, with every number, and how it is stored."""

from __future__ import annotations

import dataclasses
import datetime
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.files import json_value
from keras_nas_plugin.html import html_summary, html_table
from keras_nas_plugin.registry import aliases
from keras_nas_plugin.registry.gates.base import Finding

if TYPE_CHECKING:
    from mlflow import MlflowClient

_FOLDER = "promotion"
# Gates whose messages become the reason if the user gave none.
_REASONS = ("thresholds", "comparison")
# Numbers that become tags of the version, so that a list of versions shows them.
_TAGGED = ("metric", "method", "challenger", "improvement", "min_improvement", "p_value", "alpha")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of `promote`.

    Attributes:
        name: The registered model.
        version: The challenger's version.
        champion: The version that it was compared with, or None.
        passed: Whether it passed every gate.
        promoted: Whether it is champion now; False in a dry run.
        finished_earlier: Whether this call only completed a promotion that was interrupted.
        findings: The findings of the gates, in order.
        data: Name, digest and shapes of the held-out data.
        costs: Costs of both models, by role.
        by: The user who requested it.
        at: Time of the request, in ISO 8601, UTC.
        why: The reason given by that user.
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
        """The finding of the gate with this name; None if it was not checked."""
        return next((finding for finding in self.findings if finding.name == name), None)

    def _repr_html_(self) -> str:
        """The verdict in a notebook, with the finding of each gate."""
        outcome = "passed" if self.passed else "refused"
        if self.promoted:
            outcome = "promoted to champion"
        facts = {"champion before": self.champion, "by": self.by, "at": self.at, "why": self.why}
        rows = [
            (finding.name, "passed" if finding.passed else "refused", finding.message)
            for finding in self.findings
        ]
        table = html_table(("gate", "outcome", "finding"), rows)
        return html_summary(f"{self.name} version {self.version}: {outcome}", facts, table)

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON types; NaN and infinities become None."""
        return json_value(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Verdict:
        """Create a verdict from the output of `to_dict`."""
        findings = tuple(Finding(**finding) for finding in data["findings"])
        return cls(**{**data, "findings": findings})

    def details(self) -> dict[str, Any]:
        """Details for the tag of the challenger's version; see `aliases.details_of`."""
        comparison = self.finding("comparison")
        numbers = comparison.numbers if comparison else {}
        refusals = [f"{f.name}: {f.message}" for f in self.findings if not f.passed]
        details = {
            "by": self.by,
            "at": self.at,
            "why": self.why or "; ".join(f.message for f in self.findings if f.name in _REASONS),
            "refused_because": "; ".join(refusals),
            "compared_with": self.champion or "",
            # Read by `rollback`.
            "previous": (self.champion or "") if self.passed else "",
            "data": f"{self.data['name']} {self.data['digest']}",
            **{name: json_value(numbers[name]) for name in _TAGGED if name in numbers},
        }
        return {key: value for key, value in details.items() if value not in ("", None)}


def store(client: MlflowClient, verdict: Verdict) -> None:
    """Write a verdict to the run of the challenger's version and to the version's tags."""
    version = client.get_model_version(verdict.name, verdict.version)
    details = verdict.details()
    if version.run_id:  # a version that was registered without a run has tags only
        moment = verdict.at.replace(":", "").replace("-", "")
        content = verdict.to_dict()
        for outcome in ("promoted", "finished_earlier"):  # no alias has moved yet
            del content[outcome]
        path = f"{_FOLDER}/{verdict.name}-{verdict.version}-{moment}.json"
        client.log_text(version.run_id, json.dumps(content, indent=2), path)
        details["artifact"] = path
    aliases.set_details(client, verdict.name, verdict.version, details)
    # The verdict last: a later call relies on it.
    outcome = aliases.PASSED if verdict.passed else aliases.REFUSED
    client.set_model_version_tag(verdict.name, verdict.version, aliases.VERDICT, outcome)


def load(client: MlflowClient, name: str, version: str) -> Verdict:
    """Load the verdict that `store` wrote.

    A version without a run has no file; its verdict contains only what the tags hold.
    """
    stored = client.get_model_version(name, version)
    details = aliases.details_of(stored.tags)
    path = details.get("artifact")
    if path:
        with tempfile.TemporaryDirectory() as folder:
            file = client.download_artifacts(stored.run_id, path, folder)
            return Verdict.from_dict(json.loads(Path(file).read_text(encoding="utf-8")))
    return Verdict(
        name=name,
        version=version,
        champion=details.get("previous"),
        passed=stored.tags.get(aliases.VERDICT) == aliases.PASSED,
        findings=(),
        data={},
        costs={},
        by=details.get("by", ""),
        at=details.get("at", ""),
        why=details.get("why", ""),
    )


def now() -> str:
    """The current time in ISO 8601, UTC."""
    moment = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    return moment.replace("+00:00", "Z")
