"""A user's file: the model-building function and the data in it."""

from __future__ import annotations

import importlib.resources
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from keras_nas_plugin.errors import NASError, RecipeError

_BUILD, _DATA, _OBJECTIVE = "build_model", "load_data", "OBJECTIVE"
_SHIPPED = "keras_nas_plugin.recipes"


class Recipe:
    """What a search needs of a user's file.

    Args:
        target: ``path.py``, or ``path.py:name`` for another builder than ``build_model``: a
            function of ``hp``, or a `keras_tuner.HyperModel` class or instance.
        data: Name of the function that returns the data.

    Raises:
        RecipeError: The file cannot be read or run, or lacks a name.
    """

    def __init__(self, target: str, data: str = _DATA) -> None:
        self.path, name = locate(target)
        #: Names in the file, as they were asked for; the builder's is empty for the default.
        self.builder, self.data = name, data
        self._module = _load(self.path)
        self.hypermodel = _hypermodel(self._get(name or _BUILD))
        self._load_data: Callable[[], Any] = self._get(data)

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def objective(self) -> str | None:
        """The metric that the file asks for (``OBJECTIVE = "val_accuracy"``), or None."""
        return getattr(self._module, _OBJECTIVE, None)

    def load(self) -> Any:
        """What the data function returns.

        Raises:
            RecipeError: It failed.
        """
        try:
            return self._load_data()
        except NASError:
            raise
        except Exception as error:
            raise RecipeError(
                f"`{self.path}` needs a data function that runs; it raised "
                f"{type(error).__name__}: {error}"
            ) from error

    def fit_arguments(self) -> dict[str, Any]:
        """Arguments of `model.fit` from the user's data.

        Raises:
            RecipeError: The function failed, or its data do not fit together.
        """
        return fit_arguments(self.load())

    def _get(self, name: str) -> Any:
        if not hasattr(self._module, name):
            found = [
                key
                for key, value in vars(self._module).items()
                if callable(value) and getattr(value, "__module__", None) == self._module.__name__
            ]
            raise RecipeError(
                f"`{self.path}` needs `{name}`; it defines {', '.join(sorted(found)) or 'nothing'}"
            )
        return getattr(self._module, name)


def locate(target: str) -> tuple[Path, str]:
    """The file and the builder's name, if any, of ``path.py`` or ``path.py:name``.

    A file that does not exist is looked for among the recipes of the package.

    Raises:
        RecipeError: There is no such file.
    """
    stem, _, name = target.partition(".py:")
    path = stem + ".py" if name else target
    file = Path(path)
    if file.is_file():
        return file, name
    if file.parts[:1] == ("recipes",) or len(file.parts) == 1:
        try:
            shipped = importlib.resources.files(_SHIPPED) / file.name
        except ModuleNotFoundError:
            shipped = None
        if shipped is not None and shipped.is_file():
            return Path(str(shipped)), name
    raise RecipeError(f"`FILE` needs an existing Python file; received {path!r}")


def _load(path: Path) -> ModuleType:
    # A dot in a module's name stands for a package.
    name = path.stem.replace(".", "_")
    if _taken(name, path):
        # The file must not stand in for a module of that name that others import.
        name = f"nas_recipe_{name}"
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RecipeError(f"`FILE` needs a Python file ending in .py; received {str(path)!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (NASError, KeyboardInterrupt):
        raise
    except BaseException as error:
        frames = [
            f for f in traceback.extract_tb(error.__traceback__) if f.filename == spec.origin
        ]
        line = error.lineno if isinstance(error, SyntaxError) else (frames or [None])[-1]
        where = f", line {getattr(line, 'lineno', line)}" if line else ""
        raise RecipeError(
            f"`{path}` cannot be loaded{where}: {type(error).__name__}: {error}"
        ) from error
    return module


def _taken(name: str, path: Path) -> bool:
    """Whether another module than the file itself has this name."""
    known = sys.modules.get(name) or importlib.util.find_spec(name)
    origin = getattr(known, "__file__", None) or getattr(known, "origin", None)
    return known is not None and (origin is None or Path(origin).resolve() != path.resolve())


def _hypermodel(builder: Any) -> Any:
    if inspect.isclass(builder):
        try:
            return builder()
        except Exception as error:
            raise RecipeError(
                f"`{builder.__name__}` needs to be a class that can be made without arguments; "
                f"it raised {type(error).__name__}: {error}"
            ) from error
    if not callable(builder) and not hasattr(builder, "build"):
        raise RecipeError(
            f"the builder needs to be a function of hp or a HyperModel; received {builder!r}"
        )
    return builder


def fit_arguments(loaded: Any) -> dict[str, Any]:
    """Arguments of `model.fit` from what a data function returned.

    Args:
        loaded: ``((x, y), (x_val, y_val))``, the same with ``(x_test, y_test)`` (which the
            search does not touch), two or three `tf.data.Dataset`, ``(x, y)`` (the last
            fifth then validates), or a mapping of arguments of `model.fit`.

    Raises:
        RecipeError: Another shape, or inputs and targets of different lengths.
    """
    if isinstance(loaded, Mapping):
        arguments = {k: v for k, v in loaded.items() if k != "test_data"}
        _check_lengths("training", arguments.get("x"), arguments.get("y"))
        return arguments
    if not isinstance(loaded, tuple | list) or len(loaded) not in (2, 3):
        raise RecipeError(
            "`load_data` needs to return ((x, y), (x_val, y_val)), (x, y) or a mapping of "
            f"arguments of model.fit; received {_shape(loaded)}"
        )
    training, validation = loaded[0], loaded[1]
    if hasattr(training, "element_spec"):
        return {"x": training, "validation_data": validation}
    if not isinstance(training, tuple | list):
        _check_lengths("training", training, validation)
        return {"x": training, "y": validation, "validation_split": 0.2}
    for part, name in ((training, "training"), (validation, "validation")):
        if not isinstance(part, tuple | list) or len(part) != 2:
            raise RecipeError(
                f"`load_data` needs a pair (x, y) as {name} data; received {_shape(part)}"
            )
        _check_lengths(name, *part)
    _check_rows(training[0], validation[0])
    return {"x": training[0], "y": training[1], "validation_data": tuple(validation)}


def _check_lengths(name: str, x: Any, y: Any) -> None:
    if hasattr(x, "shape") and hasattr(y, "shape") and len(x) != len(y):
        raise RecipeError(
            f"`load_data` needs as many targets as inputs in its {name} data; received "
            f"{len(x)} inputs {tuple(x.shape)} and {len(y)} targets {tuple(y.shape)}"
        )


def _check_rows(x: Any, x_val: Any) -> None:
    if hasattr(x, "shape") and hasattr(x_val, "shape") and x.shape[1:] != x_val.shape[1:]:
        raise RecipeError(
            "`load_data` needs training and validation inputs of one shape; received "
            f"{tuple(x.shape)} and {tuple(x_val.shape)}"
        )


def _shape(data: Any) -> str:
    if hasattr(data, "shape"):
        return f"an array of shape {tuple(data.shape)}"
    if isinstance(data, tuple | list):
        return f"{type(data).__name__} of {len(data)}: ({', '.join(_shape(d) for d in data[:4])})"
    return type(data).__name__
