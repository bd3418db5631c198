"""Back to the champion before."""

from __future__ import annotations

import dataclasses

from keras_nas_plugin.registry import aliases, verdict
from keras_nas_plugin.registry.aliases import CHAMPION, PREVIOUS, ROLLBACK
from keras_nas_plugin.registry.gates.base import PromotionError
from keras_nas_plugin.tracking.connection import bounded_requests, connect, resolve_uri
from keras_nas_plugin.tracking.failures import explained


@dataclasses.dataclass(frozen=True)
class Rollback:
    """What `rollback` did, or would do.

    Attributes:
        name: The registered model.
        left: The version that was champion.
        champion: The version that is champion now; in a dry run, that would be.
        by: Who asked.
        at: When, in ISO 8601, UTC.
        why: The reason that was given.
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
    """Give the alias `champion` back to the version that had it before the last promotion.

    The version that loses it gets no alias, so that it does not become champion again by the
    next promotion. Rolling back twice goes back two promotions.

    Args:
        name: The registered model.
        tracking_uri: Where runs are kept; None for MLflow's own setting.
        registry_uri: Where models are registered; None for the same place.
        why: The reason, for those who look later.
        by: Who rolls back; None for this user.
        dry_run: Say what would be done only.

    Raises:
        PromotionError: There is no such model, no champion, or none before it.
        TrackingError: The store does not answer, or refuses.
    """
    tracking_uri = resolve_uri(tracking_uri)
    client = connect(tracking_uri, registry_uri)
    with explained(f"rolling back `{name}`", tracking_uri), bounded_requests():
        found = aliases.read_aliases(client, name)
        done = Rollback(
            name=name,
            left=_champion(name, found.champion),
            champion=_previous(client, name, found.champion),
            by=by or aliases.this_user(),
            at=verdict.now(),
            why=why,
            dry_run=dry_run,
        )
        if dry_run:
            return done
        if aliases.was_interrupted(client, name, found):
            # Else the version that is left would still be the challenger.
            aliases.end_challenge(client, name, found.champion)
        tags = {"to": done.champion, "by": done.by, "at": done.at, "why": done.why}
        tags = {ROLLBACK + key: value for key, value in tags.items() if value}
        aliases.set_tags(client, name, done.left, tags)
        client.set_registered_model_alias(name, CHAMPION, done.champion)
        # Should this version be champion again, it will be told anew which one was before it.
        client.delete_model_version_tag(name, done.left, PREVIOUS)
    return done


def _champion(name: str, version: str | None) -> str:
    if version is None:
        raise PromotionError(
            f"`name` needs a model with the alias {CHAMPION!r}; received {name!r}, which has none"
        )
    return version


def _previous(client: aliases.MlflowClient, name: str, version: str) -> str:
    from mlflow.exceptions import MlflowException

    previous = aliases.tags_of(client, name, version).get(PREVIOUS)
    if not previous:
        raise PromotionError(
            f"`name` needs a champion that replaced another one; received {name!r}, whose version "
            f"{version} did not, as far as its tags say. Any version becomes champion by "
            f"`MlflowClient.set_registered_model_alias({name!r}, {CHAMPION!r}, VERSION)`."
        )
    try:
        client.get_model_version(name, previous)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise PromotionError(
            f"`name` needs a previous champion that still exists; version {previous} of {name!r} "
            "was deleted"
        ) from error
    return previous
