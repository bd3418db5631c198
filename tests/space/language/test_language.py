"""Decisions that descriptions declare, models they build, and descriptions that are rejected."""

import keras
import keras_tuner
import numpy as np
import pytest

from keras_nas_plugin.errors import SearchSpaceError
from keras_nas_plugin.space import (
    Branches,
    Categorical,
    Cell,
    Condition,
    Derived,
    Identity,
    InputChoice,
    Integer,
    Layer,
    LayerChoice,
    Optional,
    Real,
    Repeat,
    Sequential,
    SpaceHyperModel,
    Stack,
    ValueChoice,
    When,
    Zero,
)

COMPILE = {"optimizer": "adam", "loss": "mse"}
OPERATIONS = {
    "none": Zero(),
    "skip": Identity(),
    "conv": Layer("Conv2D", filters=3, kernel_size=3, padding="same"),
}


def hypermodel(space, inputs=(8, 8, 3), compile=COMPILE, **options):
    return SpaceHyperModel(space, inputs=inputs, compile=compile, **options)


def decisions(space, **options):
    """Name, domain and conditions of each decision."""
    spec = hypermodel(space, **options).spec
    return [(decision.name, decision.domain, decision.conditions) for decision in spec.decisions]


def layers(space, values, **options):
    """Names of the classes of the layers that are built."""
    model = hypermodel(space, **options).build_values(values)
    return [type(layer).__name__ for layer in model.layers if layer.name != "input"]


# ---------------------------------------------------------------------- declarations


def test_decisions_are_named_after_their_path():
    space = Sequential(
        Layer("Dense", units=ValueChoice([4, 8])),
        hidden=Sequential(Layer("Dense", units=ValueChoice(low=2, high=9))),
        rate=Layer("Dropout", rate=ValueChoice(low=0.1, high=0.5, sampling="log", name="drop")),
    )
    assert decisions(space, inputs=(5,)) == [
        ("0/units", Categorical((4, 8), ordered=True), ()),
        ("hidden/0/units", Integer(2, 9), ()),
        ("drop", Real(0.1, 0.5, None, "log"), ()),
    ]


def test_decisions_within_an_operation_are_active_only_if_it_is_chosen():
    inner = LayerChoice({"relu": "ReLU", "elu": Layer("ELU", alpha=ValueChoice([0.5, 1.0]))})
    space = Sequential(choice=LayerChoice({"none": Identity(), "some": inner}, default="some"))
    spec = hypermodel(space).spec
    assert [(decision.name, decision.conditions) for decision in spec.decisions] == [
        ("choice", ()),
        ("choice/some", (Condition("choice", ("some",)),)),
        (
            "choice/some/elu/alpha",
            (Condition("choice", ("some",)), Condition("choice/some", ("elu",))),
        ),
    ]
    assert spec.fill({}) == {"choice": "some", "choice/some": "relu"}


def test_booleans_stay_booleans():
    space = Layer("Dense", units=3, use_bias=ValueChoice([True, False], default=True))
    (decision,) = hypermodel(space, inputs=(4,)).spec.decisions
    assert decision.domain.choices == (False, True) and decision.default is True


def test_repetitions_have_separate_decisions_unless_shared():
    part = LayerChoice(["ReLU", "ELU"])
    separate = decisions(Sequential(block=Repeat(part, 1, 3)))
    assert [(name, conditions) for name, _, conditions in separate] == [
        ("block/count", ()),
        ("block/0", ()),
        ("block/1", (Condition("block/count", (2, 3)),)),
        ("block/2", (Condition("block/count", (3,)),)),
    ]
    shared = Sequential(block=Repeat(part, 0, 3, shared=True))
    assert [(name, conditions) for name, _, conditions in decisions(shared)] == [
        ("block/count", ()),
        ("block/each", (Condition("block/count", (1, 2, 3)),)),
    ]
    values = {"block/count": 3, "block/each": "ELU"}
    assert layers(shared, values) == ["ELU"] * 3
    assert layers(shared, {"block/count": 0}) == []


