"""Computations on a network and a batch that proxies share; each is done at most once."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from keras_nas_plugin.proxies import gradients, layers
from keras_nas_plugin.proxies.base import Event, ProxyError, Structure, Tensor, Watch
from keras_nas_plugin.proxies.losses import loss_of
from keras_nas_plugin.proxies.running import Look, Run


@dataclasses.dataclass(frozen=True)
class Proxy:
    """A score of an untrained network. Larger is better, for every proxy.

    Attributes:
        compute: Returns the score; `-inf` is the worst.
        observe: Called with the events of the pass over the batch; returns a tensor to store,
            or None. `Context.observed` returns the stored tensors.
        needs: Any of ``labels`` (a loss and ``y``), ``inputs`` (gradients with respect to
            ``x``) and ``watch`` (gradients of the loss with respect to the observed ``linear``
            tensors).
    """

    compute: Callable[[Context], float]
    observe: Callable[[Event], Tensor | None] | None = None
    needs: frozenset[str] = frozenset()


class Context:
    """Gives proxies access to a network and a batch.

    A single forward pass over the batch calls the observers of all requested proxies. The
    gradients of the loss take one backward pass, and those of the outputs another.

    Args:
        model: A built Keras model.
        x: Tensors in the structure of the model's inputs, shape ``[batch, ...]`` each.
        y: Labels as tensors in the structure of its outputs, or None.
        loss: See `losses.loss_of`.
        seed: Seed of the noise that some proxies use as input.
        proxies: The requested proxies by name.
        blocks: See `score`.
    """

    def __init__(
        self,
        model: keras.Model,
        x: Structure,
        y: Structure | None,
        *,
        loss: object = None,
        seed: tuple[int, ...] = (0,),
        proxies: Mapping[str, Proxy] | None = None,
        blocks: tuple[str, ...] | None = None,
    ) -> None:
        self.model = model
        self.x = x
        self.y = y
        self.blocks = blocks
        #: Intermediate results that proxies of a family share, by name.
        self.shared: dict[str, Any] = {}
        self._loss = loss
        self._seed = seed
        self._proxies = dict(proxies or {})
        self._needs: frozenset[str] = frozenset().union(
            *(proxy.needs for proxy in self._proxies.values())
        )
        # By proxy: the layers of the observed tensors, in the order of the events.
        self._sources: dict[str, list[keras.Operation]] = {}
        self._watched: list[tuple[str, int]] = []

    # ------------------------------------------------------------------ about the network

    @functools.cached_property
    def operations(self) -> list[keras.Operation]:
        """The model and every layer and operation in it, each once."""
        return layers.walk(self.model)

    @functools.cached_property
    def kernels(self) -> list[keras.Variable]:
        """Trainable weights with two or more axes.

        Raises:
            ProxyError: There is none.
        """
        kernels = layers.kernels(self.model)
        if not kernels:
            raise ProxyError(
                "`model` must have trainable weights with two or more axes; "
                f"{self.model.name!r} has none"
            )
        return kernels

    def kernel_values(self) -> list[Tensor]:
        """The current values of the kernels, as tensors that stop gradients."""
        return [keras.ops.stop_gradient(kernel.value) for kernel in self.kernels]

    @property
    def batch_size(self) -> int:
        """Number of samples."""
        return keras.tree.flatten(self.x)[0].shape[0]

    def rng(self, purpose: int) -> np.random.Generator:
        """A random generator for one purpose, independent of those for other purposes."""
        return np.random.default_rng([*self._seed, purpose])

    def noise(self, rng: np.random.Generator) -> Structure:
        """Standard normal inputs in the shape of ``x``; integer inputs are unchanged.

        Raises:
            ProxyError: The model has no input of real numbers.
        """
        self.require_real_inputs("noise")
        return keras.tree.map_structure(
            lambda tensor: (
                keras.ops.convert_to_tensor(rng.standard_normal(tensor.shape), dtype=tensor.dtype)
                if is_real(tensor)
                else tensor
            ),
            self.x,
        )

    def require_real_inputs(self, what: str) -> None:
        """Check that at least one input is real: integers have no gradient, and get no noise.

        Raises:
            ProxyError: All inputs are integers.
        """
        if not any(map(is_real, keras.tree.flatten(self.x))):
            raise ProxyError(f"{what} requires an input of real numbers; `x` has only integers")

    def require_samples(self, count: int, what: str) -> None:
        """Check the size of the batch.

        Raises:
            ProxyError: It is too small.
        """
        if self.batch_size < count:
            raise ProxyError(
                f"`x` must have at least {count} samples for {what}; got {self.batch_size}"
            )

    # ------------------------------------------------------------------ passes

    @property
    def _wants_loss(self) -> bool:
        """Whether the shared pass computes the loss; without labels it serves other proxies."""
        return "labels" in self._needs and self.y is not None

    def loss(
        self, outputs: Structure, x: Structure | None = None, y: Structure | None = None
    ) -> Tensor:
        """The mean loss, a scalar tensor.

        Raises:
            ProxyError: There are no labels, or there is no loss.
        """
        self._require_labels()
        y = self.y if y is None else y
        return loss_of(self.model, self._loss, self.x if x is None else x, y, outputs)

    def _require_labels(self) -> None:
        if self.y is None:
            raise ProxyError("`y` must be the labels of the batch for this proxy; got None")

    def run(self, x: Structure, look: Look | None = None) -> tuple[Structure, list[Tensor]]:
        """See `running.Run`."""
        return Run(self.model, look, self.operations)(x)

    @functools.cached_property
    def batch(self) -> Any:
        """The recorded pass over the batch: ``loss``, ``logits`` and the observed tensors."""
        variables = self.kernels if self._wants_loss else []
        return gradients.of_backend().Recording(self._compute, variables)

    def forget_batch(self) -> None:
        """Free the recorded pass, which holds every activation."""
        for name in ("batch", "_loss_gradients"):
            self.__dict__.pop(name, None)

    def _compute(self, watch: Watch) -> dict[str, Any]:
        x = self.x
        if "inputs" in self._needs:
            flat = [
                watch(i, tensor) if is_real(tensor) else tensor
                for i, tensor in enumerate(keras.tree.flatten(x))
            ]
            x = keras.tree.pack_sequence_as(x, flat)
        seen: dict[str, list[Any]] = {name: [] for name in self._proxies}
        self._sources = {name: [] for name in self._proxies}
        self._watched = []
        observers = {
            name: proxy.observe
            for name, proxy in self._proxies.items()
            if proxy.observe is not None
        }

        def look(event: Event) -> Tensor:
            for name, observe in observers.items():
                event = self._observe(name, observe, event, seen, watch)
            return event.tensor

        outputs, logits = self.run(x, look)
        result: dict[str, Any] = {"observed": seen, "logits": logits}
        if self._wants_loss:
            result["loss"] = self.loss(outputs, x)
        return result

    def _observe(
        self,
        name: str,
        observe: Callable[[Event], Tensor | None],
        event: Event,
        seen: dict[str, list[Tensor]],
        watch: Watch,
    ) -> Event:
        observed = observe(event)
        if observed is None:
            return event
        if "watch" in self._proxies[name].needs:
            key = (name, len(seen[name]))
            self._watched.append(key)
            observed = watch(key, observed)
            event = dataclasses.replace(event, tensor=observed)
        seen[name].append(observed)
        self._sources[name].append(event.operation)
        return event

    def observed(self, name: str) -> list[tuple[keras.Operation, Tensor]]:
        """Layers and tensors that a proxy observed, in the order of the events."""
        tensors = self.batch.outputs["observed"][name]
        return list(zip(self._sources[name], tensors, strict=True))

    @functools.cached_property
    def _loss_gradients(self) -> tuple[list[Tensor], dict[Any, Tensor]]:
        self._require_labels()
        recording = self.batch  # must come first: running the pass fills `_watched`
        return recording.pull("loss", watched=list(self._watched))

    @property
    def loss_gradients(self) -> list[Tensor]:
        """Gradients of the mean loss with respect to the kernels."""
        return self._loss_gradients[0]

    def observed_gradients(self, name: str) -> list[Tensor]:
        """Gradients of the mean loss with respect to the observed tensors of a proxy."""
        by_key = self._loss_gradients[1]
        return [by_key[key] for key in self._watched if key[0] == name]

    @functools.cached_property
    def input_jacobian(self) -> np.ndarray:
        """Gradient of the summed logits with respect to ``x``, shape ``[batch, features]``."""
        self.require_real_inputs("a gradient with respect to the inputs")
        keys = [i for i, tensor in enumerate(keras.tree.flatten(self.x)) if is_real(tensor)]
        _, by_key = self.batch.pull("logits", variables=False, watched=keys)
        parts = [keras.ops.convert_to_numpy(by_key[key]) for key in keys]
        return np.concatenate([array.reshape(len(array), -1) for array in parts], axis=1)


def is_real(tensor: Tensor) -> bool:
    """Whether a tensor holds real numbers."""
    return keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype))
