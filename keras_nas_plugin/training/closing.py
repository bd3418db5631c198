"""What a search leaves in its project folder when it ends."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from keras_nas_plugin.tracking.records import REPORT

logger = logging.getLogger("keras_nas_plugin")


def leave_report(project: str | os.PathLike) -> None:
    """Write the report of a search, for its run in MLflow; a fault is logged.

    Args:
        project: The project folder.
    """
    # matplotlib and scikit-learn take a second to import.
    from keras_nas_plugin.reports import write_report

    path = Path(project) / REPORT
    try:
        write_report(project, path)
    except Exception as error:  # no search fails for its report
        logger.warning("The report %s was not written: %s", path, error)
