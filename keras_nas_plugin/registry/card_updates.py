"""Updates of a version's model card after an alias moved: how to load it, and its promotion."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.registry import aliases
from keras_nas_plugin.registry.card import DESCRIPTION_LIMIT, LOADING, loading_section
from keras_nas_plugin.tracking.formatting import inline

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from keras_nas_plugin.registry.champion_rollback import Rollback
    from keras_nas_plugin.registry.verdict import Verdict

logger = logging.getLogger("keras_nas_plugin")

_PROMOTION = "Promotion"
# Maximum number of characters of the finding of a gate.
_MAX_FINDING = 300


def update_cards(
    client: MlflowClient,
    name: str,
    versions: tuple[str | None, ...],
    promotion: str | None = None,
) -> None:
    """Update the descriptions of versions whose aliases moved.

    Only the sections on loading and on the promotion are replaced, because people edit
    descriptions. An error becomes a warning: a promotion does not depend on its description.

    Args:
        client: A client of the registry.
        name: The registered model.
        versions: The versions; None is skipped.
        promotion: The section on the promotion of the first of them; None leaves it as it is.
    """
    for index, version in enumerate(versions):
        if version is None:
            continue
        try:
            _update(client, name, version, promotion if index == 0 else None)
        except Exception as error:  # stores raise whatever their library raises
            logger.warning(
                "The description of version %s of `%s` was not updated: %s", version, name, error
            )


def _update(client: MlflowClient, name: str, version: str, promotion: str | None) -> None:
    stored = client.get_model_version(name, version)
    if not stored.description or f"\n## {LOADING}\n" not in stored.description:
        return  # not a card of this package
    alias = next(iter(sorted(stored.aliases)), None)
    text = _with_section(stored.description, LOADING, loading_section(name, alias, version))
    if promotion is not None:
        with_promotion = _with_section(text, _PROMOTION, promotion)
        text = with_promotion if len(with_promotion) <= DESCRIPTION_LIMIT else text
    if len(text) <= DESCRIPTION_LIMIT and text != stored.description:
        client.update_model_version(name, version, description=text)


def promotion_section(verdict: Verdict) -> str:
    """The section of a card on the verdict about its version."""
    outcome = "Promoted to" if verdict.passed else "Refused as"
    against = f"version {verdict.champion}" if verdict.champion else "no champion"
    lines = [
        f"{outcome} {aliases.CHAMPION} on {verdict.at} by {inline(verdict.by)}, compared with "
        f"{against} on {inline(str(verdict.data.get('name', 'held-out data')))}.",
    ]
    if verdict.why:
        lines.append(f"Reason given: {inline(verdict.why)}")
    lines.append("")
    for finding in verdict.findings:
        mark = "passed" if finding.passed else "refused"
        lines.append(f"- {finding.name}, {mark}: {inline(finding.message)[:_MAX_FINDING]}")
    return f"## {_PROMOTION}\n\n" + "\n".join(lines).strip()


def rollback_section(rollback: Rollback, promoted: Mapping[str, Any]) -> str:
    """The section of a card on the rollback away from its version.

    Args:
        rollback: The rollback.
        promoted: Details of the promotion; see `aliases.details_of`.
    """
    text = (
        f"Promoted to {aliases.CHAMPION} on {promoted.get('at', 'an unknown date')}, and rolled "
        f"back to version {rollback.champion} on {rollback.at} by {inline(rollback.by)}."
    )
    if rollback.why:
        text += f"\nReason given: {inline(rollback.why)}"
    return f"## {_PROMOTION}\n\n{text}"


def _with_section(card: str, title: str, section: str) -> str:
    """Replace the section with a title, or insert it after the section on loading."""
    head, *parts = card.split("\n## ")
    titles = [part.partition("\n")[0].strip() for part in parts]
    new = section.removeprefix("## ") + "\n"
    if title in titles:
        parts[titles.index(title)] = new
    else:
        parts.insert(titles.index(LOADING) + 1, new)
    return "\n## ".join([head, *parts]).rstrip("\n") + "\n"
