"""The model card of a version: what was searched, on which data, at what cost, and its limits.

Mitchell et al. 2019, "Model Cards for Model Reporting", https://arxiv.org/abs/1810.03993, with
the sections that a search can fill in by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from keras_nas_plugin.records.class_scores import ClassScore, ClassScores
from keras_nas_plugin.records.retraining import HELD_OUT, TEST, Retraining
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.records.trial import FINISHED, TrialRecord
from keras_nas_plugin.tracking.formatting import inline, number_text, profile_text, shorten
from keras_nas_plugin.tracking.summary.description import space_text
from keras_nas_plugin.wording import counted

CARD = "model_card.md"
#: Title of the section on loading, which is updated when an alias moves.
LOADING = "Loading"
#: MLflow's databases store this many characters of a description.
DESCRIPTION_LIMIT = 5_000
#: Of these, characters left free for the section on the promotion.
PROMOTION_ROOM = 1_000

# Maximum number of characters of each part, to keep a card readable.
_MAX_ARCHITECTURE = 1_200
_MAX_LINE = 200
_MAX_VALUES = 400
_MAX_NAME = 40
# Maximum number of classes in the table of scores by class.
_MAX_CLASSES = 30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """The contents of a card.

    Attributes:
        name: Name of the registered model.
        alias: Alias of the version, or None.
        search: The search.
        record: The trial.
        trials: All trials of the search.
        retraining: The retraining of this trial, or None if it was not retrained.
        retrained: Whether the model is the retrained one.
        architecture: Summary of the architecture, for people.
        input_example: Whether rows of data are stored with the model.
        class_names: Names of the classes that the model tells apart, or None.
        class_scores: Scores by class, or None: of the searched model on validation rows, of a
            retrained model on the rows that it was measured on.
        pages: Addresses of pages in the tracker's UI, by what they show.
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
    class_names: tuple[str, ...] | None = None
    class_scores: ClassScores | None = None
    pages: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def source(self) -> Retraining | None:
        """The retraining that the model comes from; None for the searched model."""
        return self.retraining if self.retrained else None


