"""This project's oracles and their peers, by name and with an ask-and-tell interface.

KerasTuner oracles are called as a tuner calls them: `create_trial`, `update_trial`, `end_trial`.
Only the budget and the seed are set; every other argument has its default.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from benchmarks._tables import Table

#: Oracle classes that have targets. The benchmark fails if one of them does not exist.
EXPECTED = (
    "RandomOracle",
    "RegularizedEvolutionOracle",
    "ReinforceOracle",
    "PPOOracle",
    "LocalSearchOracle",
    "SurrogateOracle",
)
# Oracles that cannot be judged with a table of final scores, and what they require instead.
_ELSEWHERE = {
    "GradientProxyOracle": "networks to score: benchmarks/proxy_search.py",
    "DifferentiableOracle": "networks to train together: benchmarks/supernet_ranks.py",
    "OneShotOracle": "networks to train together: benchmarks/supernet_ranks.py",
    "NSGA2Oracle": "several objectives: benchmarks/hypervolume.py",
    "SuccessiveHalvingOracle": "several budgets per configuration",
}
RANDOM, BAYESIAN, TPE, NSGA2 = "kt-random", "kt-bayesian", "optuna-tpe", "optuna-nsga2"
# KerasTuner 1.4.8 draws its n-th value with the seed plus n, so nearby seeds share proposals.
_STRIDE = 25_000
#: Titles of the peers in reports, by short name.
PEERS = {
    RANDOM: "KerasTuner random",
    BAYESIAN: "KerasTuner Bayesian",
    TPE: "Optuna TPE",
    NSGA2: "Optuna NSGA-II",
}


class Search(Protocol):
    """A search on one table."""

    def ask(self) -> Mapping[str, Any]:
        """Propose the next configuration."""

    def tell(self, metrics: Mapping[str, float]) -> None:
        """Report the metrics of the configuration that was proposed last."""


#: Names and directions of the objectives, as in `keras_tuner.Objective`.
Objectives = Sequence[tuple[str, str]]


def ours() -> dict[str, str]:
    """Class names, by short name, of the oracles that a table of final scores can judge."""
    from keras_nas_plugin.oracles import STRATEGIES

    return {name: cls for name, cls in STRATEGIES.items() if cls not in _ELSEWHERE}


def missing() -> list[str]:
    """Expected oracles that do not exist."""
    return [name for name in EXPECTED if name not in ours().values()]


def short_name(oracle_class: str) -> str | None:
    """Short name of one of this project's oracles; None if it does not exist."""
    from keras_nas_plugin.oracles import STRATEGIES

    return next((name for name, cls in STRATEGIES.items() if cls == oracle_class), None)


def title_of(name: str) -> str:
    """Title of a search in reports: the class name for this project's oracles."""
    from keras_nas_plugin.oracles import STRATEGIES

    return PEERS.get(name) or STRATEGIES[name]


def make(
    name: str, table: Table, evaluations: int, seed: int, objectives: Objectives = ()
) -> Search:
    """Create a search.

    Args:
        name: One of the package's strategies or of `PEERS`.
        table: The table to search.
        evaluations: The budget, passed as ``max_trials``.
        seed: From 0 to 150,000.
        objectives: The objectives. Defaults to the table's metric.
    """
    objectives = objectives or ((table.metric, table.direction),)
    if name.startswith("optuna"):
        return OptunaSearch(name, table, seed, objectives)
    if name in PEERS:
        return _stock(name, table, evaluations, seed, objectives)
    from keras_nas_plugin import oracles

    oracle_class = getattr(oracles, oracles.STRATEGIES[name])
    return OracleSearch(oracle_class, table, evaluations, seed, objectives)


class OracleSearch:
    """A KerasTuner oracle with a single tuner.

    Args:
        oracle_class: The oracle, which takes an objective or a list of them, ``max_trials``,
            ``seed`` and ``hyperparameters``.
        table: The table to search.
        evaluations: ``max_trials`` of the oracle.
        seed: Seed of the oracle.
        objectives: The objectives.
    """

    def __init__(
        self,
        oracle_class: type,
        table: Table,
        evaluations: int,
        seed: int,
        objectives: Objectives,
    ) -> None:
        import keras_tuner

        space = keras_tuner.HyperParameters()
        table.declare(space)
        keras_objectives = [
            keras_tuner.Objective(name, direction) for name, direction in objectives
        ]
        self.oracle = oracle_class(
            keras_objectives[0] if len(keras_objectives) == 1 else keras_objectives,
            max_trials=evaluations,
            seed=seed,
            hyperparameters=space,
        )
        self.oracle.verbose = 0
        self._trial = None

    def ask(self) -> Mapping[str, Any]:
        """See `Search.ask`."""
        self._trial = self.oracle.create_trial("tuner0")
        if self._trial.status != "RUNNING":
            raise RuntimeError(f"{type(self.oracle).__name__} stopped: {self._trial.status}")
        return self._trial.hyperparameters.values

    def tell(self, metrics: Mapping[str, float]) -> None:
        """See `Search.tell`."""
        self.oracle.update_trial(self._trial.trial_id, metrics)
        self._trial.status = "COMPLETED"
        self.oracle.end_trial(self._trial)


def _stock(
    name: str, table: Table, evaluations: int, seed: int, objectives: Objectives
) -> OracleSearch:
    """One of KerasTuner's own oracles, which require a folder and treat seed 0 as no seed."""
    import keras_tuner

    class Idle(keras_tuner.Tuner):
        def run_trial(self, trial, *args, **kwargs):
            raise NotImplementedError

    stock = keras_tuner.oracles
    kind = {RANDOM: stock.RandomSearchOracle, BAYESIAN: stock.BayesianOptimizationOracle}[name]
    search = OracleSearch(kind, table, evaluations, 1 + seed * _STRIDE, objectives)
    # Deleted with the search.
    search.folder = tempfile.TemporaryDirectory()
    Idle(
        oracle=search.oracle,
        hypermodel=table.declare,
        directory=search.folder.name,
        project_name="search",
    )
    search.oracle.verbose = 0
    return search


class OptunaSearch:
    """An Optuna sampler with default arguments.

    Args:
        name: Short name of the sampler.
        table: The table to search. For ordered values, the sampler suggests an index.
        seed: Seed of the sampler.
        objectives: The objectives.
    """

    def __init__(self, name: str, table: Table, seed: int, objectives: Objectives) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        samplers = {TPE: optuna.samplers.TPESampler, NSGA2: optuna.samplers.NSGAIISampler}
        ways = {"max": "maximize", "min": "minimize"}
        self._study = optuna.create_study(
            sampler=samplers[name](seed=seed),
            directions=[ways[direction] for _, direction in objectives],
        )
        self._metrics = [metric for metric, _ in objectives]
        self._parameters = table.parameters
        self._trial = None

    def ask(self) -> Mapping[str, Any]:
        """See `Search.ask`."""
        self._trial = self._study.ask()
        return {parameter.name: parameter.suggest(self._trial) for parameter in self._parameters}

    def tell(self, metrics: Mapping[str, float]) -> None:
        """See `Search.tell`."""
        self._study.tell(self._trial, [metrics[name] for name in self._metrics])
