"""What a trial takes over from the trial that it was bred from."""

from __future__ import annotations

import dataclasses

from keras_nas_plugin.errors import ArgumentError

#: Value of the argument ``inherit`` of `NASTuner`.
PARENT = "parent"


@dataclasses.dataclass(frozen=True)
class Inheritance:
    """Trials start from the weights of the trial that they were bred from.

    Args:
        epochs: Epochs of a trial that starts from such weights; None for as many as `search` was
            called with.

    Raises:
        ArgumentError: ``epochs`` is not a positive integer.
    """

    epochs: int | None = None

    def __post_init__(self) -> None:
        valid = self.epochs is None or (
            isinstance(self.epochs, int) and not isinstance(self.epochs, bool) and self.epochs > 0
        )
        if not valid:
            raise ArgumentError(
                f"`epochs` must be a positive integer or None; got {self.epochs!r}"
            )

    @classmethod
    def of(cls, inherit: str | Inheritance | None) -> Inheritance | None:
        """The argument ``inherit`` of `NASTuner`.

        Raises:
            ArgumentError: It is something else.
        """
        if inherit is None or isinstance(inherit, Inheritance):
            return inherit
        if inherit == PARENT:
            return cls()
        raise ArgumentError(
            f"`inherit` must be {PARENT!r}, an `Inheritance` or None; got {inherit!r}"
        )