def render_card(subject: Subject) -> str:
    """The card in Markdown."""
    sections = [
        _heading(subject),
        _scores(subject),
        _data(subject),
        _class_scores(subject),
        _intended_use(subject),
        _limits(subject),
        loading_section(subject.name, subject.alias),
        _searched(subject),
        _costs(subject),
        _architecture(subject),
        _links(subject),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _heading(subject: Subject) -> str:
    search, source = subject.search, subject.source
    text = (
        f"# {subject.name}\n\nTrial {subject.record.trial_id} of the search "
        f"`{inline(search.name)}` by {search.strategy} for {search.objective} "
        f"({search.direction})"
    )
    if source is None:
        return f"{text}, with the weights of its best epoch, {subject.record.best_step + 1}."
    rows = f" ({source.rows:,} rows)" if source.rows else ""
    epochs = ""
    if source.epochs:
        epochs = f" for {source.epochs} epoch{'' if source.epochs == 1 else 's'}"
    return (
        f"{text}, retrained from scratch on training and validation data together{rows}{epochs} "
        f"with seed {source.kept.seed}."
    )


def _scores(subject: Subject) -> str:
    search, retraining = subject.search, subject.retraining
    rows = [
        (
            f"searched model, validation rows, which chose it ({search.objective})",
            subject.record.score,
        )
    ]
    if retraining is not None and retraining.measured_on:
        measured = {TEST: "test", HELD_OUT: "held-out validation rows"}[retraining.measured_on]
        if retraining.measured_rows:
            measured += f" ({retraining.measured_rows:,} rows)"
        score = retraining.searched_scores.get(retraining.metric)
        rows.append((f"searched model, {measured}", score))
        rows += [
            (f"retrained, seed {model.seed}, {measured}", model.scores.get(retraining.metric))
            for model in retraining.models
        ]
        if retraining.deviation is not None:
            rows.append((f"retrained, mean of {len(retraining.models)} seeds", retraining.mean))
            rows.append(("retrained, standard deviation over seeds", retraining.deviation))
    metric = retraining.metric if retraining else search.objective
    table = "\n".join(f"| {label} | {number_text(value)} |" for label, value in rows)
    return f"## Scores\n\n| on | {metric} |\n| :--- | ---: |\n{table}"


def _class_scores(subject: Subject) -> str:
    """Scores by class, the worst classes if there are many."""
    scores = subject.class_scores
    if scores is None:
        return ""
    shown = scores.worst(_MAX_CLASSES)
    source, kind = subject.source, "validation rows, which chose the model"
    if source is not None and source.measured_on is not None:
        kind = {TEST: "test rows", HELD_OUT: "held-out validation rows"}[source.measured_on]
    text = f"On {'the first ' if scores.first else ''}{scores.rows:,} {kind}"
    if len(shown) < len(scores.classes):
        text += f"; the {len(shown)} of {len(scores.classes)} classes with the lowest recall"
    table = "\n".join(map(_class_row, shown))
    return (
        f"## Scores by class\n\n{text}.\n\n"
        f"| class | rows | recall | precision |\n| :--- | ---: | ---: | ---: |\n{table}"
    )


def _class_row(score: ClassScore) -> str:
    name = shorten(inline(score.name), _MAX_NAME).replace("|", "\\|")
    values = ("" if value is None else f"{value:.3f}" for value in (score.recall, score.precision))
    return f"| {name} | {score.rows:,} | {' | '.join(values)} |"


def _links(subject: Subject) -> str:
    lines = [f"[{title}]({address})" for title, address in subject.pages.items()]
    return "## Links\n\n" + _list(lines) if lines else ""


def _intended_use(subject: Subject) -> str:
    """The use that follows from the search; people add what they know."""
    task = "Predicts what its training data have as targets"
    if subject.class_names is not None:
        task = f"Assigns one of {len(subject.class_names)} classes to each row"
    return (
        f"## Intended use\n\n{task}, for rows that are prepared like the data above. "
        "Other data need a measurement of their own before the model is used on them. The search "
        "knows nothing about the people or decisions that predictions affect: describe them here, "
        "by editing the description of this version."
    )


def _limits(subject: Subject) -> str:
    """What the scores do not show, as far as it can be determined automatically."""
    search, retraining, source = subject.search, subject.retraining, subject.source
    finished = sum(record.status == FINISHED for record in subject.trials)
    bias = "higher" if search.direction == "max" else "lower"
    lines = [
        f"The validation score is the best of {counted(finished, 'trial')} on the rows that chose "
        f"it, and so usually {bias} than on new rows",
    ]
    lines += _measurement_limits(subject)
    if retraining is not None and retraining.deviation is None:
        lines.append("One seed: how much the score varies from training to training is not known")
    if source is not None:
        if source.deviation is not None:
            lines.append("This is the first seed's model, not the best of them")
        lines += [remark.rstrip(".") for remark in source.remarks]
    if subject.class_scores is None:
        lines.append(
            "Nothing was measured by class or by subset of the data; `keras-nas promote "
            "--max-class-drop` compares classes before promotion"
        )
    else:
        lines.append("Nothing was measured by subset of the data other than classes")
    if not search.datasets:
        lines.append("The data were not described")
    if subject.input_example:
        lines.append("Rows of the training data are stored with the model as input example")
    return "## Limits\n\n" + "\n".join(f"- {line}." for line in lines)


def _measurement_limits(subject: Subject) -> list[str]:
    retraining = subject.retraining
    if retraining is None or retraining.measured_on is None:
        if subject.retrained:
            return [
                "The score of this retrained model is not known: there were no rows that it was "
                "not trained on. The validation score is that of the searched model"
            ]
        return ["It was not measured on rows that the search never saw"]
    if retraining.measured_on == TEST:
        return []
    lines = [
        "The held-out rows chose architecture and number of epochs, so both models look better "
        "on them than on new rows"
    ]
    if not subject.retrained:
        lines.append("The searched model's weights were chosen by the held-out rows as well")
    return lines


def loading_section(name: str, alias: str | None, version: str = "VERSION") -> str:
    """The section on loading the model.

    Args:
        name: Name of the registered model.
        alias: An alias of the version, or None.
        version: Number of the version, if it is known.
    """
    address = f"models:/{name}/{version}"
    uri = f"models:/{name}@{alias}" if alias else address
    always = f"`{address}`"
    if version == "VERSION":
        always = f"`models:/{name}/` followed by the version number"
    note = f"This address is valid while the version has the alias; {always} is always valid.\n\n"
    return (
        f"## {LOADING}\n\n```python\nimport mlflow\n"
        f'mlflow.pyfunc.load_model("{uri}")      # predict(rows)\n'
        f'mlflow.tensorflow.load_model("{uri}")  # the Keras model\n```\n\n'
        f"{note if alias else ''}"
        "The packages it needs are in `requirements.txt` among the version's files."
    )


def _searched(subject: Subject) -> str:
    search = subject.search
    counts: dict[str, int] = {}
    for record in subject.trials:
        counts[record.status.lower()] = counts.get(record.status.lower(), 0) + 1
    ends = ", ".join(f"{count:,} {status}" for status, count in counts.items())
    several = ", ".join(f"{name} ({direction})" for name, direction in search.directions.items())
    lines = [
        f"Strategy: {search.strategy}, {sum(counts.values()):,} trials ({ends})",
        f"Objective: {search.objective} ({search.direction})"
        + (f", of {several}" if len(search.directions) > 1 else ""),
    ]
    if search.space:
        lines.append(f"Space: {space_text(search.space, 'configurations')}")
    for limit in search.constraints:
        bounds = [f"{key} {limit[key]:g}" for key in ("min", "max") if limit.get(key) is not None]
        lines.append(f"Constraint: {limit['name']}, {', '.join(bounds)}")
    settings = [
        f"{name} {number_text(value)}"
        for name, value in search.settings.items()
        if value is not None and name != "objectives"
    ]
    if settings:
        lines.append("Settings: " + ", ".join(settings))
    lines.append(f"Search id: `{search.search_id}`")
    return "## What was searched\n\n" + _list(lines)


def _data(subject: Subject) -> str:
    search, retraining = subject.search, subject.retraining
    datasets = [(dataset, "of the search") for dataset in search.datasets]
    if retraining is not None:
        datasets += [(dataset, "of the retraining") for dataset in retraining.datasets]
    lines = [
        f"{inline(dataset.name)} ({dataset.context}, {use}): "
        f"{profile_text(dataset.profile, _MAX_LINE)}, digest `{dataset.digest}`"
        for dataset, use in datasets
    ]
    if subject.class_names is not None:
        names = ", ".join(map(inline, subject.class_names))
        lines.append(f"Classes: {shorten(names, _MAX_LINE, whole_in='MLmodel')}")
    return "## Data\n\n" + _list(lines) if lines else ""


def _costs(subject: Subject) -> str:
    costs = {name.replace("_", " "): value for name, value in subject.record.costs.items()}
    lines = [f"{name}: {number_text(value)}" for name, value in costs.items()]
    seconds = sum(record.seconds for record in subject.trials)
    lines.append(
        f"search: {number_text(seconds)} seconds in {counted(len(subject.trials), 'trial')}"
    )
    if subject.retraining is not None:
        models = subject.retraining.models
        seconds = sum(model.seconds for model in models)
        lines.append(
            f"retraining: {number_text(seconds)} seconds for {counted(len(models), 'seed')}"
        )
    environment = subject.search.environment
    trained_on = [environment[key] for key in ("device", "precision") if key in environment]
    if trained_on:
        lines.append(f"trained on {', '.join(trained_on)}")
    return "## Costs\n\n" + _list(lines)


def _architecture(subject: Subject) -> str:
    decisions = subject.record.values.items()
    values = ", ".join(f"{name}={number_text(value)}" for name, value in decisions)
    shown = shorten(subject.architecture, _MAX_ARCHITECTURE, whole_in="architecture.json")
    values = shorten(inline(values), _MAX_VALUES, whole_in="architecture.json")
    return f"## Architecture\n\n{values}\n\n```\n{shown}\n```"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
