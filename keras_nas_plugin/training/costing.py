"""What the models of a search cost: which costs it needs, and who may be trained at all."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import keras_tuner

from keras_nas_plugin.errors import CostError
from keras_nas_plugin.evaluation import energy, names
from keras_nas_plugin.evaluation.constraints import Constraint, broken_by
from keras_nas_plugin.evaluation.costs import analytic_costs, measured_costs, required_meter
from keras_nas_plugin.oracles.base import NASOracle
from keras_nas_plugin.oracles.screening import Screen, Screening
from keras_nas_plugin.tracking.records import Refused, TrialRecord, load_refusals
from keras_nas_plugin.training import runtime, session

logger = logging.getLogger("keras_nas_plugin")


@dataclasses.dataclass(frozen=True)
class CostPlan:
    """Which costs a search finds out.

    Attributes:
        needed: Those that an objective or a constraint is about: they must not be missing.
        wanted: All that a trial has.
    """

    needed: tuple[str, ...] = ()
    wanted: tuple[str, ...] = names.ANALYTIC

    @property
    def measured(self) -> tuple[str, ...]:
        """Those that are found by running the model."""
        running = (names.LATENCY, names.LATENCY_P95, names.ENERGY)
        return tuple(name for name in self.wanted if name in running)

    def costs_of(self, model: Any, known: Mapping[str, float]) -> dict[str, float]:
        """Costs of a model, without finding out again what is known.

        Raises:
            CostError: What an objective or a constraint needs cannot be found out.
        """
        open_ones = [name for name in self.wanted if name not in known]
        found = analytic_costs(model, open_ones, needed=self.needed)
        measured = [name for name in self.measured if name not in known]
        return {**found, **(measured_costs(model, measured) if measured else {}), **known}


def cost_plan(oracle: keras_tuner.Oracle, measure: Iterable[str]) -> CostPlan:
    """What objectives, constraints and the user ask for.

    Args:
        oracle: The search's.
        measure: See `NASTuner`.

    Raises:
        CostError: ``measure`` names no cost, or the machine cannot measure the energy that an
            objective or a constraint is about.
    """
    objective = oracle.objective
    objectives = [one.name for one in getattr(objective, "objectives", [objective])]
    limits = [constraint.name for constraint in getattr(oracle, "constraints", ())]
    needed = names.costs_among([name for name in objectives if name in names.COSTS] + limits)
    if names.ENERGY in needed:
        required_meter()
    asked = _asked_for(measure)
    return CostPlan(needed, names.costs_among([*names.ANALYTIC, *needed, *asked]))


def _asked_for(measure: Iterable[str]) -> list[str]:
    if isinstance(measure, str):
        raise CostError(
            f"`measure` needs several names, such as ('latency',); received {measure!r}"
        )
    found = []
    for name in measure:
        known = names.canonical(name)
        if known not in names.COSTS:
            raise CostError(
                f"`measure` needs names among {', '.join(sorted(names.COSTS))}; received {name!r}"
            )
        if known == names.ENERGY and energy.find_meter() is None:
            logger.warning(
                "This machine does not say what energy it uses: trials get `%s`, an estimate, and "
                "no `%s`.",
                names.ENERGY_ESTIMATE,
                names.ENERGY,
            )
            known = names.ENERGY_ESTIMATE
        found += [known, names.LATENCY_P95] if known == names.LATENCY else [known]
    return found


class CostScreen:
    """Builds a candidate's model and checks what it costs, before it becomes a trial.

    Costs that are read off the model come first; it is run only where they are kept. A model
    that cannot be built passes: its trial says what is wrong with it. So does one whose costs
    are known only once it trains; its constraints are checked when its trial ended.

    Args:
        tuner: The `NASTuner`.
        constraints: Limits on costs.
        then: Another screen, for what passes.
    """

    def __init__(self, tuner: Any, constraints: Iterable[Constraint], then: Screen | None) -> None:
        self.tuner = tuner
        self.constraints = tuple(constraints)
        self.then = then
        self._warned = False

    def __call__(self, hp: keras_tuner.HyperParameters) -> Screening:
        """See `keras_nas_plugin.oracles.screening.Screen`."""
        self.tuner._limit.check("screened")
        session.forget_models()
        model = self._built(hp)
        screening = Screening() if model is None else self._judged(model)
        if self.then is None or not screening.feasible:
            return screening
        other = self.then(hp)
        return dataclasses.replace(other, metrics={**screening.metrics, **other.metrics})

    def _built(self, hp: keras_tuner.HyperParameters) -> Any:
        """The model; None for one that cannot be judged."""
        try:
            # A chief asks in a thread of its own, and Keras' dtype policy is one per thread.
            with runtime.precision(self.tuner.precision):
                model = self.tuner._build_hypermodel(hp)
            if (
                isinstance(model, keras.Model)
                and not model.built
                and self.tuner._sample is not None
            ):
                model(keras.tree.map_structure(lambda rows: rows[:1], self.tuner._sample))
        except Exception as error:
            logger.debug("A candidate could not be built before its trial: %r", error)
            return None
        if isinstance(model, keras.Model) and not model.built:
            if not self._warned:
                logger.warning(
                    "Constraints on costs are checked after training: the model of `hypermodel` "
                    "does not know the shape of its input. A `keras.Input` as first layer tells."
                )
                self._warned = True
            return None
        return model if isinstance(model, keras.Model) else None

    def _judged(self, model: Any) -> Screening:
        wanted = names.costs_among(one.name for one in self.constraints)
        metrics = analytic_costs(model, wanted, needed=wanted)
        broken = broken_by(self.constraints, metrics)
        if not broken:
            running = [name for name in wanted if name not in metrics]
            metrics |= measured_costs(model, running) if running else {}
            broken = broken_by(self.constraints, metrics)
        return Screening(sum(broken.values()), metrics, broken, self._message(metrics, broken))

    def _message(self, metrics: Mapping[str, float], broken: Mapping[str, float]) -> str | None:
        parts = []
        for one in self.constraints:
            if one.name in broken:
                bounds = [f"at most {one.max:,.6g}"] if one.max is not None else []
                bounds += [f"at least {one.min:,.6g}"] if one.min is not None else []
                parts.append(f"{one.name} {one.value(metrics):,.6g} ({' and '.join(bounds)})")
        return "; ".join(parts) or None


def install_screen(tuner: Any) -> None:
    """Let the oracle of a `NASTuner` ask what candidates cost, where it has limits on that."""
    oracle = tuner._local_oracle
    if not isinstance(oracle, NASOracle):
        return
    # A tuner before this one may have had the same oracle.
    then = oracle.screen.then if isinstance(oracle.screen, CostScreen) else oracle.screen
    limits = [one for one in oracle.constraints if names.canonical(one.name) in names.COSTS]
    builds = limits and tuner.hypermodel is not None
    oracle.set_screen(CostScreen(tuner, limits, then) if builds else then)


def reported_metrics(oracle: keras_tuner.Oracle, record: TrialRecord) -> dict[str, float]:
    """What an oracle is told of a trial that finished: its metrics and costs.

    KerasTuner's own oracles get those costs that are objectives, and no more: they derive a
    direction from the name of each metric.
    """
    costs = {name: cost for name, cost in record.costs.items() if name in names.COSTS}
    if not isinstance(oracle, NASOracle):
        objective = oracle.objective
        wanted = {one.name for one in getattr(objective, "objectives", [objective])}
        costs = {name: cost for name, cost in costs.items() if name in wanted}
    return {**costs, **record.metrics}


def save_refusals(tuner: Any) -> None:
    """Write how many candidates were refused, for the tracker and the command line."""
    refusals = getattr(tuner._local_oracle, "refusals", None)
    if refusals is not None and refusals.count:
        summary = Refused(
            count=refusals.count,
            by_constraint=dict(refusals.by_limit.most_common()),
            reason=tuner._local_oracle.stop_reason,
        )
        if summary != load_refusals(tuner.project_dir):
            summary.save(tuner.project_dir)
