"""Restore the previous champion."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from keras_nas_plugin.registry import aliases, verdict
from keras_nas_plugin.registry.aliases import CHAMPION, Aliases
from keras_nas_plugin.registry.card_updates import rollback_section, update_cards
from keras_nas_plugin.registry.gates.base import PromotionError
from keras_nas_plugin.tracking.mlflow.client import bounded_requests, connect, resolve_uri
from keras_nas_plugin.tracking.mlflow.errors import tracking_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclasses.dataclass(frozen=True)
class Rollback:
    """A rollback, or what it would do.

    Attributes:
        name: The registered model.
        left: The version that was champion before.
        champion: The version that is champion now, or would be after a dry run.
        by: The user who requested the rollback.
        at: Time of the request, in ISO 8601, UTC.
        why: The reason given by that user.
        dry_run: Whether nothing was written.
    """

    name: str
    left: str
    champion: str
    by: str
    at: str
    why: str
    dry_run: bool = False


def rollback(
    name: str,
    *,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
    why: str = "",
    by: str | None = None,
    dry_run: bool = False,
) -> Rollback:
    """Point the alias `champion` back to the version that had it before the last promotion.

    The version that loses the alias does not become challenger, so the next promotion does not
    make it champion again. A second rollback undoes the promotion before the last one.

    Args:
        name: The registered model.
        tracking_uri: MLflow's tracking URI; None for MLflow's own setting.
        registry_uri: MLflow's registry URI; None for the tracking URI.
        why: The reason, stored with the version.
        by: The user who requests it; None for the current user and host.
        dry_run: Whether to write nothing, and only return what would be done.

    Returns:
        The versions before and after.

    Raises:
        PromotionError: There is no such model, no champion, or no previous champion.
        TrackingError: The store does not answer, or rejects the request.
    """
    tracking_uri = resolve_uri(tracking_uri)
    client = connect(tracking_uri, registry_uri)
    with tracking_errors(f"rolling back `{name}`", tracking_uri), bounded_requests():
        current = aliases.read_aliases(client, name)
        champion = _champion(name, current)
        outcome = Rollback(
            name=name,
            left=champion,
            champion=_previous(client, name, champion),
            by=by or aliases.this_user(),
            at=verdict.now(),
            why=why,
            dry_run=dry_run,
        )
        if dry_run:
            return outcome
        if aliases.interrupted_promotion(client, name, current):
            # Otherwise this version would remain the challenger.
            aliases.end_challenge(client, name, champion)
        details = aliases.details_of(aliases.tags_of(client, name, champion))
        steps = {"to": outcome.champion, "by": outcome.by, "at": outcome.at, "why": outcome.why}
        details["rolled_back"] = {key: value for key, value in steps.items() if value}
        aliases.set_details(client, name, champion, details)
        client.set_registered_model_alias(name, CHAMPION, outcome.champion)
        # If this version is promoted again, that promotion records the champion before it.
        del details["previous"]
        aliases.set_details(client, name, champion, details)
        section = rollback_section(outcome, details)
        update_cards(client, name, (champion, outcome.champion), section)
    return outcome


def _champion(name: str, current: Aliases) -> str:
    if current.champion is None:
        raise PromotionError(
            f"`name` must be a model with the alias {CHAMPION!r}; got {name!r}, which has none"
        )
    return current.champion


def _previous(client: MlflowClient, name: str, version: str) -> str:
    from mlflow.exceptions import MlflowException

    previous = aliases.details_of(aliases.tags_of(client, name, version)).get("previous")
    if not previous:
        raise PromotionError(
            f"`name` must be a model whose champion replaced another one; got {name!r}, and the "
            f"tags of its version {version} name no previous champion. To make any version "
            f"champion: `MlflowClient.set_registered_model_alias({name!r}, {CHAMPION!r}, VERSION)`"
        )
    try:
        client.get_model_version(name, previous)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise PromotionError(
            f"`name` must be a model whose previous champion still exists; version {previous} of "
            f"{name!r} was deleted"
        ) from error
    return previous
