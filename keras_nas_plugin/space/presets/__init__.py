"""Published search spaces, ready to use; each is loaded on first use.

Each preset is a function that returns a `SpaceHyperModel`. Its module also has a function
``..._space``, which returns only the description, to be part of a larger space. To add a preset,
write a module whose name differs from that of its function, and add a line to the table below;
the property tests in ``tests/space/presets`` then cover it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nas_plugin.lazy import attach

_MODULES = {
    "darts": "darts_cells",
    "mobilenet_v3": "mobilenetv3",
    "nas_bench_201": "nasbench201",
    "residual_cnn": "residual",
    "seq2seq": "encoder_decoder",
    "sequence_1d": "sequences",
    "tabular": "tables",
    "text_transformer": "text",
    "unet": "u_net",
}

__all__ = list(_MODULES)

if TYPE_CHECKING:
    from keras_nas_plugin.space.presets.darts_cells import darts as darts
    from keras_nas_plugin.space.presets.encoder_decoder import seq2seq as seq2seq
    from keras_nas_plugin.space.presets.mobilenetv3 import mobilenet_v3 as mobilenet_v3
    from keras_nas_plugin.space.presets.nasbench201 import nas_bench_201 as nas_bench_201
    from keras_nas_plugin.space.presets.residual import residual_cnn as residual_cnn
    from keras_nas_plugin.space.presets.sequences import sequence_1d as sequence_1d
    from keras_nas_plugin.space.presets.tables import tabular as tabular
    from keras_nas_plugin.space.presets.text import text_transformer as text_transformer
    from keras_nas_plugin.space.presets.u_net import unet as unet

__getattr__, __dir__ = attach(__name__, _MODULES)
