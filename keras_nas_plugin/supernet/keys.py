"""Names of the computations of a network, equal in a supernet and in one architecture of it."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from keras_nas_plugin.space.language.base import LayerKind, label_of


class Location:
    """Where in a description the node that is being built is.

    Named nodes have the same path wherever they occur, so that they share decisions. Their
    locations differ, so that they do not share weights.
    """

    def __init__(self) -> None:
        self._open: list[tuple[str, str]] = [("", "")]

    @contextlib.contextmanager
    def entered(self, path: str, own_path: str) -> Iterator[None]:
        """While a part is built.

        Args:
            path: Its path in the node around it.
            own_path: The path that it passes to its own parts: its name, if it has one.
        """
        self._open.append((own_path, self.of(path)))
        try:
            yield
        finally:
            self._open.pop()

    def of(self, path: str) -> str:
        """The location of a path in the node that is being built."""
        outer, location = self._open[-1]
        inner = path.removeprefix(outer).removeprefix("/") if path.startswith(outer) else path
        return f"{location}/{inner}"


def layer_key(
    location: str, kind: LayerKind, fixed: Mapping[str, Any], inputs: Sequence[str]
) -> str:
    """Key of a layer.

    Args:
        location: See `Location.of`.
        kind: See `Builder.layer`.
        fixed: Its arguments that are not searched.
        inputs: Keys of its inputs.
    """
    return _digest(location, label_of(kind), sorted(fixed.items()), inputs)


def choice_key(location: str, inputs: Sequence[str]) -> str:
    """Key of the outcome of a decision, whichever option it selects.

    Args:
        location: See `Location.of`.
        inputs: Keys of the inputs of its options.
    """
    return _digest("choice", location, inputs)


def input_key(name: str) -> str:
    """Key of an input of the model."""
    return _digest("input", name)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr([*map(_plain, parts)]).encode()).hexdigest()[:32]


def _plain(part: object) -> object:
    return list(part) if isinstance(part, tuple) else part
