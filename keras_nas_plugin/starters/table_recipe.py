"""The recipe of a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_nas_plugin.starters import table_columns as kinds
from keras_nas_plugin.starters.base import CLASSIFICATION, REGRESSION, Classes, Request
from keras_nas_plugin.starters.table_columns import Column
from keras_nas_plugin.starters.writing import constant, imported, module

# Depths and widths of the network by the number of training rows below which they apply.
_SIZES = (
    (2_000, (1, 3), (16, 32, 64)),
    (20_000, (1, 4), (32, 64, 128)),
    (float("inf"), (1, 6), (64, 128, 256, 512)),
)
# The constants of the columns, with a comment each.
_COLUMNS = {
    "NUMBERS": "standardised, 0 where missing, with a mark of what is missing",
    "TEXTS": "which of 1,000 frequent words each text has",
    "CATEGORIES": "texts; all that are not listed share one feature",
    "INTEGERS": "integers that are categories",
    "DATES": "age, position in the year and in the week",
}


class TableRecipe:
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

    def of_kind(self, kind: str) -> list[Column]:
        """The columns of a kind."""
        return [column for column in self.used if column.kind == kind]

    def named(self, kind: str) -> list[str]:
        """Names of the columns of a kind."""
        return [column.name for column in self.of_kind(kind)]

    @property
    def slashes(self) -> bool:
        """Whether a name of an input has a `/`."""
        return any("/" in column.name for column in self.used)

    @property
    def decimal(self) -> str:
        """The decimal sign of the table."""
        return "," if any(c.decimal == "," for c in (*self.used, self.described)) else "."

    def text(self, findings: Sequence[str]) -> str:
        """The Python file."""
        source = self.request.source
        task = REGRESSION if self.classes is None else CLASSIFICATION
        names = ["cached", "column_inputs", "labels_of", "read_table"]
        names += ["arrays", "stream_table" if self.streamed else "rows_of"]
        names += [] if self.streamed else [self.split[0].partition("(")[0]]
        names += ["class_weights"] if self.weighted else []
        names += ["scaled_number"] if self.named(kinds.NUMBER) else []
        names += ["date_features"] if self.named(kinds.DATE) else []
        names += ["frequent_words"] if self.named(kinds.TEXT) else []
        return module(
            title=f"{task.capitalize()} of `{self.target}` in {source.name}.",
            findings=findings,
            output=self.request.output.name,
            imports=[
                *(["import warnings"] if self.slashes else []),
                "from pathlib import Path",
                "",
                "import keras",
                *(["import numpy as np"] if self.streamed and self.classes is None else []),
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
        lines = []
        if self.slashes:
            lines += [
                "# Names of columns have a `/`, which names of layers cannot have.",
                'warnings.filterwarnings("ignore", "When providing `inputs` as a dict")',
                "",
            ]
        lines += [f"DATA = {self.request.path_code}", constant("TARGET", self.target)]
        if self.classes is not None:
            lines.append(constant("CLASS_NAMES", self.classes.names))
        lines.append(constant("OBJECTIVE", objective))
        if self.request.time is not None:
            lines.append(constant("TIME", self.request.time, "the oldest rows are trained on"))
        else:
            lines.append(constant("SEED", 0, "of the split"))
        if self.decimal != ".":
            lines.append(constant("DECIMAL", self.decimal, "the decimal sign of the numbers"))
        return [*lines, *self.columns_by_kind(), f"COLUMNS = {self.columns}"]

    def columns_by_kind(self) -> list[str]:
        """Definitions of the constants that name the columns of each kind."""
        values: dict[str, Any] = {
            "NUMBERS": self.named(kinds.NUMBER),
            "TEXTS": self.named(kinds.TEXT),
            "CATEGORIES": {c.name: list(c.values) for c in self.of_kind(kinds.CATEGORY)},
            "INTEGERS": {c.name: [int(v) for v in c.values] for c in self.of_kind(kinds.INTEGER)},
            "DATES": {column.name: column.pattern for column in self.of_kind(kinds.DATE)},
        }
        return [
            constant(name, values[name], text) for name, text in _COLUMNS.items() if values[name]
        ]

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
        else:
            keep = "    table = table[table[TARGET].isin(CLASS_NAMES)]"
            labels = "labels_of(table[TARGET], CLASS_NAMES)"
        if self.request.time is not None:
            keep += '\n    table = table[table[TIME] != ""]'
        split, how = self.split
        weight = '\n        "class_weight": class_weights(y),' if self.weighted else ""
        return f'''
@cached
def load_data():
    """60 percent of the rows to train, 20 to validate, and 20 to test{how}."""
    table = read_table(DATA, {self.read_arguments()})
{keep}
    inputs = arrays(table, COLUMNS)
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

    @property
    def split(self) -> tuple[str, str]:
        """Python expression for the rows of each part, and how they are drawn."""
        if self.request.time is not None:
            return "in_time_order(table[TIME])", ", in the order of time"
        if self.classes is None:
            return "at_random(len(labels), seed=SEED)", ", drawn at random"
        return "stratified(labels, seed=SEED)", ", of each class"

    def streamed_data(self) -> str:
        """The functions that return data sets, and rows for statistics."""
        classes = "None" if self.classes is None else "CLASS_NAMES"
        weight = (
            '\n    data["class_weight"] = class_weights(training_rows()[1])'
            if self.weighted
            else ""
        )
        keep = "labels >= 0" if self.classes is not None else "~np.isnan(labels)"
        target = ", TARGET" if self.classes is None else ""
        arguments = self.read_arguments()
        separate = ",\n        ".join(arguments.split(", "))
        sampled = arguments.replace(
            "numbers=NUMBERS", f"numbers=[*NUMBERS{target}]" if target else "numbers=NUMBERS"
        )
        sampled = sampled.replace("numbers=[]", "numbers=[TARGET]" if target else "numbers=[]")
        return f'''
def load_data():
    """60 percent of the rows to train, 20 to validate, and 20 to test, read in parts."""
    data = stream_table(
        DATA,
        columns=COLUMNS,
        target=TARGET,
        class_names={classes},
        {separate},
        seed=SEED,
    ){weight}
    return data


@cached
def training_rows():
    """The first rows, which the layers of the preprocessing are fitted to."""
    table = read_table(DATA, {sampled}, rows=50_000)
    labels = labels_of(table[TARGET], {classes})
    table, labels = table[{keep}], labels[{keep}]
    return arrays(table, COLUMNS), labels
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
                "*(date_features(inputs[name], rows[name], pattern) for name, pattern in "
                "DATES.items())"
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
        arguments = f"features=x.shape[-1], {head}, depths={depths}, widths={widths}"
        if len(arguments) > 74:
            arguments = f"\n        {arguments}\n    "
        return f'''
def build_model(hp):
    """A model of raw rows: preprocessing, then a network of the space `tabular`."""
    rows, {labels} = training_rows()
    inputs = column_inputs(rows)
    features = [
{lines}
    ]
    x = {together}
    network = tabular({arguments}){after}
    model = keras.Model(inputs, output)
    rate = hp.Float("learning_rate", 5e-4, 2e-2, sampling="log", default=3e-3)
    loss = {compiled[0]}
    model.compile(keras.optimizers.Adam(rate), loss, metrics=[{compiled[1]}])
    return model
'''


def sizes(rows: int) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Depths and widths of a network for a number of training rows."""
    return next((depths, widths) for limit, depths, widths in _SIZES if rows < limit)
