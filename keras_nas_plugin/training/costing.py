"""The costs of a search's models: which ones trials have, and the screen of candidates."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import keras
import keras_tuner
import numpy as np

from keras_nas_plugin.errors import CostError, ExportError
from keras_nas_plugin.evaluation import energy, names
from keras_nas_plugin.evaluation.constraints import Constraint, broken_by
from keras_nas_plugin.evaluation.costs import analytic_costs, measured_costs, required_meter
from keras_nas_plugin.evaluation.datasets import sample_rows
from keras_nas_plugin.export.costs import ExportRows, check_exporters, exported_costs
from keras_nas_plugin.export.exporting import CALIBRATION_ROWS
from keras_nas_plugin.export.latency_table import LatencyTable
from keras_nas_plugin.oracles.base import NASOracle
from keras_nas_plugin.oracles.screening import Screen, Screening
from keras_nas_plugin.project import ProjectLayout
from keras_nas_plugin.records.search import InfeasibleSummary
from keras_nas_plugin.records.trial import TrialRecord
from keras_nas_plugin.training import memory, runtime
from keras_nas_plugin.training.bookkeeping import Bookkeeping, error_line
from keras_nas_plugin.training.budget import Budget
from keras_nas_plugin.training.fit_arguments import FitArguments

logger = logging.getLogger("keras_nas_plugin")

#: An element of ``measure``: the name of a cost, or the latencies of a device.
Measure = str | LatencyTable


@dataclasses.dataclass(frozen=True)
class CostPlan:
    """Which costs the trials of a search have.

    Attributes:
        required: Costs that an objective or a constraint uses; they must not be missing.
        costs: All costs that a trial has.
        table: Latencies of a device, for ``device_latency_ms``; or None.
    """

    required: tuple[str, ...] = ()
    costs: tuple[str, ...] = names.ANALYTIC
    table: LatencyTable | None = None

    @property
    def measured(self) -> tuple[str, ...]:
        """Costs that are measured by running the model."""
        by_running = (names.LATENCY, names.LATENCY_P95, names.ENERGY)
        return tuple(name for name in self.costs if name in by_running)

    @property
    def exported(self) -> tuple[str, ...]:
        """Costs of the model after its conversion to other formats."""
        return tuple(name for name in self.costs if name in names.EXPORTED)

    def costs_of(
        self,
        model: keras.Model,
        existing: Mapping[str, float],
        bookkeeping: Bookkeeping,
        rows: Callable[[], ExportRows] = ExportRows,
    ) -> dict[str, float]:
        """Costs of a model.

        Args:
            model: A built model.
            existing: Costs that are already known, and are not determined again.
            bookkeeping: Reports why a cost that nothing requires is missing.
            rows: Returns the rows of the search, for costs of exported models.

        Returns:
            All costs by name, the existing ones included.

        Raises:
            CostError: A cost that an objective or a constraint uses cannot be determined.
            ExportError: Such a cost is of a format that the model cannot be exported to.
            Exception: Determining such a cost raised another error.
        """
        missing = [name for name in self.costs if name not in existing]
        costs = analytic_costs(model, missing, needed=self.required, report=bookkeeping.report)
        measured = [name for name in self.measured if name not in existing]
        for together in _measured_together(measured):
            try:
                costs |= measured_costs(model, together)
            except Exception as error:
                if not set(together).isdisjoint(self.required):
                    raise
                bookkeeping.report(f"`{together[0]}` is left out", error)
        if names.DEVICE_LATENCY in missing and self.table is not None:
            try:
                costs[names.DEVICE_LATENCY] = self.table(model)
            except CostError as error:
                if names.DEVICE_LATENCY in self.required:
                    raise
                bookkeeping.report(f"`{names.DEVICE_LATENCY}` is left out", error)
        exported = [name for name in self.exported if name not in existing]
        if exported:
            costs |= self._exported_costs(model, exported, bookkeeping, rows())
        return {**costs, **existing}

    def _exported_costs(
        self,
        model: keras.Model,
        requested: Sequence[str],
        bookkeeping: Bookkeeping,
        rows: ExportRows,
    ) -> dict[str, float]:
        costs, reasons = exported_costs(model, requested, rows)
        missing = [name for name in requested if name not in costs]
        if missing:
            error = ExportError(" ".join(reasons.values()))
            if not set(missing).isdisjoint(self.required):
                raise error
            bookkeeping.report(f"`{missing[0]}` is left out", error)
        return costs


def _measured_together(requested: Sequence[str]) -> Iterator[list[str]]:
    """Names of costs, grouped by the measurement that they come from."""
    for group in ((names.LATENCY, names.LATENCY_P95), (names.ENERGY,)):
        together = [name for name in group if name in requested]
        if together:
            yield together


def export_rows(fit: FitArguments) -> ExportRows:
    """The rows of a search for exported models: to calibrate them, and to validate them.

    Args:
        fit: What `search` was called with.
    """
    training, validation = fit.splits()
    calibration = None if training is None else sample_rows(training.x, CALIBRATION_ROWS)
    if validation is None:
        return ExportRows(calibration)
    if hasattr(validation.x, "as_numpy_iterator"):
        batches = list(validation.x.as_numpy_iterator())
        joined = keras.tree.map_structure(lambda *parts: np.concatenate(parts), *batches)
        return ExportRows(calibration, joined[0], joined[1])
    return ExportRows(calibration, validation.x, validation.y)


def cost_plan(oracle: keras_tuner.Oracle, measure: Iterable[Measure]) -> CostPlan:
    """The costs that objectives, constraints and the user ask for.

    Args:
        oracle: The oracle of the search.
        measure: See `NASTuner`.

    Raises:
        CostError: ``measure`` contains something else, an objective or a constraint uses the
            measured energy and this machine has no energy meter, or a library that a cost needs is
            not installed.
    """
    objectives = [objective.name for objective in _objectives(oracle)]
    constraints = [constraint.name for constraint in getattr(oracle, "constraints", ())]
    required = names.costs_among(
        [name for name in objectives if name in names.COSTS] + constraints
    )
    if names.ENERGY in required:
        required_meter()
    table, requested = _requested_costs(measure)
    costs = names.costs_among([*names.ANALYTIC, *required, *requested])
    check_exporters(costs)
    if names.DEVICE_LATENCY in costs and table is None:
        raise CostError(
            f"`measure` must contain a `LatencyTable` for `{names.DEVICE_LATENCY}`, which is read "
            "from it; got none"
        )
    return CostPlan(required, costs, table)


def _objectives(oracle: keras_tuner.Oracle) -> Iterable[keras_tuner.Objective]:
    return getattr(oracle.objective, "objectives", [oracle.objective])


def _requested_costs(
    measure: Iterable[Measure],
) -> tuple[LatencyTable | None, list[str]]:
    if isinstance(measure, str):
        raise CostError(
            f"`measure` must be a sequence of names such as ('latency',); got {measure!r}"
        )
    table: LatencyTable | None = None
    requested: list[str] = []
    for name in measure:
        if isinstance(name, LatencyTable):
            table = name
            requested.append(names.DEVICE_LATENCY)
            continue
        cost = names.canonical(name)
        if cost not in names.COSTS:
            offered = sorted({*names.COSTS} - {*names.EXPORTED})
            raise CostError(
                f"`measure` must contain only {', '.join(offered)}, costs of exported models such "
                f"as litert_int8_bytes, or a LatencyTable; got {name!r}"
            )
        if cost == names.ENERGY and energy.find_meter() is None:
            logger.warning(
                "This machine has no energy meter that can be read: trials get `%s`, an estimate, "
                "and no `%s`.",
                names.ENERGY_ESTIMATE,
                names.ENERGY,
            )
            cost = names.ENERGY_ESTIMATE
        requested += [cost, names.LATENCY_P95] if cost == names.LATENCY else [cost]
    return table, requested


class CostScreen:
    """Builds a candidate's model and checks its costs, before the candidate becomes a trial.

    Costs that can be computed from the model come first; the model is run only if it satisfies
    their constraints. A model that cannot be built passes, and its trial reports the error. A
    model whose costs are known only after training also passes; its constraints are checked when
    its trial has ended.

    Args:
        build: Builds the model of a candidate.
        constraints: Constraints on costs.
        precision: Keras dtype policy that models are built under; None for the current one.
        budget: Ends the screening when it is exhausted.
        inner: A further screen for candidates that pass this one, or None.
        table: Latencies of a device, or None.
    """

    def __init__(
        self,
        build: Callable[[keras_tuner.HyperParameters], keras.Model],
        constraints: Iterable[Constraint],
        *,
        precision: str | None,
        budget: Budget,
        inner: Screen | None,
        table: LatencyTable | None = None,
    ) -> None:
        self._table = table
        self.constraints = tuple(constraints)
        self.inner = inner
        #: A few rows of input, to build models that have no `keras.Input`; or None.
        self.sample: object = None
        self._build = build
        self._precision = precision
        self._budget = budget
        self._warned = False

    def __call__(self, hp: keras_tuner.HyperParameters) -> Screening:
        """See `keras_nas_plugin.oracles.screening.Screen`."""
        self._budget.check("screened")
        memory.forget_models()
        model = self._built_model(hp)
        screening = Screening() if model is None else self._screening_of(model)
        if self.inner is None or not screening.feasible:
            return screening
        inner = self.inner(hp)
        return dataclasses.replace(inner, metrics={**screening.metrics, **inner.metrics})

    def _built_model(self, hp: keras_tuner.HyperParameters) -> keras.Model | None:
        """The model, with variables; None if it cannot be judged before its trial."""
        try:
            # A chief screens in a separate thread, and Keras' dtype policy is set per thread.
            with runtime.precision(self._precision):
                model = self._build(hp)
            if not isinstance(model, keras.Model):
                return None
            if not model.built and self.sample is not None:
                model(keras.tree.map_structure(lambda rows: rows[:1], self.sample))
        except Exception as error:
            logger.debug("A candidate could not be built before its trial: %r", error)
            return None
        if model.built:
            return model
        self._warn(
            "the model of `hypermodel` does not know the shape of its input. Add a `keras.Input` "
            "as its first layer."
        )
        return None

    def _warn(self, reason: str) -> None:
        """Report once why candidates are not screened."""
        if not self._warned:
            logger.warning("Constraints on costs are checked after training: %s", reason)
            self._warned = True

    def _screening_of(self, model: keras.Model) -> Screening:
        """The verdict on a model; its trial decides where determining its costs fails."""
        try:
            return self._screened(model)
        except CostError:
            raise
        except Exception as error:
            self._warn(f"they cannot be determined before it ({error_line(error)}).")
            return Screening()

    def _screened(self, model: keras.Model) -> Screening:
        constrained = names.costs_among(constraint.name for constraint in self.constraints)
        metrics = analytic_costs(model, constrained, needed=constrained)
        reasons: dict[str, str] = {}
        broken = broken_by(self.constraints, metrics)
        for determine in (self._measured, self._exported):
            missing = [name for name in constrained if name not in metrics]
            if missing and not broken:
                further, why = determine(model, missing)
                metrics, reasons = {**metrics, **further}, {**reasons, **why}
                broken = broken_by(self.constraints, metrics)
        message = self._message(metrics, broken, reasons)
        return Screening(sum(broken.values()), metrics, broken, message)

    def _measured(
        self, model: keras.Model, missing: Sequence[str]
    ) -> tuple[dict[str, float], dict[str, str]]:
        costs = measured_costs(model, missing)
        if names.DEVICE_LATENCY in missing and self._table is not None:
            costs[names.DEVICE_LATENCY] = self._table(model)
        return costs, {}

    def _exported(
        self, model: keras.Model, missing: Sequence[str]
    ) -> tuple[dict[str, float], dict[str, str]]:
        return exported_costs(model, missing, ExportRows(x=self.sample), trained=False)

    def _message(
        self, metrics: Mapping[str, float], broken: Mapping[str, float], reasons: Mapping[str, str]
    ) -> str | None:
        parts = []
        for constraint in self.constraints:
            reason = reasons.get(names.canonical(constraint.name))
            if reason is not None:
                parts.append(reason)
            elif constraint.name in broken:
                value = constraint.value(metrics)
                bounds = [f"at most {constraint.max:,.6g}"] if constraint.max is not None else []
                bounds += [f"at least {constraint.min:,.6g}"] if constraint.min is not None else []
                parts.append(f"{constraint.name} {value:,.6g} ({' and '.join(bounds)})")
        return "; ".join(parts) or None


def install_screen(
    oracle: keras_tuner.Oracle,
    build: Callable[[keras_tuner.HyperParameters], keras.Model] | None,
    plan: CostPlan,
    precision: str | None,
    budget: Budget,
) -> CostScreen | None:
    """Let an oracle of this package check the costs of candidates, if it has constraints on them.

    Args:
        oracle: The oracle of a search.
        build: Builds the model of a candidate; None if only a trial can build it.
        plan: The costs of the search.
        precision: See `CostScreen`.
        budget: See `CostScreen`.

    Returns:
        The screen; None if there is nothing to check.
    """
    if not isinstance(oracle, NASOracle):
        return None
    # The oracle may have been used by an earlier tuner.
    inner = oracle.screen.inner if isinstance(oracle.screen, CostScreen) else oracle.screen
    constraints = [
        constraint
        for constraint in oracle.constraints
        if names.is_checked_before_training(constraint.name)
    ]
    if build is None or not constraints:
        oracle.set_screen(inner)
        return None
    screen = CostScreen(
        build, constraints, precision=precision, budget=budget, inner=inner, table=plan.table
    )
    oracle.set_screen(screen)
    return screen


def reported_metrics(oracle: keras_tuner.Oracle, record: TrialRecord) -> dict[str, float]:
    """The metrics and costs of a finished trial that are reported to its oracle.

    KerasTuner's own oracles receive only the costs that are objectives, because they infer a
    direction from the name of each metric.

    Args:
        oracle: The oracle of the search.
        record: How the trial ended.
    """
    costs = {name: cost for name, cost in record.costs.items() if name in names.COSTS}
    if not isinstance(oracle, NASOracle):
        objectives = {objective.name for objective in _objectives(oracle)}
        costs = {name: cost for name, cost in costs.items() if name in objectives}
    return {**costs, **record.metrics}


def save_infeasible_summary(oracle: keras_tuner.Oracle, layout: ProjectLayout) -> None:
    """Write the number of infeasible candidates, for the tracker and the command line.

    Args:
        oracle: The oracle of the search; one that screens no candidates writes nothing.
        layout: Files of the search.
    """
    infeasible = getattr(oracle, "infeasible", None)
    if infeasible is not None and infeasible.count:
        summary = InfeasibleSummary(
            count=infeasible.count,
            by_constraint=dict(infeasible.by_constraint.most_common()),
            reason=oracle.stop_reason,
        )
        if summary != InfeasibleSummary.load(layout.folder):
            summary.save(layout.folder)
