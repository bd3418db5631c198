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
        # Conditions that hold at present: values by decision; and under which of them
        # decisions were declared.
        self._conditions: dict[str, tuple[Any, ...]] = {}
        self._declared: dict[str, list[frozenset]] = {}

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

    def decide(self, choice: ValueChoice, place: str, *, here: bool = False) -> None:
        """Declare a value choice, unless it is known wherever the present conditions hold.

        Args:
            choice: The choice.
            place: Where it stands.
            here: Whether to declare it again all the same, for conditions on it.
        """
        path, present = choice.path(place), frozenset(self._conditions.items())
        known = any(earlier <= present for earlier in self._declared.get(path, ()))
        self.choose(path, choice.domain, choice.default, place, known=known and not here)

    def choose(
        self, path: str, domain: Domain, default: Any, place: str = "", *, known: bool = False
    ) -> None:
        """Declare one decision.

        Args:
            path: Its name.
            domain: Its values.
            default: Its value in the first architecture.
            place: Where it stands, if its name does not tell.
            known: Whether it was declared before for these conditions.

        Raises:
            SearchSpaceError: The name is taken by a decision among other values.
        """
        elsewhere = self._domains.setdefault(path, domain)
        if elsewhere != domain:
            raise SearchSpaceError(
                f"the decision {path!r} at {place or path!r} needs the values that it has "
                f"elsewhere, {elsewhere}; received {domain}"
            )
        self._chosen.append((path, domain))
        if known or path in self._conditions:
            return  # a condition on a decision begins after it was declared
        self._declared.setdefault(path, []).append(frozenset(self._conditions.items()))
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
        """Declare what follows only for some values of an earlier decision.

        Raises:
            SearchSpaceError: What this stands in depends on the same decision already.
        """
        if path in self._conditions:
            raise SearchSpaceError(
                f"the node at {self._open[-1]!r} depends on {path!r}, as does what it stands in; "
                "needs one condition on a decision, for example two `When` side by side"
            )
        self._conditions[path] = tuple(values)
        try:
            with self.hyperparameters.conditional_scope(path, list(values)):
                yield
        finally:
            del self._conditions[path]

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
