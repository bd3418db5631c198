"""From a description to hyperparameters: every option is declared, under its conditions."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Categorical, Domain, Integer, Real
from keras_nas_plugin.space.nodes import label_of

if TYPE_CHECKING:
    import keras_tuner

    from keras_nas_plugin.space.nodes import Node
    from keras_nas_plugin.space.values import ValueChoice


class Declaration:
    """Declares the decisions of a description.

    Args:
        hyperparameters: Where they are declared. Those that are known keep their values.
    """

    def __init__(self, hyperparameters: keras_tuner.HyperParameters) -> None:
        self.hyperparameters = hyperparameters
        self._domains: dict[str, Domain] = {}
        self._named: dict[str, tuple[str, list[tuple[str, Domain]]]] = {}
        self._chosen: list[tuple[str, Domain]] = []
        self._open: list[str] = []

    def part(self, node: Node, path: str) -> None:
        """Declare a node at its place, or at its own name.

        Raises:
            SearchSpaceError: A node of that name has other choices, or it contains itself.
        """
        path = node.name or path
        if path in self._open:
            raise SearchSpaceError(f"{type(node).__name__} at {path!r} contains itself")
        outer, self._chosen = self._chosen, []
        self._open.append(path)
        node.declare(self, path)
        self._open.pop()
        chosen, self._chosen = self._chosen, outer + self._chosen
        if node.name is None:
            return
        first = self._named.setdefault(path, (type(node).__name__, chosen))
        if first != (type(node).__name__, chosen):
            raise SearchSpaceError(
                f"`name` of a {type(node).__name__} needs to be its own, or that of a node with "
                f"the same choices; received {path!r}, which a {first[0]} with the choices "
                f"{_listed(first[1])} has; this one has {_listed(chosen)}"
            )

    def decide(self, choice: ValueChoice, place: str) -> None:
        """Declare a value choice that stands at ``place``."""
        self.choose(choice.path(place), choice.domain, choice.default, place)

    def choose(self, path: str, domain: Domain, default: Any, place: str = "") -> None:
        """Declare one decision.

        Args:
            path: Its name.
            domain: Its values.
            default: Its value in the first architecture.
            place: Where it stands, if its name does not tell.

        Raises:
            SearchSpaceError: The name is taken by a decision among other values.
        """
        known = self._domains.setdefault(path, domain)
        if known != domain:
            raise SearchSpaceError(
                f"the decision {path!r} at {place or path!r} needs the values that it has "
                f"elsewhere, {known}; received {domain}"
            )
        self._chosen.append((path, domain))
        hp = self.hyperparameters
        if isinstance(domain, Categorical) and all(isinstance(c, bool) for c in domain.choices):
            # KerasTuner makes 0 and 1 of booleans in a Choice.
            hp.Boolean(path, default=default)
        elif isinstance(domain, Categorical):
            choices = list(domain.choices)
            hp.Choice(path, choices, default=default, ordered=domain.ordered)
        else:
            declare = {Integer: hp.Int, Real: hp.Float}[type(domain)]
            declare(
                path,
                domain.low,
                domain.high,
                step=domain.step,
                sampling=domain.sampling,
                default=default,
            )

    @contextlib.contextmanager
    def when(self, path: str, values: Sequence[Any]) -> Iterator[None]:
        """Declare what follows only for some values of an earlier decision."""
        with self.hyperparameters.conditional_scope(path, list(values)):
            yield

    def check_layer(self, kind: str | Callable[..., Any], arguments: Mapping, path: str) -> None:
        """Refuse a layer that Keras does not have, or arguments that it does not take.

        Raises:
            SearchSpaceError: Naming the place.
        """
        factory = layer_class(kind, path)
        try:
            signature = inspect.signature(factory)
        except (TypeError, ValueError):
            return  # a builtin does not say what it takes
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise SearchSpaceError(
                f"{label_of(kind)} at {path!r} needs other arguments: {error}; "
                f"received {sorted(arguments)}"
            ) from None


def _listed(chosen: list[tuple[str, Domain]]) -> list[str]:
    return [path for path, _ in chosen]


def layer_class(kind: str | Callable[..., Any], path: str) -> Callable[..., Any]:
    """A class of `keras.layers` by its name; anything callable as it is.

    Raises:
        SearchSpaceError: Keras has no such layer.
    """
    if not isinstance(kind, str):
        return kind
    import keras

    found = getattr(keras.layers, kind, None)
    if found is None:
        raise SearchSpaceError(
            f"a Layer at {path!r} needs the name of a Keras layer; received {kind!r}"
        )
    return found
