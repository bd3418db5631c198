"""What a trial's architecture looks like, beside its checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_nas_plugin.files import write_atomic
from keras_nas_plugin.tracking.records import ARCHITECTURE, PICTURE

logger = logging.getLogger("keras_nas_plugin")


def save_architecture(hypermodel: Any, values: Mapping[str, Any], folder: Path) -> None:
    """Write the architecture of a trial as JSON and as a picture.

    A hypermodel that does not describe its architectures, as a function ``build(hp)``, leaves
    nothing. What cannot be written or drawn is logged: no trial fails for its picture.

    Args:
        hypermodel: The tuner's.
        values: Active hyperparameters.
        folder: Of the trial.
    """
    if not hasattr(hypermodel, "architecture"):
        return
    from keras_nas_plugin.reports.diagram import draw_architecture

    try:
        architecture = hypermodel.architecture(values)
        text = architecture.to_json()
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / ARCHITECTURE, lambda name: Path(name).write_text(text, "utf-8"))
        draw_architecture(architecture, folder / PICTURE)
    except Exception as error:
        logger.warning("The architecture in %s was not written: %s", folder, error)
