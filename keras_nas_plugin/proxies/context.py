"""One network, one batch: what proxies share is computed once, when the first asks for it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_nas_plugin.proxies import gradients, layers
from keras_nas_plugin.proxies.base import Event, Proxy, ProxyError
from keras_nas_plugin.proxies.losses import loss_of
from keras_nas_plugin.proxies.running import Look, Run


class Context:
    """What proxies see of a network.

    The pass over the batch is one forward pass with all observers of all requested proxies; the
    gradients of the loss are one backward pass through it, those of the outputs another.

    Args:
        model: A Keras model that is built.
        x: Tensors in the structure of the model's inputs, shape ``[batch, ...]`` each.
        y: Tensors in the structure of its outputs, or None.
        loss: See `losses.loss_of`.
        seed: Of the noise that some proxies put in.
        proxies: Those that will be asked, by name.
        blocks: See `score`.
    """

    def __init__(
        self,
        model: keras.Model,
        x: Any,
        y: Any,
        *,
        loss: Any = None,
        seed: tuple[int, ...] = (0,),
        proxies: Mapping[str, Proxy] | None = None,
        blocks: tuple[str, ...] | None = None,
    ) -> None:
        self.model = model
        self.x = x
        self.y = y
        self.blocks = blocks
        #: What proxies of one family compute once, by a name of theirs.
        self.shared: dict[str, Any] = {}
        self._loss = loss
        self._seed = seed
        self._proxies = dict(proxies or {})
        self._needs = frozenset().union(*(one.needs for one in self._proxies.values()))
        # Which layer each observed tensor came from, in the order of the events.
        self._sources: dict[str, list[Any]] = {}
        self._watched: list[tuple[str, int]] = []

    # ------------------------------------------------------------------ about the network

    @functools.cached_property
    def operations(self) -> list[keras.Operation]:
        """The model and every layer and operation in it, each once."""
        return layers.walk(self.model)

    @functools.cached_property
    def kernels(self) -> list[Any]:
        """Trainable weights with two or more axes.

        Raises:
            ProxyError: There is none.
        """
        found = layers.kernels(self.model)
        if not found:
            raise ProxyError(
                f"`model` needs trainable weights with two or more axes; {self.model.name!r} "
                "has none"
            )
        return found

    def kernel_values(self) -> list[Any]:
        """What the kernels are now, as tensors that no gradient is followed through."""
        return [keras.ops.stop_gradient(one.value) for one in self.kernels]

    @property
    def batch_size(self) -> int:
        """Number of samples."""
        return keras.tree.flatten(self.x)[0].shape[0]

    def rng(self, purpose: int) -> np.random.Generator:
        """A generator for one purpose: what others draw does not move it."""
        return np.random.default_rng([*self._seed, purpose])

    def noise(self, rng: np.random.Generator) -> Any:
        """Standard normal inputs in the shape of ``x``; integers stay what they are.

        Raises:
            ProxyError: The model has no input of real numbers.
        """
        self.require_real_inputs("noise")
        return keras.tree.map_structure(
            lambda one: (
                keras.ops.convert_to_tensor(rng.standard_normal(one.shape), dtype=one.dtype)
                if is_real(one)
                else one
            ),
            self.x,
        )

    def require_real_inputs(self, what: str) -> None:
        """Complain where all inputs are integers, which have no gradient and no noise."""
        if not any(map(is_real, keras.tree.flatten(self.x))):
            raise ProxyError(f"{what} needs an input of real numbers; `x` has integers alone")

    def require_samples(self, count: int, what: str) -> None:
        """Complain where the batch is too small."""
        if self.batch_size < count:
            raise ProxyError(
                f"`x` needs at least {count} samples for {what}; received {self.batch_size}"
            )

    # ------------------------------------------------------------------ passes

    @property
    def _wants_loss(self) -> bool:
        """Without labels, proxies that need none still get their pass."""
        return "labels" in self._needs and self.y is not None

    def loss(self, outputs: Any, x: Any = None, y: Any = None) -> Any:
        """The mean loss, a scalar tensor.

        Raises:
            ProxyError: There are no labels or there is no loss.
        """
        self._require_labels()
        y = self.y if y is None else y
        return loss_of(self.model, self._loss, self.x if x is None else x, y, outputs)

    def _require_labels(self) -> None:
        if self.y is None:
            raise ProxyError("`y` needs the labels of the batch for this proxy; received None")

    def run(self, x: Any, look: Look | None = None) -> tuple[Any, list[Any]]:
        """See `running.Run`."""
        return Run(self.model, look, self.operations)(x)

    @functools.cached_property
    def batch(self) -> Any:
        """The recorded pass over the batch: ``loss``, ``logits``, what was observed."""
        variables = self.kernels if self._wants_loss else []
        return gradients.of_backend().Recording(self._compute, variables)

    def forget_batch(self) -> None:
        """Free the recorded pass, which keeps every activation."""
        for name in ("batch", "_loss_gradients"):
            self.__dict__.pop(name, None)

    def _compute(self, watch: Any) -> dict[str, Any]:
        x = self.x
        if "inputs" in self._needs:
            x = _mapped_with_index(lambda i, one: watch(i, one) if is_real(one) else one, x)
        seen: dict[str, list[Any]] = {name: [] for name in self._proxies}
        self._sources = {name: [] for name in self._proxies}
        self._watched = []

        def look(event: Event) -> Any:
            replaced = event
            for name, proxy in self._proxies.items():
                if proxy.observe is None:
                    continue
                replaced = self._observe(name, proxy, replaced, seen, watch)
            return replaced.tensor

        outputs, logits = self.run(x, look)
        result: dict[str, Any] = {"observed": seen, "logits": logits}
        if self._wants_loss:
            result["loss"] = self.loss(outputs, x)
        return result

    def _observe(self, name: str, proxy: Proxy, event: Event, seen: dict, watch: Any) -> Event:
        kept = proxy.observe(event)
        if kept is None:
            return event
        if "watch" in proxy.needs:
            key = (name, len(seen[name]))
            self._watched.append(key)
            kept = watch(key, kept)
            event = Event(**{**vars(event), "tensor": kept})
        seen[name].append(kept)
        self._sources[name].append(event.operation)
        return event

    def observed(self, name: str) -> list[tuple[Any, Any]]:
        """Layers and tensors that a proxy kept, in the order of the events."""
        tensors = self.batch.outputs["observed"][name]
        return list(zip(self._sources[name], tensors, strict=True))

    @functools.cached_property
    def _loss_gradients(self) -> tuple[list[Any], dict[Any, Any]]:
        self._require_labels()
        recording = self.batch  # before `_watched` is read: the pass fills it
        return recording.pull("loss", watched=list(self._watched))

    @property
    def loss_gradients(self) -> list[Any]:
        """Of the mean loss, with respect to the kernels."""
        return self._loss_gradients[0]

    def observed_gradients(self, name: str) -> list[Any]:
        """Of the mean loss, with respect to what a proxy observed and had watched."""
        found = self._loss_gradients[1]
        return [found[key] for key in self._watched if key[0] == name]

    @functools.cached_property
    def input_jacobian(self) -> np.ndarray:
        """Of the sum of all logits with respect to the inputs, shape ``[batch, features]``."""
        self.require_real_inputs("a gradient with respect to the inputs")
        keys = [i for i, one in enumerate(keras.tree.flatten(self.x)) if is_real(one)]
        _, found = self.batch.pull("logits", variables=False, watched=keys)
        parts = [keras.ops.convert_to_numpy(found[key]) for key in keys]
        return np.concatenate([one.reshape(len(one), -1) for one in parts], axis=1)


def is_real(tensor: Any) -> bool:
    """Whether a tensor holds real numbers."""
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))


def _mapped_with_index(function: Any, structure: Any) -> Any:
    flat = [function(i, one) for i, one in enumerate(keras.tree.flatten(structure))]
    return keras.tree.pack_sequence_as(structure, flat)
