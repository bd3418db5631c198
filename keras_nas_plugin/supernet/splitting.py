"""Which decision a supernet is split by into sub-supernets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_nas_plugin.supernet.supernet import Supernet

#: Sub-supernets of a split, at most: each of them is trained.
MOST_PARTS = 8


def split_decision(supernet: Supernet) -> str | None:
    """The decision whose options become one sub-supernet each.

    It is the one with the most options, at most `MOST_PARTS`, among the decisions that every
    architecture makes; the first in the order of the space wins a tie. Widths and kernel sizes,
    whose options are parts of one layer, are split only if there are no others.

    Source: Zhao et al. 2021, "Few-shot Neural Architecture Search", section 3.2, which splits
    the operations of one edge of a cell into sub-supernets. There, all edges have equally many
    operations.

    Args:
        supernet: The supernet.

    Returns:
        Its name; None if there is no such decision.
    """
    decisions = supernet.spec.decisions
    names = [decision.name for decision in decisions]
    sizes = {
        decision.name: len(supernet.layout.options[decision.name])
        for decision in decisions
        if decision.name in supernet.layout.options
        and not decision.conditions
        and names.count(decision.name) == 1
    }
    candidates = [name for name, size in sizes.items() if 2 <= size <= MOST_PARTS]
    own = [name for name in candidates if name not in supernet.sliced]
    return max(own or candidates, key=lambda name: sizes[name], default=None)
