"""Differences between a program and the search that it resumes, and what follows from them."""

from __future__ import annotations

import collections
import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import keras_tuner
from keras_tuner.engine.hyperparameters import HyperParameter
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import NASError, StateError
from keras_nas_plugin.oracles.base import NASOracle
from keras_nas_plugin.oracles.changes import (
    all_trials,
    exclude,
    exclusions_of,
    max_trials_of,
    release_running,
    replace_excluded,
    retry_failed,
)
from keras_nas_plugin.records.exclusions import Exclusions
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import TrialRecord, load_records
from keras_nas_plugin.space.changes import SpaceChange, compare
from keras_nas_plugin.space.fidelity import configuration
from keras_nas_plugin.space.hyperparameters import completed, spec_of
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.wording import counted_are

logger = logging.getLogger("keras_nas_plugin")

CONTINUE, ERROR = "continue", "error"
#: Values of the argument ``on_change``.
ON_CHANGE = (CONTINUE, ERROR)

# Settings that say how long a search runs, not how its trials are trained.
_NO_CHANGE = ("budget_seconds", "objectives", "seed")
# Differences that a message lists, and differences that the description of a search keeps.
_LISTED, _KEPT = 8, 50

Build = Callable[[keras_tuner.HyperParameters], object]


def check_on_change(on_change: object) -> None:
    """Check the argument ``on_change``.

    Raises:
        NASError: It is not one of `ON_CHANGE`.
    """
    if on_change not in ON_CHANGE:
        raise NASError(f"`on_change` must be one of {ON_CHANGE}; got {on_change!r}")


# ---------------------------------------------------------------------- the space


def resume(
    oracle: keras_tuner.Oracle,
    folder: Path,
    *,
    load: Callable[[], None],
    populate: Callable[[], None],
    build: Build | None,
    on_change: str,
    declares_while_training: bool,
) -> tuple[tuple[str, ...], set[str]]:
    """Load a saved search, and continue it in the space that its program declares now.

    Args:
        oracle: The oracle.
        folder: The project folder.
        load: Loads the search.
        populate: The tuner's hook that adds what the hypermodel declares to the oracle's space.
        build: The hypermodel's ``build``; None for a tuner without a hypermodel.
        on_change: ``"error"`` refuses a changed space.
        declares_while_training: Whether training may declare hyperparameters, too.

    Returns:
        One text per hyperparameter that was added, removed or changed, and the names of the
        search that training may declare, without those whose range depends on other values.

    Raises:
        StateError: The search cannot be read, or its space was changed and ``on_change`` is
            ``"error"``.
    """
    declared = _declared_space(oracle, populate)
    load()
    previous = SearchInfo.load(folder)
    if previous is not None and not isinstance(oracle, NASOracle):  # which stores them itself
        replace_excluded(oracle, previous.exclusions)
    if declared is None or build is None:
        return (), set()
    differences, unconfirmed = change_space(
        oracle,
        declared,
        build,
        on_change=on_change,
        declares_while_training=declares_while_training,
    )
    if unconfirmed:  # a range that depends on other values is different in each trial
        unconfirmed -= {name for record in load_records(folder) for name in record.redeclared}
    return differences, unconfirmed


def _declared_space(
    oracle: keras_tuner.Oracle, populate: Callable[[], None]
) -> keras_tuner.HyperParameters | None:
    """The space that a program declares, before its oracle loads that of the search.

    Args:
        oracle: The oracle; its space is changed.
        populate: The tuner's own hook, which adds what the hypermodel declares to it.

    Returns:
        The space; None if it is not known.
    """
    given: keras_tuner.HyperParameters | None = getattr(oracle, "given_hyperparameters", None)
    if given is not None:
        oracle.hyperparameters = given.copy()
    try:
        populate()
    except Exception as error:  # a hypermodel may raise anything
        logger.warning(
            "The space of the program cannot be compared with that of the search, which continues "
            "in its own space: %s",
            error,
        )
        return None
    space: keras_tuner.HyperParameters = oracle.get_space()
    # Empty if a subclass, such as AutoKeras', knows its space only when it sees the data.
    return space if space.space else None


