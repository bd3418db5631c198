"""Reference to the program of a search, stored for the commands that build its models again."""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import hashlib
import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from keras_nas_plugin.errors import RecipeError
from keras_nas_plugin.files import read_json, write_json
from keras_nas_plugin.project import ProjectLayout

_importing: contextvars.ContextVar[Path | None] = contextvars.ContextVar("importing", default=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecipeReference:
    """Where the models and data of a search come from.

    Attributes:
        file: Absolute path of the user's file.
        builder: Name of the builder in it; empty for the default.
        data: Name of its data function; empty if a program passed the data to `NASTuner.search`.
        digest: Digest of the file's content.
        distribute: Value of `--distribute`.
        split_seed: Seed of the validation rows, if the data function returns a single ``(x, y)``;
            None for the last fifth, as in searches of earlier versions.
        data_file: Absolute path of the file with the data; None for ``file``.
    """

    file: str
    builder: str
    data: str
    digest: str
    distribute: str | None = None
    split_seed: int | None = None
    data_file: str | None = None

    @property
    def of_a_program(self) -> bool:
        """Whether a program called `NASTuner.search`, not the command line."""
        return not self.data

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the reference to a project folder."""
        write_json(ProjectLayout.of(folder).recipe, dataclasses.asdict(self))

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> RecipeReference | None:
        """The reference in a project folder; None if there is none."""
        try:
            return cls(**read_json(ProjectLayout.of(folder).recipe))
        except (FileNotFoundError, NotADirectoryError):
            return None


def digest_of(path: Path) -> str:
    """Digest of a file's content: 16 hexadecimal characters."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def save_program(hypermodel: object, folder: str | os.PathLike[str]) -> None:
    """Store where a hypermodel is defined, unless the command line stored it.

    Nothing is stored for a hypermodel that cannot be imported by a name, such as a function
    inside a function.

    Args:
        hypermodel: The tuner's hypermodel.
        folder: The project folder.
    """
    existing = RecipeReference.read(folder)
    if existing is not None and not existing.of_a_program:
        return
    reference = _reference(hypermodel)
    if reference is not None and reference != existing:
        reference.save(folder)


def _reference(hypermodel: object) -> RecipeReference | None:
    # KerasTuner wraps functions in a hypermodel whose `build` is the function.
    build = vars(hypermodel).get("build") if hasattr(hypermodel, "__dict__") else None
    builder = build if inspect.isfunction(build) else hypermodel
    module = sys.modules.get(getattr(builder, "__module__", type(builder).__module__))
    file = getattr(module, "__file__", None)
    if module is None or file is None or not Path(file).is_file():
        return None
    name = _global_name(module, builder)
    if name is None:
        return None
    path = Path(file).resolve()
    return RecipeReference(file=str(path), builder=name, data="", digest=digest_of(path))


def _global_name(module: object, builder: object) -> str | None:
    """The name of a builder, or of its class, among the names of a module."""
    for name, value in vars(module).items():
        if value is builder:
            return name
    name = type(builder).__name__
    return name if vars(module).get(name) is type(builder) else None


@contextlib.contextmanager
def importing(path: Path) -> Iterator[None]:
    """While the block imports a user's file, `check_not_importing` raises.

    Args:
        path: The file.
    """
    token = _importing.set(path)
    try:
        yield
    finally:
        _importing.reset(token)


def check_not_importing() -> None:
    """Refuse to create a tuner while a command imports the program for its models.

    Raises:
        RecipeError: A command is importing the program.
    """
    path = _importing.get()
    if path is not None:
        raise RecipeError(
            f"`{path}` must not search when it is imported; got a tuner at its top level. Put "
            'the search below `if __name__ == "__main__":`'
        )
