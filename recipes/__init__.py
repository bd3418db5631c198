"""Runnable examples, one file per use case; installed as `keras_nas_plugin.recipes`."""
