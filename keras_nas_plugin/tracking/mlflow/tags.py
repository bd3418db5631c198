"""Names of the tags that `docs/mlflow.md` lists, as far as several modules use them."""

from __future__ import annotations

KIND, SEARCH_ID, TRIAL_ID = "nas.kind", "nas.search_id", "nas.trial_id"
#: The objective of a search, on its run.
OBJECTIVE_TAG = "nas.objective"
#: Which search a run belongs to, for people; and by which search that one was overwritten.
SEARCH_NAME, STRATEGY, OVERWRITTEN_BY = "nas.search_name", "nas.strategy", "nas.overwritten_by"
#: Why a trial does not count any more.
EXCLUDED = "nas.excluded"
#: Version of the names of tags and metrics.
SCHEMA, SCHEMA_VERSION = "nas.schema", "2"
PARENT = "mlflow.parentRunId"
