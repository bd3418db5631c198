"""Disables MLflow's autologging during a search."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def autolog_disabled() -> Iterator[None]:
    """Switch MLflow's autologging off inside the block, for all frameworks and threads.

    Otherwise every call of `fit` would create an additional run, or all calls would write to the
    same run with contradictory parameters. After the block, autologging is as the user configured
    it. MLflow is not imported if the program has not imported it.
    """
    utils = sys.modules.get("mlflow.utils.autologging_utils")
    # `disable_autologging` of MLflow 3.17 switches autologging on at its end even where it was
    # off before; the flag that says so has no public name.
    if utils is None or getattr(utils, "_AUTOLOGGING_GLOBALLY_DISABLED", False):
        yield
        return
    with utils.disable_autologging():
        yield
