"""Tables in files: CSV, TSV and Parquet, whole or in parts."""

from __future__ import annotations

import csv
import gzip
import itertools
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_nas_plugin.errors import SourceError

if TYPE_CHECKING:
    import pandas as pd

#: Texts that stand for a missing value.
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "?", "-")
#: Names of the files that can be read.
SUFFIXES = (".csv", ".tsv", ".parquet")
_DELIMITERS = ",;\t|"
# Rows that are read, and shuffled, together where a table is not loaded as a whole.
_CHUNK, _POOL = 20_000, 100_000


def read_table(
    path: str | Path,
    *,
    numbers: Sequence[str] = (),
    integers: Sequence[str] = (),
    decimal: str = ".",
    rows: int | None = None,
) -> pd.DataFrame:
    """Read a table whose first line has the names of the columns.

    Args:
        path: A file named `.csv`, `.tsv` (also compressed: `.csv.gz`) or `.parquet`. The delimiter
            of a CSV file is recognised.
        numbers: Columns of float32; NaN where a value is missing or no number.
        integers: Columns of int64; -1 where a value is missing or no integer.
        decimal: The decimal sign of ``numbers``: ``"."``, or ``","`` for values such as 1.234,5.
        rows: Number of rows from the start of the file; None for all.

    Returns:
        The table. All other columns are texts without surrounding spaces, and empty where a value
        is missing.

    Raises:
        SourceError: The file is no such table.
    """
    parts = iter(chunks(path, rows=_CHUNK if rows is None else rows))
    if rows is None:
        import pandas as pd

        table = pd.concat(list(parts), ignore_index=True)
    else:
        table = next(parts)
    return typed(table, numbers=numbers, integers=integers, decimal=decimal)


def typed(
    table: pd.DataFrame, *, numbers: Sequence[str], integers: Sequence[str], decimal: str = "."
) -> pd.DataFrame:
    """A table of texts with numbers in some columns: see `read_table`."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for name in table.columns:
        values = table[name]
        if name in numbers:
            columns[name] = as_numbers(values, decimal).astype("float32")
        elif name in integers:
            read = as_numbers(values, decimal)
            columns[name] = np.where(np.isnan(read), -1, read).astype("int64")
        else:
            columns[name] = values.to_numpy(dtype=object)
    return pd.DataFrame(columns, index=table.index)


def as_numbers(values: pd.Series, decimal: str = ".") -> np.ndarray:
    """Texts as numbers, float64; NaN where a text is no number."""
    import pandas as pd

    texts = values.astype(str)
    if decimal == ",":
        texts = texts.str.replace(".", "", regex=False).str.replace(",", ".", regex=False)
    else:
        texts = texts.str.replace(",", "", regex=False)
    booleans = {"true": "1", "false": "0"}
    texts = texts.where(~texts.str.lower().isin(booleans), texts.str.lower().map(booleans))
    read = pd.to_numeric(texts, errors="coerce").to_numpy(dtype="float64", na_value=np.nan)
    return np.where(np.isinf(read), np.nan, read)


def chunks(path: str | Path, rows: int = _CHUNK) -> Iterator[pd.DataFrame]:
    """Parts of a table, as texts; the last may be shorter than ``rows``.

    Raises:
        SourceError: The file is no table.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        return _parquet_chunks(path, rows)
    return _text_chunks(path, rows)


def _parquet_chunks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _check_header(path, names)
            batches = file.iter_batches(batch_size=rows)
            first = next(batches, None)
            if first is None or first.num_rows == 0:
                raise SourceError(f"`{path}` must have rows; got the names of columns only")
            for batch in itertools.chain([first], batches):
                yield _as_texts(batch.to_pandas())
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        raise SourceError(f"`{path}` must be a Parquet file of plain columns; {error}") from error


def _as_texts(table: pd.DataFrame) -> pd.DataFrame:
    def text(value: object) -> str:
        if value is None or value != value:
            return ""
        if hasattr(value, "isoformat"):
            iso = value.isoformat(sep=" ") if hasattr(value, "hour") else value.isoformat()
            return str(iso).removesuffix(" 00:00:00")
        return str(value)

    for name in table.columns:
        values = table[name]
        if values.dtype.kind == "f" and not (values.dropna() % 1).any():
            values = values.astype("Int64")  # integers, some of which are missing
        table[name] = values.astype(object).where(values.notna(), None).map(text)
    return table


