"""Hyperparameters of a trial that check what its model declares against the trial's values.

KerasTuner (1.4.8) keeps the first declaration of a hyperparameter and ignores later ones. A
program that declares another range for each trial, such as ``hp.Int("b", 0, 100 - a)``, would get
values that are outside the range which it has just declared.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Protocol

import keras_tuner

from keras_nas_plugin.errors import NASError
from keras_nas_plugin.space.changes import domain_key, domain_text
from keras_nas_plugin.space.hyperparameters import decision_of
from keras_nas_plugin.space.matching import read_value

if TYPE_CHECKING:
    from keras_tuner.engine.hyperparameters import HyperParameter

logger = logging.getLogger("keras_nas_plugin")


class DependentRangeError(NASError, keras_tuner.errors.FailedTrialError):
    """A trial's value is outside the range that its model declares, which fails the trial."""


class ChangedRangeError(NASError):
    """Training declares other values of a hyperparameter than the search that was resumed.

    It interrupts the trial, which counts as not run, and the search continues in the new range.

    Args:
        declared: The hyperparameter as training declares it.
    """

    def __init__(self, declared: HyperParameter) -> None:
        super().__init__(declared)
        self.declared = declared

    def __str__(self) -> str:
        return f"`{self.declared.name}` is declared with other values than those of the search"


class RangeChecks(Protocol):
    """Decides whether a range that a trial declares is a change of the search's space."""

    def is_changed(self, declared: HyperParameter, *, same: bool) -> bool:
        """Whether the search must continue in the range of a hyperparameter.

        Args:
            declared: The hyperparameter as the trial declares it.
            same: Whether the search has the same range.
        """


class UnconfirmedRanges:
    """The hyperparameters of a resumed search that its program has not declared yet.

    Args:
        names: Their names; one that a trial has declared is removed.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = set(names)

    def is_changed(self, declared: HyperParameter, *, same: bool) -> bool:
        """See `RangeChecks`; only the first declaration of a name decides."""
        if declared.name not in self.names:
            return False
        self.names.discard(declared.name)
        return not same


class CheckedHyperParameters(keras_tuner.HyperParameters):
    """The hyperparameters of one trial, each checked when the model declares it.

    A name that a model declares twice must have a valid value in its first declaration only,
    because KerasTuner has always ignored the second one.

    Attributes:
        exempt: Names that may have values which the model does not declare, because the user has
            replaced their range by the oracle's argument ``hyperparameters``.
        warned: Names whose range differs from that of the search; shared by all trials.
        ranges: Recognizes ranges that were changed before the search was resumed; shared by all
            trials.
        redeclared: Names that this trial has declared with another range than the search.
    """

    exempt: Collection[str]
    warned: set[str]
    ranges: RangeChecks

    def __init__(self) -> None:
        super().__init__()
        self.exempt, self.warned, self.ranges = (), set(), UnconfirmedRanges()
        self.redeclared: set[str] = set()
        # Names that this trial has declared with the range that the search knows.
        self._agreed: set[str] = set()

    @classmethod
    def of(
        cls,
        hyperparameters: keras_tuner.HyperParameters,
        *,
        exempt: Collection[str],
        warned: set[str],
        ranges: RangeChecks,
    ) -> CheckedHyperParameters:
        """A copy of the hyperparameters of a trial.

        Args:
            hyperparameters: The hyperparameters with the values of the trial.
            exempt: See the class.
            warned: See the class; it may be changed.
            ranges: See the class.
        """
        checked: CheckedHyperParameters = cls.from_config(hyperparameters.get_config())
        checked.exempt, checked.warned, checked.ranges = exempt, warned, ranges
        return checked

    def _retrieve(self, hp: Any) -> Any:
        """Return the value of a hyperparameter that the model declares, as KerasTuner does.

        Raises:
            DependentRangeError: The trial's value is not in the declared range.
            ChangedRangeError: The range was changed since the search was run last.
        """
        value = super()._retrieve(hp)
        if value is not None and hp.name not in self.exempt:
            self._check(hp, value)
        return value

    def _check(self, declared: Any, value: Any) -> None:
        item = next(
            item for item in self._hps[declared.name] if item.conditions == declared.conditions
        )
        name = declared.name
        # Almost always equal, so that the domains need not be compared.
        same = item.get_config() == declared.get_config()
        same = same or domain_key(item) == domain_key(declared)
        if self.ranges.is_changed(declared, same=same):
            raise ChangedRangeError(declared)
        if same:
            self._agreed.add(name)
            return
        self.redeclared.add(name)
        texts = domain_text(declared), domain_text(item)
        valid = read_value(value, decision_of(declared).domain) is not None
        if not valid and name not in self._agreed:
            raise DependentRangeError(
                f"`{name}` must be one of the values that the model declares for it, {texts[0]}; "
                f"got {value!r}, since the search knows the first declaration only, {texts[1]}. "
                f"{_advice(name)}"
            )
        if name not in self.warned:
            self.warned.add(name)
            logger.warning(
                "`%s` is declared with other values than at first: %s, not %s. The search "
                "proposes the latter. %s",
                name,
                *texts,
                _advice(name),
            )


def _advice(name: str) -> str:
    return (
        "Declare the same values in every trial, and write a limit that depends on other "
        f"hyperparameters as a fraction: `int(limit * hp.Float('{name}_fraction', 0, 1))`."
    )
