"""A user's Python file with a model-building function and data."""

from __future__ import annotations

import functools
import importlib.resources
import importlib.util
import inspect
import sys
import traceback
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from keras_nas_plugin import quiet
from keras_nas_plugin.cli.split import FRACTION, RandomSplit, random_split
from keras_nas_plugin.errors import NASError, RecipeError
from keras_nas_plugin.records.program import importing

#: Name of the data function in a recipe, unless an option names another.
DATA_FUNCTION = "load_data"
_BUILD, _OBJECTIVE, _CLASS_NAMES = "build_model", "OBJECTIVE", "CLASS_NAMES"
_SHIPPED = "keras_nas_plugin.recipes"


class Recipe:
    """The parts of a user's file that a search needs.

    Args:
        target: ``path.py``, or ``path.py:name`` for another builder than ``build_model``: a
            function of ``hp``, or a `keras_tuner.HyperModel` class or instance.
        data: Name of the function that returns the data.
        data_file: Another file with the data: a Python file with that function, or an `.npz`
            file (see `load_arrays`). None for the recipe itself.

    Raises:
        RecipeError: A file cannot be read or run, or does not define a name.
    """

    def __init__(
        self, target: str, data: str = DATA_FUNCTION, data_file: str | None = None
    ) -> None:
        self.path, name = locate(target)
        #: Names in the file; the builder's is empty for the default.
        self.builder, self.data = name, data
        #: The file with the data; None for `path`.
        self.data_file = None if data_file is None else _data_file(data_file)
        self._module = _load(self.path)
        self.hypermodel = _hypermodel(self._get(name or _BUILD), name or _BUILD)
        self._load_data: Callable[[], Any] = self._data_function()

    @property
    def name(self) -> str:
        """The file's name without its extension."""
        return self.path.stem

    @property
    def objective(self) -> str | None:
        """The file's objective (``OBJECTIVE = "val_accuracy"``), or None."""
        return getattr(self._module, _OBJECTIVE, None)

    @property
    def class_names(self) -> list[str] | None:
        """Names of the file's classes (``CLASS_NAMES = ["ham", "spam"]``), or None.

        Raises:
            RecipeError: They are no list of strings.
        """
        names = getattr(self._module, _CLASS_NAMES, None)
        if names is None:
            return None
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise RecipeError(
                f"`{_CLASS_NAMES}` in `{self.path}` must be a list of strings; got {names!r}"
            )
        return list(names)

    def load(self) -> Any:
        """Call the data function.

        Raises:
            RecipeError: The function raised an error.
        """
        try:
            return self._load_data()
        except NASError:
            raise
        except Exception as error:
            raise RecipeError(
                f"`{self.data}` in `{self.path}` must return the data; it raised "
                f"{type(error).__name__}: {error}"
            ) from error

    def fit_arguments(self) -> dict[str, Any]:
        """Arguments of `model.fit` from the user's data.

        Raises:
            RecipeError: The function failed, or returned data that do not fit together.
        """
        return fit_arguments(self.load())

    def _data_function(self) -> Callable[[], Any]:
        if self.data_file is None:
            return self._get(self.data)
        if self.data_file.suffix == ".npz":
            return functools.partial(load_arrays, self.data_file)
        return _attribute(_load(self.data_file), self.data, self.data_file)

    def _get(self, name: str) -> Any:
        return _attribute(self._module, name, self.path)

    def pickle_by_value(self) -> None:
        """Let worker processes have the files' functions, which they cannot import by name."""
        import cloudpickle

        cloudpickle.register_pickle_by_value(self._module)
        if self.data_file is not None and self.data_file.suffix == ".py":
            cloudpickle.register_pickle_by_value(sys.modules[self._load_data.__module__])

    def loaded_in_workers(
        self, arguments: Mapping[str, Any], split_seed: int | None
    ) -> dict[str, Any]:
        """Arguments of `model.fit` whose data sets each worker process loads for itself.

        Args:
            arguments: The arguments, as this process has loaded them.
            split_seed: See `split_arguments`.
        """
        from keras_nas_plugin import DataFunction

        loader = _Loader(self._load_data, split_seed, dict(arguments))
        return {
            name: DataFunction(functools.partial(loader.argument, name))
            if hasattr(value, "element_spec")
            else value
            for name, value in arguments.items()
        }


