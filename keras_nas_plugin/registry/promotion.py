"""From challenger to champion, if every gate lets it pass."""

from __future__ import annotations

import dataclasses
import functools
import logging
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_nas_plugin.evaluation.constraints import Constraint
from keras_nas_plugin.evaluation.datasets import describe_data
from keras_nas_plugin.registry import aliases, verdict
from keras_nas_plugin.registry.aliases import CHALLENGER, Aliases
from keras_nas_plugin.registry.evidence import UnusableModelError, check_data, examine
from keras_nas_plugin.registry.gates.base import Candidate, Evidence, Finding, Gate, PromotionError
from keras_nas_plugin.registry.gates.comparison import Method
from keras_nas_plugin.registry.metrics import Direction
from keras_nas_plugin.registry.terms import MetricLike, Terms
from keras_nas_plugin.registry.verdict import Verdict
from keras_nas_plugin.tracking.connection import bounded_requests, connect, resolve_uri
from keras_nas_plugin.tracking.failures import explained

if TYPE_CHECKING:
    from mlflow import MlflowClient

_log = logging.getLogger("keras_nas_plugin")


def promote(
    name: str,
    *,
    x: Any,
    y: Any,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
    metric: MetricLike = None,
    direction: Direction | None = None,
    alpha: float = 0.05,
    min_improvement: float = 0.0,
    method: Method = "auto",
    resamples: int = 9999,
    seed: int = 0,
    thresholds: Iterable[Constraint] = (),
    max_class_drop: float | None = None,
    smoke_test: bool = True,
    gates: Sequence[Gate] = (),
    batch_size: int = 32,
    data_name: str = "held-out data",
    why: str = "",
    by: str | None = None,
    dry_run: bool = False,
) -> Verdict:
    """Judge the version with the alias `challenger`; if it passes, make it `champion`.

    Every gate has to let it pass: a process that knows nothing of this one can load it and
    predict; limits on metrics and costs are kept; it is better than the champion by a paired
    test on the same rows; no class loses too much. The verdict is stored with the version,
    whatever it is, and a refusal moves nothing.

    The test is one-sided. Its null hypothesis says that the challenger's expected score on the
    population of the rows exceeds the champion's by no more than ``min_improvement``; a
    challenger of which this is true passes with a probability of at most ``alpha``. So with the
    default of 0, an equal one hardly ever replaces the champion; with -0.01, one that is
    provably less than 0.01 worse does (non-inferiority). The rows must not have been used to
    train, or to choose, either model.

    A promotion that died half-way is finished by the next call, before anything is judged.

    Args:
        name: The registered model.
        x: Held-out inputs: an array, or a list or dictionary of arrays.
        y: Labels (class numbers or one-hot) or targets, by row.
        tracking_uri: Where runs are kept; None for MLflow's own setting.
        registry_uri: Where models are registered; None for the same place.
        metric: ``"accuracy"``, ``"loss"`` (cross-entropy), ``"mae"``, ``"mse"``, or a function
            of ``(y, predictions)`` that returns a number, or one per row. None takes accuracy
            for classes, else ``"mse"``.
        direction: ``"max"`` or ``"min"``, needed where ``metric`` is a function.
        alpha: Level of the test.
        min_improvement: By how much the challenger has to be better, in units of the metric;
            negative for non-inferiority.
        method: ``"mcnemar"``, ``"bootstrap"``, or ``"auto"``: McNemar's test where the metric
            is 0 or 1 for each row.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        thresholds: Limits on metrics and on costs (``"parameters"``, ``"size"``, the bytes of
            the version's files, ``"latency"``, measured here, and others). Without a champion,
            there has to be one on a metric.
        max_class_drop: By how much the share of a class that is classified correctly may fall.
        smoke_test: Whether to load the model in a fresh process.
        gates: Further gates.
        batch_size: Rows per step of prediction.
        data_name: What people call the data.
        why: The reason, for those who look later.
        by: Who promotes; None for this user.
        dry_run: Judge only: nothing is written anywhere.

    Returns:
        The verdict, with every number.

    Raises:
        PromotionError: There is no such model, no challenger, or the data or terms do not suit
            it. Nothing was moved.
        TrackingError: The store does not answer, or refuses.
    """
    terms = Terms(
        metric=metric,
        direction=direction,
        alpha=alpha,
        min_improvement=min_improvement,
        method=method,
        resamples=resamples,
        seed=seed,
        thresholds=tuple(thresholds),
        max_class_drop=max_class_drop,
        smoke_test=smoke_test,
        gates=tuple(gates),
        batch_size=batch_size,
    )
    inputs, targets = check_data(x, y)
    tracking_uri = resolve_uri(tracking_uri)
    client = connect(tracking_uri, registry_uri)
    with explained(f"promoting `{name}`", tracking_uri), bounded_requests():
        before = aliases.read_aliases(client, name)
        if aliases.was_interrupted(client, name, before):
            return _finish(client, name, before, dry_run=dry_run)
        _check_aliases(name, before, terms)
    download = functools.partial(_download, client, tracking_uri, name)
    findings, costs = _judge(download, before, terms, (inputs, targets))
    outcome = Verdict(
        name=name,
        version=before.challenger,
        champion=before.champion,
        passed=all(finding.passed for finding in findings),
        findings=tuple(findings),
        data=describe_data(data_name, "test", (inputs, targets)),
        costs=costs,
        by=by or aliases.this_user(),
        at=verdict.now(),
        why=why,
    )
    if dry_run:
        return outcome
    with explained(f"promoting `{name}`", tracking_uri), bounded_requests():
        verdict.store(client, outcome)
        if outcome.passed:
            aliases.move(client, name, before=before)
    return dataclasses.replace(outcome, promoted=outcome.passed)


