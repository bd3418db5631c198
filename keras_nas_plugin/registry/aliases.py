"""The aliases `champion` and `challenger`, and the tags that record why they were moved.

Moving `champion` and deleting `challenger` are two calls, and MLflow has no transactions. So the
order is: tags on the challenger's version (who, when, why, and which version was champion; the
verdict last), then `champion`, then the deletion of `challenger`. A process that dies
leaves one of two states:

- before `champion` was moved, only tags have changed, and the next call judges again;
- afterwards, both aliases point to one version whose tags say that it passed, and the next call
  deletes `challenger`.
"""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.registry.gates.base import PromotionError
from keras_nas_plugin.tracking.formatting import shorten
from keras_nas_plugin.tracking.mlflow.client import public_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"
#: Tags of a judged version: the verdict of `promote`, and its details as JSON.
VERDICT, DETAILS = "nas.promotion.verdict", "nas.promotion"
PASSED, REFUSED = "passed", "refused"
# Earlier releases wrote a tag for each detail.
_PREFIX = f"{DETAILS}."
# Longest text among the details; all of them must fit into a tag.
_TEXT = 700


@dataclasses.dataclass(frozen=True)
class Aliases:
    """The versions that the two aliases point to; None for an alias that is not set."""

    champion: str | None
    challenger: str | None


def read_aliases(client: MlflowClient, name: str) -> Aliases:
    """The versions that the aliases of a registered model point to.

    Args:
        client: A client of the registry.
        name: The registered model.

    Raises:
        PromotionError: There is no model of this name.
    """
    from mlflow.exceptions import MlflowException

    try:
        by_alias = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise PromotionError(
            f"`name` must be a registered model; got {name!r}, which does not exist at "
            f"'{public_uri(client.tracking_uri)}'. `keras-nas register NAME` creates one; "
            "`--tracking-uri` selects another store."
        ) from error
    versions = [by_alias.get(alias) for alias in (CHAMPION, CHALLENGER)]
    return Aliases(*(None if version is None else str(version) for version in versions))


def challenger_of(name: str, current: Aliases) -> str:
    """The version to judge.

    Args:
        name: The registered model.
        current: Its aliases.

    Raises:
        PromotionError: No version has the alias `challenger`.
    """
    if current.challenger is None:
        raise PromotionError(
            f"`name` must be a model with the alias {CHALLENGER!r}; got {name!r}, which has none. "
            "`keras-nas register NAME` sets it, on a version that has not been judged yet."
        )
    return current.challenger


def tags_of(client: MlflowClient, name: str, version: str) -> dict[str, str]:
    """Tags of a version."""
    return dict(client.get_model_version(name, version).tags)


def details_of(tags: Mapping[str, str]) -> dict[str, Any]:
    """Details of the promotion of a version, from its tags.

    Returns:
        ``by``, ``at``, ``why``, ``previous`` (the champion that a rollback restores) and so on;
        empty for a version that was not judged. Tags of earlier releases are read, too.
    """
    separate = {
        key.removeprefix(_PREFIX): value
        for key, value in tags.items()
        if key.startswith(_PREFIX) and key != VERDICT
    }
    return {**separate, **json.loads(tags.get(DETAILS, "{}"))}


def set_details(client: MlflowClient, name: str, version: str, details: Mapping[str, Any]) -> None:
    """Replace the details of the promotion of a version; long texts are shortened visibly."""
    text = json.dumps(_shortened(details), ensure_ascii=False)
    client.set_model_version_tag(name, version, DETAILS, text)
    for key in tags_of(client, name, version):
        if key.startswith(_PREFIX) and key != VERDICT:
            client.delete_model_version_tag(name, version, key)


def _shortened(details: Mapping[str, Any]) -> dict[str, Any]:
    shortened: dict[str, Any] = {}
    for key, value in details.items():
        if isinstance(value, Mapping):
            value = _shortened(value)
        shortened[key] = shorten(value, _TEXT) if isinstance(value, str) else value
    return shortened


def move(client: MlflowClient, name: str, challenger: str, *, before: Aliases) -> None:
    """Make the challenger champion, in two calls.

    Args:
        client: A client of the registry.
        name: The registered model.
        challenger: Its version with the alias `challenger`.
        before: The aliases on which the decision is based.

    Raises:
        PromotionError: An alias was moved since ``before`` was read.
    """
    now = read_aliases(client, name)
    if now != before:
        raise PromotionError(
            f"the aliases of {name!r} must not change while a promotion is judged; got {before} "
            f"before and {now} now. Nothing was moved; run the promotion again."
        )
    client.set_registered_model_alias(name, CHAMPION, challenger)
    end_challenge(client, name, challenger)


def end_challenge(client: MlflowClient, name: str, version: str) -> None:
    """Delete the alias `challenger`, unless it now points to a different version."""
    if read_aliases(client, name).challenger == version:
        client.delete_registered_model_alias(name, CHALLENGER)


def interrupted_promotion(client: MlflowClient, name: str, aliases: Aliases) -> str | None:
    """The version whose promotion was interrupted between the two calls, or None."""
    version = aliases.challenger
    if version is None or version != aliases.champion:
        return None
    return version if tags_of(client, name, version).get(VERDICT) == PASSED else None


def this_user() -> str:
    """User and host name of this process, such as ``ada@server``."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container without an entry for this user
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"
