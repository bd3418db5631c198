"""The aliases `champion` and `challenger`, and the tags that say how they came where they are.

Moving `champion` and deleting `challenger` are two calls, and MLflow knows no transaction. So
the order is: tags on the challenger's version (who, when, why, and which version was champion),
then `champion`, then the end of `challenger`. A process that dies leaves one of two states:

- before `champion` moved, nothing has changed but tags, and the next call judges again;
- after it, both aliases are on one version whose tags say that it passed, and the next call
  deletes `challenger`.
"""

from __future__ import annotations

import dataclasses
import getpass
import os
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.registry.gates.base import PromotionError
from keras_nas_plugin.tracking.connection import public_uri
from keras_nas_plugin.tracking.payload import TAG_LIMIT, shorten, text_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION, CHALLENGER = "champion", "challenger"
#: Tags of a version: what `promote` decided about it, and what `rollback` did to it.
PROMOTION, ROLLBACK = "nas.promotion.", "nas.rollback."
PREVIOUS, VERDICT, ARTIFACT = (PROMOTION + name for name in ("previous", "verdict", "artifact"))
PASSED, REFUSED = "passed", "refused"


@dataclasses.dataclass(frozen=True)
class Aliases:
    """Which versions have the two aliases; None where none has."""

    champion: str | None
    challenger: str | None


def read_aliases(client: MlflowClient, name: str) -> Aliases:
    """Where the aliases are.

    Raises:
        PromotionError: There is no model of this name.
    """
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise PromotionError(
            f"`name` needs a registered model; received {name!r}, which is not at "
            f"'{public_uri(client.tracking_uri)}'. `keras-nas register NAME` makes one, "
            "`--tracking-uri` looks elsewhere."
        ) from error
    versions = [found.get(alias) for alias in (CHAMPION, CHALLENGER)]
    return Aliases(*(None if version is None else str(version) for version in versions))


def tags_of(client: MlflowClient, name: str, version: str) -> dict[str, str]:
    """Tags of a version."""
    return dict(client.get_model_version(name, version).tags)


def set_tags(client: MlflowClient, name: str, version: str, tags: Mapping[str, Any]) -> None:
    """Set tags of a version, shortened visibly where MLflow would cut them."""
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, shorten(text_of(value), TAG_LIMIT))


def move(client: MlflowClient, name: str, *, before: Aliases) -> None:
    """Make the challenger champion, in two calls.

    Raises:
        PromotionError: Somebody moved an alias since ``before``.
    """
    now = read_aliases(client, name)
    if now != before:
        raise PromotionError(
            f"the aliases of {name!r} need to stay where they are while a promotion is judged; "
            f"received {before} before and {now} now. Nothing was moved; judge again."
        )
    client.set_registered_model_alias(name, CHAMPION, before.challenger)
    end_challenge(client, name, before.challenger)


def end_challenge(client: MlflowClient, name: str, version: str) -> None:
    """Delete the alias `challenger`, unless it is on another version by now."""
    if read_aliases(client, name).challenger == version:
        client.delete_registered_model_alias(name, CHALLENGER)


def was_interrupted(client: MlflowClient, name: str, aliases: Aliases) -> bool:
    """Whether a promotion moved `champion` and died before it deleted `challenger`."""
    version = aliases.challenger
    if version is None or version != aliases.champion:
        return False
    return tags_of(client, name, version).get(VERDICT) == PASSED


def this_user() -> str:
    """Who is running this: user and machine."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container without an entry for its user
        user = str(os.getuid()) if hasattr(os, "getuid") else "unknown"
    return f"{user}@{socket.gethostname()}"
