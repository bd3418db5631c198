"""Import order and boundaries of the packages, read from the syntax tree."""

import ast
import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse.csgraph import connected_components

PACKAGE = "keras_nas_plugin"
ROOT = Path(__file__).resolve().parents[1] / PACKAGE
LONGEST = 600
# The largest share of arguments that are typed `Any`, which the type checker does not check.
MOST_UNCHECKED = 0.04

# The step of each package; a package imports only packages on lower steps and its own modules.
STEPS = {
    "": 0,
    "errors": 0,
    "quiet": 0,
    "files": 1,
    "html": 1,
    "lazy": 1,
    "wording": 1,
    "project": 2,
    "roles": 2,
    "space": 2,
    "pareto": 1,
    "strategies": 3,
    "evaluation": 3,
    "proxies": 3,
    "supernet": 3,
    "inheritance": 4,
    "records": 4,
    "oracles": 5,
    "tracking": 5,
    "registry": 6,
    "reports": 6,
    "transfer": 6,
    "export": 7,
    "training": 8,
    "executors": 9,
    "retraining": 9,
    "starters": 10,
    "tuner": 10,
    "cli": 11,
    "testing": 11,
}

# The only packages that may import a library, and packages that must not.
ONLY = {
    "mlflow": {"tracking", "registry"},
    "ray": {"executors"},
    "click": {"cli"},
    "matplotlib": {"reports"},
    "jinja2": {"reports"},
    "tensorflow": {
        "evaluation",
        "proxies",
        "supernet",
        "registry",
        "training",
        "retraining",
        "export",
        "starters",
    },
}
NEVER = {
    "keras_tuner": {
        "strategies",
        "proxies",
        "supernet",
        "evaluation",
        "records",
        "reports",
        "export",
    },
    "keras": {"strategies", "records", "tracking", "reports"},
}
# Private names of other libraries that classes of this package also define: see
# `docs/architecture.md`.
OF_OTHER_LIBRARIES = {"_replace", "_directory", "_project_name", "_display"}
OF_OTHER_LIBRARIES |= {"_build_hypermodel", "_set_project_dir", "_compare"}
# Packages that must start quickly import these libraries within functions only.
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


def test_the_modules_of_the_package_are_found():
    assert len(modules()) > 30
    assert "oracles/base.py" in modules()


def test_every_package_has_a_step():
    rooms = {room_of(name) for name in modules()}
    assert rooms <= STEPS.keys(), f"add {sorted(rooms - STEPS.keys())} to STEPS"


def test_imports_only_go_down_the_steps():
    wrong = []
    for description, room, (top, *inner) in each_import():
        if top != PACKAGE:
            continue
        target = inner[0] if inner and inner[0] in STEPS else ""
        allowed = target == room or STEPS[target] < STEPS[room] or room == ""
        if target == "testing" and room != "testing":
            allowed = False
        if not allowed:
            wrong.append(description)
    assert not wrong, wrong


@pytest.mark.parametrize("library", ONLY)
def test_a_library_is_imported_only_where_allowed(library):
    wrong = [w for w, room, (top, *_) in each_import() if top == library and room not in ONLY[top]]
    assert not wrong, wrong


@pytest.mark.parametrize("library", NEVER)
def test_a_library_is_not_imported_where_forbidden(library):
    wrong = [w for w, room, (top, *_) in each_import() if top == library and room in NEVER[top]]
    assert not wrong, wrong


@pytest.mark.parametrize("room", LAZY)
def test_slow_libraries_are_imported_within_functions(room):
    wrong = [
        description
        for description, importer, (top, *inner) in each_import(lazy=False)
        if importer == room
        and (top in LAZY[room] or (top == PACKAGE and inner[:1] in (["tuner"], ["training"])))
    ]
    assert not wrong, wrong


def test_only_public_names_of_keras_tuner_are_imported():
    # The messages, server and client of its service have no public names.
    service = ("executors/service/chief.py", "executors/service/client.py")
    wrong = [
        description
        for description, _, names in each_import()
        if names[:2] == ["keras_tuner", "src"] and not description.startswith(service)
    ]
    assert not wrong, wrong
    for name, tree in modules().items():
        for node in ast.walk(tree):
            is_path = isinstance(node, ast.Constant) and isinstance(node.value, str)
            assert not (is_path and node.value.startswith("keras_tuner.src")), name


def test_no_module_is_too_long():
    lengths = {name: len((ROOT / name).read_text("utf-8").splitlines()) for name in modules()}
    assert not {name: length for name, length in lengths.items() if length > LONGEST}


def test_few_arguments_are_typed_any():
    annotations = [
        argument.annotation
        for tree in modules().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
        if argument.arg not in ("self", "cls")
    ]
    unchecked = [a for a in annotations if isinstance(a, ast.Name) and a.id == "Any"]
    assert len(unchecked) < MOST_UNCHECKED * len(annotations)


def own_imports(tree):
    """Modules of the package that a module imports, those for type checkers included."""
    names = {".".join(Path(name).with_suffix("").parts) for name in modules()}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == PACKAGE:
            inner = node.module.partition(".")[2]
            for alias in node.names:
                submodule = f"{inner}.{alias.name}".lstrip(".")
                yield submodule if submodule in names else inner


def test_no_import_cycle_has_more_than_two_modules():
    names = [".".join(Path(name).with_suffix("").parts) for name in modules()]
    graph = np.zeros((len(names), len(names)))
    for importer, tree in enumerate(modules().values()):
        for imported in set(own_imports(tree)) & set(names):
            graph[importer, names.index(imported)] = 1
    count, labels = connected_components(graph, connection="strong")
    components = [
        [n for n, label in zip(names, labels, strict=True) if label == component]
        for component in range(count)
    ]
    assert not [cycle for cycle in components if len(cycle) > 2]


def private_names(tree):
    """Private attributes and methods that the classes of a module define."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    yield member.name
                elif isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
                    yield member.target.id
        is_stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if is_stored and ast.unparse(node.value) == "self":
            yield node.attr


def is_private(name):
    return name.startswith("_") and not name.startswith("__")


def test_private_attributes_are_used_in_their_own_folder_only():
    defined = {}
    for name, tree in modules().items():
        folder = defined.setdefault(Path(name).parent, set())
        folder.update(filter(is_private, private_names(tree)))
    everywhere = set().union(*defined.values()) - OF_OTHER_LIBRARIES
    wrong = [
        f"{name}:{node.lineno} {ast.unparse(node)}"
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and is_private(node.attr)
        and node.attr in everywhere - defined[Path(name).parent]
    ]
    assert not wrong, wrong


def test_private_names_are_imported_within_their_own_folder_only():
    wrong = [
        f"{name}:{node.lineno} {ast.unparse(node)}"
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and node.module.split(".")[0] == PACKAGE
        and any(is_private(alias.name) for alias in node.names)
        and Path(*node.module.split(".")[1:-1]) != Path(name).parent
    ]
    assert not wrong, wrong


def test_input_is_not_checked_with_asserts():
    wrong = [
        f"{name}:{node.lineno}"
        for name, tree in modules().items()
        if room_of(name) != "testing"
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
    ]
    assert not wrong, wrong


def test_no_bare_exception_is_raised_or_swallowed():
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
    completed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert completed.stdout.strip() == "[]"


def test_every_public_name_of_the_package_can_be_imported():
    import keras_nas_plugin

    for name in keras_nas_plugin.__all__:
        assert getattr(keras_nas_plugin, name) is not None
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        keras_nas_plugin.nothing_of_that_name  # noqa: B018
