"""Published search spaces, ready to use: one file each, loaded on first use.

Each is a function that returns a `SpaceHyperModel`, and a second one, ``..._space``, that
returns the description alone, to be built into a larger one. A new preset is one new file
(not called like its function) and one line in the table below; the property test in
``tests/space/presets`` covers it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from keras_nas_plugin.lazy import load

_MODULES = {
    "darts": "darts_cells",
    "nas_bench_201": "nasbench201",
}

__all__ = list(_MODULES)

if TYPE_CHECKING:
    from keras_nas_plugin.space.presets.nasbench201 import nas_bench_201 as nas_bench_201


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = load(f"{__name__}.{_MODULES[name]}", name)
    globals()[name] = value
    return value
