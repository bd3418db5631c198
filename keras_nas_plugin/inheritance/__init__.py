"""Weights that a model takes over from the model of another architecture."""

from __future__ import annotations
