"""Tables: classification and regression of one column by the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_nas_plugin.errors import SourceError
from keras_nas_plugin.starters import table_columns as kinds
from keras_nas_plugin.starters.base import (
    CLASSIFICATION,
    REGRESSION,
    Classes,
    Draft,
    Request,
    Starter,
    checked_classes,
    close_name,
    listed,
)
from keras_nas_plugin.starters.table_columns import Column, describe_column, determines
from keras_nas_plugin.starters.table_data import SUFFIXES, as_numbers, check_fields, chunks
from keras_nas_plugin.starters.texts import text_draft
from keras_nas_plugin.starters.writing import constant, imported, module

if TYPE_CHECKING:
    import pandas as pd

# Bytes in memory for each byte of a file: texts and their numbers.
_EXPANSION = {".parquet": 20, ".gz": 40}
_TEXT_EXPANSION = 10
# Rows that are looked at of a table that is not read as a whole.
_INSPECTED = 50_000
_TARGET_NAMES = ("target", "label", "class", "y")
# A target of numbers with more distinct values is one of regression.
_MOST_CLASSES = 20
# Depths and widths of the network by the number of training rows below which they apply.
_SIZES = (
    (2_000, (1, 3), (16, 32, 64)),
    (20_000, (1, 4), (32, 64, 128)),
    (float("inf"), (1, 6), (64, 128, 256, 512)),
)


def is_table(source: Path) -> bool:
    """Whether a file has the name of a table."""
    return source.is_file() and source.name.lower().removesuffix(".gz").endswith(SUFFIXES)


class Inspected:
    """A table, or its first rows.

    Args:
        request: What a recipe is asked for.

    Attributes:
        table: The rows, as texts.
        streamed: Whether there are more, which are not loaded.
    """

    def __init__(self, request: Request) -> None:
        path = request.source
        size = path.stat().st_size
        if size == 0:
            raise SourceError(
                f"`{path}` must have a line with names of columns, and rows; it is empty"
            )
        self.size = size * _EXPANSION.get(path.suffix.lower(), _TEXT_EXPANSION)
        self.streamed = not request.fits(self.size)
        parts = chunks(path, rows=_INSPECTED)
        if self.streamed:
            self.table: pd.DataFrame = next(parts)
        else:
            import pandas as pd

            check_fields(path)
            self.table = pd.concat(list(parts), ignore_index=True)
        self.findings: list[str] = []
        if self.streamed:
            self.findings.append(
                f"The table would take about {_gigabytes(self.size)} of memory, of which "
                f"{_gigabytes(request.available)} are available: it is read in parts, and only "
                f"its first {len(self.table):,} rows were looked at. Shuffle a file that is "
                "sorted."
            )
        self._clean()

    def _clean(self) -> None:
        repeated = self.table.duplicated()
        if repeated.any() and not self.streamed:
            self.findings.append(
                f"{int(repeated.sum()):,} rows occur more than once; copies may be in both "
                "training and test rows."
            )
        slashes = [name for name in self.table.columns if "/" in name or not name]
        if slashes:
            raise SourceError(
                f"columns must have names without `/`, which Keras does not accept; got "
                f"{listed([repr(name) for name in slashes])}"
            )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def target_column(request: Request, names: Sequence[str]) -> tuple[str, list[str]]:
    """The column to predict, and what was guessed.

    Raises:
        SourceError: There is no such column, or none is obvious.
    """
    if request.target is not None:
        if request.target not in names:
            raise SourceError(
                f"`--target` must be a column of `{request.source}`; got {request.target!r}. "
                f"{close_name(request.target, names)}"
            )
        return request.target, []
    likely = [name for name in names if name.lower() in _TARGET_NAMES]
    if len(likely) != 1:
        raise SourceError(
            f"`--target` must name the column of `{request.source}` to predict; got none. "
            f"Columns: {listed(names, 10)}."
        )
    return likely[0], [f"Target: `{likely[0]}`, by its name; `--target` selects another column."]


class TableStarter(Starter):
    """CSV, TSV and Parquet files with a row per example."""

    kind = "table"
    tasks = (CLASSIFICATION, REGRESSION)

    def recognises(self, source: Path) -> bool:
        """See `Starter.recognises`."""
        return is_table(source)

    def draft(self, request: Request) -> Draft:
        """See `Starter.draft`."""
        inspected = Inspected(request)
        table = inspected.table
        target, guesses = target_column(request, list(table.columns))
        findings = inspected.findings
        missing = int((table[target] == "").sum())
        if missing == len(table):
            raise SourceError(f"column `{target}` must have values to predict; all are missing")
        if missing:
            table = table[table[target] != ""].reset_index(drop=True)
            findings.append(f"{missing:,} rows without `{target}` are left out.")
        described = describe_column(target, table[target])
        task, guess = _task(request, described, table[target])
        guesses += guess
        classes = None
        if task == CLASSIFICATION:
            counts = {str(k): int(n) for k, n in table[target].value_counts().items()}
            classes = checked_classes(counts, f"column `{target}`")
            findings += classes.findings
            table = table[table[target].isin(classes.names)]
        else:
            numbers = as_numbers(table[target], described.decimal or ".")
            table = table[~np.isnan(numbers)]
        columns = [describe_column(name, table[name]) for name in table.columns if name != target]
        used = [column for column in columns if column.kind != kinds.IGNORED]
        findings += _column_findings(columns)
        if not used:
            raise SourceError(
                f"`{request.source}` must have a column to predict `{target}` from; none is of use"
            )
        leaks = [
            column.name
            for column in used
            if determines(table[column.name], table[target], column, classes=classes is not None)
        ]
        findings += [
            f"WARNING: column `{name}` alone determines `{target}`. If it is known only "
            "afterwards (leakage), remove it from the recipe."
            for name in leaks
        ]
        only_text = [column.kind for column in used] == [kinds.TEXT]
        if classes is not None and only_text and not inspected.streamed:
            texts, names = list(table[used[0].name]), (used[0].name, target)
            return text_draft(request, texts, classes, findings, guesses, column=names)
        recipe = _Recipe(request, target, classes, used, described, len(table), inspected.streamed)
        summary = f"{len(table):,} rows, {len(used)} of {len(columns)} columns are used"
        return Draft(recipe.text(findings), task, summary, findings, guesses)


def _task(request: Request, target: Column, values: pd.Series) -> tuple[str, list[str]]:
    """The task, and how it was guessed."""
    numeric = target.kind in (kinds.NUMBER, kinds.INTEGER)
    read = as_numbers(values, target.decimal or ".")
    if request.task == REGRESSION:
        if np.isnan(read).mean() > 0.1:
            raise SourceError(
                f"column `{target.name}` must have numbers for --task regression; got "
                f"{values[np.isnan(read)].iloc[0]!r}"
            )
        return REGRESSION, []
    if request.task == CLASSIFICATION:
        return CLASSIFICATION, []
    distinct = values.nunique()
    if distinct == 1:
        checked_classes({str(values.iloc[0]): len(values)}, f"column `{target.name}`")
    if numeric or not np.isnan(read).any():
        fractions = bool((np.nan_to_num(read) % 1).any())
        if fractions or distinct > _MOST_CLASSES:
            reason = f"`{target.name}` has {distinct:,} different numbers"
            return REGRESSION, [
                f"Task: regression, since {reason}; `--task classification` decides otherwise."
            ]
    reason = f"`{target.name}` has {distinct:,} different values"
    return CLASSIFICATION, [
        f"Task: classification, since {reason}; `--task regression` decides otherwise."
    ]


def _column_findings(columns: Sequence[Column]) -> list[str]:
    """What was noticed of each column; columns that are left out for the same reason together."""
    sentences = []
    for column in columns:
        if column.findings:
            verb = "" if column.kind == kinds.IGNORED else ": "
            text = "; ".join(column.findings)
            sentences.append(f"Column `{column.name}`{verb or ' '}{text}.")
    return sentences


class _Recipe:
    """The recipe of a table.

    Args:
        request: What it is asked for.
        target: The column to predict.
        classes: Its classes; None for regression.
        used: The columns that are inputs.
        described: The column to predict.
        rows: Number of rows.
        streamed: Whether the table is read in parts.
    """

    def __init__(
        self,
        request: Request,
        target: str,
        classes: Classes | None,
        used: Sequence[Column],
        described: Column,
        rows: int,
        streamed: bool,
    ) -> None:
        self.request, self.target, self.classes = request, target, classes
        self.used, self.described, self.rows, self.streamed = used, described, rows, streamed

    def named(self, kind: str) -> list[str]:
        """Names of the columns of a kind."""
        return [column.name for column in self.used if column.kind == kind]

    @property
    def decimal(self) -> str:
        """The decimal sign of the table."""
        return "," if any(c.decimal == "," for c in (*self.used, self.described)) else "."

    def text(self, findings: Sequence[str]) -> str:
        """The Python file."""
        source = self.request.source
        task = REGRESSION if self.classes is None else CLASSIFICATION
        names = ["cached", "column_inputs", "labels_of", "read_table"]
        names += ["stream_table"] if self.streamed else ["arrays", "rows_of"]
        names += ["at_random"] if self.classes is None and not self.streamed else []
        names += ["stratified"] if self.classes is not None and not self.streamed else []
        names += ["class_weights"] if self.weighted else []
        names += ["scaled_number"] if self.named(kinds.NUMBER) else []
        names += ["date_features"] if self.named(kinds.DATE) else []
        names += ["frequent_words"] if self.named(kinds.TEXT) else []
        return module(
            title=f"{task.capitalize()} of `{self.target}` in {source.name}.",
            findings=findings,
            output=self.request.output.name,
            imports=[
                *(["from pathlib import Path", ""]),
                "import keras",
                "",
                "from keras_nas_plugin.space.presets import tabular",
                imported(names),
            ],
            constants=self.constants(),
            functions=[self.data(), self.model()],
        )

    @property
    def weighted(self) -> bool:
        """Whether rare classes get larger weights."""
        return self.classes is not None and not self.classes.balanced

    def constants(self) -> list[str]:
        """Definitions of the constants."""
        objective = "val_loss" if self.classes is None else "val_accuracy"
        lines = [f"DATA = {self.request.path_code}", constant("TARGET", self.target)]
        if self.classes is not None:
            lines.append(constant("CLASS_NAMES", self.classes.names))
        lines += [constant("OBJECTIVE", objective), constant("SEED", 0, "of the split")]
        if self.decimal != ".":
            lines.append(constant("DECIMAL", self.decimal, "the decimal sign of the numbers"))
        by_kind = {
            kinds.NUMBER: (
                "NUMBERS",
                "standardised, 0 where missing, with a mark of what is missing",
            ),
            kinds.TEXT: ("TEXTS", "which of 1,000 frequent words each text has"),
        }
        for kind, (name, comment) in by_kind.items():
            if columns := self.named(kind):
                lines.append(constant(name, columns, comment))
        for kind, name, comment in (
            (kinds.CATEGORY, "CATEGORIES", "texts; all that are not listed share one feature"),
            (kinds.INTEGER, "INTEGERS", "integers that are categories"),
        ):
            described = {c.name: list(c.values) for c in self.used if c.kind == kind}
            if kind == kinds.INTEGER:
                values = {name: [int(v) for v in texts] for name, texts in described.items()}
                if values:
                    lines.append(constant(name, values, comment))
            elif described:
                lines.append(constant(name, described, comment))
        dates = {c.name: c.pattern for c in self.used if c.kind == kinds.DATE}
        if dates:
            lines.append(constant("DATES", dates, "year, position in the year and in the week"))
        return lines

    @property
    def columns(self) -> str:
        """Python expression for the names of all inputs."""
        present = [
            name
            for kind, name in (
                (kinds.NUMBER, "NUMBERS"),
                (kinds.CATEGORY, "CATEGORIES"),
                (kinds.INTEGER, "INTEGERS"),
                (kinds.DATE, "DATES"),
                (kinds.TEXT, "TEXTS"),
            )
            if self.named(kind)
        ]
        return "[" + ", ".join(f"*{name}" for name in present) + "]"

    def read_arguments(self) -> str:
        """Arguments of `read_table`."""
        numbers = "NUMBERS" if self.named(kinds.NUMBER) else "[]"
        if self.classes is None and not self.streamed:
            numbers = "[*NUMBERS, TARGET]" if self.named(kinds.NUMBER) else "[TARGET]"
        parts = [f"numbers={numbers}"]
        parts += ["integers=INTEGERS"] if self.named(kinds.INTEGER) else []
        parts += ["decimal=DECIMAL"] if self.decimal != "." else []
        return ", ".join(parts)

    def data(self) -> str:
        """The function that returns the data."""
        if self.streamed:
            return self.streamed_data()
        if self.classes is None:
            keep = "    table = table[table[TARGET].notna()]"
            labels = "labels_of(table[TARGET], None)"
            split = "at_random(len(labels), seed=SEED)"
            how = "drawn at random"
        else:
            keep = "    table = table[table[TARGET].isin(CLASS_NAMES)]"
            labels = "labels_of(table[TARGET], CLASS_NAMES)"
            split = "stratified(labels, seed=SEED)"
            how = "of each class"
        weight = '\n        "class_weight": class_weights(y),' if self.weighted else ""
        return f'''
@cached
def load_data():
    """60 percent of the rows to train, 20 to validate, and 20 to test, {how}."""
    table = read_table(DATA, {self.read_arguments()})
{keep}
    inputs = arrays(table, {self.columns})
    labels = {labels}
    parts = [(rows_of(inputs, rows), labels[rows]) for rows in {split}]
    (x, y), validation, test = parts
    return {{
        "x": x,
        "y": y,
        "validation_data": validation,
        "test_data": test,{weight}
    }}


def training_rows():
    """The inputs and labels that the layers of the preprocessing are fitted to."""
    return load_data()["x"], load_data()["y"]
'''

    def streamed_data(self) -> str:
        """The functions that return data sets, and rows for statistics."""
        classes = "None" if self.classes is None else "CLASS_NAMES"
        weight = (
            '\n    data["class_weight"] = class_weights(training_rows()[1])'
            if self.weighted
            else ""
        )
        keep = "labels >= 0" if self.classes is not None else "labels == labels"
        target = ", TARGET" if self.classes is None else ""
        arguments = self.read_arguments()
        sampled = arguments.replace("numbers=NUMBERS", f"numbers=[*NUMBERS{target}]")
        sampled = sampled.replace("numbers=[]", "numbers=[TARGET]" if target else "numbers=[]")
        return f'''
def load_data():
    """60 percent of the rows to train, 20 to validate, and 20 to test, read in parts."""
    data = stream_table(
        DATA,
        columns={self.columns},
        target=TARGET,
        class_names={classes},
        {arguments},
        seed=SEED,
    ){weight}
    return data


@cached
def training_rows():
    """The first rows, which the layers of the preprocessing are fitted to."""
    table = read_table(DATA, {sampled}, rows=50_000)
    labels = labels_of(table[TARGET], {classes})
    table, labels = table[{keep}], labels[{keep}]
    return {{name: table[name].to_numpy() for name in {self.columns}}}, labels
'''

    def model(self) -> str:
        """The function that builds a model."""
        features = []
        if self.named(kinds.NUMBER):
            features.append("*(scaled_number(inputs[name], rows[name]) for name in NUMBERS)")
        for name, layer in (("CATEGORIES", "StringLookup"), ("INTEGERS", "IntegerLookup")):
            if self.named(kinds.CATEGORY if name == "CATEGORIES" else kinds.INTEGER):
                features.append(
                    f"*(\n            keras.layers.{layer}(vocabulary=values, "
                    'output_mode="one_hot")(inputs[name])\n'
                    f"            for name, values in {name}.items()\n        )"
                )
        if self.named(kinds.DATE):
            features.append(
                "*(\n            date_features(inputs[name], rows[name], pattern)\n"
                "            for name, pattern in DATES.items()\n        )"
            )
        if self.named(kinds.TEXT):
            features.append("*(frequent_words(inputs[name], rows[name]) for name in TEXTS)")
        many = len(self.used) > 1
        lines = "\n".join(f"        {feature}," for feature in features)
        together = "keras.layers.Concatenate()(features)" if many else "features[0]"
        depths, widths = sizes(round(0.6 * self.rows))
        if self.classes is None:
            head = "outputs=1"
            after = """
    # The network predicts with mean 0 and standard deviation 1; the last layer scales it back.
    scale = keras.layers.Normalization(mean=labels.mean(), variance=labels.var(), invert=True)
    output = scale(network.connect(hp, x))"""
            compiled = '"mean_squared_error"', '"mean_absolute_error"'
        else:
            head = "classes=len(CLASS_NAMES)"
            after = "\n    output = network.connect(hp, x)"
            compiled = '"sparse_categorical_crossentropy"', '"accuracy"'
        labels = "labels" if self.classes is None else "_"
        return f'''
def build_model(hp):
    """A model of raw rows: preprocessing, then a network of the space `tabular`."""
    rows, {labels} = training_rows()
    inputs = column_inputs(rows)
    features = [
{lines}
    ]
    x = {together}
    network = tabular(
        features=x.shape[-1], {head}, depths={depths}, widths={widths}
    ){after}
    model = keras.Model(inputs, output)
    rate = hp.Float("learning_rate", 5e-4, 2e-2, sampling="log", default=3e-3)
    loss = {compiled[0]}
    model.compile(keras.optimizers.Adam(rate), loss, metrics=[{compiled[1]}])
    return model
'''


def sizes(rows: int) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Depths and widths of a network for a number of training rows."""
    return next((depths, widths) for limit, depths, widths in _SIZES if rows < limit)
