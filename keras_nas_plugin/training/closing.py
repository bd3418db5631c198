"""What a search leaves in its project folder when it ends."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from keras_nas_plugin.tracking.fanout import Fanout
from keras_nas_plugin.tracking.records import REPORT

logger = logging.getLogger("keras_nas_plugin")


def leave_report(project: str | os.PathLike, trackers: Fanout) -> None:
    """Write the report of a search for a tracker that shows it; a fault is logged.

    Args:
        project: The project folder.
        trackers: Who follows the search.
    """
    if not any(tracker.shows_report for tracker in trackers.trackers):
        return
    # matplotlib and scikit-learn take a second to import.
    from keras_nas_plugin.reports import write_report

    path = Path(project) / REPORT
    try:
        write_report(project, path)
    except Exception as error:  # no search fails for its report
        logger.warning("The report %s was not written: %s", path, error)
