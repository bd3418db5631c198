"""Data that each process makes for itself, because they cannot be sent to another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_nas_plugin.errors import ArgumentError


class DataFunction:
    """Data for `NASTuner.search` that each worker process makes by calling a function.

    A `tf.data.Dataset` cannot be sent to the workers of an executor, but the function that makes
    it can:

    ```python
    def training():
        return tf.data.Dataset.from_tensor_slices((x, y)).shuffle(1000).batch(32)


    tuner.search(DataFunction(training), validation_data=(x_val, y_val), epochs=3)
    ```

    The process that searches calls the function as well, to look at the data. It is called once
    in each process.

    Args:
        function: Called without arguments; returns what `keras.Model.fit` takes.

    Raises:
        ArgumentError: It cannot be called.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        if not callable(function):
            raise ArgumentError(f"`function` must be callable; got a {type(function).__name__}")
        self._function = function
        # Empty before the first call.
        self._made: list[Any] = []

    def __call__(self) -> Any:
        """The data."""
        if not self._made:
            self._made.append(self._function())
        return self._made[0]

    def __reduce__(self) -> tuple[type[DataFunction], tuple[Callable[[], Any]]]:
        return type(self), (self._function,)
