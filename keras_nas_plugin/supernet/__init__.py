"""Supernets: all architectures of a space in one Keras model with shared weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nas_plugin.lazy import attach

_MODULES = {
    "DifferentiableTrainer": "differentiable",
    "FairSampler": "sampling",
    "Guards": "guards",
    "MaskLayout": "layout",
    "PathSampler": "sampling",
    "SandwichSampler": "sampling",
    "Supernet": "supernet",
    "SupernetTrainer": "training",
    "UniformSampler": "sampling",
}

__all__ = [*_MODULES]

if TYPE_CHECKING:
    from keras_nas_plugin.supernet.differentiable import (
        DifferentiableTrainer as DifferentiableTrainer,
    )
    from keras_nas_plugin.supernet.guards import Guards as Guards
    from keras_nas_plugin.supernet.layout import MaskLayout as MaskLayout
    from keras_nas_plugin.supernet.sampling import FairSampler as FairSampler
    from keras_nas_plugin.supernet.sampling import PathSampler as PathSampler
    from keras_nas_plugin.supernet.sampling import SandwichSampler as SandwichSampler
    from keras_nas_plugin.supernet.sampling import UniformSampler as UniformSampler
    from keras_nas_plugin.supernet.supernet import Supernet as Supernet
    from keras_nas_plugin.supernet.training import SupernetTrainer as SupernetTrainer

__getattr__, __dir__ = attach(__name__, _MODULES)
