"""Promote the challenger of a registered model to champion, if it passes every gate."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import logging
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_nas_plugin import quiet
from keras_nas_plugin.evaluation.datasets import describe_data
from keras_nas_plugin.registry import aliases, verdict
from keras_nas_plugin.registry.aliases import CHALLENGER, Aliases
from keras_nas_plugin.registry.card_updates import promotion_section, update_cards
from keras_nas_plugin.registry.evidence import UnusableModelError, check_data, examine
from keras_nas_plugin.registry.gates.base import Candidate, Evidence, Finding, PromotionError
from keras_nas_plugin.registry.promotion_policy import PromotionPolicy
from keras_nas_plugin.registry.rows import Rows
from keras_nas_plugin.registry.verdict import Verdict
from keras_nas_plugin.registry.versions import download_version
from keras_nas_plugin.tracking.mlflow.client import bounded_requests, connect, resolve_uri
from keras_nas_plugin.tracking.mlflow.errors import tracking_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger("keras_nas_plugin")


def promote(
    name: str,
    data: tuple[object, object],
    *,
    policy: PromotionPolicy | None = None,
    data_name: str = "held-out data",
    batch_size: int | None = None,
    why: str = "",
    by: str | None = None,
    dry_run: bool = False,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
) -> Verdict:
    """Judge the version with the alias `challenger`; if it passes, make it `champion`.

    The verdict is stored with the version, whether it passed or not. A refusal moves no alias. A
    promotion that was interrupted is completed by the next call, before anything is judged.

    Args:
        name: The registered model.
        data: Held-out rows ``(x, y)`` that were used neither to train nor to choose either
            model. Inputs are an array, or a list or dictionary of arrays; labels (class numbers
            or one-hot) or targets are one array, by row.
        policy: The conditions; None for `PromotionPolicy()`.
        data_name: Name of the data in the verdict.
        batch_size: Rows per step of prediction; None for Keras' default.
        why: The reason, stored with the verdict.
        by: The user who requests it; None for the current user and host.
        dry_run: Whether to judge only, and write nothing.
        tracking_uri: MLflow's tracking URI; None for MLflow's own setting.
        registry_uri: MLflow's registry URI; None for the tracking URI.

    Returns:
        The verdict, with every number.

    Raises:
        PromotionError: There is no such model or no challenger, or the data or the policy do not
            fit it. No alias was moved.
        TrackingError: The store does not answer, or rejects the request.
    """
    policy = PromotionPolicy() if policy is None else policy
    if batch_size is not None and batch_size < 1:
        raise PromotionError(f"`batch_size` must be at least 1; got {batch_size}")
    rows = check_data(data)
    tracking_uri = resolve_uri(tracking_uri)
    client = connect(tracking_uri, registry_uri)
    with tracking_errors(f"promoting `{name}`", tracking_uri), bounded_requests():
        before = aliases.read_aliases(client, name)
        promoted = aliases.interrupted_promotion(client, name, before)
        if promoted is not None:
            return _complete_promotion(client, name, promoted, dry_run=dry_run)
        challenger = _version_to_judge(name, before, policy)
    download = functools.partial(download_version, client, tracking_uri, name)
    findings, costs = _judge(download, challenger, before.champion, policy, rows, batch_size)
    outcome = Verdict(
        name=name,
        version=challenger,
        champion=before.champion,
        passed=all(finding.passed for finding in findings),
        findings=tuple(findings),
        data=describe_data(data_name, "test", rows),
        costs=costs,
        by=by or aliases.this_user(),
        at=verdict.now(),
        why=why,
    )
    if dry_run:
        return outcome
    with tracking_errors(f"promoting `{name}`", tracking_uri), bounded_requests():
        verdict.store(client, outcome)
        if outcome.passed:
            aliases.move(client, name, challenger, before=before)
        update_cards(client, name, (challenger, before.champion), promotion_section(outcome))
    return dataclasses.replace(outcome, promoted=outcome.passed)


def _complete_promotion(
    client: MlflowClient, name: str, version: str, *, dry_run: bool
) -> Verdict:
    """Complete a promotion that was interrupted."""
    stored = verdict.load(client, name, version)
    if not dry_run:
        aliases.end_challenge(client, name, version)
        update_cards(client, name, (version, stored.champion), promotion_section(stored))
        logger.warning(
            "The promotion of version %s of `%s` was interrupted; it is complete now.",
            version,
            name,
        )
    return dataclasses.replace(stored, promoted=True, finished_earlier=True)


def _version_to_judge(name: str, current: Aliases, policy: PromotionPolicy) -> str:
    """The challenger.

    Raises:
        PromotionError: There is none, or no condition by which to judge it.
    """
    challenger = aliases.challenger_of(name, current)
    if challenger == current.champion:
        raise PromotionError(
            f"the alias {CHALLENGER!r} must point to another version than the champion; got "
            f"version {current.champion} for both"
        )
    if current.champion is None and not policy.can_judge_first_champion:
        raise PromotionError(
            "`thresholds` (`--require`) must hold a limit on a metric, such as accuracy>=0.9, "
            f"since {name!r} has no champion to compare with; got none"
        )
    return challenger


def _judge(
    download: Callable[[str, Path], Path],
    challenger: str,
    champion: str | None,
    policy: PromotionPolicy,
    data: tuple[Rows, np.ndarray],
    batch_size: int | None,
) -> tuple[list[Finding], dict[str, dict[str, float]]]:
    """The findings of all gates, and the costs of both models by role."""
    with quiet.tensorflow_start():  # which does nothing while downloads have threads
        importlib.import_module("mlflow.tensorflow")
    x, y = data
    costs: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:

        def candidate(role: str, version: str, requested: Collection[str] = ()) -> Candidate:
            files = download(version, Path(folder) / role)
            examined = examine(files, version, x, batch_size=batch_size, costs=requested)
            costs[role] = dict(examined.costs)
            return examined

        try:
            challenger_model = candidate("challenger", challenger, policy.required_costs)
        except UnusableModelError as error:
            return [Finding("model", False, str(error))], costs
        champion_model = candidate("champion", champion) if champion else None
        evidence = Evidence(x, y, challenger_model, champion_model)
        return [gate.check(evidence) for gate in policy.gates_for(evidence)], costs
