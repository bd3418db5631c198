"""Keep MLflow's autologging out of a search's trials."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def autolog_disabled() -> Iterator[None]:
    """Switch MLflow's autologging off inside the block, for all frameworks and threads.

    Every fit of a trial would otherwise become a run of its own, or all of them one run whose
    parameters contradict each other. What the user switched on is as it was afterwards, with
    all its settings. A program that has not imported MLflow does not import it here.
    """
    utils = sys.modules.get("mlflow.utils.autologging_utils")
    # `disable_autologging` of MLflow 3.17 switches autologging on at its end even where it was
    # off before; the flag that tells has no public name.
    if utils is None or getattr(utils, "_AUTOLOGGING_GLOBALLY_DISABLED", False):
        yield
        return
    with utils.disable_autologging():
        yield
