"""Trials of a search that do not count any more, because the program was changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Exclusions:
    """Trials that stay on record, but are not ranked, not learned from and not counted.

    Attributes:
        space: Reason by id of each trial that is not a configuration of the present space.
        epochs: Reason by id of each trial that was trained for another number of epochs.
    """

    space: Mapping[str, str] = dataclasses.field(default_factory=dict)
    epochs: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __contains__(self, trial_id: object) -> bool:
        return trial_id in self.space or trial_id in self.epochs

    def __len__(self) -> int:
        return len(self.space.keys() | self.epochs.keys())

    @property
    def reasons(self) -> dict[str, str]:
        """The reason by trial id."""
        return {**self.epochs, **self.space}

    def to_dict(self) -> dict[str, Any]:
        """As JSON data that lists the ids by reason; empty if every trial counts.

        >>> Exclusions(epochs={"0": "trained for 2 epochs", "1": "trained for 2 epochs"}).to_dict()
        {'epochs': {'trained for 2 epochs': ['0', '1']}}
        """
        saved: dict[str, dict[str, list[str]]] = {}
        for field in dataclasses.fields(self):
            for trial_id, reason in getattr(self, field.name).items():
                saved.setdefault(field.name, {}).setdefault(reason, []).append(trial_id)
        return saved

    @classmethod
    def from_dict(cls, saved: Mapping[str, Mapping[str, Iterable[str]]]) -> Exclusions:
        """The exclusions that `to_dict` returned.

        >>> Exclusions.from_dict({"epochs": {"trained for 2 epochs": ["0"]}}).reasons
        {'0': 'trained for 2 epochs'}
        """
        return cls(
            **{
                name: {trial_id: reason for reason, ids in reasons.items() for trial_id in ids}
                for name, reasons in saved.items()
            }
        )