def change_space(
    oracle: keras_tuner.Oracle,
    declared: keras_tuner.HyperParameters,
    build: Build,
    *,
    on_change: str,
    declares_while_training: bool,
) -> tuple[tuple[str, ...], set[str]]:
    """Let a resumed search continue in the space that its program declares now.

    Args:
        oracle: The oracle, which has loaded the search.
        declared: What the hypermodel declares with its default values and in all conditional
            scopes. Names that it declares for some other values only are found by building the
            models of earlier trials.
        build: The hypermodel's ``build``.
        on_change: ``"error"`` refuses a changed space.
        declares_while_training: Whether training may declare hyperparameters, too.

    Returns:
        One text per hyperparameter that was added, removed or changed, and the names of the
        search that training may declare.

    Raises:
        StateError: The space was changed, and ``on_change`` is ``"error"``.
    """
    stored = oracle.get_space()
    undecided = _declared_by_trials(build, stored, declared, all_trials(oracle).values())
    missing = {item.name for item in stored.space} - {item.name for item in declared.space}
    unconfirmed = missing if declares_while_training else set()
    differences = _change(oracle, compare(stored, declared, unconfirmed or undecided), on_change)
    return differences, unconfirmed


def change_range(
    oracle: keras_tuner.Oracle, declared: HyperParameter, *, on_change: str
) -> tuple[str, ...]:
    """Let a search continue with other values of a hyperparameter that training declares.

    Trials that were running are run again, if they count.

    Args:
        oracle: The oracle; no process runs a trial of it.
        declared: The hyperparameter as it is declared now.
        on_change: See `change_space`.

    Returns:
        The difference, as a text; empty if the search has this range already.

    Raises:
        StateError: ``on_change`` is ``"error"``.
    """
    stored = oracle.get_space()
    space = keras_tuner.HyperParameters()
    for item in stored.space:
        same = (item.name, item.conditions) == (declared.name, declared.conditions)
        space.merge([declared if same else item])
    change = compare(stored, space)
    if change.differences:
        release_running(oracle)
    return _change(oracle, change, on_change)


def _change(oracle: keras_tuner.Oracle, change: SpaceChange, on_change: str) -> tuple[str, ...]:
    """Continue in a changed space, and say so.

    Returns:
        The differences.
    """
    if not change.differences:
        return ()
    if on_change == ERROR:
        raise _refused("`hypermodel` must declare the saved space", change.differences)
    before, trials = exclusions_of(oracle), all_trials(oracle)
    reasons = {}
    for trial_id, trial in trials.items():
        reason = change.reason_against(trial.hyperparameters, counted=trial_id not in before.space)
        if reason is not None:
            reasons[trial_id] = reason
    exclude(oracle, Exclusions(reasons, before.epochs), change)
    logger.warning(
        "The search space was changed: %s. %s",
        _listed(change.differences),
        _consequence(reasons, len(trials), "in the space now"),
    )
    return change.differences


def _declared_by_trials(
    build: Build,
    stored: keras_tuner.HyperParameters,
    declared: keras_tuner.HyperParameters,
    trials: Iterable[Trial],
) -> set[str]:
    """Add what the models of earlier trials declare, if a name of the search is missing.

    At most one model is built for each missing name.

    Returns:
        Missing names whose model cannot be built, so that nothing is known about them.
    """
    names = {item.name for item in declared.space}
    missing = [item.name for item in stored.space if item.name not in names]
    undecided: set[str] = set()
    if not missing:
        return undecided
    candidates: dict[str, Trial] = {}
    for trial in sorted(trials, key=lambda trial: trial.status != TrialStatus.COMPLETED):
        hyperparameters = trial.hyperparameters
        values = spec_of(hyperparameters).restrict(hyperparameters.values)
        for name in values.keys() & set(missing):
            candidates.setdefault(name, trial)
    for name in dict.fromkeys(missing):
        trial = candidates.get(name)
        if trial is None or any(item.name == name for item in declared.space):
            continue
        values = configuration(trial.hyperparameters.values)
        hyperparameters = completed(declared, values)
        try:
            build(hyperparameters)
        except Exception as error:  # a hypermodel may reject values by any exception
            logger.debug("The model of trial %s cannot be built: %s", trial.trial_id, error)
            undecided.add(name)
        declared.merge(hyperparameters.space, overwrite=False)
    return undecided


