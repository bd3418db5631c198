"""The note on a search's run: what was searched, on which data, and with what result so far."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.search import InfeasibleSummary, SearchInfo
from keras_nas_plugin.records.trial import TrialRecord
from keras_nas_plugin.tracking.formatting import (
    count_text,
    duration_text,
    inline,
    profile_text,
    shorten,
    text_of,
)
from keras_nas_plugin.tracking.summary.leaderboard import Leaderboard

#: Maximum number of characters of a note: MLflow stores it as a tag, and cuts it silently.
NOTE_LIMIT = 8_000

_NAMES = 12  # hyperparameters listed by name
_VALUES = 120  # characters of a trial's values
_ERROR = 200  # characters of a failure's cause
_ARCHITECTURE = 1_500  # characters of the best architecture
_ROWS = 10  # of the table of costs and scores


def render_note(search: SearchInfo, board: Leaderboard, *, limit: int = NOTE_LIMIT) -> str:
    """Describe a search and its results so far.

    Args:
        search: The search.
        board: Its best trials, counts and failures.
        limit: Maximum number of characters.

    Returns:
        Markdown.
    """
    blocks = [
        f"## {inline(search.name)}",
        _progress(search, board),
        # MLflow folds a long note, so the most important parts come first.
        _leaderboard(search, board.top),
        _infeasible(search),
        _space(search),
        _datasets(search),
        _best_architecture(search, board),
        _frontier(search, board),
        _failures(board),
        _commands(search, board),
    ]
    return shorten("\n\n".join(block for block in blocks if block), limit)


def space_size(space: Iterable[Mapping[str, Any]]) -> int | None:
    """Number of combinations of all hyperparameters; None if one of them is a real number.

    Conditions are ignored, so this is an upper bound.

    Args:
        space: The hyperparameters, as in `SearchInfo.space`.
    """
    product = 1
    for hyperparameter in space:
        size = domain_size(hyperparameter)
        if size is None:
            return None
        product *= size
    return product


def space_text(space: Sequence[Mapping[str, Any]], unit: str) -> str:
    """A space in one line: its size, and the names of its first hyperparameters.

    Args:
        space: The hyperparameters, as in `SearchInfo.space`.
        unit: What its elements are called, for example ``"architectures"``.
    """
    names = [f"`{inline(hyperparameter.get('name', '?'))}`" for hyperparameter in space]
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    size = space_size(space)
    count = "a continuous space" if size is None else f"up to {count_text(size)} {unit}"
    return f"{count} in {len(names)} decisions: {', '.join(names[:_NAMES])}{more}"


def domain_size(hyperparameter: Mapping[str, Any]) -> int | None:
    """Number of values of a hyperparameter in KerasTuner's description; None for real numbers."""
    kind = str(hyperparameter.get("type", hyperparameter.get("class_name", ""))).lower()
    if kind == "fixed":
        return 1
    if kind == "boolean":
        return 2
    for key in ("values", "choices"):
        if key in hyperparameter:
            return len(hyperparameter[key])
    low = hyperparameter.get("min_value", hyperparameter.get("low"))
    high = hyperparameter.get("max_value", hyperparameter.get("high"))
    step = hyperparameter.get("step")
    if low is None or high is None or (step is None and kind in ("float", "real")):
        return None
    if hyperparameter.get("sampling") in ("log", "reverse_log") and step is not None:
        return math.floor(math.log(high / low, step) + 1e-8) + 1
    return math.floor((high - low) / (step or 1) + 1e-8) + 1


def _progress(search: SearchInfo, board: Leaderboard) -> str:
    counts = board.counts
    total = sum(counts.values())
    of = f" of {search.max_trials:,}" if search.max_trials else ""
    parts = ", ".join(f"{number:,} {status.lower()}" for status, number in counts.items())
    goal = "highest" if search.direction == "max" else "lowest"
    device = ", ".join(
        inline(search.environment[key])
        for key in ("device", "precision")
        if key in search.environment
    )
    trials = "trial" if total == 1 and not of else "trials"
    took = "It took" if total == 1 else "They took"
    text = (
        f"**{inline(search.strategy)}** looks for the {goal} `{search.objective}`. "
        f"{total:,}{of} {trials} ended: {parts}. {took} {duration_text(board.seconds)}."
    )
    if excluded := len(search.exclusions):
        text += f" {excluded:,} of them do not count, because the program was changed after them."
    return f"{text} Trained on {device}." if device else text


