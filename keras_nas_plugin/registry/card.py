"""The model card of a version: what was searched, on what, at what cost, and what nobody knows.

Mitchell et al. 2019, "Model Cards for Model Reporting", https://arxiv.org/abs/1810.03993, with
the sections that a search can fill in by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from keras_nas_plugin.tracking.note import space_size
from keras_nas_plugin.tracking.payload import shorten, tensors_of, text_of
from keras_nas_plugin.tracking.records import FINISHED, SearchInfo, TrialRecord
from keras_nas_plugin.tracking.retraining import HELD_OUT, TEST, Retraining

CARD = "model_card.md"
#: Columns of MLflow's databases hold this many characters of a description.
DESCRIPTION_LIMIT = 5_000

_NAMES = 12
_ARCHITECTURE = 1_200
_LINE = 200
_VALUES = 400


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """What a card is about.

    Attributes:
        name: Of the registered model.
        alias: Of the version, or None.
        search: The search.
        record: The trial.
        trials: All trials of the search.
        retraining: Of this trial, or None.
        retrained: Whether the model is the retrained one.
        architecture: In words.
        input_example: Whether rows of data are stored with the model.
    """

    name: str
    alias: str | None
    search: SearchInfo
    record: TrialRecord
    trials: tuple[TrialRecord, ...]
    retraining: Retraining | None
    retrained: bool
    architecture: str
    input_example: bool


def render_card(subject: Subject) -> str:
    """The card in Markdown."""
    sections = [
        _heading(subject),
        _scores(subject),
        _limits(subject),
        _loading(subject),
        _searched(subject),
        _data(subject),
        _costs(subject),
        _architecture(subject),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _heading(subject: Subject) -> str:
    search, again = subject.search, subject.retraining
    text = (
        f"# {subject.name}\n\nTrial {subject.record.trial_id} of the search "
        f"`{_inline(search.name)}` by {search.strategy} for {search.objective} "
        f"({search.direction})"
    )
    if not subject.retrained:
        return f"{text}, with the weights of its best epoch, {subject.record.best_step + 1}."
    rows = f" ({again.rows:,} rows)" if again.rows else ""
    epochs = f" for {again.epochs} epochs" if again.epochs else ""
    return (
        f"{text}, retrained from scratch on training and validation data together{rows}{epochs} "
        f"with seed {again.kept.seed}."
    )


def _scores(subject: Subject) -> str:
    search, record, again = subject.search, subject.record, subject.retraining
    rows = [(f"searched model, validation: chosen by it ({search.objective})", record.score)]
    if again is not None and again.measured_on:
        where = {TEST: "test", HELD_OUT: "held-out validation rows"}[again.measured_on]
        if again.measured_rows:
            where += f" ({again.measured_rows:,} rows)"
        score = again.searched_scores.get(again.metric)
        rows.append((f"searched model, {where}", score))
        rows += [
            (f"retrained, seed {m.seed}, {where}", m.scores.get(again.metric))
            for m in again.models
        ]
        if again.deviation is not None:
            rows.append((f"retrained, mean of {len(again.models)} seeds", again.mean))
            rows.append(("retrained, standard deviation over seeds", again.deviation))
    metric = again.metric if again else search.objective
    table = "\n".join(f"| {what} | {_number(value)} |" for what, value in rows)
    return f"## Scores\n\n| on | {metric} |\n| :--- | ---: |\n{table}"


def _limits(subject: Subject) -> str:
    """What the scores do not say, as far as a program can know it."""
    search, again = subject.search, subject.retraining
    finished = sum(record.status == FINISHED for record in subject.trials)
    worse = "higher" if search.direction == "max" else "lower"
    lines = [
        f"The validation score is the best of {finished} trials on the rows that chose it, and "
        f"so as a rule {worse} than on new rows",
    ]
    lines += _measured_where(subject)
    if again is not None and again.deviation is None:
        lines.append("One seed: how much the score varies from training to training is not known")
    if subject.retrained and again.deviation is not None:
        lines.append("This is the first seed's model, not the best of them")
    lines += [remark.rstrip(".") for remark in (again.remarks if subject.retrained else ())]
    lines.append(
        "Nothing was measured by class or by part of the data; `keras-nas promote "
        "--max-class-drop` does that before promotion"
    )
    if not search.datasets:
        lines.append("The data were not described")
    if subject.input_example:
        lines.append("Rows of the training data are stored with the model as input example")
    return "## Limits\n\n" + "\n".join(f"- {line}." for line in lines)


def _measured_where(subject: Subject) -> list[str]:
    again = subject.retraining
    if again is None or again.measured_on is None:
        if subject.retrained:
            return [
                "The score of this retrained model is not known: there were no rows that it did "
                "not learn from. The validation score is that of the searched model"
            ]
        return ["It was not measured on rows that the search never saw"]
    if again.measured_on == TEST:
        return []
    lines = [
        "The held-out rows chose architecture and number of epochs, so both models look better "
        "on them than on new rows"
    ]
    if not subject.retrained:
        lines.append("The searched model's weights were chosen by the held-out rows as well")
    return lines


def _loading(subject: Subject) -> str:
    uri = f"models:/{subject.name}" + (f"@{subject.alias}" if subject.alias else "/VERSION")
    # The card stays as it is when the alias moves on.
    later = (
        "That is while it has the alias; after promotion it is "
        f"`models:/{subject.name}@champion`, and always `models:/{subject.name}/` with its "
        "number.\n\n"
    )
    return (
        "## Loading\n\n```python\nimport mlflow\n"
        f'mlflow.pyfunc.load_model("{uri}")      # predict(rows)\n'
        f'mlflow.tensorflow.load_model("{uri}")  # the Keras model\n```\n\n'
        f"{later if subject.alias else ''}"
        "`requirements.txt` among the version's files is all that this needs."
    )


def _searched(subject: Subject) -> str:
    search = subject.search
    counts: dict[str, int] = {}
    for record in subject.trials:
        counts[record.status.lower()] = counts.get(record.status.lower(), 0) + 1
    ends = ", ".join(f"{count:,} {status}" for status, count in counts.items())
    names = [f"`{_inline(one.get('name', '?'))}`" for one in search.space]
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    size = space_size(search.space)
    space = "a continuous space" if size is None else f"up to {_count(size)} configurations"
    lines = [
        f"Strategy: {search.strategy}, {sum(counts.values()):,} trials ({ends})",
        f"Objective: {search.objective} ({search.direction})"
        + (f", of {search.settings['objectives']}" if "objectives" in search.settings else ""),
    ]
    if names:
        decisions = ", ".join(names[:_NAMES])
        lines.append(f"Space: {space} in {len(names)} decisions: {decisions}{more}")
    for limit in search.constraints:
        bounds = [f"{key} {limit[key]:g}" for key in ("min", "max") if limit.get(key) is not None]
        lines.append(f"Constraint: {limit['name']}, {', '.join(bounds)}")
    settings = {name: v for name, v in search.settings.items() if v is not None}
    settings.pop("objectives", None)
    if settings:
        lines.append("Settings: " + ", ".join(f"{k} {_number(v)}" for k, v in settings.items()))
    lines.append(f"Search id: `{search.search_id}`")
    return "## What was searched\n\n" + _list(lines)


def _data(subject: Subject) -> str:
    search, again = subject.search, subject.retraining
    datasets = [(one, "of the search") for one in search.datasets]
    datasets += [(one, "of the retraining") for one in (again.datasets if again else ())]
    lines = [
        f"{_inline(one.name)} ({one.context}, {where}): {_shapes(one.profile)}, digest "
        f"`{one.digest}`"
        for one, where in datasets
    ]
    return "## Data\n\n" + _list(lines) if lines else ""


def _costs(subject: Subject) -> str:
    costs = {name.replace("_", " "): value for name, value in subject.record.costs.items()}
    lines = [f"{name}: {_number(value)}" for name, value in costs.items()]
    seconds = sum(record.seconds for record in subject.trials)
    lines.append(f"whole search: {_number(seconds)} seconds in {len(subject.trials)} trials")
    if subject.retraining is not None:
        models = subject.retraining.models
        seconds = sum(model.seconds for model in models)
        lines.append(f"retraining: {_number(seconds)} seconds for {len(models)} seeds")
    environment = subject.search.environment
    where = [environment[key] for key in ("device", "precision") if key in environment]
    if where:
        lines.append(f"trained on {', '.join(where)}")
    return "## Costs\n\n" + _list(lines)


def _architecture(subject: Subject) -> str:
    values = ", ".join(f"{name}={_number(value)}" for name, value in subject.record.values.items())
    shown = shorten(subject.architecture, _ARCHITECTURE, whole_in="architecture.json")
    values = shorten(_inline(values), _VALUES, whole_in="architecture.json")
    return f"## Architecture\n\n{values}\n\n```\n{shown}\n```"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _shapes(profile: Any) -> str:
    tensors = [
        f"{name} {dtype} ({', '.join(map(str, shape))})".strip()
        for name, shape, dtype in tensors_of(profile)
    ]
    if tensors or not isinstance(profile, Mapping):
        return shorten(", ".join(tensors), _LINE)
    return shorten(_inline(", ".join(f"{k} {text_of(v)}" for k, v in profile.items())), _LINE)


def _number(value: Any) -> str:
    if value is None:
        return "not known"
    if isinstance(value, float) and value.is_integer():
        return f"{value:,.0f}"
    return f"{value:,.6g}" if isinstance(value, float) else str(value)


def _count(number: int) -> str:
    return f"{number:,}" if number < 1e9 else f"{number:.1e}"


def _inline(text: Any) -> str:
    return " ".join(str(text).split())
