"""What the search of a registered model recorded about its data in MLflow."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from keras_nas_plugin.records.retraining import RETRAINED
from keras_nas_plugin.registry.aliases import challenger_of, read_aliases
from keras_nas_plugin.tracking.mlflow.client import bounded_requests, connect, resolve_uri
from keras_nas_plugin.tracking.mlflow.errors import tracking_errors
from keras_nas_plugin.tracking.mlflow.tags import PARENT

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

#: Tag of a version: whether it has the searched or the retrained model of its trial.
VERSION_KIND = "nas.kind"
#: Setting of a search: the seed by which its validation rows were drawn.
SPLIT_SEED_SETTING = "split_seed"
_CONTEXT = "mlflow.data.context"


@dataclasses.dataclass(frozen=True)
class SearchData:
    """The data of a search.

    Attributes:
        version: The version of the registered model that comes from it.
        split_seed: Seed of the validation rows; None if the search did not draw them.
        digests: Digests by context (``"training"``, ``"validation"``); several if the data were
            changed while the search was interrupted.
        retrained: Whether the version was trained on the validation rows as well.
        retrained_champion: The champion's version, if it was trained on the validation rows of
            its search; None otherwise.
    """

    version: str
    split_seed: int | None = None
    digests: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    retrained: bool = False
    retrained_champion: str | None = None


def data_of_challenger(
    name: str, *, tracking_uri: str | None = None, registry_uri: str | None = None
) -> SearchData:
    """What the search of the version with the alias `challenger` recorded about its data.

    Args:
        name: The registered model.
        tracking_uri: MLflow's tracking URI; None for MLflow's own setting.
        registry_uri: MLflow's registry URI; None for the tracking URI.

    Returns:
        The data; without a seed and digests if the version comes from no search.

    Raises:
        PromotionError: There is no such model, or it has no challenger.
        TrackingError: The store does not answer, or rejects the request.
    """
    tracking_uri = resolve_uri(tracking_uri)
    client = connect(tracking_uri, registry_uri)
    with tracking_errors(f"reading the search of `{name}`", tracking_uri), bounded_requests():
        current = read_aliases(client, name)
        version, champion = challenger_of(name, current), current.champion
        if champion is not None and not _is_retrained(client.get_model_version(name, champion)):
            champion = None
        data = _data_of(client, name, version)
    return dataclasses.replace(data, retrained_champion=champion)


def data_of_version(
    name: str,
    version: str,
    *,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,
) -> SearchData:
    """What the search of a version recorded about its data.

    Args:
        name: The registered model.
        version: Its version.
        tracking_uri: MLflow's tracking URI; None for MLflow's own setting.
        registry_uri: MLflow's registry URI; None for the tracking URI.

    Returns:
        The data; without a seed and digests if the version comes from no search.

    Raises:
        TrackingError: The store does not answer, or rejects the request.
    """
    tracking_uri = resolve_uri(tracking_uri)
    client = connect(tracking_uri, registry_uri)
    with tracking_errors(f"reading the search of `{name}`", tracking_uri), bounded_requests():
        return _data_of(client, name, version)


def _data_of(client: MlflowClient, name: str, version: str) -> SearchData:
    stored = client.get_model_version(name, version)
    data = SearchData(version, retrained=_is_retrained(stored))
    run = client.get_run(stored.run_id) if stored.run_id else None
    search_run_id = run.data.tags.get(PARENT) if run else None
    if search_run_id is None:
        return data
    run = client.get_run(search_run_id)
    seed = run.data.params.get(SPLIT_SEED_SETTING)
    return dataclasses.replace(
        data, split_seed=None if seed is None else int(seed), digests=_digests(run)
    )


def _is_retrained(version: ModelVersion) -> bool:
    return version.tags.get(VERSION_KIND) == RETRAINED


def _digests(run: Run) -> dict[str, frozenset[str]]:
    digests: dict[str, frozenset[str]] = {}
    for item in run.inputs.dataset_inputs if run.inputs else ():
        contexts = [tag.value for tag in item.tags if tag.key == _CONTEXT]
        for context in contexts:
            earlier = digests.get(context, frozenset())
            digests[context] = earlier | {item.dataset.digest}
    return digests