def _infeasible(search: SearchInfo) -> str:
    summary = InfeasibleSummary.load(search.directory)
    if not summary.count:
        return ""
    reason = f" {inline(shorten(summary.reason, _ERROR))}" if summary.reason else ""
    return f"**Constraints:** {inline(summary)}{reason}"


def _space(search: SearchInfo) -> str:
    return f"**Searched:** {space_text(search.space, 'architectures')}." if search.space else ""


def _datasets(search: SearchInfo) -> str:
    if not search.datasets:
        return ""
    lines = [
        f"- {inline(dataset.name)} ({dataset.context}): {profile_text(dataset.profile, _ERROR)}"
        for dataset in search.datasets
    ]
    return "**Data:**\n\n" + "\n".join(lines)


def _leaderboard(search: SearchInfo, top: Iterable[TrialRecord]) -> str:
    rows = [
        f"| {rank} | {record.trial_id} | {record.score:.6g} | {_parameters(record)} | "
        f"{_seconds(record):.1f} | {_cell(_values(record.values))} |"
        for rank, record in enumerate(top, start=1)
    ]
    if not rows:
        return ""
    head = [
        f"| Rank | Trial | {_cell(search.objective)} | Parameters | Seconds | Values |",
        "| ---: | :--- | ---: | ---: | ---: | :--- |",
    ]
    return "\n".join(head + rows)


def _best_architecture(search: SearchInfo, board: Leaderboard) -> str:
    """The best trial's architecture, if the space describes it."""
    if board.best is None:
        return ""
    path = ProjectLayout.of(search.directory).trial(board.best.trial_id).architecture
    if not path.exists():
        return ""
    # Imports Keras, which the command line must not wait for.
    from keras_nas_plugin.space.language.architecture import Architecture

    try:
        text = str(Architecture.from_json(path.read_text(encoding="utf-8")))
    except (OSError, SearchSpaceError):
        return ""
    shown = shorten(text, _ARCHITECTURE, whole_in=path.name)
    return f"**Best architecture (trial {board.best.trial_id}):**\n\n```\n{shown}\n```"


def _frontier(search: SearchInfo, board: Leaderboard) -> str:
    """The best score for every number of parameters."""
    if len(board.frontier) < 2:
        return ""
    # The largest models are the best: of too many, the smallest are omitted.
    rows = [
        f"| {_parameters(record)} | {record.score:.6g} | {record.trial_id} |"
        for record in board.frontier[-_ROWS:]
    ]
    head = [f"| Parameters | {_cell(search.objective)} | Trial |", "| ---: | ---: | :--- |"]
    return "**Cost against score:**\n\n" + "\n".join(head + rows)


def _parameters(record: TrialRecord) -> str:
    number = record.costs.get("parameters")
    return "" if number is None else f"{number:,.0f}"


def _seconds(record: TrialRecord) -> float:
    return record.costs.get("train_seconds", record.seconds)


def _values(values: Mapping[str, Any]) -> str:
    texts = (
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={text_of(value)}"
        for name, value in values.items()
    )
    text = ", ".join(texts)
    return text if len(text) <= _VALUES else text[: _VALUES - 1] + "…"


def _failures(board: Leaderboard) -> str:
    if not board.failures:
        return ""
    lines = [
        f"- {record.trial_id}: {inline(shorten(record.error or 'no cause given', _ERROR))}"
        for record in board.failures
    ]
    causes = ", ".join(f"{inline(cause)} {count:,}" for cause, count in board.causes)
    return f"**Failures by cause:** {causes}. The last:\n\n" + "\n".join(lines)


def _commands(search: SearchInfo, board: Leaderboard) -> str:
    """The commands that continue the search, and that register its best model."""
    if not search.resume_command:
        return ""
    resume = f"**Resume this search:**\n\n```sh\n{search.resume_command}\n```"
    if not board.top:
        return resume
    folder = Path(search.directory)
    place = ["--directory", str(folder.parent), "--project-name", folder.name]
    register = shlex.join(["keras-nas", "register", "NAME", *place])
    return f"{resume}\n\n**Register the best model:**\n\n```sh\n{register}\n```"


def _cell(text: str) -> str:
    """Text that does not break out of its cell in a table."""
    return inline(text).replace("|", "\\|")
