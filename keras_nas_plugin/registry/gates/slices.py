"""Whether the challenger is much worse in any class, even if it is better on average."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_nas_plugin.registry.gates.base import Evidence, Finding, PromotionError
from keras_nas_plugin.registry.metrics import accuracy, labels_of


@dataclasses.dataclass(frozen=True)
class Classes:
    """Compares both models by the share of each class's rows that they classify correctly.

    The observed shares are compared, without a test: in a class of 20 rows, one row is 5 points.

    Args:
        max_drop: Largest allowed decrease of a share, from 0 to 1.

    Raises:
        PromotionError: ``max_drop`` is out of range.
    """

    max_drop: float

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop <= 1:
            raise PromotionError(f"`max_class_drop` must be between 0 and 1; got {self.max_drop}")

    @property
    def costs(self) -> tuple[str, ...]:
        """Empty: this gate needs no costs."""
        return ()

    def check(self, evidence: Evidence) -> Finding:
        """See `Gate.check`."""
        labels = labels_of(evidence.y, evidence.challenger.predictions)
        if labels.ndim != 1:
            raise PromotionError(
                f"`y` must have one label per row for `max_class_drop`; got labels of shape "
                f"{labels.shape}"
            )
        if evidence.champion is None:
            return Finding("classes", True, "no champion to compare with")
        challenger = accuracy(evidence.y, evidence.challenger.predictions)
        champion = accuracy(evidence.y, evidence.champion.predictions)
        by_class: dict[str, dict[str, float]] = {}
        for label in np.unique(labels):
            rows = labels == label
            after, before = float(challenger[rows].mean()), float(champion[rows].mean())
            by_class[str(label)] = {
                "rows": int(rows.sum()),
                "challenger": after,
                "champion": before,
                "drop": before - after,
                # A share is a ratio of counts: its rounding must not decide.
                "kept": before - after <= self.max_drop + 1e-12,
            }
        worst = max(by_class, key=lambda label: by_class[label]["drop"])
        worse = sum(not entry["kept"] for entry in by_class.values())
        shares = by_class[worst]
        message = (
            f"{worse or 'none'} of {len(by_class)} classes worse by more than {self.max_drop:g}; "
            f"the worst is {worst}, from {shares['champion']:.6g} to {shares['challenger']:.6g} "
            f"of {shares['rows']} rows"
        )
        numbers = {"max_drop": self.max_drop, "by": by_class}
        return Finding("classes", worse == 0, message, numbers)
