"""Declares the decisions of a description as hyperparameters, under their conditions."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Categorical, Domain, Integer, Real
from keras_nas_plugin.space.language.base import (
    Declaration,
    LayerKind,
    Node,
    label_of,
    layer_class,
)
from keras_nas_plugin.space.language.values import ValueChoice

if TYPE_CHECKING:
    import keras_tuner


class HyperParametersDeclaration(Declaration):
    """Declares the decisions of a description as KerasTuner hyperparameters.

    Args:
        hyperparameters: Receives the declarations. Hyperparameters that it has already keep
            their values.
    """

    def __init__(self, hyperparameters: keras_tuner.HyperParameters) -> None:
        self.hyperparameters = hyperparameters
        self._domains: dict[str, Domain] = {}
        # For each named node: its type and decisions.
        self._named: dict[str, tuple[str, list[tuple[str, Domain]]]] = {}
        # The decisions of the node that is being declared; its path and those of the nodes
        # around it.
        self._decisions: list[tuple[str, Domain]] = []
        self._open: list[str] = []
        # The conditions in force, as values by decision; and for each decision, the conditions
        # under which it was declared.
        self._conditions: dict[str, tuple[Any, ...]] = {}
        self._declared: dict[str, list[frozenset]] = {}

    def part(self, node: Node, path: str) -> None:
        """See `Declaration.part`."""
        path = node.name or path
        if path in self._open:
            raise SearchSpaceError(f"{type(node).__name__} at {path!r} contains itself")
        outer, self._decisions = self._decisions, []
        self._open.append(path)
        node.declare(self, path)
        self._open.pop()
        decisions, self._decisions = self._decisions, outer + self._decisions
        if node.name is None:
            return
        first = self._named.setdefault(path, (type(node).__name__, decisions))
        if first != (type(node).__name__, decisions):
            raise SearchSpaceError(
                f"`name` of a {type(node).__name__} must be unique, or that of a node with the "
                f"same decisions; got {path!r}, the name of a {first[0]} with the decisions "
                f"{_names(first[1])}, for a node with {_names(decisions)}"
            )

    def decide(self, choice: ValueChoice, path: str, *, repeat: bool = False) -> None:
        """See `Declaration.decide`."""
        name, current = choice.path(path), frozenset(self._conditions.items())
        declared = any(conditions <= current for conditions in self._declared.get(name, ()))
        self._declare(name, choice.domain, choice.default, path, only_note=declared and not repeat)

    def choose(self, path: str, domain: Domain, default: object) -> None:
        """See `Declaration.choose`."""
        self._declare(path, domain, default, path)

    def _declare(
        self, name: str, domain: Domain, default: object, path: str, *, only_note: bool = False
    ) -> None:
        """Record a decision of the current node and declare its hyperparameter.

        Args:
            name: Name of the decision.
            domain: The values that it may take.
            default: Its value in the first architecture.
            path: Path of the node or argument that it decides.
            only_note: Whether to record it only, because its hyperparameter is declared already
                for these conditions.
        """
        elsewhere = self._domains.setdefault(name, domain)
        if elsewhere != domain:
            raise SearchSpaceError(
                f"the decision {name!r} at {path!r} must have the values that it has elsewhere, "
                f"{elsewhere}; got {domain}"
            )
        self._decisions.append((name, domain))
        if only_note or name in self._conditions:
            return  # a condition on a decision implies that it is declared
        self._declared.setdefault(name, []).append(frozenset(self._conditions.items()))
        hp = self.hyperparameters
        if isinstance(domain, Categorical) and all(isinstance(c, bool) for c in domain.choices):
            # KerasTuner turns booleans in a Choice into 0 and 1.
            hp.Boolean(name, default=default)
        elif isinstance(domain, Categorical):
            hp.Choice(name, list(domain.choices), default=default, ordered=domain.ordered)
        elif isinstance(domain, Integer | Real):
            declare = hp.Int if isinstance(domain, Integer) else hp.Float
            declare(
                name,
                domain.low,
                domain.high,
                step=domain.step,
                sampling=domain.sampling,
                default=default,
            )
        else:
            raise SearchSpaceError(
                f"the domain of {name!r} must be Categorical, Integer or Real; "
                f"got a {type(domain).__name__}"
            )

    @contextlib.contextmanager
    def when(self, path: str, values: Sequence[object]) -> Iterator[None]:
        """See `Declaration.when`."""
        if path in self._conditions:
            raise SearchSpaceError(
                f"the node at {self._open[-1]!r} must not depend on {path!r}, because a node "
                "around it does already: use one condition for each decision, for example two "
                "`When` side by side"
            )
        self._conditions[path] = tuple(values)
        try:
            with self.hyperparameters.conditional_scope(path, list(values)):
                yield
        finally:
            del self._conditions[path]

    def check_layer(self, kind: LayerKind, arguments: Mapping[str, object], path: str) -> None:
        """See `Declaration.check_layer`."""
        factory = layer_class(kind, path)
        try:
            signature = inspect.signature(factory)
        except (TypeError, ValueError):
            return  # some builtins have no signature
        try:
            signature.bind(**arguments)
        except TypeError as error:
            raise SearchSpaceError(
                f"{label_of(kind)} at {path!r} must have arguments that it takes: {error}; "
                f"got {sorted(arguments)}"
            ) from None


def _names(decisions: list[tuple[str, Domain]]) -> list[str]:
    return [name for name, _ in decisions]
