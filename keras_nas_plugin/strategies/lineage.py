"""Which trials a proposal was bred from, where many children are drawn and one is taken."""

from __future__ import annotations

from collections.abc import Sequence

from keras_nas_plugin.space.spec import Values
from keras_nas_plugin.strategies.base import Observation


class Litter:
    """The children drawn for one proposal, with their parents.

    Children are told apart by identity: two of them may be equal and have other parents.
    """

    def __init__(self) -> None:
        self._born: list[tuple[Values, tuple[str, ...]]] = []

    def add(self, child: Values | None, parents: Sequence[Observation]) -> Values | None:
        """Note whose child it is; None, which no parents have, is handed through."""
        if child is not None:
            ids = dict.fromkeys(parent.trial_id for parent in parents)
            self._born.append((child, tuple(ids)))
        return child

    def parents_of(self, child: Values | None) -> tuple[str, ...]:
        """Ids of the parents, each once; none for what is not of this litter.

        >>> litter, child = Litter(), {"x": 2}
        >>> _ = litter.add(child, [Observation("07", {"x": 1}, (0.5,))])
        >>> litter.parents_of(child), litter.parents_of({"x": 2})
        (('07',), ())
        """
        return next((ids for one, ids in self._born if one is child), ())
