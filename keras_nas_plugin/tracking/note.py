"""The note that MLflow shows on a search's run, in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.tracking.leaderboard import Leaderboard
from keras_nas_plugin.tracking.payload import TAG_LIMIT, shorten, tensors_of, text_of
from keras_nas_plugin.tracking.records import (
    ARCHITECTURE,
    SearchInfo,
    TrialRecord,
    load_refusals,
)

_NAMES = 12  # hyperparameters listed by name
_VALUES = 120  # characters of a trial's values
_ERROR = 200  # characters of a failure's cause
_ARCHITECTURE = 1_500  # characters of the best architecture
_ROWS = 10  # of costs against scores


def render_note(search: SearchInfo, board: Leaderboard, *, limit: int = TAG_LIMIT) -> str:
    """Say what was searched, on what, and how it stands.

    Args:
        search: The search.
        board: Its standing.
        limit: Most characters; MLflow cuts longer notes without a word.

    Returns:
        Markdown.
    """
    blocks = [
        f"## {_inline(search.name)}",
        _standing(search, board),
        # MLflow folds a long note: first what people look for.
        _leaderboard(search, board.top),
        _refused(search),
        _searched(search),
        _datasets(search),
        _best(search, board),
        _frontier(search, board),
        _failures(board),
        _resume(search),
    ]
    return shorten("\n\n".join(block for block in blocks if block), limit)


def space_size(space: Iterable[Mapping[str, Any]]) -> int | None:
    """Number of combinations of all hyperparameters; None when a real number is among them.

    Conditions are not counted, so this is the most that there can be.
    """
    sizes = [domain_size(hyperparameter) for hyperparameter in space]
    return None if None in sizes else math.prod(sizes)


def domain_size(hyperparameter: Mapping[str, Any]) -> int | None:
    """Number of values of one hyperparameter, described as by KerasTuner; None for reals."""
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


def _standing(search: SearchInfo, board: Leaderboard) -> str:
    counts = board.counts
    total = sum(counts.values())
    of = f" of {search.max_trials:,}" if search.max_trials else ""
    parts = ", ".join(f"{number:,} {status.lower()}" for status, number in counts.items())
    goal = "highest" if search.direction == "max" else "lowest"
    device = ", ".join(
        _inline(search.environment[key])
        for key in ("device", "precision")
        if key in search.environment
    )
    text = (
        f"**{_inline(search.strategy)}** looks for the {goal} `{search.objective}`. "
        f"{total:,}{of} trials ended: {parts}. They took {_duration(board.seconds)}."
    )
    return f"{text} Trained on {device}." if device else text


def _refused(search: SearchInfo) -> str:
    refused = load_refusals(search.directory)
    if not refused.count:
        return ""
    reason = f" {_inline(shorten(refused.reason, _ERROR))}" if refused.reason else ""
    return f"**Constraints:** {_inline(refused)}{reason}"


def _searched(search: SearchInfo) -> str:
    if not search.space:
        return ""
    names = [f"`{_inline(hyperparameter.get('name', '?'))}`" for hyperparameter in search.space]
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    size = space_size(search.space)
    count = "a continuous space" if size is None else f"up to {_count(size)} architectures"
    return f"**Searched:** {count} in {len(names)} decisions: {', '.join(names[:_NAMES])}{more}."


def _datasets(search: SearchInfo) -> str:
    if not search.datasets:
        return ""
    lines = [
        f"- {_inline(d.name)} ({d.context}): {_inline(shorten(_profile(d.profile), _ERROR))}"
        for d in search.datasets
    ]
    return "**Data:**\n\n" + "\n".join(lines)


def _profile(profile: Any) -> str:
    tensors = [
        f"{name} {dtype} ({', '.join(map(str, shape))})".strip()
        for name, shape, dtype in tensors_of(profile)
    ]
    if tensors or not isinstance(profile, Mapping):
        return ", ".join(tensors)
    return ", ".join(f"{key} {text_of(value)}" for key, value in profile.items())


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


def _best(search: SearchInfo, board: Leaderboard) -> str:
    """The winner's architecture, where the space is one that can be read."""
    if board.best is None:
        return ""
    path = Path(search.directory) / f"trial_{board.best.trial_id}" / ARCHITECTURE
    if not path.exists():
        return ""
    # Imports Keras, which the command line must not wait for.
    from keras_nas_plugin.space.architecture import Architecture

    try:
        text = str(Architecture.from_json(path.read_text(encoding="utf-8")))
    except (OSError, SearchSpaceError):
        return ""
    shown = shorten(text, _ARCHITECTURE, whole_in=ARCHITECTURE)
    return f"**Best architecture (trial {board.best.trial_id}):**\n\n```\n{shown}\n```"


def _frontier(search: SearchInfo, board: Leaderboard) -> str:
    """The best score for every size, where a smaller model is worse."""
    if len(board.frontier) < 2:
        return ""
    # The largest are the best: where there are too many, the smallest are left out.
    rows = [
        f"| {_parameters(record)} | {record.score:.6g} | {record.trial_id} |"
        for record in board.frontier[-_ROWS:]
    ]
    head = [f"| Parameters | {_cell(search.objective)} | Trial |", "| ---: | ---: | :--- |"]
    return "**Cost against score:**\n\n" + "\n".join(head + rows)


def _duration(seconds: float) -> str:
    """Such as ``3 h 20 min`` or ``45 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


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
        f"- {record.trial_id}: {_inline(shorten(record.error or 'no cause given', _ERROR))}"
        for record in board.failures
    ]
    causes = ", ".join(f"{_inline(cause)} {count:,}" for cause, count in board.causes)
    return f"**Failures by cause:** {causes}. The last:\n\n" + "\n".join(lines)


def _resume(search: SearchInfo) -> str:
    if not search.resume_command:
        return ""
    command = search.resume_command
    register = ""
    if command.startswith("keras-nas search"):
        register = f"\n\n**Register the best model:**\n\n```sh\n{command} --register NAME\n```"
    return f"**Go on with this search:**\n\n```sh\n{command}\n```{register}"


def _count(number: int) -> str:
    return f"{number:,}" if number < 1e9 else f"{number:.1e}"


def _inline(text: Any) -> str:
    """Text that stays in its line."""
    return " ".join(str(text).split())


def _cell(text: str) -> str:
    """Text that stays in its cell of a table."""
    return _inline(text).replace("|", "\\|")