# ---------------------------------------------------------------------- the settings


def apply_changes(
    context: SearchContext,
    previous: SearchInfo | None,
    info: SearchInfo,
    records: Sequence[TrialRecord],
) -> SearchInfo:
    """Compare a search with its state when it was run last, and say what is different.

    Trials that were trained for another number of epochs do not count any more. Those of a
    multi-fidelity search have their epochs among their values, by which they are ranked.

    Args:
        context: The search.
        previous: The search as it was; None for a new one.
        info: The search as it is now.
        records: Its trials that have ended.

    Returns:
        ``info`` with the trials that do not count, and with the changes.

    Raises:
        StateError: Something was changed, and ``on_change`` is ``"error"``.
    """
    if previous is None:
        return info
    if not context.role.owns_search:
        # The chief decides; its workers may have started before it did.
        return dataclasses.replace(
            info,
            exclusions=previous.exclusions,
            changes=previous.changes,
            unrecorded_epochs=previous.unrecorded_epochs,
        )
    differences = differences_of(previous, info)
    if differences and context.on_change == ERROR:
        raise _refused("`search` must have the settings of its last run", differences)
    unrecorded = previous.unrecorded_epochs or previous.settings.get("epochs")
    exclusions = info.exclusions if context.adapts else previous.exclusions
    reasons: Mapping[str, str] = exclusions.epochs
    if previous.exclusions.epochs or _epochs(previous) != _epochs(info):
        reasons = _other_epochs(records, _epochs(info), unrecorded)
    if reasons != exclusions.epochs:
        exclusions = Exclusions(exclusions.space, reasons)
        if context.adapts:
            exclude(context.oracle, exclusions)
    if differences:
        logger.warning(
            "The search in %s resumes with different %s, so that scores cannot be compared.%s",
            info.directory,
            _listed(differences),
            f" {_consequence(reasons, len(records), 'trained for as many epochs')}"
            if _epochs(previous) != _epochs(info)
            else " Pass the same, or start again with `overwrite=True`.",
        )
    return dataclasses.replace(
        info,
        exclusions=exclusions,
        changes=(*previous.changes, *context.space_changes, *differences)[-_KEPT:],
        unrecorded_epochs=unrecorded,
    )


def differences_of(previous: SearchInfo, current: SearchInfo) -> tuple[str, ...]:
    """What is different in the training, the data or the constraints of a search.

    Args:
        previous: The search as it was run last.
        current: The search as it is now.

    Returns:
        One text for each difference, for example ``"epochs (5 -> 10)"``.
    """
    differences = []
    datasets = [
        {dataset.context: dataset.digest for dataset in search.datasets}
        for search in (previous, current)
    ]
    contexts = dict.fromkeys([*datasets[0], *datasets[1]])
    changed_data = [name for name in contexts if datasets[0].get(name) != datasets[1].get(name)]
    if changed_data:
        differences.append(f"data ({' and '.join(changed_data)})")
    before, after = (
        {**search.settings, **_environment(search), "epochs": _epochs(search)}
        for search in (previous, current)
    )
    differences += [
        f"{name} ({before.get(name)} -> {after.get(name)})"
        for name in dict.fromkeys([*before, *after])
        if name not in _NO_CHANGE and before.get(name) != after.get(name)
    ]
    limits = [[str(limit) for limit in search.limits] for search in (previous, current)]
    if limits[0] != limits[1]:
        texts = [" and ".join(texts) or "none" for texts in limits]
        differences.append(f"constraints ({texts[0]} -> {texts[1]})")
    return tuple(differences)


