"""The order of the rooms and their fences, read from the syntax tree."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = "keras_nas_plugin"
ROOT = Path(__file__).resolve().parents[1] / PACKAGE
LONGEST = 400

# Who stands on which step; a room imports rooms on lower steps and its own, nothing else.
STEPS = {
    "": 0,
    "errors": 0,
    "files": 1,
    "lazy": 1,
    "project": 2,
    "roles": 2,
    "space": 2,
    "strategies": 3,
    "evaluation": 3,
    "proxies": 3,
    "supernet": 3,
    "oracles": 4,
    "tracking": 4,
    "registry": 5,
    "reports": 5,
    "transfer": 5,
    "export": 5,
    "training": 6,
    "tuner": 7,
    "distributed": 8,
    "cli": 9,
    "testing": 9,
}

# Who alone may import a library, or who may not.
ONLY = {
    "mlflow": {"tracking", "registry"},
    "ray": {"distributed"},
    "click": {"cli"},
    "matplotlib": {"reports"},
    "jinja2": {"reports"},
    "tensorflow": {"evaluation", "proxies", "supernet", "registry", "training", "export"},
}
NEVER = {
    "keras_tuner": {"strategies", "proxies", "supernet", "evaluation", "reports", "export"},
    "keras": {"strategies", "tracking", "reports"},
}
# Imported when a process asks for help, so within functions only.
LAZY = {"cli": {"keras", "keras_tuner", "tensorflow", "mlflow"}}


@functools.cache
def modules():
    """Path and syntax tree of every module, by its path inside the package."""
    paths = sorted(ROOT.glob("**/*.py"))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text("utf-8")) for path in paths}


def room_of(name):
    parts = name.split("/")
    first = parts[0].removesuffix(".py")
    return "" if first in ("__init__", "__main__") else first


def imports(tree, *, lazy=True):
    """Imported module names with their lines, except those for type checkers."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
            continue
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not lazy:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno
        waiting.extend(ast.iter_child_nodes(node))


def each_import(**options):
    for name, tree in modules().items():
        for imported, line in imports(tree, **options):
            yield f"{name}:{line} imports {imported}", room_of(name), imported.split(".")


def test_the_package_is_where_it_is_looked_for():
    assert len(modules()) > 30
    assert "oracles/base.py" in modules()


def test_every_room_has_its_place():
    rooms = {room_of(name) for name in modules()}
    assert rooms <= STEPS.keys(), f"give {sorted(rooms - STEPS.keys())} a place in STEPS"


def test_imports_go_down_the_steps():
    wrong = []
    for what, room, (top, *inner) in each_import():
        if top != PACKAGE:
            continue
        other = inner[0] if inner and inner[0] in STEPS else ""
        allowed = other == room or STEPS[other] < STEPS[room] or room == ""
        if other == "testing" and room != "testing":
            allowed = False
        if not allowed:
            wrong.append(what)
    assert not wrong, wrong


@pytest.mark.parametrize("library", ONLY)
def test_a_library_stays_in_its_rooms(library):
    wrong = [w for w, room, (top, *_) in each_import() if top == library and room not in ONLY[top]]
    assert not wrong, wrong


@pytest.mark.parametrize("library", NEVER)
def test_a_library_stays_out_of_rooms(library):
    wrong = [w for w, room, (top, *_) in each_import() if top == library and room in NEVER[top]]
    assert not wrong, wrong


@pytest.mark.parametrize("room", LAZY)
def test_slow_libraries_are_imported_within_functions(room):
    wrong = [
        what
        for what, where, (top, *inner) in each_import(lazy=False)
        if where == room
        and (top in LAZY[room] or (top == PACKAGE and inner[:1] in (["tuner"], ["training"])))
    ]
    assert not wrong, wrong


def test_only_public_names_of_keras_tuner_are_imported():
    wrong = [w for w, _, names in each_import() if names[:2] == ["keras_tuner", "src"]]
    assert not wrong, wrong
    for name, tree in modules().items():
        for node in ast.walk(tree):
            is_path = isinstance(node, ast.Constant) and isinstance(node.value, str)
            assert not (is_path and node.value.startswith("keras_tuner.src")), name


def test_no_module_is_longer_than_fits_in_the_head():
    lengths = {name: len((ROOT / name).read_text("utf-8").splitlines()) for name in modules()}
    assert not {name: length for name, length in lengths.items() if length > LONGEST}


def test_input_is_not_checked_with_asserts():
    wrong = [
        f"{name}:{node.lineno}"
        for name, tree in modules().items()
        if room_of(name) != "testing"
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]
    assert not wrong, wrong


def test_no_bare_exception_is_raised_and_none_swallowed():
    wrong = []
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and node.exc is not None:
                raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
                if ast.unparse(raised) in ("Exception", "BaseException"):
                    wrong.append(f"{name}:{node.lineno} raises {ast.unparse(raised)}")
            if isinstance(node, ast.ExceptHandler):
                if node.type is None:
                    wrong.append(f"{name}:{node.lineno} catches everything")
                broad = node.type is not None and "Exception" in ast.unparse(node.type).split(".")
                if broad and all(isinstance(line, ast.Pass) for line in node.body):
                    wrong.append(f"{name}:{node.lineno} swallows {ast.unparse(node.type)}")
    assert not wrong, wrong


@pytest.mark.parametrize(
    "module", [PACKAGE, f"{PACKAGE}.strategies", f"{PACKAGE}.oracles", f"{PACKAGE}.cli.main"]
)
def test_importing_loads_no_large_library(module):
    large = {"tensorflow", "keras", "keras_tuner", "mlflow", "ray", "matplotlib"}
    program = f"import sys, {module}; print(sorted({large!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_public_name_of_the_package_can_be_had():
    import keras_nas_plugin

    for name in keras_nas_plugin.__all__:
        assert getattr(keras_nas_plugin, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        keras_nas_plugin.nothing_of_that_name  # noqa: B018
