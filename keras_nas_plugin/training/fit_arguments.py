"""The arguments of `keras.Model.fit`, read in one place.

KerasTuner passes the arguments of `search` to `fit` without reading them. Code of this package
that needs the data, the epochs or a few rows gets them from `FitArguments`.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_nas_plugin.errors import FitArgumentsError
from keras_nas_plugin.evaluation.datasets import (
    DataKind,
    count_rows,
    describe_data,
    has_single_rows,
    kind_of,
    map_arrays,
    sample_batch,
    sample_rows,
)
from keras_nas_plugin.evaluation.tensors import is_text_or_ragged, take_rows
from keras_nas_plugin.records.search import DatasetInfo
from keras_nas_plugin.training.data_function import DataFunction

#: Arguments of `keras.Model.fit` in their order (Keras 3).
FIT_ARGUMENTS = (
    "x",
    "y",
    "batch_size",
    "epochs",
    "verbose",
    "callbacks",
    "validation_split",
    "validation_data",
    "shuffle",
    "class_weight",
    "sample_weight",
    "initial_epoch",
    "steps_per_epoch",
    "validation_steps",
    "validation_batch_size",
    "validation_freq",
)


@dataclasses.dataclass(frozen=True, eq=False)
class DataSplit:
    """Inputs with their targets and weights: training, validation or test data.

    Nothing is copied, and no iterator is advanced.

    Args:
        x: Arrays, nested dictionaries, lists or tuples of arrays, or an object that holds the
            targets and weights as well (`tf.data.Dataset`, `keras.utils.PyDataset`, generators).
        y: Targets; None for such an object, and for models that need none.
        sample_weight: One weight per row, or None.
    """

    x: Any
    y: Any = None
    sample_weight: Any = None

    @classmethod
    def of(cls, data: object, name: str) -> DataSplit | None:
        """Data in the form of `validation_data`: one object, or a tuple of up to three.

        Args:
            data: ``(x,)``, ``(x, y)`` or ``(x, y, sample_weight)`` as a tuple or a list, one
                object of any other kind, or None.
            name: Name of the argument, for the error message.

        Returns:
            The data; None for None.

        Raises:
            FitArgumentsError: A tuple of another length, or arrays with different numbers of
                rows.
        """
        if data is None:
            return None
        if not isinstance(data, tuple | list):
            return cls(data)
        if not 1 <= len(data) <= 3:
            raise FitArgumentsError(
                f"`{name}` must be (x, y) or (x, y, sample_weight); got {len(data)} elements"
            )
        split = cls(*data)
        for argument, values in (("targets", split.y), ("sample weights", split.sample_weight)):
            rows = None if values is None else count_rows(values)
            if rows != split.rows and None not in (rows, split.rows):
                raise FitArgumentsError(
                    f"`{name}` must have as many {argument} as inputs; got {rows} and {split.rows}"
                )
        return split

    @functools.cached_property
    def kind(self) -> DataKind:
        """What kind of data ``x`` is."""
        return kind_of(self.x)

    @functools.cached_property
    def rows(self) -> int | None:
        """Number of rows of arrays; None for any other kind of data."""
        return count_rows(self.x)

    @property
    def weighted(self) -> bool | None:
        """Whether rows have weights; None if only iterating over the data would show it."""
        if self.sample_weight is not None:
            return True
        if self.kind is DataKind.TF_DATASET:
            spec = self.x.element_spec
            return isinstance(spec, tuple) and len(spec) == 3
        return False if self.kind is DataKind.ARRAYS else None

    def target_spec(self) -> tuple[tuple[int | None, ...], str] | None:
        """Shape and dtype of a batch of targets.

        Returns:
            The shape, whose first dimension is None, and the name of the dtype; None for several
            targets, for data that must be iterated to find out, and without targets.
        """
        if self.kind is DataKind.TF_DATASET:
            spec = self.x.element_spec
            if not isinstance(spec, tuple) or len(spec) < 2 or not hasattr(spec[1], "shape"):
                return None
            shape = spec[1].shape
            if shape.rank is None or has_single_rows(self.x):
                return None
            return (None, *shape[1:]), str(spec[1].dtype.name)
        if isinstance(self.y, np.ndarray) and self.y.dtype.kind in "biuf" and self.y.ndim:
            return (None, *self.y.shape[1:]), self.y.dtype.name
        return None

    def take(self, indices: np.ndarray) -> DataSplit:
        """These rows of arrays.

        Args:
            indices: Row numbers, an integer array of shape ``(n,)``.
        """

        def rows_of(array: object) -> Any:
            if is_text_or_ragged(array):
                return take_rows(array, indices)
            return np.asarray(array)[indices]

        def selected(data: object) -> object:
            return None if data is None else map_arrays(rows_of, data)

        return DataSplit(selected(self.x), selected(self.y), selected(self.sample_weight))

    def content(self) -> Any:
        """Inputs, targets and weights as one object, for `describe_data`."""
        fields = {"x": self.x, "y": self.y, "sample_weight": self.sample_weight}
        given = {name: data for name, data in fields.items() if data is not None}
        return self.x if given.keys() == {"x"} else given


def argument_names(hypermodel: object) -> tuple[str, ...]:
    """Names of the positional arguments of a hypermodel's `fit`, after ``hp`` and ``model``.

    Args:
        hypermodel: A `keras_tuner.HyperModel`; anything without a `fit` of its own has the
            arguments of `keras.Model.fit`.
    """
    fit = getattr(hypermodel, "fit", None)
    if fit is None:
        return FIT_ARGUMENTS
    names: list[str] = []
    for parameter in inspect.signature(fit).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:  # which go to `keras.Model.fit`
            own = names[2:]
            return (*own, *FIT_ARGUMENTS[len(own) :])
        if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            break
        names.append(parameter.name)
    return tuple(names[2:])


@dataclasses.dataclass(frozen=True, eq=False)
class FitArguments:
    """The arguments of one call of `keras.Model.fit`, or of a hypermodel's own `fit`.

    Nothing is refused or moved: what was positional stays positional, and arguments that `fit`
    does not accept are for `fit` to report. The first two positional arguments are the data,
    whatever a hypermodel calls them; any other is known by its name.

    Attributes:
        args: The positional arguments.
        kwargs: The keyword arguments.
        names: Names that the positional arguments have, in their order.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    names: tuple[str, ...] = FIT_ARGUMENTS

    @classmethod
    def bind(
        cls, args: Sequence[Any], kwargs: Mapping[str, Any], hypermodel: object = None
    ) -> FitArguments:
        """Map the arguments of a call to their names.

        >>> FitArguments.bind(("x", "y", 32), {"epochs": 9}).values
        {'x': 'x', 'y': 'y', 'batch_size': 32, 'epochs': 9}

        Args:
            args: Positional arguments, as of `keras_tuner.Tuner.search`.
            kwargs: Keyword arguments.
            hypermodel: The hypermodel whose `fit` gets them; None for `keras.Model.fit`.
        """
        return cls(tuple(args), dict(kwargs), argument_names(hypermodel))

    @property
    def values(self) -> dict[str, Any]:
        """The arguments that were given, by name."""
        return {**dict(zip(self.names, self.args, strict=False)), **self.kwargs}

    def to_fit(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments to call `fit` with.

        >>> FitArguments.bind(("x", "y", 32, 9), {}).replace(epochs=3, initial_epoch=1).to_fit()
        (('x', 'y', 32, 3), {'initial_epoch': 1})
        """
        return self.args, dict(self.kwargs)

    def made(self) -> FitArguments:
        """The same arguments, with data in place of each `DataFunction`."""

        def made(value: object) -> Any:
            return value() if isinstance(value, DataFunction) else value

        return dataclasses.replace(
            self,
            args=tuple(made(value) for value in self.args),
            kwargs={name: made(value) for name, value in self.kwargs.items()},
        )

    def replace(self, **changes: Any) -> FitArguments:
        """A copy with other values; positional arguments stay positional."""
        args, kwargs = list(self.args), dict(self.kwargs)
        for name, value in changes.items():
            if name in self.names[: len(args)]:
                args[self.names.index(name)] = value
            else:
                kwargs[name] = value
        return dataclasses.replace(self, args=tuple(args), kwargs=kwargs)

    def with_data(self, data: DataSplit) -> FitArguments:
        """A copy with other training data, in the arguments that held the data."""
        fields = {"x": data.x, "y": data.y}
        positional = len(self.args[:2])
        args = (*list(fields.values())[:positional], *self.args[2:])
        named = dict(list(fields.items())[positional:])
        kwargs = {name: named.get(name, value) for name, value in self.kwargs.items()}
        changed = dataclasses.replace(self, args=args, kwargs=kwargs)
        if "sample_weight" not in self.values:
            return changed
        return changed.replace(sample_weight=data.sample_weight)

    def without(self, *names: str) -> FitArguments:
        """A copy without some arguments; positional arguments after them become keywords."""
        positional = self.names[: len(self.args)]
        first = min([len(self.args), *(positional.index(n) for n in names if n in positional)])
        moved = dict(zip(positional[first:], self.args[first:], strict=False))
        kwargs = {
            name: value for name, value in {**moved, **self.kwargs}.items() if name not in names
        }
        return dataclasses.replace(self, args=self.args[:first], kwargs=kwargs)

    # ------------------------------------------------------------------ settings

    @property
    def batch_size(self) -> int | None:
        """Rows per batch; None for Keras' default, and for data that come in batches."""
        return self.values.get("batch_size")

    @property
    def epochs(self) -> int | None:
        """The epoch to train to; None if it was not given."""
        return self.values.get("epochs")

    @property
    def initial_epoch(self) -> int:
        """The epoch to start from, counted from 0."""
        return int(self.values.get("initial_epoch") or 0)

    @property
    def callbacks(self) -> list[Any]:
        """The callbacks, in a new list."""
        return list(self.values.get("callbacks") or ())

    @property
    def class_weight(self) -> Mapping[int, float] | None:
        """Weight per class, or None."""
        return self.values.get("class_weight")

    @property
    def validation_split(self) -> float:
        """Fraction of the training rows that validates; 0 for none."""
        return float(self.values.get("validation_split") or 0.0)

    # ------------------------------------------------------------------ data

    @property
    def x(self) -> Any:
        """The inputs, or an object that holds the targets as well; None where it is missing."""
        return self.args[0] if self.args else self.kwargs.get("x")

    @property
    def y(self) -> Any:
        """The targets; None where ``x`` holds them."""
        return self.args[1] if len(self.args) > 1 else self.kwargs.get("y")

    @property
    def sample_weight(self) -> Any:
        """Weights of the training rows that were given as a separate argument, or None."""
        return self.values.get("sample_weight")

    @property
    def training(self) -> DataSplit | None:
        """The training data before any ``validation_split``; None without ``x``."""
        return None if self.x is None else DataSplit(self.x, self.y, self.sample_weight)

    @property
    def validation(self) -> DataSplit | None:
        """The ``validation_data``; None where there are none.

        Raises:
            FitArgumentsError: They are a tuple of another length than 1 to 3.
        """
        return DataSplit.of(self.values.get("validation_data"), "validation_data")

    def splits(self) -> tuple[DataSplit | None, DataSplit | None]:
        """Training and validation data as `fit` uses them, with ``validation_split`` applied.

        As in Keras, ``validation_data`` come before ``validation_split``, and the latter takes the
        last rows.

        Raises:
            FitArgumentsError: ``validation_split`` cannot be applied, or ``validation_data`` have
                the wrong form.
        """
        training, validation = self.training, self.validation
        first = self.first_validation_row()
        if training is None or training.rows is None or first is None:
            return training, validation
        rows = np.arange(training.rows)
        return training.take(rows[:first]), training.take(rows[first:])

    def first_validation_row(self) -> int | None:
        """Number of the first row that ``validation_split`` takes; None if it takes none.

        Raises:
            FitArgumentsError: ``validation_split`` cannot be applied.
        """
        training = self.training
        if self.values.get("validation_data") is not None or training is None:
            return None
        if not self.validation_split:
            return None
        if training.rows is None:
            raise FitArgumentsError(
                "`validation_split` must be 0 unless `x` is an array or a structure of arrays; "
                f"got {self.validation_split} and a {type(training.x).__name__}. "
                "Pass `validation_data`."
            )
        first = math.floor(training.rows * (1.0 - self.validation_split))
        if not 0 < first < training.rows:
            raise FitArgumentsError(
                "`validation_split` must leave rows to train on and rows to validate on; got "
                f"{self.validation_split} of {training.rows} rows"
            )
        return first

    def sample(self, rows: int = 4) -> Any:
        """The first input rows of the training data: see `sample_rows`."""
        return sample_rows(self.x, rows)

    def sample_batch(self, rows: int) -> tuple[Any, Any] | None:
        """The first training rows with their targets: see `evaluation.datasets.sample_batch`."""
        return sample_batch(self.x, self.y, rows)

    def describe(
        self, name: str, report: Callable[[str, Exception], None] | None = None
    ) -> tuple[DatasetInfo, ...]:
        """Shapes and digests of the training and the validation data.

        Weights are not included. A hypermodel with its own `fit` may take data in a form that
        Keras does not know; they are described as far as possible.

        Args:
            name: Name of the data.
            report: See `describe_data`.
        """
        described = []
        if self.x is not None:
            data = DataSplit(self.x, self.y).content()
            described.append(describe_data(name, "training", data, report))
        validation = self.values.get("validation_data")
        if validation is not None:
            if isinstance(validation, tuple | list) and len(validation) >= 2:
                validation = {"x": validation[0], "y": validation[1]}
            described.append(describe_data(f"{name}-validation", "validation", validation, report))
        return tuple(DatasetInfo(**description) for description in described)
