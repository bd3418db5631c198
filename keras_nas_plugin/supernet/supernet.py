"""`Supernet`: all architectures of a space in one Keras model with shared weights."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from keras_nas_plugin.errors import SearchSpaceError, StateError
from keras_nas_plugin.files import write_atomic
from keras_nas_plugin.supernet.body import SupernetBody
from keras_nas_plugin.supernet.builder import MAX_VALUES, SupernetBuilder
from keras_nas_plugin.supernet.extraction import StandaloneBuilder, copy_weights
from keras_nas_plugin.supernet.layout import MaskLayout
from keras_nas_plugin.supernet.recalibration import Statistics
from keras_nas_plugin.supernet.vertices import Graph, Weights

if TYPE_CHECKING:
    from keras_nas_plugin.space.language.hypermodel import SpaceHyperModel

#: Name of the input with the mask.
MASK = "mask"

_SUFFIX = ".weights.h5"


class Supernet:
    """All architectures of a space in one Keras model, whose active operations are an input.

    ```python
    supernet = Supernet(hypermodel)
    supernet.compile()
    values = supernet.spec.sample(np.random.default_rng(0))
    supernet.model.train_on_batch(supernet.inputs(x, supernet.mask(values)), y)
    network = supernet.extract(values)
    ```

    Every layer of the description exists once, with the largest width and kernel size. The model
    has the inputs of the hypermodel and an input ``mask`` of shape ``[batch, layout.size]``, whose
    rows are equal: see `MaskLayout`. Nothing is traced again for another mask.

    - A one-hot mask computes one architecture: the layers that it does not need are not computed
      (except on JAX, see `SupernetBody`), and activations are stored for its own layers only.
    - Real-valued weights mix the outputs of the options of a decision, and the model is
      differentiable with respect to them. All options with a weight other than 0 are computed
      and stored.
    - `Zero` contributes nothing to the sum.
    - Searched widths are the first channels of the largest (Yu et al. 2019, "Slimmable Neural
      Networks"): the others are set to zero, so that a narrow architecture takes the time of a
      wide one. Searched kernel sizes are the centre of the largest (Cai et al. 2020,
      "Once-for-All", section 3.2). For any other argument that is searched, each of its values
      has a layer of its own.
    - What cannot be searched is fixed at a value (`fixed`); `notes` says why.

    It trains on TensorFlow, JAX and PyTorch.

    Args:
        hypermodel: The space.

    Attributes:
        hypermodel: The space.
        layout: Layout of the masks.
        spec: The space that the supernet searches: that of the hypermodel, in which the fixed
            decisions have a single value.
        fixed: Values of the decisions that the supernet does not search.
        notes: One sentence for each decision that is fixed, and for each argument whose values
            have layers of their own.
        sliced: Decisions whose options are parts of one layer: widths and kernel sizes.
        empty: Options that compute nothing (identity, zero), by decision, where another option
            has weights.
        graph: What the model computes.
        model: The Keras model.
        body: Its only layer, which has the layers of the description.

    Raises:
        SearchSpaceError: A part of the space cannot be shared; the message names it.
    """

    def __init__(self, hypermodel: SpaceHyperModel) -> None:
        check_describes_space(hypermodel)
        self.hypermodel = hypermodel
        inputs = hypermodel.new_inputs()
        if MASK in inputs:
            raise SearchSpaceError(
                f"`inputs` of the hypermodel must not have the name {MASK!r}, that of the "
                f"supernet's mask; got {list(inputs)}"
            )
        builder = SupernetBuilder(hypermodel.spec, inputs)
        output = builder.part(hypermodel.space, "", builder.inputs)
        self._vertices = builder.vertices
        self._read = dict(builder.read)
        self.layout = MaskLayout(
            {
                name: options
                for name, options in builder.layout.options.items()
                if name in builder.searched
            }
        )
        self.fixed: dict[str, Any] = {
            decision.name: builder.read.get(decision.name, decision.default)
            for decision in hypermodel.spec.decisions
            if decision.name not in builder.searched
        }
        self.notes = (*self._fixed_notes(), *_separate_notes(builder.separate))
        self.spec = hypermodel.spec.fixed_at(self.fixed)
        self.sliced = tuple(sorted(builder.sliced & self.layout.options.keys()))
        self.empty = {n: o for n, o in builder.empty.items() if n in self.layout.options}
        self._names = list(inputs)
        self.graph = Graph(output)
        self.body = SupernetBody(self.graph, self.layout)
        mask = keras.Input((self.layout.size,), dtype="float32", name=MASK)
        result = self.body(list(inputs.values()), mask)
        self.model = keras.Model({**inputs, MASK: mask}, result, name="supernet")
        self._statistics = Statistics(self.body.shared)

    def _fixed_notes(self) -> list[str]:
        sizes = {d.name: d.domain.size for d in self.hypermodel.spec.decisions}
        notes = []
        for name, value in self.fixed.items():
            size = sizes[name]
            reason = "it is not a part of the network that architectures can share"
            if size is None or size > MAX_VALUES:
                reason = f"it has more than {MAX_VALUES} values"
            notes.append(f"{name} is fixed at {value!r}: {reason}.")
        return notes

    # ------------------------------------------------------------------ masks and inputs

    def mask(self, values: Mapping[str, Any]) -> np.ndarray:
        """The mask of an architecture: see `MaskLayout.encode`.

        Args:
            values: Values of the active decisions, by name.

        Returns:
            Shape ``[layout.size]``.

        Raises:
            SearchSpaceError: A value is not an option.
        """
        return self.layout.encode(values)

    def inputs(self, x: Any, mask: Any) -> dict[str, Any]:
        """The inputs of `model` for some rows and a mask.

        Args:
            x: Rows: an array, or a dictionary or list of arrays for several inputs.
            mask: Shape ``[layout.size]``; a tensor stays one, so that it has gradients.
        """
        if isinstance(x, Mapping):
            named = {name: x[name] for name in self._names}
        elif isinstance(x, list | tuple):
            named = dict(zip(self._names, x, strict=True))
        else:
            named = {self._names[0]: x}
        first = next(iter(named.values()))
        if ops.is_tensor(mask):
            shape = (ops.shape(first)[0], self.layout.size)
            return {**named, MASK: ops.broadcast_to(mask[None], shape)}
        rows = first.shape[0]
        return {**named, MASK: np.broadcast_to(np.asarray(mask, "float32"), (rows, len(mask)))}

    def predict(self, x: Any, mask: np.ndarray, *, batch_size: int = 32) -> np.ndarray:
        """Outputs of the architecture that a mask describes, or of a mixture.

        Args:
            x: See `inputs`.
            mask: Shape ``[layout.size]``.
            batch_size: Rows that are computed at once.
        """
        return self.model.predict(self.inputs(x, mask), batch_size=batch_size, verbose=0)

    # ------------------------------------------------------------------ training and statistics

    def compile(self, *, gradient_accumulation: int | None = None) -> None:
        """Compile the model as the hypermodel compiles its own, with the defaults of `fixed`.

        Args:
            gradient_accumulation: Number of training steps whose gradients are averaged before
                the weights change; None for one.
        """
        self.hypermodel.compile_model(self.model, self.fixed)
        if gradient_accumulation is not None and gradient_accumulation > 1:
            optimizer = self.model.optimizer
            # The optimizer of a mixed precision policy wraps the one that accumulates.
            optimizer = getattr(optimizer, "inner_optimizer", optimizer)
            optimizer.gradient_accumulation_steps = gradient_accumulation

    def recalibrate(self, batches: Sequence[Any], mask: np.ndarray) -> None:
        """Measure the statistics of batch normalisation for an architecture.

        They hold until the next call or training step: `evaluate`, `predict` and `extract` use
        them. See `Statistics.measure`.

        Args:
            batches: Inputs of some training batches, without targets. Four of 64 rows are
                usually enough.
            mask: Shape ``[layout.size]``.
        """

        def run(x: Any) -> None:
            inputs = self.inputs(x, mask)
            self.model(
                {name: ops.convert_to_tensor(v) for name, v in inputs.items()}, training=True
            )

        self._statistics.measure(batches, run)

    def statistics_kept(self) -> contextlib.AbstractContextManager[None]:
        """Restore the statistics of batch normalisation after a block."""
        return self._statistics.kept()

    # ------------------------------------------------------------------ networks and files

    def extract(self, values: Mapping[str, Any]) -> keras.Model:
        """The network of one architecture, with the weights that it has in the supernet.

        Args:
            values: A value for every active decision, by name. Fixed decisions may be left out.

        Returns:
            An ordinary Keras model without the mask, not compiled, which predicts the same as
            `model` with the mask of ``values``. Call `recalibrate` before.

        Raises:
            SearchSpaceError: A value is missing, or a decision has another value than in `fixed`.
        """
        values = {**self.fixed, **values}
        different = {name: value for name, value in self.fixed.items() if values[name] != value}
        if different:
            raise SearchSpaceError(
                f"`values` must have the values at which the supernet is fixed, {different}; got "
                f"{ {name: values[name] for name in different} }"
            )
        inputs = self.hypermodel.new_inputs()
        builder = StandaloneBuilder(values, self._read)
        tensors = [builder.input(name, tensor) for name, tensor in inputs.items()]
        output = builder.part(self.hypermodel.space, "", tensors).tensor
        only = next(iter(inputs.values())) if len(inputs) == 1 else inputs
        network = keras.Model(only, output, name=self.hypermodel.name)
        weights = Weights(self.layout, ops.convert_to_tensor(self.mask(values)))
        copy_weights(self._vertices, builder.weights, values, weights)
        return network

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the weights atomically.

        Args:
            path: A file that ends with ``.weights.h5``.

        Raises:
            StateError: The name has another ending.
        """
        write_atomic(_checked(path), self.model.save_weights)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Load weights that `save` wrote, for the same space.

        Raises:
            StateError: The file does not exist, or has the weights of another space.
        """
        try:
            self.model.load_weights(_checked(path))
        except (OSError, ValueError, KeyError) as error:
            raise StateError(
                f"`path` must have the weights of a supernet of this space; got {str(path)!r}: "
                f"{error}"
            ) from error


def check_describes_space(hypermodel: object) -> None:
    """Check that a hypermodel describes its space, so that a supernet can be built.

    Raises:
        SearchSpaceError: It does not.
    """
    if not hasattr(hypermodel, "space") or not hasattr(hypermodel, "new_inputs"):
        build = getattr(hypermodel, "build", hypermodel)
        name = getattr(build, "__name__", type(hypermodel).__name__)
        raise SearchSpaceError(
            "`hypermodel` of a supernet must be a SpaceHyperModel, which describes what can be "
            f"shared; got {name}. Use another strategy, for example `evolution` or "
            "`gradient-proxy`, for a function build_model(hp)."
        )


def _checked(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if not path.name.endswith(_SUFFIX):
        raise StateError(f"`path` must end with {_SUFFIX}; got {str(path)!r}")
    return path


def _separate_notes(paths: Sequence[str]) -> list[str]:
    return [f"{path} has a layer of its own for each value." for path in dict.fromkeys(paths)]
