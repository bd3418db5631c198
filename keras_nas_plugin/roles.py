"""This process's part in a search over KerasTuner's chief/worker service."""

from __future__ import annotations

import os


def is_chief() -> bool:
    """Whether this process hands trials out to workers."""
    identity = os.environ.get("KERASTUNER_TUNER_ID", "")
    return "KERASTUNER_ORACLE_IP" in os.environ and "chief" in identity


def is_worker() -> bool:
    """Whether this process gets its trials from a chief."""
    return "KERASTUNER_ORACLE_IP" in os.environ and not is_chief()
