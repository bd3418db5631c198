"""Names of registered models and aliases that MLflow can store and load."""

from __future__ import annotations

import re
import urllib.parse

from keras_nas_plugin.errors import TrackingError

# MLflow's databases store this many characters of a model's name.
_NAME_LIMIT = 256
_ALIAS = re.compile(r"[\w-]{1,255}")
_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)


def check_name(name: str) -> None:
    """Check the name of a registered model.

    MLflow (3.17) also registers names that its own `models:/NAME/VERSION` addresses cannot
    express: everything after a question mark is a query there, and tabs and line breaks are
    removed.

    Args:
        name: The name.

    Raises:
        TrackingError: MLflow does not allow the name, or cannot load a model of this name.
    """
    if (
        not isinstance(name, str)
        or not name.strip()
        or not name.isprintable()
        or set("/:") & set(name)
        or name[0] == "."
        or not _is_addressable(name)
    ):
        raise TrackingError(
            "`name` must be a string that does not begin with a dot and contains no slash, colon, "
            "question mark or control character, since MLflow cannot load models of other names; "
            f"got {name!r}"
        )
    if len(name) > _NAME_LIMIT:
        raise TrackingError(
            f"`name` must have at most {_NAME_LIMIT} characters, which MLflow's databases store; "
            f"got {len(name)}"
        )


def check_alias(alias: str | None) -> None:
    """Check an alias; None is allowed.

    Args:
        alias: The alias.

    Raises:
        TrackingError: MLflow does not allow the alias.
    """
    if alias is None:
        return
    if (
        not isinstance(alias, str)
        or not _ALIAS.fullmatch(alias)
        or _RESERVED_ALIAS.fullmatch(alias)
    ):
        raise TrackingError(
            "`alias` must consist of letters, digits, '_' and '-', and not be 'latest' or a "
            f"version such as 'v1', which MLflow reserves; got {alias!r}"
        )


def _is_addressable(name: str) -> bool:
    """Whether MLflow reads the same name from the address of a version."""
    try:
        parsed = urllib.parse.urlparse(f"models:/{name}/1", allow_fragments=False)
    except ValueError:
        return False
    return parsed.path == f"/{name}/1"
