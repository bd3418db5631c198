"""Transfer between searches: reads trials of earlier searches for a warm start."""

from __future__ import annotations

from keras_nas_plugin.transfer.sources import earlier_trials

__all__ = ["earlier_trials"]