def _environment(search: SearchInfo) -> dict[str, str]:
    name = "precision"
    return {name: search.environment[name]} if name in search.environment else {}


def _epochs(search: SearchInfo) -> int:
    """The epochs that `fit` is told to train to; 1 is Keras' default."""
    return int(search.settings.get("epochs") or 1)


def _other_epochs(
    records: Iterable[TrialRecord], epochs: int, unrecorded: int | None
) -> dict[str, str]:
    reasons = {}
    for record in records:
        trained = record.epochs or unrecorded
        if not record.length and trained not in (None, epochs):
            plural = "" if trained == 1 else "s"
            reasons[record.trial_id] = f"it was trained for {trained} epoch{plural}"
    return reasons


# ---------------------------------------------------------------------- messages


def _refused(problem: str, differences: Sequence[str]) -> StateError:
    return StateError(
        f"{problem} with `on_change='error'`; got these changes: {'; '.join(differences)}. Undo "
        "them, choose another `project_name`, or pass `on_change='continue'`."
    )


def _listed(differences: Sequence[str]) -> str:
    more = len(differences) - _LISTED
    return "; ".join(differences[:_LISTED]) + (f"; and {more} more" if more > 0 else "")


def _consequence(reasons: Mapping[str, str], count: int, what: str) -> str:
    """What happens to the earlier trials."""
    if not reasons:
        return f"All {count} earlier trials are {what}, and count." if count else ""
    common = collections.Counter(reasons.values()).most_common(3)
    causes = "; ".join(f"{number} because {reason}" for reason, number in common)
    return (
        f"{len(reasons)} of {count} earlier trials are not {what} ({causes}): they stay on "
        "record, but are never the best, not learned from, and not counted in `max_trials`."
    )


# ---------------------------------------------------------------------- a call of `search`


def begin_search(context: SearchContext, *, retry: bool) -> int:
    """Save a search that was changed, and queue its failed trials if the user wants that.

    Args:
        context: The search; in a worker, nothing is done.
        retry: Whether failed trials are run again.

    Returns:
        Number of trials that have ended.
    """
    oracle = context.oracle
    if not context.role.owns_search:
        return 0
    if len(exclusions_of(oracle)):
        oracle.save()
    if retry and (count := retry_failed(oracle)):
        logger.warning("%s run again.", counted_are(count, "failed trial"))
    return len(oracle.end_order)


def report_completion(context: SearchContext, ended: int) -> None:
    """Say why a search had nothing to do, if it had.

    Args:
        context: The search, whose oracle proposes no further trial.
        ended: What `begin_search` returned.
    """
    if ended and ended == len(context.oracle.end_order):
        logger.warning("%s", _completion(context.oracle))


def _completion(oracle: keras_tuner.Oracle) -> str:
    """Why there is nothing to do, and what to do about it."""
    counted = [trial for trial in oracle.end_order if trial not in exclusions_of(oracle)]
    failed = sum(oracle.trials[trial].status == TrialStatus.FAILED for trial in counted)
    limit = max_trials_of(oracle)
    at_limit = limit is not None and oracle.remaining_trials() == 0
    if at_limit and limit == 1:
        text = "The only trial is done: raise `max_trials` (`--max-trials`)"
    elif at_limit:
        text = f"{limit} of {limit} trials are done: raise `max_trials` (`--max-trials`)"
    elif len(counted) == 1:
        text = "The only trial is done, and none is left to try: change the space"
    else:
        text = f"All {len(counted)} trials are done, and none is left to try: change the space"
    text += " or start over with `overwrite=True` (`--overwrite`)."
    if failed:
        text += f" {failed} failed: `retry_failed=True` (`--retry-failed`) runs them again."
    return text
