"""A description as an ordinary KerasTuner hypermodel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras_tuner

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.architecture import Architecture, GraphBuilder
from keras_nas_plugin.space.building import KerasBuilder
from keras_nas_plugin.space.checking import CheckingBuilder, covering
from keras_nas_plugin.space.declaring import Declaration
from keras_nas_plugin.space.hyperparameters import spec_of
from keras_nas_plugin.space.nodes import Node, as_node
from keras_nas_plugin.space.spec import SearchSpec
from keras_nas_plugin.space.values import Value, ValueChoice

if TYPE_CHECKING:
    import keras

Shape = Sequence[int | None]


class SpaceHyperModel(keras_tuner.HyperModel):
    """Builds a compiled model for every architecture of a description.

    It works wherever a `keras_tuner.HyperModel` does: in `NASTuner`, in KerasTuner's own
    tuners and in AutoKeras.

    ```python
    space = Sequential(
        Layer("Conv2D", filters=ValueChoice([8, 16, 32]), kernel_size=3, activation="relu"),
        Repeat(LayerChoice({"conv": Layer("Conv2D", filters=32, kernel_size=3),
                            "skip": Identity()}), 1, 4),
        Layer("GlobalAveragePooling2D"),
        Layer("Dense", units=10, activation="softmax"),
    )
    hypermodel = SpaceHyperModel(
        space,
        inputs=(28, 28, 1),
        compile={"optimizer": "adam", "loss": "sparse_categorical_crossentropy",
                 "metrics": ["accuracy"]},
    )
    ```

    Args:
        space: A node, from the model's input to its output.
        inputs: Shape of the input without the batch; a dictionary from name to shape, or
            to a `keras.Input` (whose dtype counts as well), for several.
        compile: Arguments of `keras.Model.compile`, where a `ValueChoice` is decided by
            the search (``"learning_rate"`` goes to the optimizer); or a function
            ``compile(hp, model)``.
        name: Name of the models.
        tunable: See `keras_tuner.HyperModel`.
        check: Whether to find out now if each option fits in its place, by the shapes of
            some architectures in which every option occurs; else an option that does not
            fit fails when it is built.

    Raises:
        SearchSpaceError: The description is wrong; the message names the place.
    """

    def __init__(
        self,
        space: Node,
        *,
        inputs: Shape | Mapping[str, Any],
        compile: Mapping[str, Any] | Callable[[Any, Any], None],
        name: str | None = None,
        tunable: bool = True,
        check: bool = True,
    ) -> None:
        super().__init__(name=name, tunable=tunable)
        self.space = as_node(space)
        self.inputs = inputs if isinstance(inputs, Mapping) else {"input": inputs}
        if not callable(compile) and not isinstance(compile, Mapping):
            raise SearchSpaceError(
                "`compile` needs arguments of `keras.Model.compile` or a function "
                f"compile(hp, model); received {compile!r}"
            )
        self.compile = compile
        hyperparameters = keras_tuner.HyperParameters()
        self.declare_hyperparameters(hyperparameters)
        #: The space as strategies see it.
        self.spec: SearchSpec = spec_of(hyperparameters)
        if check:
            self._check()

    def _check(self) -> None:
        builder = CheckingBuilder({})
        inputs = list(self._inputs().values())
        for values in covering(self.spec):
            builder.values = values
            builder.part(self.space, "", inputs)

    def declare_hyperparameters(self, hp: keras_tuner.HyperParameters) -> None:
        """Declare every decision, those under conditions included."""
        declaration = Declaration(hp)
        declaration.part(self.space, "")
        for choice, argument in self._choices():
            declaration.decide(choice, argument)

    def _choices(self) -> list[tuple[ValueChoice, str]]:
        """Choices among the arguments of `compile`, and where they stand."""
        if not isinstance(self.compile, Mapping):
            return []
        values = {key: one for key, one in self.compile.items() if isinstance(one, Value)}
        return [(choice, key) for key, one in values.items() for choice in one.choices]

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Build and compile the model of ``hp``'s values."""
        self.declare_hyperparameters(hp)
        model = self.build_values(hp.values)
        if callable(self.compile):
            self.compile(hp, model)
        else:
            model.compile(**self._compile_arguments(hp.values))
        return model

    def build_values(self, values: Mapping[str, Any]) -> keras.Model:
        """Build the model of some values, not compiled.

        Raises:
            SearchSpaceError: The layers of this architecture do not fit together.
        """
        import keras

        inputs = self._inputs()
        builder = KerasBuilder(values)
        output = builder.part(self.space, "", list(inputs.values()))
        only = next(iter(inputs.values())) if len(inputs) == 1 else inputs
        return keras.Model(only, output, name=self.name)

    def _inputs(self) -> dict[str, Any]:
        """New symbolic inputs by name."""
        import keras

        inputs = {}
        for name, one in self.inputs.items():
            shape, dtype = (one.shape[1:], one.dtype) if hasattr(one, "dtype") else (one, None)
            inputs[name] = keras.Input(tuple(shape), dtype=dtype, name=name)
        return inputs

    def _compile_arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        import keras

        arguments = {
            key: value.value(values, key) if isinstance(value, Value) else value
            for key, value in self.compile.items()
        }
        rate = arguments.pop("learning_rate", None)
        optimizer = keras.optimizers.get(arguments.get("optimizer", "rmsprop"))
        # One optimizer keeps the variables of one model.
        settings = optimizer.get_config()
        if rate is not None:
            settings["learning_rate"] = rate
        arguments["optimizer"] = type(optimizer).from_config(settings)
        return arguments

    def architecture(self, values: Mapping[str, Any]) -> Architecture:
        """The architecture of some values, without building layers."""
        builder = GraphBuilder(values)
        inputs = [builder.input(name) for name in self.inputs]
        return builder.finish(builder.part(self.space, "", inputs))
