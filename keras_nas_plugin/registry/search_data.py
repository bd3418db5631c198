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
    from mlflow.entities import Run

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
    """

    version: str
    split_seed: int | None = None
    digests: Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    retrained: bool = False


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
        version = challenger_of(name, read_aliases(client, name))
        stored = client.get_model_version(name, version)
        run_id, retrained = stored.run_id, stored.tags.get(VERSION_KIND) == RETRAINED
        search_run_id = client.get_run(run_id).data.tags.get(PARENT) if run_id else None
        if search_run_id is None:
            return SearchData(version, retrained=retrained)
        run = client.get_run(search_run_id)
    seed = run.data.params.get(SPLIT_SEED_SETTING)
    return SearchData(version, None if seed is None else int(seed), _digests(run), retrained)


def _digests(run: Run) -> dict[str, frozenset[str]]:
    digests: dict[str, frozenset[str]] = {}
    for item in run.inputs.dataset_inputs if run.inputs else ():
        contexts = [tag.value for tag in item.tags if tag.key == _CONTEXT]
        for context in contexts:
            earlier = digests.get(context, frozenset())
            digests[context] = earlier | {item.dataset.digest}
    return digests
