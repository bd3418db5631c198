"""A look at the data before the first training: what cannot train, and what misleads a search.

What cannot train is an error; everything else is a warning that says what to do. Only a few
batches of data sets are read, and generators are not touched.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import keras_tuner
import numpy as np

from keras_nas_plugin.errors import FitArgumentsError
from keras_nas_plugin.evaluation import data_quality as quality
from keras_nas_plugin.records.locating import location_of
from keras_nas_plugin.records.trial import FINISHED, load_records
from keras_nas_plugin.tracking.formatting import shorten
from keras_nas_plugin.training.bookkeeping import Bookkeeping, error_line
from keras_nas_plugin.training.checked_data import (
    Checked,
    Finding,
    Part,
    batch_with,
    batch_without,
    parts_of,
    unusable,
)
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.fit_arguments import FitArguments
from keras_nas_plugin.training.label_checks import class_balance, label_range
from keras_nas_plugin.training.sample_model import (
    SampleModel,
    sample_model,
    unchanged_generators,
)

logger = logging.getLogger("keras_nas_plugin")

_LISTED = 5  # columns in a message
_MAX_ERROR = 300  # characters of Keras' error in a message: some have all values of the data


def check_before_training(
    context: SearchContext,
    fit: FitArguments,
    *,
    build: Callable[[keras_tuner.HyperParameters], keras.Model] | None,
    certain: bool,
) -> None:
    """Check the data of a search, unless a trial was trained before or another process trains.

    Args:
        context: The search.
        fit: See `check_data`.
        build: See `check_data`.
        certain: See `check_data`.

    Raises:
        FitArgumentsError: No trial could be trained.
    """
    records = load_records(context.layout.folder)
    if context.role.runs_trials and not any(record.status == FINISHED for record in records):
        check_data(
            fit,
            build=build,
            certain=certain,
            get_space=context.get_space,
            objective=context.oracle.objective.name,
            bookkeeping=context.bookkeeping,
        )


def check_data(
    fit: FitArguments,
    *,
    build: Callable[[keras_tuner.HyperParameters], keras.Model] | None,
    certain: bool = True,
    get_space: Callable[[], keras_tuner.HyperParameters],
    objective: str,
    bookkeeping: Bookkeeping,
) -> None:
    """Warn of data that mislead a search, and reject data that no trial could be trained on.

    Args:
        fit: Arguments of `search`.
        build: Builds the model of a configuration; None where the search builds its models in
            another way.
        certain: Whether `keras.Model.fit` trains these models on the data as they are. Otherwise,
            as with a hypermodel's own `fit`, every finding is a warning.
        get_space: Returns a new copy of the search space.
        objective: Name of the objective.
        bookkeeping: Reports a check that raises an error.

    Raises:
        FitArgumentsError: No trial could be trained.
    """
    certain = certain and build is not None
    findings: list[Finding] = []
    with bookkeeping.step("the data could not be checked"), unchanged_generators():
        findings += _findings(fit, build, certain, get_space, objective, bookkeeping)
    for finding in findings:
        if finding.fatal and certain:
            raise FitArgumentsError(finding.text)
    for finding in findings:
        logger.warning("%s", finding.text)


def _findings(
    fit: FitArguments,
    build: Callable[[keras_tuner.HyperParameters], keras.Model] | None,
    certain: bool,
    get_space: Callable[[], keras_tuner.HyperParameters],
    objective: str,
    bookkeeping: Bookkeeping,
) -> list[Finding]:
    try:
        wrong = list(itertools.islice(unusable(fit), 1)) if certain else []
        training, validation = (None, None) if wrong else parts_of(fit)
    except FitArgumentsError as error:
        wrong = [Finding(str(error), True)] if certain else []
        training = validation = None
    if training is None:
        return wrong
    sample = SampleModel()
    checked = functools.partial(
        Checked, fit, training, validation, objective=objective, certain=certain
    )

    def explains(failed: SampleModel) -> bool:
        return bool(_not_numbers(training)) or any(label_range(checked(sample=failed)))

    if build is not None and training.batch:
        sample = sample_model(build, get_space, training.batch, explains)
    findings: list[Finding] = []
    for check in _CHECKS:
        with bookkeeping.step("a check of the data was left out"):
            for finding in check(checked(sample=sample)):
                findings.append(finding)
                if finding.fatal and certain:
                    return [finding]
    return findings


# ---------------------------------------------------------------------- one batch


def _not_numbers(part: Part) -> list[tuple[str, quality.NotANumber]]:
    return [
        (name, column)
        for which in ("x", "y")
        for name, array in part.arrays(which)
        for column in quality.not_numbers(array)
    ]


def _missing_texts(data: Checked) -> Iterator[Finding]:
    """Texts that are missing in some rows, on which a model of texts fails."""
    for part in data.parts:
        for name, array in part.arrays("x"):
            missing = quality.missing_texts(array)
            if missing is None:
                continue
            fails = data.sample.model is None or data.sample.error_of(
                batch_with(part, missing.rows)
            )
            if fails and (data.sample.reads_texts(name) or data.sample.built is None):
                where = f"column {missing.column!r} of `{name}`" if missing.column else f"`{name}`"
                yield Finding(
                    f"{where} must have a text in each row; got {missing.count:,} "
                    f"{_plural(missing.count, 'row')} with {missing.example!r}, first in "
                    f"{_row(array, missing.rows[0])}. Replace it (`fillna('')`), or remove the "
                    "rows.",
                    data.sample.built is not None,
                )


def _first_batch(data: Checked) -> Iterator[Finding]:
    """A model that cannot be evaluated on the first training or validation rows."""
    if not data.certain:
        return  # which another `fit` may prepare first
    if data.training.batch == {}:
        yield Finding("`x` must have at least one batch; got an empty data set", True)
        return
    error, part = data.sample.error, data.training
    if error is None and data.validation is not None and _differ(data.training, data.validation):
        error, part = data.sample.error_of(data.validation.batch), data.validation
    if error is None:
        return
    problem = shorten(error_line(error), _MAX_ERROR).removesuffix(".")
    unread = (item for item in _not_numbers(part) if not data.sample.reads_texts(item[0]))
    for name, column in itertools.islice(unread, 1):
        where = f"column {column.column!r} of `{name}`" if column.column else f"`{name}`"
        kinds = {quality.TEXT: "texts such as", quality.OBJECT: "Python objects such as"}
        kind = kinds.get(column.kind, f"values of the pandas type {column.kind} such as")
        if name.startswith("y"):
            advice = "`classes, y = np.unique(y, return_inverse=True)` numbers them"
        elif column.kind in kinds:
            advice = (
                "Encode them as numbers (`astype('float32')`, `pandas.get_dummies`), or begin "
                "the model with a layer for them, such as keras.layers.StringLookup"
            )
        else:
            advice = "Convert the columns with `astype('float32')`"
        yield Finding(
            f"{where} must have numbers; got {kind} {column.example!r}, and the model of "
            f"`hypermodel` fails on them ({problem}). {advice}.",
            True,
        )
        return
    values = next(_causes_error(data, part, problem), None)
    if values is not None:
        yield values
        return
    location = location_of(error)
    line = f" At {location}." if location else ""
    yield Finding(
        f"the model of `hypermodel` must accept the first rows of `{part.name}`; it raised "
        f"{problem}. {_shapes(part)}.{line}",
        True,
    )


def _causes_error(data: Checked, part: Part, problem: str) -> Iterator[Finding]:
    """Values that are not finite, if the model can be evaluated on the rows without them."""
    found = [
        (name, bad, _row(array, bad.rows[0]))
        for which in ("x", "y", "sample_weight")
        for name, array in part.arrays(which)
        if (bad := quality.non_finite(array)) is not None
    ]
    sample = SampleModel(data.sample.model or data.sample.built)
    batch = batch_without(part, {row for _, bad, _ in found for row in bad.rows})
    if batch is not None and sample.error_of(batch) is None:
        for name, bad, first in found:
            yield Finding(
                f"{_not_finite(name, bad, first)}. The model fails on such rows ({problem}): "
                "replace these values, or remove the rows.",
                True,
            )


def _differ(training: Part, validation: Part) -> bool:
    """Whether rows of two parts have different forms, or forms that are not known."""
    forms = [
        [
            (name.partition("[")[2], rows.shape[1:], rows.dtype)
            for which in ("x", "y", "sample_weight")
            for name, array in part.arrays(which)
            for rows in [np.asarray(quality.rows_of(array, slice(0, 1)))]
        ]
        for part in (training, validation)
    ]
    numeric = all(dtype.kind in "biuf" for _, _, dtype in forms[0])
    return bool(validation.batch) and not (numeric and forms[0] == forms[1])


def _shapes(part: Part) -> str:
    shapes = [
        f"{name} {getattr(np.asarray(quality.rows_of(array, slice(0, 1))), 'dtype', '')} "
        f"{(quality.length_of(array), *np.asarray(quality.rows_of(array, slice(0, 1))).shape[1:])}"
        for which in ("x", "y")
        for name, array in part.arrays(which)
    ]
    return "The data are " + ", ".join(shapes)


# ---------------------------------------------------------------------- values


def _finite(data: Checked) -> Iterator[Finding]:
    """NaN and infinite values, unless the model has a finite loss on their rows."""
    for part in data.parts:
        for which in ("x", "y", "sample_weight"):
            for name, array in part.arrays(which):
                bad = quality.non_finite(array)
                if bad is not None:
                    yield from _non_finite(data, part, name, bad, _row(array, bad.rows[0]))


def _non_finite(
    data: Checked, part: Part, name: str, bad: quality.NonFinite, first: str
) -> Iterator[Finding]:
    batch = batch_with(part, bad.rows)
    loss = data.sample.loss_of(batch)
    if loss is not None and math.isfinite(loss):
        return  # the model is made for such values
    error = data.sample.error_of(batch) if loss is None else None
    certain = loss is not None and (part.name == "x" or data.objective == "val_loss")
    effect = "Most models have no finite loss on such rows"
    if loss is not None:
        effect = "The loss of the model is NaN or infinite on such rows"
    elif error is not None:
        effect = f"The model fails on such rows ({shorten(error_line(error), _MAX_ERROR)})"
    yield Finding(
        f"{_not_finite(name, bad, first)}. {effect}: replace these values, or remove the rows.",
        certain or error is not None,
    )


def _not_finite(name: str, bad: quality.NonFinite, first: str) -> str:
    """Which values are not finite."""
    columns = [f"{column!r} ({count:,})" for column, count in list(bad.columns.items())[:_LISTED]]
    more = f" and {len(bad.columns) - _LISTED} more" if len(bad.columns) > _LISTED else ""
    where = f" in {_plural(len(bad.columns), 'column')} {', '.join(columns)}{more}"
    return (
        f"`{name}` must be finite numbers within the range of float32; got {bad.values:,} that "
        f"are not{where if columns else ''}, first in {first}"
    )


def _row(array: Any, number: int) -> str:
    """A row, by its label in a pandas object whose rows are others than at first."""
    if not hasattr(array, "iloc") or array.index[number] == number:
        return f"row {number:,}"
    return f"the row with index {array.index[number]}"


def _plural(count: int, noun: str) -> str:
    return noun if count == 1 else f"{noun}s"


# ---------------------------------------------------------------------- repeated rows


def _repeated(data: Checked) -> Iterator[Finding]:
    """Training rows that are validation rows again."""
    if data.validation is None:
        return
    advice = "Scores on them are too good: remove the duplicates before you split the data."
    if data.fit.x is data.fit.values.get("validation_data"):
        yield Finding(f"`validation_data` is the training data set. {advice}")
        return
    rows = quality.repeated_rows(
        [array for _, array in data.training.arrays("x")],
        [array for _, array in data.validation.arrays("x")],
    )
    if rows is not None:
        complete = data.training.complete and data.validation.complete
        partly = "" if complete else "(Only the first batches were compared.) "
        yield Finding(
            f"{rows.repeated:,} of {rows.read:,} validation rows are training rows as well. "
            f"{partly}{advice}"
        )


_CHECKS: tuple[Callable[[Checked], Iterable[Finding]], ...] = (
    label_range,
    _missing_texts,
    _first_batch,
    _finite,
    class_balance,
    _repeated,
)
