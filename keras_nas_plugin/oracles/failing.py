"""When failures end a search, and who hears of it."""

from __future__ import annotations

import itertools
import logging
import os
import threading
from typing import TYPE_CHECKING

from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import TooManyFailuresError
from keras_nas_plugin.oracles.intake import last_error

if TYPE_CHECKING:
    from keras_nas_plugin.oracles.base import NASOracle

logger = logging.getLogger("keras_nas_plugin")


def check_failures(oracle: NASOracle, trial: Trial) -> None:
    """End the search when too many trials in a row failed, ``trial`` being the last.

    Raises:
        TooManyFailuresError: They did.
    """
    limit = oracle.max_consecutive_failed_trials
    if not limit or trial.status != TrialStatus.FAILED:
        return
    latest = (oracle.trials[trial_id].status for trial_id in reversed(oracle.end_order))
    failed = sum(1 for _ in itertools.takewhile(TrialStatus.FAILED.__eq__, latest))
    if failed >= limit:
        raise TooManyFailuresError(
            f"{failed} trials in a row failed; `max_consecutive_failed_trials` allows fewer "
            f"than {limit}. The last one: {last_error(trial.message)}"
        )


def report_fatal(oracle: NASOracle, error: Exception) -> None:
    """Raise to the caller; where that is a remote worker, end the search instead.

    KerasTuner's chief (1.4.8) hides an exception from the user and never exits.
    """
    identity = os.environ.get("KERASTUNER_TUNER_ID", "")
    if "KERASTUNER_ORACLE_IP" not in os.environ or "chief" not in identity:
        raise error
    if threading.current_thread() is threading.main_thread():
        raise error
    if oracle.fatal_error is None:
        traceback = None if oracle.fatal_error_is_raised else error
        logger.error("The search ends: %s", error, exc_info=traceback)
        oracle.fatal_error = error