def test_a_fixed_number_of_repetitions_is_no_decision():
    assert decisions(Repeat("ReLU", 3)) == []
    assert layers(Repeat("ReLU", 3), {}) == ["ReLU"] * 3


def test_the_first_repetition_may_be_another_part():
    space = Sequential(
        stage=Repeat("ELU", 1, 3, first=LayerChoice(["ReLU"]), default=2, counter="depth")
    )
    spec = hypermodel(space).spec
    assert spec.fill({}) == {"stage/depth": 2, "stage/0": "ReLU"}
    assert layers(space, {"stage/depth": 3, "stage/0": "ReLU"}) == ["ReLU", "ELU", "ELU"]


def test_each_repetition_receives_the_inputs_after_the_first():
    space = Sequential(sum=Repeat("Add", 0, 2))
    adding = SpaceHyperModel(space, inputs={"state": (3,), "shift": (3,)}, compile=COMPILE)
    data = {"state": np.full((1, 3), 1.0), "shift": np.full((1, 3), 10.0)}
    for count, expected in ((0, 1.0), (1, 11.0), (2, 21.0)):
        model = adding.build_values({"sum/count": count})
        assert np.asarray(model(data)).tolist() == [[expected] * 3]


def test_missing_values_and_invalid_options_are_named():
    space = Sequential(act=LayerChoice(["ReLU", "ELU"]), out=Layer("Dense", units=DEPTH))
    searched = hypermodel(space)
    with pytest.raises(SearchSpaceError, match="`values` must have a value for 'act'; got none"):
        searched.build_values({})
    with pytest.raises(SearchSpaceError, match="`values` must have a value for 'depth'; got none"):
        searched.architecture({"act": "ELU"})
    with pytest.raises(SearchSpaceError, match=r"must be one of \['ReLU', 'ELU'\]; got 'SELU'"):
        searched.build_values({"act": "SELU", "depth": 1})


def test_conditions_on_floats_hold_in_single_precision():
    """KerasTuner's chief transmits floats as float32."""
    rate = ValueChoice([0.1, 0.2], name="rate")
    space = When(rate, [0.1], "ReLU", "ELU")
    assert layers(space, {"rate": float(np.float32(0.1))}) == ["ReLU"]
    assert layers(space, {"rate": float(np.float32(0.2))}) == ["ELU"]


def test_an_optional_part_can_be_left_out():
    space = Sequential(extra=Optional("ReLU"))
    assert hypermodel(space).spec.fill({}) == {"extra": "without"}
    assert layers(space, {"extra": "without"}) == []
    assert layers(space, {"extra": "with"}) == ["ReLU"]


def test_when_depends_on_a_choice_elsewhere():
    squeeze = ValueChoice([False, True], name="squeeze")
    elu = Layer("ELU", alpha=ValueChoice([0.5, 1.0]))
    space = Sequential(
        Layer("Dense", units=3, use_bias=squeeze), Repeat(When(squeeze, [True], elu, "ReLU"), 2)
    )
    spec = hypermodel(space).spec
    assert spec.fill({}) == {"squeeze": False}
    chosen = {"squeeze": True, "1/0/then/alpha": 0.5, "1/1/then/alpha": 1.0}
    assert spec.fill({"squeeze": True, "1/1/then/alpha": 1.0}) == chosen
    assert layers(space, chosen) == ["Dense", "ELU", "ELU"]
    assert layers(space, {"squeeze": False}) == ["Dense", "ReLU", "ReLU"]


def test_a_conditional_part_may_use_the_choice_of_its_condition():
    width = ValueChoice([3, 4], name="width")
    space = Sequential(When(width, [4], Layer("Dense", units=width)))
    assert layers(space, {"width": 4}) == ["Dense"] and layers(space, {"width": 3}) == []
    assert [name for name, *_ in decisions(space)] == ["width"]


def test_a_layer_argument_may_have_the_name_of_a_parameter_of_layer():
    def block(kind, path):
        return keras.layers.Activation(kind)

    space = Layer(block, kind=ValueChoice(["relu", "tanh"]), path="here")
    assert layers(space, {"kind": "tanh"}) == ["Activation"]


