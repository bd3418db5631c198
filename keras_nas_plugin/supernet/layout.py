"""The mask of a supernet: one weight for each option of each decision, as a flat vector."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.domains import Categorical
from keras_nas_plugin.space.matching import read_value


@dataclasses.dataclass(frozen=True)
class MaskLayout:
    """Where the options of each decision are in a mask.

    A mask is a vector of shape ``[size]``: the weights of the options of the first decision, in
    the order of its values, then those of the second decision, and so on. A single architecture
    has a one-hot vector for each active decision, and zeros for the others. Any other weights
    describe a mixture, as the continuous relaxation of DARTS (Liu et al. 2019, equation 2) does.

    Attributes:
        options: Values of each decision, by name, in the order of the mask.
    """

    options: Mapping[str, tuple[Any, ...]]

    @functools.cached_property
    def _offsets(self) -> dict[str, int]:
        sizes = [len(options) for options in self.options.values()]
        starts = [0, *itertools.accumulate(sizes)]
        return dict(zip(self.options, starts, strict=False))

    @functools.cached_property
    def size(self) -> int:
        """Length of a mask."""
        return sum(map(len, self.options.values()))

    def slice(self, name: str) -> slice:
        """Where the weights of a decision are in a mask."""
        start = self._offsets[name]
        return slice(start, start + len(self.options[name]))

    def index(self, name: str, value: object) -> int:
        """Index of a value among the options of a decision.

        Raises:
            SearchSpaceError: It is not one of them.
        """
        options = self.options[name]
        if value not in options:
            # A float that passed through KerasTuner's chief has the precision of float32.
            option = read_value(value, Categorical(options))
            if option is None:
                raise SearchSpaceError(
                    f"`values[{name!r}]` must be one of {list(options)}; got {value!r}"
                )
            value = option
        return options.index(value)

    def encode(self, values: Mapping[str, Any]) -> np.ndarray:
        """The mask of one architecture.

        Args:
            values: Values of the active decisions, by name. Other names are ignored.

        Returns:
            Shape ``[size]``, float32.

        Raises:
            SearchSpaceError: A value is not an option.

        >>> layout = MaskLayout({"operation": ("conv", "skip"), "width": (8, 16)})
        >>> layout.encode({"operation": "skip", "width": 8}).tolist()
        [0.0, 1.0, 1.0, 0.0]
        """
        mask = np.zeros(self.size, "float32")
        for name in self.options:
            if name in values:
                mask[self._offsets[name] + self.index(name, values[name])] = 1.0
        return mask

    def uniform(self) -> np.ndarray:
        """The mixture in which all options of a decision have the same weight.

        Returns:
            Shape ``[size]``, float32.
        """
        return np.concatenate(
            [np.full(len(options), 1.0 / len(options)) for options in self.options.values()]
            or [np.zeros(0)]
        ).astype("float32")

    def strongest(self, mask: np.ndarray) -> dict[str, Any]:
        """The option with the largest weight of each decision, active or not.

        Args:
            mask: Shape ``[size]``.
        """
        return {
            name: options[int(np.argmax(mask[self.slice(name)]))]
            for name, options in self.options.items()
        }

    def combinations(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """All combinations of values of several decisions; the last decision varies fastest."""
        options = (self.options[name] for name in names)
        return [dict(zip(names, values, strict=True)) for values in itertools.product(*options)]
