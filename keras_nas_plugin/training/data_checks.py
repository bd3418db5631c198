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

import keras
import keras_tuner
import numpy as np

from keras_nas_plugin.errors import FitArgumentsError
from keras_nas_plugin.evaluation import data_quality as quality
from keras_nas_plugin.records.locating import location_of
from keras_nas_plugin.training.bookkeeping import Bookkeeping, error_line
from keras_nas_plugin.training.checked_data import (
    Checked,
    Finding,
    Part,
    batch_with,
    mismatched_rows,
    parts_of,
)
from keras_nas_plugin.training.fit_arguments import FitArguments
from keras_nas_plugin.training.label_checks import class_balance, label_range
from keras_nas_plugin.training.sample_model import (
    SampleModel,
    sample_model,
    unchanged_generators,
)

logger = logging.getLogger("keras_nas_plugin")

_LISTED = 5  # columns in a message


def check_data(
    fit: FitArguments,
    *,
    build: Callable[[keras_tuner.HyperParameters], keras.Model] | None,
    get_space: Callable[[], keras_tuner.HyperParameters],
    objective: str,
    bookkeeping: Bookkeeping,
) -> None:
    """Warn of data that mislead a search, and reject data that no trial could be trained on.

    Args:
        fit: Arguments of `search`.
        build: Builds the model of a configuration, which `keras.Model.fit` trains; None where
            the search trains its models in another way, whose demands on the data are not known.
        get_space: Returns a new copy of the search space.
        objective: Name of the objective.
        bookkeeping: Reports a check that raises an error.

    Raises:
        FitArgumentsError: No trial could be trained.
    """
    findings: list[Finding] = []
    with bookkeeping.step("the data could not be checked"), unchanged_generators():
        findings += _findings(fit, build, get_space, objective, bookkeeping)
    for finding in findings:
        if finding.fatal:
            raise FitArgumentsError(finding.text)
    for finding in findings:
        logger.warning("%s", finding.text)


def _findings(
    fit: FitArguments,
    build: Callable[[keras_tuner.HyperParameters], keras.Model] | None,
    get_space: Callable[[], keras_tuner.HyperParameters],
    objective: str,
    bookkeeping: Bookkeeping,
) -> list[Finding]:
    if build is not None:
        mismatch = list(itertools.islice(mismatched_rows(fit), 1))
        if mismatch:
            return mismatch
    training, validation = parts_of(fit)
    if training is None:
        return []
    sample = SampleModel()
    checked = functools.partial(Checked, fit, training, validation, objective=objective)

    def explains(failed: SampleModel) -> bool:
        return bool(_not_numbers(training)) or any(label_range(checked(sample=failed)))

    if build is not None and training.batch:
        sample = sample_model(build, get_space, training.batch, explains)
    findings: list[Finding] = []
    for check in _CHECKS:
        with bookkeeping.step("a check of the data was left out"):
            for finding in check(checked(sample=sample)):
                findings.append(finding)
                if finding.fatal:
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


def _first_batch(data: Checked) -> Iterator[Finding]:
    """A model that cannot be evaluated on the first training or validation rows."""
    if data.training.batch == {}:
        yield Finding("`x` must have at least one batch; got an empty data set", True)
        return
    error, part = data.sample.error, data.training
    if error is None and data.validation is not None and _differ(data.training, data.validation):
        error, part = data.sample.error_of(data.validation.batch), data.validation
    if error is None:
        return
    for name, column in itertools.islice(_not_numbers(part), 1):
        where = f"column {column.column!r} of `{name}`" if column.column else f"`{name}`"
        kind = "texts such as" if column.text else "Python objects such as"
        advice = (
            "`classes, y = np.unique(y, return_inverse=True)` numbers them"
            if name.startswith("y")
            else "Encode them as numbers (`astype('float32')`, `pandas.get_dummies`), or begin "
            "the model with a layer for them, such as keras.layers.StringLookup"
        )
        yield Finding(
            f"{where} must have numbers; got {kind} {column.example!r}, and the model of "
            f"`hypermodel` fails on them ({error_line(error)}). {advice}.",
            True,
        )
        return
    location = location_of(error)
    place = f" At {location}." if location else ""
    yield Finding(
        f"the model of `hypermodel` must accept the first rows of `{part.name}`; it raised "
        f"{error_line(error).removesuffix('.')}. {_shapes(part)}.{place}",
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
                    yield from _non_finite(data, part, name, bad)


def _non_finite(data: Checked, part: Part, name: str, bad: quality.NonFinite) -> Iterator[Finding]:
    loss = data.sample.loss_of(batch_with(part, bad.rows))
    if loss is not None and math.isfinite(loss):
        return  # the model is made for such values
    columns = [f"{column!r} ({count:,})" for column, count in list(bad.columns.items())[:_LISTED]]
    more = f" and {len(bad.columns) - _LISTED} more" if len(bad.columns) > _LISTED else ""
    where = f" in {_plural(len(bad.columns), 'column')} {', '.join(columns)}{more}"
    text = (
        f"`{name}` must be finite numbers within the range of float32; got {bad.values:,} that "
        f"are not{where if columns else ''}, first in row {bad.rows[0]:,}. "
    )
    certain = loss is not None and (part.name == "x" or data.objective == "val_loss")
    effect = "The loss of the model is NaN or infinite on such rows" if loss is not None else ""
    effect = effect or "Most models have no finite loss on such rows"
    yield Finding(f"{text}{effect}: replace these values, or remove the rows.", certain)


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
    if not (data.training.complete and data.validation.complete):
        return
    rows = quality.repeated_rows(
        [array for _, array in data.training.arrays("x")],
        [array for _, array in data.validation.arrays("x")],
    )
    if rows is not None:
        yield Finding(
            f"{rows.repeated:,} of {rows.read:,} validation rows are training rows as well. "
            f"{advice}"
        )


_CHECKS: tuple[Callable[[Checked], Iterable[Finding]], ...] = (
    label_range,
    _first_batch,
    _finite,
    class_balance,
    _repeated,
)