class _Loader:
    """Loads the arguments of `model.fit`, once in each process.

    Args:
        load: The data function.
        split_seed: See `split_arguments`.
        arguments: The arguments, as this process has loaded them.
    """

    def __init__(
        self,
        load: Callable[[], Any],
        split_seed: int | None,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        self._load, self._split_seed = load, split_seed
        self._arguments = arguments

    def argument(self, name: str) -> Any:
        """An argument by its name."""
        if self._arguments is None:
            self._arguments, _ = split_arguments(self._load(), self._split_seed)
        return self._arguments[name]

    def __reduce__(self) -> tuple[type[_Loader], tuple[Callable[[], Any], int | None]]:
        return type(self), (self._load, self._split_seed)


def _attribute(module: ModuleType, name: str, path: Path) -> Any:
    if not hasattr(module, name):
        defined = [
            key
            for key, value in vars(module).items()
            if callable(value) and getattr(value, "__module__", None) == module.__name__
        ]
        raise RecipeError(
            f"`{path}` must define `{name}`; it defines {', '.join(sorted(defined)) or 'nothing'}"
        )
    return getattr(module, name)


def _data_file(value: str) -> Path:
    """The file that `--data` names."""
    path = Path(value)
    if path.suffix not in (".npz", ".py") or not path.is_file():
        raise RecipeError(
            f"`--data` must be an existing .npz or .py file; got {value!r}. To use another "
            "function of the recipe, name it with `--data-function`"
        )
    return path


def load_arrays(path: Path) -> Any:
    """The data in an `.npz` file, in the form that a data function returns.

    Args:
        path: A file with the arrays ``x`` and ``y``; optional are ``x_val`` and ``y_val``, and
            with these ``x_test`` and ``y_test``.

    Raises:
        RecipeError: The file cannot be read, or lacks an array.
    """
    import numpy as np

    try:
        with np.load(path) as archive:
            arrays = dict(archive)
    except FileNotFoundError:
        raise RecipeError(f"`--data` must be an existing file; got {str(path)!r}") from None
    except (OSError, zipfile.BadZipFile, ValueError, TypeError, EOFError) as error:
        raise RecipeError(
            f"`--data` must hold plain arrays; reading {str(path)!r} failed: {error}"
        ) from error
    parts = []
    for part in ("", "_val", "_test"):
        pair = {f"x{part}", f"y{part}"}
        if part and not pair & arrays.keys():
            continue
        missing = sorted(pair - arrays.keys())
        if missing:
            raise RecipeError(
                f"`--data` must hold the arrays {' and '.join(sorted(pair))}; {str(path)!r} lacks "
                f"{' and '.join(missing)} and holds {', '.join(sorted(arrays)) or 'nothing'}"
            )
        parts.append((arrays[f"x{part}"], arrays[f"y{part}"]))
    if len(parts) == 2 and "x_val" not in arrays:
        raise RecipeError(
            f"`--data` must hold x_val and y_val beside x_test and y_test; {str(path)!r} holds "
            f"{', '.join(sorted(arrays))}"
        )
    return parts[0] if len(parts) == 1 else tuple(parts)


def locate(target: str) -> tuple[Path, str]:
    """The file and the builder's name, if any, of ``path.py`` or ``path.py:name``.

    A file that does not exist is looked up among the recipes of the package.

    Args:
        target: The argument ``FILE[:NAME]`` of a command.

    Returns:
        The file, and the name; an empty name for the default.

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
    raise RecipeError(f"`FILE` must be an existing Python file; got {path!r}")


def function_in(target: str) -> Callable[..., Any]:
    """A function that a Python file defines.

    Args:
        target: ``path.py:name``; see `locate`.

    Raises:
        RecipeError: The file cannot be read or run, or does not define the function.
    """
    path, name = locate(target)
    function = _attribute(_load(path), name, path)
    if not callable(function):
        raise RecipeError(f"`{name}` in `{path}` must be a function; got {function!r}")
    return function


def _load(path: Path) -> ModuleType:
    # A module name with a dot would name a module of a package.
    name = path.stem.replace(".", "_")
    if _is_taken(name, path):
        # The file must not replace a module of that name that other code imports.
        name = f"nas_recipe_{name}"
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RecipeError(f"`FILE` must be a Python file ending in .py; got {str(path)!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with importing(path), quiet.tensorflow_start():
            spec.loader.exec_module(module)
    except (NASError, KeyboardInterrupt):
        raise
    except BaseException as error:
        line = _line_of(error, spec.origin)
        position = f", line {line}" if line else ""
        raise RecipeError(
            f"`{path}` cannot be loaded{position}: {type(error).__name__}: {error}"
        ) from error
    return module


def _line_of(error: BaseException, file: str | None) -> int | None:
    """The line of a file in which an error was raised; None if it was raised elsewhere."""
    if isinstance(error, SyntaxError):
        return error.lineno
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == file
    ]
    return lines[-1] if lines else None


def _is_taken(name: str, path: Path) -> bool:
    """Whether another module than the file itself has this name."""
    existing = sys.modules.get(name) or importlib.util.find_spec(name)
    origin = getattr(existing, "__file__", None) or getattr(existing, "origin", None)
    return existing is not None and (origin is None or Path(origin).resolve() != path.resolve())


def _hypermodel(builder: object, name: str) -> Any:
    if inspect.isclass(builder):
        try:
            return builder()
        except Exception as error:
            raise RecipeError(
                f"`{builder.__name__}` must be a class that can be created without arguments; "
                f"it raised {type(error).__name__}: {error}"
            ) from error
    if not callable(builder) and not hasattr(builder, "build"):
        raise RecipeError(f"`{name}` must be a function of hp or a HyperModel; got {builder!r}")
    return builder


def class_names_of(recipe: Recipe, loaded: object) -> list[str] | None:
    """Names of the classes, from the data or the file.

    Args:
        recipe: The user's file.
        loaded: What its data function returned.

    Returns:
        ``class_names`` of a mapping, else `Recipe.class_names`; None for neither.
    """
    if isinstance(loaded, Mapping) and loaded.get("class_names") is not None:
        return [str(name) for name in loaded["class_names"]]
    return recipe.class_names


def fit_arguments(loaded: object) -> dict[str, Any]:
    """Arguments of `model.fit` from what a data function returned.

    Args:
        loaded: ``((x, y), (x_val, y_val))``, the same with ``(x_test, y_test)`` (which the
            search does not use), two or three `tf.data.Dataset`, ``(x, y)`` (the last fifth is
            then used for validation, unless `split_arguments` draws it), or a mapping of
            arguments of `model.fit`, to which ``test_data`` and ``class_names`` may be added.

    Returns:
        Arguments of `model.fit` by name.

    Raises:
        RecipeError: ``loaded`` has another form, or inputs and targets differ in length.
    """
    if isinstance(loaded, Mapping):
        additions = ("test_data", "class_names")
        arguments = {key: value for key, value in loaded.items() if key not in additions}
        _check_lengths("training", arguments.get("x"), arguments.get("y"))
        return arguments
    if not isinstance(loaded, tuple | list) or len(loaded) not in (2, 3):
        raise RecipeError(
            "`load_data` must return ((x, y), (x_val, y_val)), (x, y) or a mapping of arguments "
            f"of model.fit; got {_shape(loaded)}"
        )
    training, validation = loaded[0], loaded[1]
    if hasattr(training, "element_spec"):
        return {"x": training, "validation_data": validation}
    if not isinstance(training, tuple | list):
        _check_lengths("training", training, validation)
        return {"x": training, "y": validation, "validation_split": FRACTION}
    for part, name in ((training, "training"), (validation, "validation")):
        if not isinstance(part, tuple | list) or len(part) != 2:
            raise RecipeError(
                f"`load_data` must return a pair (x, y) as {name} data; got {_shape(part)}"
            )
        _check_lengths(name, *part)
    _check_rows(training[0], validation[0])
    return {"x": training[0], "y": training[1], "validation_data": tuple(validation)}


def split_arguments(loaded: object, seed: int | None) -> tuple[dict[str, Any], RandomSplit | None]:
    """Arguments of `model.fit`, with random validation rows where the data are ``(x, y)``.

    Args:
        loaded: See `fit_arguments`.
        seed: Seed of the validation rows; None for the last rows, as in searches of earlier
            versions.

    Returns:
        Arguments of `model.fit` by name, and how the rows were split; None if they were not.

    Raises:
        RecipeError: See `fit_arguments`.
    """
    arguments = fit_arguments(loaded)
    if seed is None or isinstance(loaded, Mapping) or "validation_split" not in arguments:
        return arguments, None
    split = random_split(arguments["x"], arguments["y"], seed)
    if split is None:
        return arguments, None
    x, y = split.training
    return {"x": x, "y": y, "validation_data": split.validation}, split


def _check_lengths(name: str, x: Any, y: Any) -> None:
    if hasattr(x, "shape") and hasattr(y, "shape") and len(x) != len(y):
        raise RecipeError(
            f"`load_data` must return as many targets as inputs in its {name} data; got "
            f"{len(x)} inputs {tuple(x.shape)} and {len(y)} targets {tuple(y.shape)}"
        )


def _check_rows(x: object, x_val: object) -> None:
    if hasattr(x, "shape") and hasattr(x_val, "shape") and x.shape[1:] != x_val.shape[1:]:
        raise RecipeError(
            "`load_data` must return training and validation inputs of the same shape; got "
            f"{tuple(x.shape)} and {tuple(x_val.shape)}"
        )


def _shape(data: object) -> str:
    """Describe the type and shape of data, for error messages."""
    if hasattr(data, "shape"):
        return f"an array of shape {tuple(data.shape)}"
    if isinstance(data, tuple | list):
        return f"{type(data).__name__} of {len(data)}: ({', '.join(map(_shape, data[:4]))})"
    return type(data).__name__
