"""Trials that go on with the training of another: how far, from where, and what it was worth."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_nas_plugin.evaluation.results import usable
from keras_nas_plugin.project import last_epoch_file
from keras_nas_plugin.space.fidelity import Fidelity, fidelity_of
from keras_nas_plugin.tracking.records import TrialRecord

logger = logging.getLogger("keras_nas_plugin")

_EPOCHS = 3  # position of `epochs` among the arguments of `model.fit`

#: Epochs with their numbers, from 0, and what Keras logged.
Epochs = list[tuple[int, Mapping[str, float]]]


def full_training(oracle: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> int | None:
    """Tell a multi-fidelity oracle of this package that its epochs are honoured.

    Args:
        oracle: The oracle of a search.
        args: Positional arguments of `search`.
        kwargs: Keyword arguments of `search`.

    Returns:
        Epochs of a full training; None for any other oracle.
    """
    train_in_rungs = getattr(oracle, "train_in_rungs", None)
    if train_in_rungs is None:
        return None
    return train_in_rungs(args[_EPOCHS] if len(args) > _EPOCHS else kwargs.get("epochs"))


@dataclasses.dataclass(frozen=True)
class Continuation:
    """The training that a promoted trial goes on with.

    Attributes:
        states: Per execution, the file with the state after its last epoch.
        epochs: Per execution, all epochs so far.
        checkpoint: The weights of the best epoch so far.
    """

    states: tuple[Path, ...]
    epochs: tuple[Epochs, ...]
    checkpoint: Path

    def best(self, objective: Any) -> tuple[float, Path] | None:
        """The best value of the objective over all executions, and its weights.

        None without one, also of an objective of which training decides nothing (None).
        """
        if objective is None:
            return None
        values = [
            float(objective.get_value(logs))
            for execution in self.epochs
            for _, logs in execution
            if usable(logs, objective)
        ]
        pick = max if objective.direction == "max" else min
        return (pick(values), self.checkpoint) if values else None

    def whole(self, result: Any, execution: int) -> Any:
        """What `fit` returned, with the earlier epochs where it is a Keras `History`.

        So the best epoch of the whole training counts, as if it had been one.
        """
        history = getattr(result, "history", None)
        if not isinstance(history, Mapping):
            return result
        earlier = self.epochs[execution]
        names = dict.fromkeys([*(name for _, logs in earlier for name in logs), *history])
        missing = [math.nan] * len(result.epoch)
        result.history = {
            name: [logs.get(name, math.nan) for _, logs in earlier] + history.get(name, missing)
            for name in names
        }
        result.epoch = [number for number, _ in earlier] + list(result.epoch)
        return result


def continuation_of(fidelity: Fidelity, tuner: Any) -> Continuation | None:
    """What a trial goes on with; None for one that begins at its first epoch.

    A promoted trial begins there, too, when something that it needs is gone, for example
    because the search was over and is extended now: that takes longer, nothing else.

    Args:
        fidelity: How far the trial is to be trained.
        tuner: The `keras_tuner.Tuner` that trains it.
    """
    if fidelity.parent is None:
        return None
    executions, folder = tuner.executions_per_trial, tuner.get_trial_dir(fidelity.parent)
    states = tuple(last_epoch_file(folder, number) for number in range(executions))
    checkpoint = Path(tuner._get_checkpoint_fname(fidelity.parent))
    gone = [path for path in (*states, checkpoint) if not path.exists()]
    epochs = _epochs(fidelity.parent, tuner.get_trial_dir, executions)
    if gone or epochs is None:
        logger.warning(
            "Trial %s cannot be trained further, because %s is missing: its configuration is "
            "trained from the first epoch on.",
            fidelity.parent,
            gone[0] if gone else f"the record of its epochs in {folder}",
        )
        return None
    return Continuation(states, epochs, checkpoint)


def _epochs(
    trial_id: str, folder_of: Callable[[str], str], executions: int
) -> tuple[Epochs, ...] | None:
    """All epochs up to the end of a trial, those of the trials before it included."""
    record = TrialRecord.load(folder_of(trial_id))
    if record is None or len(record.curves) != executions:
        return None
    own = [list(enumerate(curve, start=record.first_epoch)) for curve in record.curves]
    fidelity = fidelity_of(record.values)
    if fidelity is None or fidelity.parent is None or record.first_epoch == 0:
        return tuple(own)
    earlier = _epochs(fidelity.parent, folder_of, executions)
    return earlier and tuple([*a, *b] for a, b in zip(earlier, own, strict=True))


def fit_arguments(
    args: Sequence[Any], kwargs: Mapping[str, Any], *, first_epoch: int, epochs: int
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same arguments of `fit`, with these epochs in place of the given ones.

    >>> fit_arguments(("x", "y", 32, 9), {}, first_epoch=1, epochs=3)
    (('x', 'y', 32, 3), {'initial_epoch': 1})
    """
    kwargs = {**kwargs, "initial_epoch": first_epoch}
    if len(args) > _EPOCHS:
        return (*args[:_EPOCHS], epochs, *args[_EPOCHS + 1 :]), kwargs
    return tuple(args), {**kwargs, "epochs": epochs}
