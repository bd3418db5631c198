"""The sdist and the wheel, built from a copy of the checkout and installed, without a network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ["keras_nas_plugin", "recipes", "tests", "docs", "benchmarks", ".ci"]
VERSION = re.search(
    r'^__version__.* = "([^"]+)"',
    (ROOT / "keras_nas_plugin/__init__.py").read_text(encoding="utf-8"),
    re.MULTILINE,
).group(1)

# Folders on PYTHONPATH provide their modules, without the editable installs in them.
DEPENDENCIES = os.pathsep.join(path for path in sys.path if path.endswith("site-packages"))


def run(*command: object, cwd: Path, **environment: str) -> str:
    """Run a command and return its standard output; fails with all output of the command."""
    process = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": "", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 0, f"{command}\n{process.stdout}\n{process.stderr}"
    return process.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout without what git ignores."""
    copy = tmp_path_factory.mktemp("tree")
    for part in PARTS:
        if (ROOT / part).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(ROOT / part, copy / part, ignore=ignored)
    for file in ROOT.iterdir():
        if file.is_file() and (not file.name.startswith(".") and ".db" not in file.name):
            shutil.copy(file, copy)
    # Files that a build without exclusions would include.
    (copy / "recipes" / "__pycache__").mkdir(exist_ok=True)
    (copy / "recipes" / "__pycache__" / "image_classification.cpython-311.pyc").touch()
    return copy


@pytest.fixture(scope="module")
def sdist(tree: Path) -> Path:
    """The sdist; the same command builds a wheel from it, in the same folder."""
    run(sys.executable, "-m", "build", "--no-isolation", ".", cwd=tree)
    (archive,) = (tree / "dist").glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def wheel(sdist: Path) -> Path:
    (archive,) = sdist.parent.glob("*.whl")
    return archive


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which only the wheel is installed."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    (python,) = (folder / "bin").glob("python")
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet"),
        *("--no-deps", "--no-index", wheel),
        cwd=folder,
    )
    return python


def site_packages(python: Path) -> Path:
    (folder,) = python.parents[1].glob("lib/python*/site-packages")
    return folder


def files_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_contains_the_package_and_recipes_and_nothing_else(wheel: Path) -> None:
    names = files_of(wheel)
    assert wheel.name == f"keras_nas_plugin-{VERSION}-py3-none-any.whl"
    assert {name.split("/")[0] for name in names} == {
        "keras_nas_plugin",
        f"keras_nas_plugin-{VERSION}.dist-info",
    }
    modules = {f"keras_nas_plugin/{p.name}" for p in (ROOT / "keras_nas_plugin").glob("*.py")}
    recipes = {f"keras_nas_plugin/recipes/{p.name}" for p in (ROOT / "recipes").glob("*.py")}
    assert modules | recipes <= names
    assert not [name for name in names if "pycache" in name or "/tests/" in name]
    assert [name for name in names if name.endswith("LICENSE")]


def test_the_wheel_declares_version_dependencies_and_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        folder = f"keras_nas_plugin-{VERSION}.dist-info"
        metadata = archive.read(f"{folder}/METADATA").decode()
        scripts = archive.read(f"{folder}/entry_points.txt").decode()
    assert f"Version: {VERSION}\n" in metadata
    assert "Requires-Python: >=3.11\n" in metadata
    assert "keras-nas = keras_nas_plugin.cli.main:main" in scripts
    required = re.findall(r"^Requires-Dist: ([\w-]+)(?!.*extra ==)", metadata, re.MULTILINE)
    assert {"keras", "keras-tuner", "mlflow", "tensorboard", "six"} <= set(required)
    assert not [name for name in required if name.startswith("tensorflow")]


def test_the_sdist_contains_build_files_recipes_and_tests(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for file in ("setup.py", "pyproject.toml", "constraints.txt", "LICENSE", "Makefile"):
        assert file in names
    assert "recipes/image_classification.py" in names
    assert "tests/packaging/test_distribution.py" in names
    assert not [name for name in names if "pycache" in name or name.endswith(".pyc")]


def test_the_wheel_from_the_checkout_equals_the_wheel_from_the_sdist(
    tree: Path, wheel: Path, tmp_path: Path
) -> None:
    run(
        *(sys.executable, "-m", "build", "--no-isolation", "--wheel"),
        *("--outdir", tmp_path, "."),
        cwd=tree,
    )
    (direct,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(direct) as direct_archive, zipfile.ZipFile(wheel) as sdist_archive:
        assert set(direct_archive.namelist()) == set(sdist_archive.namelist())
        for name in direct_archive.namelist():
            if not name.endswith("RECORD"):
                assert direct_archive.read(name) == sdist_archive.read(name), name


def test_an_installed_wheel_finds_its_recipes(installed: Path) -> None:
    out = run(
        *(installed, "-c"),
        "import importlib.resources, keras_nas_plugin\n"
        "folder = importlib.resources.files('keras_nas_plugin.recipes')\n"
        "print(keras_nas_plugin.__version__)\n"
        "print(folder.joinpath('image_classification.py'))\n"
        "try:\n    import recipes\nexcept ModuleNotFoundError:\n    print('no recipes')\n",
        cwd=installed.parent,
    )
    version, recipe, top_level = out.splitlines()
    assert version == VERSION
    assert site_packages(installed) / "keras_nas_plugin/recipes" == Path(recipe).parent
    assert Path(recipe).read_bytes() == (ROOT / "recipes/image_classification.py").read_bytes()
    assert top_level == "no recipes"
    assert (installed.parent / "keras-nas").exists()


@pytest.mark.slow
def test_the_installed_command_searches_a_packaged_recipe(installed: Path, tmp_path: Path) -> None:
    out = run(
        *(installed.parent / "keras-nas", "search", "recipes/image_classification.py"),
        *("--max-trials", 1, "--epochs", 1, "--no-tracking", "--json"),
        cwd=tmp_path,
        PYTHONPATH=DEPENDENCIES,
        NAS_DATASET="digits",
        NAS_LIMIT="100",
    )
    assert json.loads(out)["trials"]["finished"] == 1


def test_an_editable_install_finds_the_recipes_of_the_checkout(tree: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False, symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet"),
        *("--no-deps", "--no-index", "--no-build-isolation", "--editable", tree),
        cwd=tmp_path,
        PYTHONPATH=DEPENDENCIES,
    )
    out = run(
        *(python, "-c"),
        "import importlib.resources\nprint(importlib.resources.files('keras_nas_plugin.recipes'))",
        cwd=tmp_path,
    )
    assert Path(out.strip()) == tree / "recipes"
