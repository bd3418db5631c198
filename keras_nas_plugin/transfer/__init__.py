"""What one search takes over from earlier ones."""

from __future__ import annotations

from keras_nas_plugin.transfer.sources import earlier_trials

__all__ = ["earlier_trials"]
