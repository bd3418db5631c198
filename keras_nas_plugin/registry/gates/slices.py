"""No class may get much worse, whatever the average says."""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_nas_plugin.registry.gates.base import Evidence, Finding, PromotionError
from keras_nas_plugin.registry.metrics import accuracy, labels_of


@dataclasses.dataclass(frozen=True)
class Classes:
    """The share of each class's rows that is classified correctly, against the champion.

    The observed shares are compared, without a test: on a class of 20 rows, one row is 5 points.

    Args:
        max_drop: By how much a share may fall, from 0 to 1.

    Raises:
        PromotionError: It is out of this range.
    """

    max_drop: float

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop <= 1:
            raise PromotionError(
                f"`max_class_drop` needs to be between 0 and 1; received {self.max_drop}"
            )

    @property
    def costs(self) -> tuple[str, ...]:
        """None."""
        return ()

    def check(self, evidence: Evidence) -> Finding:
        """See `Gate.check`."""
        labels = labels_of(evidence.y, evidence.challenger.predictions)
        if labels.ndim != 1:
            raise PromotionError(
                f"`max_class_drop` needs one label per row; received shape {labels.shape}"
            )
        if evidence.champion is None:
            return Finding("classes", True, "no champion to compare with")
        right = accuracy(evidence.y, evidence.challenger.predictions)
        before = accuracy(evidence.y, evidence.champion.predictions)
        numbers = {}
        for label in np.unique(labels):
            rows = labels == label
            now, then = float(right[rows].mean()), float(before[rows].mean())
            numbers[str(label)] = {
                "rows": int(rows.sum()),
                "challenger": now,
                "champion": then,
                "drop": then - now,
                # A share is a ratio of counts: its rounding must not decide.
                "kept": then - now <= self.max_drop + 1e-12,
            }
        worst = max(numbers, key=lambda label: numbers[label]["drop"])
        broken = sum(not entry["kept"] for entry in numbers.values())
        found, passed = numbers[worst], broken == 0
        message = (
            f"{broken or 'none'} of {len(numbers)} classes worse by more than {self.max_drop:g}; "
            f"the worst is {worst}, from {found['champion']:.6g} to {found['challenger']:.6g} of "
            f"{found['rows']} rows"
        )
        return Finding("classes", passed, message, {"max_drop": self.max_drop, "by": numbers})
