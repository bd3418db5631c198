"""A description as an ordinary KerasTuner hypermodel."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras_tuner

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space.hyperparameters import spec_of
from keras_nas_plugin.space.language.architecture import Architecture, GraphBuilder
from keras_nas_plugin.space.language.base import Node
from keras_nas_plugin.space.language.building import KerasBuilder
from keras_nas_plugin.space.language.checking import CheckingBuilder, covering
from keras_nas_plugin.space.language.declaring import HyperParametersDeclaration
from keras_nas_plugin.space.language.nodes import as_node
from keras_nas_plugin.space.language.values import Value, ValueChoice
from keras_nas_plugin.space.spec import SearchSpec

if TYPE_CHECKING:
    import keras

#: A shape without the batch dimension; None for a size that varies.
Shape = Sequence[int | None]
#: Arguments of `keras.Model.compile`, or a function that compiles a model.
Compile = Mapping[str, Any] | Callable[[keras_tuner.HyperParameters, "keras.Model"], None]


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
        inputs: Shape of the input without the batch dimension. For several inputs, a
            dictionary from name to shape, or to a `keras.Input` to set the dtype as well.
        compile: Arguments of `keras.Model.compile`, or a function ``compile(hp, model)``. An
            argument that is a `ValueChoice` is searched; ``"learning_rate"`` is passed on to
            the optimizer.
        name: Name of the models.
        tunable: See `keras_tuner.HyperModel`.
        check: Whether to check now that the shapes of all options fit. For this, the output
            shapes of some architectures are computed in which every option occurs at least
            once. If False, an option that does not fit fails in the trial that builds it.

    Raises:
        SearchSpaceError: The description is invalid; the message names the path.
    """

    def __init__(
        self,
        space: Node,
        *,
        inputs: Shape | Mapping[str, Any],
        compile: Compile,
        name: str | None = None,
        tunable: bool = True,
        check: bool = True,
    ) -> None:
        super().__init__(name=name, tunable=tunable)
        self.space = as_node(space)
        self.inputs: Mapping[str, Any] = (
            inputs if isinstance(inputs, Mapping) else {"input": inputs}
        )
        if not callable(compile) and not isinstance(compile, Mapping):
            raise SearchSpaceError(
                "`compile` must be arguments of `keras.Model.compile` or a function "
                f"compile(hp, model); got {compile!r}"
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
        inputs = list(self.new_inputs().values())
        for values in covering(self.spec):
            builder.values = values
            builder.part(self.space, "", inputs)

    def declare_hyperparameters(self, hp: keras_tuner.HyperParameters) -> None:
        """Declare every decision, including those under conditions.

        KerasTuner (1.4.8) builds a model for each conditional scope that has been inactive, in
        order to find what is declared in it. Here nothing is left to find.
        """
        active, inactive = len(hp.active_scopes), len(hp.inactive_scopes)
        declaration = HyperParametersDeclaration(hp)
        declaration.part(self.space, "")
        for choice, argument in self._choices():
            declaration.decide(choice, argument)
        del hp.active_scopes[active:], hp.inactive_scopes[inactive:]

    def _choices(self) -> list[tuple[ValueChoice, str]]:
        """Choices among the arguments of `compile`, and their paths."""
        if not isinstance(self.compile, Mapping):
            return []
        return [
            (choice, argument)
            for argument, value in self.compile.items()
            if isinstance(value, Value)
            for choice in value.choices
        ]

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Build and compile the model that the values of ``hp`` describe."""
        self.declare_hyperparameters(hp)
        model = self.build_values(hp.values)
        self._compile(hp, model)
        return model

    def compile_model(self, model: keras.Model, values: Mapping[str, Any]) -> None:
        """Compile another model, such as a supernet, like the model of a configuration.

        Args:
            model: The model, with the outputs of the models of this hypermodel.
            values: Values of decisions by name; those that are missing have their defaults.
        """
        hp = keras_tuner.HyperParameters()
        self.declare_hyperparameters(hp)
        hp.values = {**hp.values, **values}
        self._compile(hp, model)

    def _compile(self, hp: keras_tuner.HyperParameters, model: keras.Model) -> None:
        if isinstance(self.compile, Mapping):
            model.compile(**_compile_arguments(self.compile, hp.values))
        else:
            self.compile(hp, model)

    def connect(self, hp: keras_tuner.HyperParameters, *tensors: Any) -> keras.KerasTensor:
        """Continue a model of your own, for example after layers that prepare its inputs.

        ```python
        inputs = keras.Input((28, 28, 1))
        x = keras.layers.Rescaling(1 / 255)(inputs)
        model = keras.Model(inputs, residual_cnn((28, 28, 1), classes=10).connect(hp, x))
        ```

        Args:
            hp: Every decision of the space is declared in it.
            tensors: What takes the place of the inputs, in their order.

        Returns:
            The output of the space.
        """
        self.declare_hyperparameters(hp)
        return KerasBuilder(hp.values).part(self.space, "", list(tensors))

    def build_values(self, values: Mapping[str, Any]) -> keras.Model:
        """Build the model of one configuration, without compiling it.

        Args:
            values: A value for every active decision, by name.

        Raises:
            SearchSpaceError: The layers of this architecture do not fit together, or a value
                is missing.
        """
        import keras

        inputs = self.new_inputs()
        builder = KerasBuilder(values)
        output = builder.part(self.space, "", list(inputs.values()))
        only = next(iter(inputs.values())) if len(inputs) == 1 else inputs
        return keras.Model(only, output, name=self.name)

    def new_inputs(self) -> dict[str, keras.KerasTensor]:
        """New symbolic inputs by name."""
        import keras

        inputs = {}
        for name, value in self.inputs.items():
            is_tensor = hasattr(value, "dtype")
            shape, dtype = (value.shape[1:], value.dtype) if is_tensor else (value, None)
            inputs[name] = keras.Input(tuple(shape), dtype=dtype, name=name)
        return inputs

    def architecture(self, values: Mapping[str, Any]) -> Architecture:
        """The architecture of one configuration, without building layers.

        Args:
            values: A value for every active decision, by name.

        Raises:
            SearchSpaceError: A value is missing or not an option.
        """
        builder = GraphBuilder(values)
        inputs = [builder.input(name) for name in self.inputs]
        return builder.finish(builder.part(self.space, "", inputs))


def _compile_arguments(arguments: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `keras.Model.compile` for one configuration, with a new optimizer."""
    import keras

    resolved = {
        key: value.value(values, key) if isinstance(value, Value) else value
        for key, value in arguments.items()
    }
    rate = resolved.pop("learning_rate", None)
    optimizer = keras.optimizers.get(resolved.get("optimizer", "rmsprop"))
    # Each model needs a new optimizer, because an optimizer holds the variables of one model.
    settings = optimizer.get_config()
    if rate is not None:
        settings["learning_rate"] = rate
    resolved["optimizer"] = type(optimizer).from_config(settings)
    return resolved