def test_choices_of_the_same_name_are_one_decision():
    width = ValueChoice([4, 8], name="width")
    space = Sequential(Layer("Dense", units=width), Layer("Dense", units=width * 2 + 1))
    assert [name for name, *_ in decisions(space, inputs=(3,))] == ["width"]
    # It is not declared again under conditions either.
    repeated = Sequential(space, Repeat(Layer("Dense", units=width), 0, 2))
    assert [name for name, *_ in decisions(repeated, inputs=(3,))] == ["width", "1/count"]
    model = hypermodel(space, inputs=(3,)).build_values({"width": 8})
    assert [layer.units for layer in model.layers[1:]] == [8, 17]


def test_derived_values_are_computed_from_their_choices():
    width, ratio = ValueChoice([4, 8], name="width"), ValueChoice([1, 3], name="ratio")
    values = {"width": 8, "ratio": 3}
    for derived, expected in (
        (width * ratio, 24),
        (2 * width, 16),
        (1 + width, 9),
        (width // 3, 2),
        (width.map(str), "8"),
        (Derived(max, width, 11, ratio), 11),
    ):
        assert derived.value(values, "here") == expected
    assert (width * ratio).choices == (width, ratio)
    assert ValueChoice([5, 6]).map(lambda number: -number).value({"here": 6}, "here") == -6


def test_cells_of_the_same_name_share_decisions_whatever_their_width():
    def cell(width):
        conv = Sequential(Layer("Conv2D", filters=width, kernel_size=1), "ReLU")
        return Cell({"conv": conv, "skip": Identity()}, nodes=2, name="cell")

    space = Sequential(cell(3), Layer("Conv2D", filters=5, kernel_size=1), Repeat(cell(5), 2))
    assert [name for name, *_ in decisions(space)] == ["cell/0to1", "cell/0to2", "cell/1to2"]
    values = {"cell/0to1": "conv", "cell/0to2": "skip", "cell/1to2": "conv"}
    widths = [
        layer.filters
        for layer in hypermodel(space).build_values(values).layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    assert widths == [3, 3, 5, 5, 5, 5, 5]


@pytest.mark.parametrize(
    ("on", "expected"),
    [
        ("edges", ["0to1", "0to2", "1to2"]),
        ("nodes", ["1/op", "2/from", "2/op"]),
        ("inputs", ["1/op0", "2/op0", "2/op1"]),
    ],
)
def test_operations_are_on_edges_nodes_or_inputs(on, expected):
    space = Sequential(cell=Cell(OPERATIONS, nodes=2, on=on))
    assert [name for name, *_ in decisions(space)] == [f"cell/{name}" for name in expected]


def test_a_node_has_one_operation_decision_per_input():
    cell = Cell(OPERATIONS, nodes=2, on="inputs", inputs=InputChoice(1, 2), output="all")
    declared = {name: (domain, when) for name, domain, when in decisions(Sequential(cell=cell))}
    assert declared["cell/2/from"][0] == Categorical(("0", "1", "0+1"))
    assert declared["cell/2/op1"][1] == (Condition("cell/2/from", ("0+1",)),)
    values = {"cell/1/op0": "conv", "cell/2/from": "1", "cell/2/op0": "conv"}
    assert layers(Sequential(cell=cell), values) == ["Conv2D", "Conv2D", "Concatenate"]
    two_inputs = values | {"cell/2/from": "0+1", "cell/2/op1": "skip"}
    assert layers(Sequential(cell=cell), two_inputs) == ["Conv2D", "Conv2D", "Add", "Concatenate"]


def test_cells_in_a_stack_take_the_two_preceding_outputs():
    cell = Cell({"conv": OPERATIONS["conv"]}, nodes=1, on="edges", arity=2, name="cell")
    model = hypermodel(Stack(cell, cell, cell)).build_values(
        {"cell/0to2": "conv", "cell/1to2": "conv"}
    )
    added = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
    feeding = [
        [tensor._keras_history.operation for tensor in layer.input] for layer in added
    ]  # the graph has no public name for it
    assert len(added) == 3
    sources = [[conv.input._keras_history.operation for conv in convs] for convs in feeding]
    first = model.layers[0]
    assert sources == [[first, first], [first, added[0]], [added[0], added[1]]]


def test_branches_are_merged():
    space = Branches("ReLU", Layer("Conv2D", filters=2, kernel_size=1), merge="concatenate")
    assert hypermodel(space).build_values({}).output_shape == (None, 8, 8, 5)


def test_an_input_choice_works_outside_a_cell():
    space = InputChoice(1, 2, merge="maximum", candidates=3)
    chooser = SpaceHyperModel(
        Sequential(pick=space),
        inputs={"a": (4,), "b": (4,), "c": (4,)},
        compile=COMPILE,
    )
    (decision,) = chooser.spec.decisions
    assert decision.domain.choices == ("0", "1", "2", "0+1", "0+2", "1+2")
    model = chooser.build_values({"pick": "0+2"})
    data = [np.full((1, 4), value, "float32") for value in (1.0, 5.0, 3.0)]
    inputs = dict(zip("abc", data, strict=True))
    assert np.asarray(model(inputs)).tolist() == [[3.0] * 4]


def test_zero_returns_zeros_even_after_saving(tmp_path):
    model = hypermodel(Branches("ReLU", Zero())).build_values({})
    model.save(tmp_path / "model.keras")
    data = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(data), np.maximum(data, 0.0))


# ---------------------------------------------------------------------- the hypermodel


def test_a_stock_tuner_searches_the_space(tmp_path):
    space = Sequential(
        "Flatten",
        Repeat(Layer("Dense", units=ValueChoice([2, 4]), activation="relu"), 1, 2),
        Layer("Dense", units=1),
    )
    rate = ValueChoice(low=1e-3, high=1e-1, sampling="log")
    searched = hypermodel(space, compile={**COMPILE, "learning_rate": rate, "run_eagerly": True})
    tuner = keras_tuner.RandomSearch(
        searched, "loss", max_trials=4, directory=tmp_path, project_name="search", seed=0
    )
    names = {item.name for item in tuner.oracle.get_space().space}
    assert names == {"1/count", "1/0/units", "1/1/units", "learning_rate"}
    rng = np.random.default_rng(0)
    tuner.search(rng.normal(size=(8, 8, 8, 3)), rng.normal(size=(8, 1)), verbose=0)
    (best,) = tuner.get_best_hyperparameters()
    model = searched.build(best)
    assert float(model.optimizer.learning_rate) == pytest.approx(best["learning_rate"])
    assert len(model.layers) == 3 + best["1/count"]


def test_a_stock_tuner_builds_one_model_to_find_the_space(tmp_path):
    """A function that compiles may have a condition, which takes another model."""

    def compile(hp, model):
        optimizer = hp.Choice("optimizer", ["adam", "sgd"])
        with hp.conditional_scope("optimizer", ["sgd"]):
            momentum = hp.Float("momentum", 0.0, 0.9) if optimizer == "sgd" else 0.0
        model.compile(optimizer if optimizer == "adam" else keras.optimizers.SGD(0.1, momentum))

    class Counted(SpaceHyperModel):
        built = 0

        def build(self, hp):
            self.built += 1
            return super().build(hp)

    operations = LayerChoice(OPERATIONS | {"wide": Layer("Dense", units=ValueChoice([8, 16]))})
    for number, (compiled, models) in enumerate(((COMPILE, 1), (compile, 2))):
        space = Sequential(operations, "Flatten", Layer("Dense", units=1))
        searched = Counted(space, inputs=(8, 8, 3), compile=compiled)
        searched.built = 0
        tuner = keras_tuner.RandomSearch(searched, "loss", 4, directory=tmp_path / str(number))
        names = {item.name for item in tuner.oracle.get_space().space}
        assert names - {"optimizer", "momentum"} == {item.name for item in searched.spec.decisions}
        assert ("momentum" in names) == (compiled is compile)
        assert searched.built == models


def test_each_model_has_its_own_optimizer_with_the_given_settings():
    optimizer = keras.optimizers.SGD(0.25, momentum=0.5)
    searched = hypermodel(
        Layer("Dense", units=1), inputs=(2,), compile={"optimizer": optimizer, "loss": "mse"}
    )
    models = [searched.build(keras_tuner.HyperParameters()) for _ in range(2)]
    for model in models:
        assert model.optimizer is not optimizer
        assert (float(model.optimizer.learning_rate), model.optimizer.momentum) == (0.25, 0.5)
    assert models[0].optimizer is not models[1].optimizer


def test_a_function_may_compile_the_model():
    def compile(hp, model):
        model.compile(hp.Choice("optimizer", ["sgd", "adam"]), "mse")

    searched = hypermodel(Layer("Dense", units=1), inputs=(2,), compile=compile)
    hp = keras_tuner.HyperParameters()
    hp.values["optimizer"] = "adam"
    assert isinstance(searched.build(hp).optimizer, keras.optimizers.Adam)


def test_inputs_may_have_a_dtype():
    tokens = keras.Input((None,), dtype="int32")
    space = Sequential(Layer("Embedding", input_dim=9, output_dim=4), "GlobalAveragePooling1D")
    searched = hypermodel(space, inputs={"tokens": tokens})
    assert np.asarray(searched.build_values({})(np.zeros((2, 5), "int32"))).shape == (2, 4)


# ---------------------------------------------------------------------- invalid descriptions


def duplicate_names():
    return Cell(
        [Layer("Conv2D", filters=1, kernel_size=1), Layer("Conv2D", filters=2, kernel_size=1)],
        nodes=1,
    )


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda: ValueChoice([]), "`values` of a ValueChoice must be"),
        (lambda: ValueChoice([1, "a"]), "`values` of a ValueChoice must be"),
        (lambda: ValueChoice([1, 1]), "must be distinct; got"),
        (lambda: ValueChoice([True]), "must contain both booleans"),
        (lambda: ValueChoice([1], low=1, high=2), "either `values` or `low` and `high`"),
        (lambda: ValueChoice(low=1), "either `values` or `low` and `high`"),
        (lambda: ValueChoice(low="a", high=2), "must be numbers; got low=a"),
        (lambda: ValueChoice([1, 2], default=3), "`default` of a ValueChoice must be"),
        (
            lambda: ValueChoice([1, 2], name="a b"),
            "`name` of a ValueChoice must consist of letters",
        ),
        (lambda: ValueChoice([1, 2]) * ValueChoice([1, 2]), "a `name` for each ValueChoice"),
        (lambda: Layer(3), "`kind` of a Layer must be"),
        (lambda: Layer("Dense", units=Identity()), "argument 'units' of Dense must be"),
        (lambda: Sequential(), "`Sequential` must have at least one part"),
        (lambda: Sequential(ValueChoice([1, 2])), "must be a node, a layer class or its name"),
        (lambda: Branches("ReLU"), "`Branches` must have at least two parts"),
        (lambda: Branches("ReLU", "ELU", merge="sum"), "`merge` must be one of"),
        (lambda: LayerChoice({}), "`operations` of a LayerChoice must have at least one"),
        (lambda: LayerChoice(["ReLU"], default="ELU"), "`default` of a LayerChoice must be"),
        (duplicate_names, "`operations` of a Cell must have different names"),
        (lambda: Repeat("ReLU", 3, 2), "`Repeat` must have .*; got low=3, high=2"),
        (lambda: Repeat("ReLU", 0), "`Repeat` must have"),
        (lambda: Repeat("ReLU", 1.5), "`Repeat` must have"),
        (lambda: Repeat("ReLU", 1, 3, default=4), "`default` of a Repeat must be between 1 and 3"),
        (lambda: Repeat("ReLU", 2, first="ELU", shared=True), "`first` of a Repeat must be None"),
        (lambda: InputChoice(3, 2), "`InputChoice` must have 1 <= fewest <= most"),
        (lambda: Cell(OPERATIONS, nodes=0), "`nodes` of a Cell must be"),
        (lambda: Cell(OPERATIONS, nodes=1, on="vertex"), "`on` of a Cell must be one of"),
        (
            lambda: Cell(OPERATIONS, nodes=1, inputs=InputChoice()),
            "`inputs` of a Cell must be None",
        ),
        (lambda: Stack(), "`Stack` must have at least one cell"),
        (lambda: When(ValueChoice([1, 2]), [1], "ReLU"), "`choice` of a When must be"),
        (lambda: When(ValueChoice([1, 2], name="a"), [3], "ReLU"), "`values` of a When must be"),
        (
            lambda: When(ValueChoice(low=1, high=10**12, name="a"), [3], "ReLU"),
            "`choice` of a When must have at most 1,024 values; got 1,000,000,000,000 of 'a'",
        ),
    ],
)
def test_invalid_nodes_are_rejected_when_they_are_created(write, message):
    with pytest.raises(SearchSpaceError, match=message):
        write()


