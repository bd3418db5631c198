"""Predictions of a registered model for raw rows, written to a CSV file in chunks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_nas_plugin.errors import ArgumentError
from keras_nas_plugin.registry.raw_rows import InputSchema, read_chunks
from keras_nas_plugin.registry.versions import StoredVersion

if TYPE_CHECKING:
    import pandas as pd


def predict_file(
    version: StoredVersion,
    rows: str | Path,
    output: str | Path,
    *,
    chunk_rows: int = 1024,
    keep: Sequence[str] = (),
    header: bool = True,
) -> int:
    """Predict raw rows as a server does, and write one line for each.

    Args:
        version: The version.
        rows: A CSV file, or a folder of files: see `raw_rows.read_chunks`.
        output: The CSV file to write. It appears when it is complete.
        chunk_rows: Rows that are in memory at a time.
        keep: Columns of ``rows`` to copy to the output.
        header: Whether the CSV file has a line with names.

    Returns:
        Number of rows.

    Raises:
        ArgumentError: The rows cannot be read, or the model refuses them.
    """
    model = version.pyfunc_model()
    schema = InputSchema.of(model)
    draft = Path(f"{output}.part")
    draft.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    try:
        chunks = read_chunks(Path(rows), schema, rows=chunk_rows, keep=keep, header=header)
        for chunk in chunks:
            try:
                predicted = model.predict(chunk.inputs)
            except Exception as error:  # MLflow and Keras raise their own
                raise ArgumentError(
                    f"`rows` must hold rows that the model takes; rows {chunk.first:,} to "
                    f"{chunk.first + chunk.rows - 1:,} raised {type(error).__name__}: "
                    f"{' '.join(str(error).split())[:300]}"
                ) from error
            table = _joined(chunk.copied, as_table(predicted))
            table.to_csv(draft, mode="a" if count else "w", header=not count, index=False)
            count += chunk.rows
        os.replace(draft, output)
    finally:
        draft.unlink(missing_ok=True)
    return count


def as_table(predicted: object) -> pd.DataFrame:
    """Predictions with a column for each number.

    >>> as_table(np.array([[0.5], [1.5]])).columns.tolist()
    ['prediction']

    Args:
        predicted: What `mlflow.pyfunc` returned. Classes and their probabilities become the
            columns ``class``, ``probability`` and ``probability_<class>``.
    """
    import pandas as pd

    if isinstance(predicted, pd.DataFrame):
        if "probabilities" not in predicted.columns:
            return predicted.reset_index(drop=True)
        by_class = pd.DataFrame(list(predicted["probabilities"])).add_prefix("probability_")
        table = predicted.drop(columns="probabilities").reset_index(drop=True)
        if "classes" in table.columns:
            table["classes"] = [";".join(names) for names in table["classes"]]
        return _joined(table, by_class)
    if isinstance(predicted, Mapping):
        parts = [_numbered(values, str(name)) for name, values in predicted.items()]
        return _joined(*parts)
    if isinstance(predicted, list | tuple):
        parts = [_numbered(values, f"output_{i}") for i, values in enumerate(predicted)]
        return _joined(*parts)
    return _numbered(predicted, "prediction")


def _numbered(values: object, name: str) -> pd.DataFrame:
    import pandas as pd

    array = np.asarray(values)
    flat = array.reshape((len(array), -1))
    single = flat.shape[1] == 1
    return pd.DataFrame(
        flat, columns=[name] if single else [f"{name}_{i}" for i in range(flat.shape[1])]
    )


def _joined(*tables: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(tables, axis=1)
