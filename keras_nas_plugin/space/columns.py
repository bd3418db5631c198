"""One decision of a search space as a column of numbers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Domain, Integer, Real

#: Code of a value that is not in the domain of an unordered column. No valid value has it.
UNKNOWN = -1.0

# Ordered domains with more values than this are encoded as if they were continuous.
_MAX_LISTED = 1024


class Column:
    """Encodes the values of one decision, at least two, as numbers called codes.

    The code of a value is its index in an unordered domain and its position in [0, 1] in an
    ordered one. An ordered domain with more than 1024 values is treated as continuous, so that
    every position in [0, 1] is a code.

    Args:
        name: The decision's name; several columns may have the same name.
        domain: The decision's values.
        conditional: Whether the decision may be inactive.
    """

    def __init__(self, name: str, domain: Domain, conditional: bool) -> None:
        self.name = name
        self.domain = domain
        self.conditional = conditional
        self.ordered = domain.ordered
        listed = domain.size is not None and (not domain.ordered or domain.size <= _MAX_LISTED)
        #: All values in order; empty if there are too many to list.
        self.listed: tuple[Any, ...] = tuple(domain.values()) if listed else ()
        #: All values in order, or None if there are too many to list.
        self.values: tuple[Any, ...] | None = self.listed if listed else None
        self._codes: np.ndarray = np.arange(len(self.listed)).astype(float)
        self._even = listed
        if listed and self.ordered:
            self._codes = np.array([min(max(domain.position(v), 0.0), 1.0) for v in self.listed])
            middles = (np.arange(len(self.listed)) + 0.5) / len(self.listed)
            self._even = bool(np.allclose(self._codes, middles, rtol=0.0, atol=1e-9))
        # The listed values, if their ranges of positions differ in length (logarithmic scales).
        self._numbers: np.ndarray = np.array([] if self._even else self.listed)
        self._edges: np.ndarray = (self._codes[1:] + self._codes[:-1]) / 2.0

    def __repr__(self) -> str:
        return f"Column({self.name!r}, {self.domain}, conditional={self.conditional})"

    def code(self, value: object) -> float | None:
        """The code of a value; None if the domain does not contain it.

        A number outside the range of a numeric domain is clipped to the range.
        """
        if self.domain.contains(value):
            if not self.ordered:
                return float(self._index(value))
            return self._canonical(self.domain.position(value))
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if isinstance(self.domain, Integer | Real) and math.isfinite(value):
            nearest: Any = min(max(value, self.domain.low), self.domain.high)
            return self._canonical(self.domain.position(nearest))
        return None

    def _index(self, value: object) -> int:
        equal = [index for index, listed in enumerate(self.listed) if listed == value]
        return next((i for i in equal if type(self.listed[i]) is type(value)), equal[0])

    def _canonical(self, position: float) -> float:
        if self.values is not None:
            return float(self._codes[self.indices(np.array([position]))[0]])
        return min(max(position, 0.0), 1.0)

    def value(self, code: float) -> Any:
        """The value of a code.

        Raises:
            SearchSpaceError: No value has this code.
        """
        if not 0.0 <= code <= (1.0 if self.ordered else len(self.listed) - 1.0):
            raise SearchSpaceError(f"a code of {self} must be that of a value; got {code}")
        if self.values is not None:
            return self.values[int(self.indices(np.array([code]))[0])]
        return self.domain.at(min(float(code), math.nextafter(1.0, 0.0)))

    def indices(self, codes: np.ndarray) -> np.ndarray:
        """Index of each code's value among `values`.

        Args:
            codes: Shape ``[n]``, codes of values of this column.

        Returns:
            Integers of shape ``[n]``.
        """
        if not self.ordered:
            return codes.astype(np.intp)
        return np.searchsorted(self._edges, codes, side="right")

    def near(self, positions: np.ndarray) -> np.ndarray:
        """Codes of the listed values nearest to positions of an ordered column.

        Args:
            positions: Shape ``[n]``, in [0, 1].

        Returns:
            Codes of shape ``[n]``.
        """
        return self._codes[self.indices(positions)]

    def at(self, positions: np.ndarray) -> np.ndarray:
        """Codes of the values at these positions: `Domain.at` for many positions at once.

        Args:
            positions: Shape ``[n]``, in [0, 1).

        Returns:
            Codes of shape ``[n]``. Uniformly distributed positions give codes that follow the
            distribution of the domain.
        """
        if self.values is None:
            return positions.copy()
        if self._even:
            return self._codes[(positions * len(self.values)).astype(np.intp)]
        return self._codes[np.searchsorted(self._numbers, self.domain.at_many(positions))]

    def beside(self, codes: np.ndarray, up: np.ndarray) -> np.ndarray:
        """Codes of the adjacent values in a listed ordered column; at an end, the inner neighbour.

        Args:
            codes: Shape ``[n]``, codes of values of this column.
            up: Booleans of shape ``[n]``: True for the next larger value, False for the next
                smaller one.

        Returns:
            Codes of shape ``[n]``.
        """
        index = self.indices(codes)
        target = index + np.where(up, 1, -1)
        inside = (target >= 0) & (target < len(self.listed))
        return self._codes[np.where(inside, target, 2 * index - target)]
