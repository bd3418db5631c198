"""Searches for runs page by page, beyond MLflow's limit for a single request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1_000


def iterate_runs(
    client: MlflowClient,
    experiment_id: str,
    condition: str = "",
    order_by: Sequence[str] = (),
) -> Iterator[Run]:
    """All runs of an experiment that are not in MLflow's trash.

    Args:
        client: An open store.
        experiment_id: The experiment.
        condition: A filter in MLflow's syntax.
        order_by: Columns to sort by, in MLflow's syntax.
    """
    token = None
    while True:
        page = client.search_runs(
            [experiment_id],
            condition,
            max_results=_PAGE,
            order_by=list(order_by) or None,
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def tags_equal(tags: Mapping[str, object]) -> str:
    """The condition that all of these tags have these values.

    >>> tags_equal({"nas.kind": "trial", "nas.name": "it's"})
    "tags.`nas.kind` = 'trial' and tags.`nas.name` = 'it''s'"
    """
    quoted = {key: str(value).replace("'", "''") for key, value in tags.items()}
    return " and ".join(f"tags.`{key}` = '{value}'" for key, value in quoted.items())