def recursive():
    space = Sequential("ReLU", name="loop")
    space.parts["0"] = space
    return space


DEPTH = ValueChoice([1, 2, 3], name="depth")
POOL = Layer("MaxPooling2D", pool_size=4)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (Sequential(stem=Layer("Conv2d", filters=3)), "the Layer at 'stem' must name a layer"),
        (
            Sequential(stem=Layer("Conv2D", filter=3)),
            "Conv2D at 'stem' must have arguments that it takes",
        ),
        (Sequential(a=Sequential(Layer("Conv3D", filters=1, kernel_size=1))), "Conv3D at 'a/0'"),
        (
            Sequential(
                a=LayerChoice({"x": "ReLU", "y": Layer("Conv3D", filters=1, kernel_size=1)})
            ),
            "Conv3D at 'a/y'",
        ),
        (Branches("ReLU", Layer("Conv2D", filters=ValueChoice([3, 4]), kernel_size=1)), "Add at"),
        (Sequential(a=Repeat(LayerChoice(["ReLU", POOL]), 1, 3)), "at 'a/1/MaxPooling2D'"),
        (Sequential(a=InputChoice()), "`InputChoice` at 'a' must have `candidates`"),
        (Sequential(a=Cell(OPERATIONS, nodes=1, arity=2)), "`Cell` at 'a' must have 2 inputs"),
        (
            Sequential(
                a=Cell(OPERATIONS, nodes=30, on="nodes", inputs=InputChoice(8), name="big"),
            ),
            "`InputChoice` at 'big/.*' allows at most 512 sets",
        ),
        (
            Sequential(
                Layer("Dense", units=ValueChoice([1, 2], name="u")),
                Layer("Dense", units=ValueChoice([1, 3], name="u")),
            ),
            "decision 'u' at '1/units' must have the values",
        ),
        (
            Sequential(LayerChoice(["ReLU"], name="x"), Cell(OPERATIONS, nodes=1, name="x")),
            "`name` of a Cell must be unique",
        ),
        (recursive(), "Sequential at 'loop' contains itself"),
        (
            When(DEPTH, [2, 3], Sequential("ReLU", When(DEPTH, [3], "ReLU"))),
            "node at 'then/1' must not depend on 'depth', because a node around it does",
        ),
    ],
)
def test_invalid_descriptions_are_rejected_with_the_path(space, message):
    with pytest.raises(SearchSpaceError, match=message):
        hypermodel(space)


def test_options_that_do_not_fit_are_found_unless_check_is_off():
    space = Branches("ReLU", Layer("Conv2D", filters=ValueChoice([3, 4]), kernel_size=1))
    searched = hypermodel(space, check=False)
    searched.build_values({"1/filters": 3})
    with pytest.raises(SearchSpaceError, match="Add at"):
        searched.build_values({"1/filters": 4})


@pytest.mark.parametrize("compile", [None, 3, ["adam"]])
def test_compile_must_be_arguments_or_a_function(compile):
    with pytest.raises(SearchSpaceError, match="`compile` must be"):
        hypermodel(Layer("Dense", units=1), inputs=(2,), compile=compile)