def _download(client: MlflowClient, tracking_uri: str, name: str, version: str, to: Path) -> Path:
    """A version's files.

    From the place that the registry names: MLflow 3.17 looks `models:/` addresses up at its
    global registry, whatever it is told.
    """
    import mlflow.artifacts

    doing = f"downloading version {version} of `{name}`"
    with explained(doing, tracking_uri), bounded_requests():
        place = client.get_model_version_download_uri(name, version)
        files = mlflow.artifacts.download_artifacts(
            artifact_uri=place, dst_path=str(to), tracking_uri=tracking_uri
        )
    return Path(files)


def _finish(client: MlflowClient, name: str, before: Aliases, *, dry_run: bool) -> Verdict:
    """Do what a promotion that was interrupted had left to do."""
    found = verdict.load(client, name, before.champion)
    if not dry_run:
        aliases.end_challenge(client, name, before.champion)
        _log.warning(
            "The promotion of version %s of `%s` had been interrupted; it is finished now.",
            before.champion,
            name,
        )
    return dataclasses.replace(found, promoted=True, finished_earlier=True)


def _check_aliases(name: str, found: Aliases, terms: Terms) -> None:
    if found.challenger is None:
        raise PromotionError(
            f"`name` needs a model with the alias {CHALLENGER!r}; received {name!r}, which has "
            "none. `keras-nas register NAME` sets it, on a version that was not judged yet."
        )
    if found.challenger == found.champion:
        raise PromotionError(
            f"the alias {CHALLENGER!r} needs another version than the champion; received version "
            f"{found.champion} for both"
        )
    if found.champion is None and not terms.judge_alone():
        raise PromotionError(
            f"`thresholds` needs a limit on a metric, since {name!r} has no champion to compare "
            "with; received none. For example accuracy>=0.9."
        )


def _judge(
    download: Callable[[str, Path], Path],
    before: Aliases,
    terms: Terms,
    data: tuple[Any, np.ndarray],
) -> tuple[list[Finding], dict[str, dict[str, float]]]:
    """What every gate finds, and both models' costs by role."""
    x, y = data
    costs: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:

        def candidate(role: str, version: str, wanted: Sequence[str] = ()) -> Candidate:
            files = download(version, Path(folder) / role)
            found = examine(files, version, x, batch_size=terms.batch_size, costs=wanted)
            costs[role] = dict(found.costs)
            return found

        try:
            challenger = candidate("challenger", before.challenger, terms.costs())
        except UnusableModelError as error:
            return [Finding("model", False, str(error))], costs
        champion = candidate("champion", before.champion) if before.champion else None
        evidence = Evidence(x, y, challenger, champion)
        return [gate.check(evidence) for gate in terms.all_gates(evidence)], costs