def _text_chunks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    import pandas as pd

    delimiter, header = read_header(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            reader = pd.read_csv(
                path,
                sep=delimiter,
                dtype=str,
                names=header,
                header=0,
                index_col=False,
                keep_default_na=False,
                skipinitialspace=True,
                quoting=_quoting(delimiter),
                encoding="utf-8-sig",
                chunksize=rows,
                skip_blank_lines=True,
            )
            empty = True
            with reader:
                for table in reader:
                    empty = empty and not len(table)
                    for name in table.columns:
                        texts = table[name].astype(object).str.strip()
                        table[name] = texts.where(~texts.isin(MISSING), "")
                    yield table
    except UnicodeDecodeError as error:
        raise _encoding_error(path, error) from error
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        match = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if match is None:
            reason = " ".join(str(error).split())
        else:
            reason = f"line {match[2]} has {match[3]} fields instead of {match[1]}"
        if isinstance(error, pd.errors.ParserWarning):
            reason = f"a line has more fields than the {len(header)} of the first line"
        raise SourceError(
            f"`{path}` must have as many fields in each line as in the first; {reason}"
        ) from error
    if empty:
        raise SourceError(f"`{path}` must have rows below its first line; got only the first line")


def read_header(path: str | Path) -> tuple[str, list[str]]:
    """The delimiter of a text file, and the names of its columns.

    Raises:
        SourceError: The file is no text, is empty, or its names are not distinct.
    """
    path = Path(path)
    try:
        lines = _first_lines(path)
    except UnicodeDecodeError as error:
        raise _encoding_error(path, error) from error
    if not lines:
        raise SourceError(
            f"`{path}` must have a line with names of columns, and rows; it is empty"
        )
    if path.name.removesuffix(".gz").endswith(".tsv"):
        delimiter = "\t"
    else:
        # The one with the most fields; if several lines agree on a number, they count double.
        def score(sign: str) -> int:
            counts = [len(row) for row in csv.reader(lines, delimiter=sign)]
            return counts[0] * (2 if len(set(counts)) == 1 else 1)

        delimiter = max(_DELIMITERS, key=score)
    first = next(csv.reader(lines, delimiter=delimiter, quoting=_quoting(delimiter)))
    # As pandas names columns that have no name.
    names = [name.strip() or f"Unnamed: {number}" for number, name in enumerate(first)]
    _check_header(path, names)
    return delimiter, names


def _quoting(delimiter: str) -> Any:
    """Quotes are part of the values of a file with tabs, in which texts need none."""
    return csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL


def _first_lines(path: Path, most: int = 50) -> list[str]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        start = file.read(1 << 16)
    if b"\0" in start or start.startswith(b"PK\x03\x04"):
        hint = "an Excel file: export it as CSV" if start.startswith(b"PK") else "binary data"
        if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
            hint = "UTF-16: convert it with `iconv -f utf-16 -t utf-8`"
        raise SourceError(f"`{path}` must be a text file in UTF-8; it looks like {hint}")
    complete = start if len(start) < 1 << 16 else start[: start.rfind(b"\n") + 1]
    text = complete.decode("utf-8-sig")
    return [line for line in text.splitlines() if line.strip()][:most]


def _encoding_error(path: Path, error: UnicodeDecodeError) -> SourceError:
    byte = error.object[error.start]
    return SourceError(
        f"`{path}` must be in UTF-8; got the byte 0x{byte:02x}. If it comes from Windows, convert "
        f"it with `iconv -f cp1252 -t utf-8 {path.name}`"
    )


def _check_header(path: Path, names: Sequence[str]) -> None:
    repeated = sorted({name for name in names if list(names).count(name) > 1})
    if repeated:
        raise SourceError(
            f"`{path}` must have a different name for each column; got {repeated[0]!r} more than "
            "once"
        )
    if all(re.fullmatch(r"[-+]?\d+([.,]\d+)?", name) for name in names):
        raise SourceError(
            f"`{path}` must have names of columns in its first line; got the numbers "
            f"{', '.join(names[:3])}"
        )


def check_fields(path: str | Path) -> None:
    """Check that all lines of a text file have as many fields; a Parquet file has no lines.

    Raises:
        SourceError: A line has more or fewer than the first.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        return
    delimiter, names = read_header(path)
    opener: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            quoting = _quoting(delimiter)
            reader = csv.reader(file, delimiter=delimiter, quoting=quoting, skipinitialspace=True)
            for row in reader:
                if len(row) not in (0, len(names)):
                    raise SourceError(
                        f"`{path}` must have as many fields in each line as in the first; line "
                        f"{reader.line_num} has {len(row)} instead of {len(names)}"
                    )
    except UnicodeDecodeError as error:
        raise _encoding_error(path, error) from error
    except csv.Error as error:
        raise SourceError(f"`{path}` must be a table; line {reader.line_num}: {error}") from error


def arrays(table: pd.DataFrame, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of a table as inputs of a model that has one input for each.

    Args:
        table: What `read_table` returned.
        columns: Names of columns.
    """
    return {name: table[name].to_numpy() for name in columns}


def rows_of(inputs: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Some rows of all inputs.

    Args:
        inputs: Arrays by name.
        rows: Row numbers.
    """
    return {name: values[rows] for name, values in inputs.items()}


def stream_table(
    path: str | Path,
    *,
    columns: Sequence[str],
    target: str,
    class_names: Sequence[str] | None = None,
    numbers: Sequence[str] = (),
    integers: Sequence[str] = (),
    decimal: str = ".",
    batch_size: int = 256,
    seed: int = 0,
) -> dict[str, Any]:
    """A table that is larger than the memory, as data sets that read it in parts.

    Each row belongs to training (60 percent), validation or test (20 each), always the same. The
    training rows are shuffled among the next 100,000: shuffle a file that is sorted once before.

    Args:
        path: See `read_table`.
        columns: Columns that are inputs of the model.
        target: The column to predict; rows where it is missing are left out.
        class_names: The classes, whose indices are the labels; None for regression.
        numbers: See `read_table`.
        integers: See `read_table`.
        decimal: See `read_table`.
        batch_size: Rows of a batch.
        seed: Seed of the split and of the order of the rows.

    Returns:
        ``x``, ``validation_data`` and ``test_data``, each a `tf.data.Dataset`.
    """
    import tensorflow as tf

    if class_names is None:
        numbers = [*numbers, target]

    def batches(part: int) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        import pandas as pd

        pool: pd.DataFrame | None = None
        for number, table in enumerate(chunks(path)):
            generator = np.random.default_rng([seed, number])
            chance = generator.random(len(table))
            rows = np.digitize(chance, [0.6, 0.8]) == part
            table = typed(table[rows], numbers=numbers, integers=integers, decimal=decimal)
            pool = table if pool is None else pd.concat([pool, table], ignore_index=True)
            if len(pool) >= _POOL:
                order = generator.permutation(len(pool))
                yield from batched(pool.iloc[order[_POOL // 2 :]])
                pool = pool.iloc[order[: _POOL // 2]]
        if pool is not None:
            yield from batched(pool.sample(frac=1, random_state=seed))

    def batched(table: pd.DataFrame) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
        labels = labels_of(table[target], class_names)
        usable = labels >= 0 if class_names is not None else ~np.isnan(labels)
        inputs, labels = arrays(table[usable], columns), labels[usable]
        for start in range(0, len(labels), batch_size):
            rows = np.arange(start, min(start + batch_size, len(labels)))
            yield rows_of(inputs, rows), labels[rows]

    def signature(name: str) -> tf.TensorSpec:
        kind = "float32" if name in numbers else "int64" if name in integers else "string"
        return tf.TensorSpec((None,), kind, name=name)

    labels = tf.TensorSpec((None,), "float32" if class_names is None else "int64")
    specification = ({name: signature(name) for name in columns}, labels)

    def dataset(part: int) -> tf.data.Dataset:
        return tf.data.Dataset.from_generator(
            lambda: batches(part), output_signature=specification
        ).prefetch(2)

    return {"x": dataset(0), "validation_data": dataset(1), "test_data": dataset(2)}


def labels_of(values: Any, class_names: Sequence[str] | None) -> np.ndarray:
    """Class indices of texts, int64, -1 for other texts; numbers are returned as float32.

    >>> labels_of(["b", "a", "c"], ["a", "b"])
    array([ 1,  0, -1])

    Args:
        values: The target column.
        class_names: The classes; None for regression.
    """
    if class_names is None:
        return np.asarray(values, dtype="float32")
    index = {name: number for number, name in enumerate(class_names)}
    return np.array([index.get(value, -1) for value in values], dtype="int64")


def time_order(times: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Row numbers in the order of time.

    Args:
        times: Numbers, or dates as texts, in a format that `pandas.to_datetime` reads.

    Raises:
        SourceError: A time is missing or cannot be read.
    """
    import pandas as pd

    texts = pd.Series(list(times), dtype=object)
    numbers = as_numbers(texts)
    if not np.isnan(numbers).any():
        return np.argsort(numbers, kind="stable")
    day_first = bool(texts.str.match(r"\d{2}\.\d{2}\.\d{4}").all())
    dates = pd.to_datetime(texts, dayfirst=day_first, errors="coerce", format="mixed")
    if dates.isna().any():
        raise SourceError(
            f"the column of times must have dates or numbers; got {texts[dates.isna()].iloc[0]!r}"
        )
    return np.argsort(dates.to_numpy(), kind="stable")
