"""Searches by name, each as ask and tell on a table: this project's oracles and their peers.

KerasTuner's contract is driven as a tuner drives it: `create_trial`, `update_trial`,
`end_trial`. Everybody has the defaults that a user gets who sets nothing but the budget and
the seed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from benchmarks._tables import Table

#: Oracle classes that the claims are about. One that is not there is a failure, not a gap.
EXPECTED = (
    "RandomOracle",
    "RegularizedEvolutionOracle",
    "ReinforceOracle",
    "PPOOracle",
    "LocalSearchOracle",
    "SurrogateOracle",
)
# Oracles that answer another question than a table of final scores asks.
_ELSEWHERE = {
    "GradientProxyOracle": "networks to score: benchmarks/proxy_search.py",
    "NSGA2Oracle": "several objectives: benchmarks/hypervolume.py",
    "SuccessiveHalvingOracle": "several budgets per configuration",
}
RANDOM, BAYESIAN, TPE, NSGA2 = "kt-random", "kt-bayesian", "optuna-tpe", "optuna-nsga2"
# KerasTuner 1.4.8 draws its n-th value with the seed plus n: near seeds share their proposals.
_STRIDE = 25_000
#: Peers by short name, with what they are called in a table for readers.
PEERS = {
    RANDOM: "KerasTuner random",
    BAYESIAN: "KerasTuner Bayesian",
    TPE: "Optuna TPE",
    NSGA2: "Optuna NSGA-II",
}


class Search(Protocol):
    """A search on one table."""

    def ask(self) -> Mapping[str, Any]:
        """The next configuration."""

    def tell(self, metrics: Mapping[str, float]) -> None:
        """The metrics of the configuration that was asked for last."""


#: Names and directions of what is searched for, as in `keras_tuner.Objective`.
Objectives = Sequence[tuple[str, str]]


def ours() -> dict[str, str]:
    """Class names of this project's oracles that a table can judge, by short name."""
    from keras_nas_plugin.oracles import STRATEGIES

    return {name: cls for name, cls in STRATEGIES.items() if cls not in _ELSEWHERE}


def missing() -> list[str]:
    """Expected oracles that do not exist."""
    return [name for name in EXPECTED if name not in ours().values()]


def short_name(oracle_class: str) -> str | None:
    """Short name of one of this project's oracles; None when there is none."""
    from keras_nas_plugin.oracles import STRATEGIES

    return next((name for name, cls in STRATEGIES.items() if cls == oracle_class), None)


def title_of(name: str) -> str:
    """What a search is called in a table for readers: this project's by their classes."""
    from keras_nas_plugin.oracles import STRATEGIES

    return PEERS.get(name) or STRATEGIES[name]


def make(
    name: str, table: Table, evaluations: int, seed: int, objectives: Objectives = ()
) -> Search:
    """A search that was not started.

    Args:
        name: One of the package's strategies or of `PEERS`.
        table: What to search.
        evaluations: The budget, as a user would pass it for ``max_trials``.
        seed: From 0 to 150,000.
        objectives: What to search for; the table's metric when there are none.
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
    """A KerasTuner oracle in the hands of one tuner.

    Args:
        oracle_class: The oracle, which takes an objective or a list of them, ``max_trials``,
            ``seed`` and ``hyperparameters``.
        table: What to search.
        evaluations: Its ``max_trials``.
        seed: Its seed.
        objectives: What to search for.
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
        wanted = [keras_tuner.Objective(name, direction) for name, direction in objectives]
        self.oracle = oracle_class(
            wanted[0] if len(wanted) == 1 else wanted,
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
    """KerasTuner's own oracle, which needs a folder and takes seed 0 for none."""
    import keras_tuner

    class Idle(keras_tuner.Tuner):
        def run_trial(self, trial, *args, **kwargs):
            raise NotImplementedError

    stock = keras_tuner.oracles
    kind = {RANDOM: stock.RandomSearchOracle, BAYESIAN: stock.BayesianOptimizationOracle}[name]
    search = OracleSearch(kind, table, evaluations, 1 + seed * _STRIDE, objectives)
    # Removed with the search.
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
    """An Optuna sampler with its defaults.

    Args:
        name: Which sampler.
        table: What to search; ordered values are suggested by their place in the order.
        seed: Its seed.
        objectives: What to search for.
    """

    def __init__(self, name: str, table: Table, seed: int, objectives: Objectives) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        samplers = {TPE: optuna.samplers.TPESampler, NSGA2: optuna.samplers.NSGAIISampler}
        ways = {"max": "maximize", "min": "minimize"}
        self._study = optuna.create_study(
            sampler=samplers[name](seed=seed), directions=[ways[way] for _, way in objectives]
        )
        self._metrics = [metric for metric, _ in objectives]
        self._parameters = table.parameters
        self._trial = None

    def ask(self) -> Mapping[str, Any]:
        """See `Search.ask`."""
        self._trial = self._study.ask()
        return {one.name: one.suggest(self._trial) for one in self._parameters}

    def tell(self, metrics: Mapping[str, float]) -> None:
        """See `Search.tell`."""
        self._study.tell(self._trial, [metrics[name] for name in self._metrics])
