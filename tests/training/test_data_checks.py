"""The look at the data before the first training: errors and warnings, and what is not read."""

import keras
import keras_tuner
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from keras_nas_plugin import NASTuner, RandomOracle
from keras_nas_plugin.errors import FitArgumentsError
from keras_nas_plugin.evaluation import data_quality
from keras_nas_plugin.training.bookkeeping import Bookkeeping
from keras_nas_plugin.training.data_checks import check_data
from keras_nas_plugin.training.fit_arguments import FitArguments

RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 4)).astype("float32")
Y = RNG.permutation(np.repeat([0, 1, 2], 30))
X_VAL, Y_VAL = RNG.normal(size=(30, 4)).astype("float32"), np.tile([0, 1, 2], 10)
VALIDATION = (X_VAL, Y_VAL)


def build(hp, outputs=3, loss="sparse_categorical_crossentropy", layers=()):
    head = keras.layers.Dense(outputs, "softmax" if outputs > 1 else None)
    model = keras.Sequential([*layers, keras.layers.Dense(hp.Int("units", 1, 4)), head])
    model.compile("sgd", loss, run_eagerly=True)
    model.build((None, 4))
    return model


def regression(hp):
    return build(hp, outputs=1, loss="mse")


@pytest.fixture
def look(caplog):
    """Checks the arguments of a search; returns the warnings."""

    def check(*args, builder=build, objective="val_loss", certain=True, **kwargs):
        caplog.clear()
        space = keras_tuner.HyperParameters()
        space.Int("units", 1, 4)
        check_data(
            FitArguments.bind(args, kwargs),
            build=builder,
            certain=certain,
            get_space=space.copy,
            objective=objective,
            bookkeeping=Bookkeeping(),
        )
        return [record.getMessage() for record in caplog.records]

    return check


def with_value(array, value, *position):
    changed = array.copy()
    changed[position] = value
    return changed


def frame(**columns):
    return pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "d": X[:, 3]} | columns)


def dataset(x, y, batch=10):
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(batch)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y, self.read = x, y, set()

    def __len__(self):
        return len(self.x) // 10

    def __getitem__(self, index):
        self.read.add(index)
        return self.x[index * 10 :][:10], self.y[index * 10 :][:10]


def test_good_data_give_no_warning(look):
    assert look(X, Y, validation_data=VALIDATION) == []
    assert look(X, Y, validation_split=0.2) == []
    assert look(frame(), pd.Series(Y), validation_data=(pd.DataFrame(X_VAL), Y_VAL)) == []
    assert look(dataset(X, Y), validation_data=dataset(*VALIDATION)) == []
    assert look(Batches(X, Y), validation_data=VALIDATION) == []
    assert look(X, X[:, :1], validation_split=0.5, builder=regression) == []
    assert look(X, keras.utils.to_categorical(Y), validation_split=0.2, builder=None) == []
    assert look() == []


CANNOT_TRAIN = {
    "rows": (X, Y[:80], {}, "`x` and `y` must have the same number of rows; got x 90, y 80"),
    "weights": (X, Y, {"sample_weight": np.ones(9)}, "got x 90, y 90, sample_weight 9"),
    "no rows": (X[:0], Y[:0], {}, "`x` must have at least one row; got none"),
    "no batch": (dataset(X[:0], Y[:0]), None, {}, "`x` must have at least one batch"),
    "NaN": (with_value(X, np.nan, 70, 2), Y, {}, "`x` must be finite.*column '2' .1., first in"),
    "NaN in a frame": (
        frame(c=with_value(X[:, 2], np.nan, slice(40, 43))),
        Y,
        {},
        r"got 3 that are not in column 'c' \(3\), first in row 40. The loss of the model is NaN",
    ),
    "NaN in a shuffled frame": (
        frame(c=with_value(X[:, 2], np.nan, 40))[::-1],
        Y,
        {},
        "first in the row with index 40",
    ),
    "infinite": (with_value(X, -np.inf, 0, 0), Y, {}, "`x` must be finite numbers"),
    "infinite in float32": (with_value(X.astype(float), 1e39, 5, 1), Y, {}, "range of float32"),
    "NaN label": (
        X,
        with_value(X[:, :1], np.nan, 80, 0),
        {"builder": regression},
        "`y` must be f",
    ),
    "NaN weight": (X, Y, {"sample_weight": np.full(90, np.nan)}, "`sample_weight` must be finite"),
    "NaN in validation": (
        X,
        Y,
        {"validation_data": (with_value(X_VAL, np.nan, 3, 3), Y_VAL)},
        "`x of validation_data` must be finite",
    ),
    "NaN in a data set": (dataset(with_value(X, np.nan, 11, 0), Y), None, {}, "first in row 11"),
    "texts": (
        frame(b=["red"] * 90),
        Y,
        {},
        "column 'b' of `x` must have numbers; got texts such as 'red'.*StringLookup",
    ),
    "numbers as texts": (X.astype(str), Y, {}, "`x` must have numbers; got texts.*astype"),
    "objects": (X.astype(object), Y, {}, "`x` must have numbers; got Python objects such as"),
    "dates": (frame(d=pd.Timestamp("2024-01-01")), Y, {}, "column 'd' of `x` must have numbers"),
    "names of classes": (
        X,
        np.array(["cat", "dog", "owl"])[Y],
        {},
        "`y` must have numbers; got texts such as '(cat|dog|owl)'.*return_inverse=True",
    ),
    "labels from 1": (X, Y + 1, {}, "`y` must have labels from 0 to 2, since the model has 3 out"),
    "negative labels": (X, Y - 1, {}, "got labels from -1 to 1"),
    "labels of validation": (
        X,
        Y,
        {"validation_data": (X_VAL, Y_VAL + 2)},
        "`y of validation` must have labels from 0 to 2.*got labels from 2 to 4",
    ),
    "columns": (X[:, :3], Y, {}, "must accept the first rows of `x`; it raised ValueError.*90, 3"),
    "columns of validation": (
        X,
        Y,
        {"validation_data": (X_VAL[:, :3], Y_VAL)},
        "must accept the first rows of `validation_data`",
    ),
    "one-hot labels": (X, keras.utils.to_categorical(Y), {}, "must accept the first rows of `x`"),
    "a nullable column": (
        frame(b=pd.array([1, None] * 45, dtype="Int64")),
        Y,
        {},
        "column 'b' of `x` must have numbers; got values of the pandas type Int64.*astype",
    ),
    "truth values beside numbers": (
        frame(b=[True, False] * 45),
        Y,
        {},
        "column 'b' of `x` must have numbers; got values of the pandas type bool such as True",
    ),
    "a category": (
        frame(b=pd.Categorical(["red"] * 90)),
        Y,
        {},
        "column 'b' of `x` must have numbers; got texts such as 'red'",
    ),
    "lists": (X.tolist(), Y, {}, "`x` must be an array; got a list. Call `np.array` on it."),
    "NaN label of a class": (X, with_value(Y.astype(float), np.nan, 70), {}, "The model fails on"),
    "NaN label of a class in the first batch": (
        X,
        with_value(Y.astype(float), np.nan, 3),
        {},
        "`y` must be finite.*got 1 that are not, first in row 3. The model fails on such rows",
    ),
    "NaN label of a class in a data set": (
        dataset(X, with_value(Y.astype(float), np.inf, 3)),
        None,
        {},
        "`y` must be finite.*first in row 3. The model fails on such rows",
    ),
    "NaN label of a class in validation": (
        X,
        Y,
        {"validation_data": (X_VAL, with_value(Y_VAL.astype(float), np.nan, 0))},
        "`y of validation_data` must be finite.*first in row 0. The model fails on such rows",
    ),
    "single rows": (
        dataset(X, Y).unbatch(),
        None,
        {},
        "`x` must have batches of rows; got a data set of single rows",
    ),
    "labels twice": (dataset(X, Y), Y, {}, "`y` must be None if `x` is a data set"),
    "a split of a data set": (
        dataset(X, Y),
        None,
        {"validation_split": 0.2},
        "`validation_split` must be 0 unless `x` is an array",
    ),
    "a split of everything": (X[:3], Y[:3], {"validation_split": 0.9}, "must leave rows to train"),
    "validation of four": (
        X,
        Y,
        {"validation_data": (X_VAL, Y_VAL, None, None)},
        "`validation_data` must be .x, y. or .x, y, sample_weight.; got 4 elements",
    ),
}


@pytest.mark.parametrize("kind", CANNOT_TRAIN)
def test_data_that_cannot_train_are_one_error(look, kind):
    x, y, options, message = CANNOT_TRAIN[kind]
    data = (x,) if y is None else (x, y)
    with pytest.raises(FitArgumentsError, match=message):
        look(*data, **options)


def reading_texts(hp):
    word, number = keras.Input((1,), dtype="string", name="word"), keras.Input((1,), name="number")
    lookup = keras.layers.StringLookup(vocabulary=["a", "b"], output_mode="one_hot")
    outputs = keras.layers.Dense(3)(keras.layers.Concatenate()([lookup(word), number]))
    model = keras.Model({"word": word, "number": number}, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, run_eagerly=True)
    return model


@pytest.mark.parametrize(("row", "value"), [(7, np.nan), (7, None), (85, np.nan)])
def test_texts_that_are_missing_in_some_rows_are_one_error(look, row, value):
    words = np.array(["a", "b"] * 45, dtype=object)
    x = {"word": words, "number": X[:, 0]}
    assert look(x, Y, validation_split=0.2, builder=reading_texts) == []
    x["word"] = with_value(words, value, row)
    message = (
        rf"`x.*\['word'\]` must have a text in each row; got 1 row with {value}, first in row "
    )
    with pytest.raises(FitArgumentsError, match=message):
        look(x, Y, validation_split=0.2, builder=reading_texts)


def test_texts_that_the_model_reads_are_not_blamed_for_another_error(look):
    words = np.array(["a", "b"] * 45, dtype=object)
    with pytest.raises(FitArgumentsError, match="Missing data for input .number."):
        look({"word": words}, Y, builder=reading_texts)
    with pytest.raises(FitArgumentsError, match=r"`x\['number'\]` must have numbers; got texts"):
        look({"word": words, "number": words}, Y, builder=reading_texts)


OTHER_FIT = {
    "labels": (X, Y + 1, "`y` must have labels from 0 to 2, since the model has 3 outputs"),
    "NaN": (with_value(X, np.nan, 70, 2), Y, "The loss of the model is NaN or infinite"),
    "another form": (X[:, :3], Y, None),
    "texts": (frame(b=["red"] * 90), Y, None),
    "single rows": (dataset(X, Y).unbatch(), None, None),
    "other rows": (X, Y[:80], None),
}


@pytest.mark.parametrize("kind", OTHER_FIT)
def test_data_that_another_fit_may_prepare_are_warnings_at_most(look, kind):
    """A hypermodel with its own `fit`."""
    x, y, message = OTHER_FIT[kind]
    warnings = look(*((x,) if y is None else (x, y)), certain=False)
    assert len(warnings) == (0 if message is None else 1)
    assert message is None or message in warnings[0]


def test_a_subclassed_model_tells_the_number_of_its_outputs(look):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3, "softmax")

        def call(self, x):
            return self.dense(x["rows"])

    def builder(hp):
        model = Subclassed()
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(ignore_class=-1))
        return model

    assert look({"rows": X}, Y, builder=builder) == []
    assert look({"rows": X}, np.where(Y == 2, -1, Y), builder=builder) == []
    with pytest.raises(FitArgumentsError, match="must have labels from 0 to 2"):
        look({"rows": X}, Y + 1, builder=builder)


def test_several_outputs_have_their_own_ranges(look):
    def builder(hp):
        inputs = keras.Input((4,))
        heads = {name: keras.layers.Dense(n, "softmax", name=name)(inputs) for name, n in HEADS}
        model = keras.Model(inputs, heads)
        model.compile("sgd", {name: "sparse_categorical_crossentropy" for name, _ in HEADS})
        return model

    HEADS = (("kind", 3), ("size", 2))
    labels = {"kind": Y, "size": Y % 2}
    assert look(X, labels, builder=builder) == []
    with pytest.raises(FitArgumentsError, match=r"`y\['size'\]` must have labels from 0 to 1"):
        look(X, labels | {"size": Y}, builder=builder)


def test_values_that_the_model_is_made_for_are_no_finding(look):
    class FillNaN(keras.layers.Layer):
        def call(self, x):
            return keras.ops.nan_to_num(x)

    def filling(hp):
        return build(hp, layers=[FillNaN()])

    assert look(with_value(X, np.nan, 70, 2), Y, builder=filling) == []
    words = np.array([["a"], ["b"], ["c"]])[Y]

    def reading(hp):
        lookup = keras.layers.StringLookup(vocabulary=["a", "b", "c"], output_mode="one_hot")
        model = keras.Sequential([keras.Input((1,), dtype="string"), lookup])
        model.add(keras.layers.Dense(3, "softmax"))
        model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
        return model

    assert look(tf.constant(words), Y, builder=reading) == []


SORTED = np.repeat([0, 1, 2], 30)
ONE_HOT = keras.utils.to_categorical(SORTED)
MISLEADS = {
    "sorted": (
        (X, SORTED),
        {"validation_split": 0.2},
        "sorted by class, and `validation_split` takes the last ones: validation has 1 of 3",
    ),
    "sorted one-hot rows": (
        (X, ONE_HOT),
        {"validation_split": 0.2, "builder": None},
        "sorted by class, and `validation_split`",
    ),
    "sorted texts": (
        (X, np.array(["a", "b", "c"])[SORTED]),
        {"validation_split": 0.2, "builder": None},
        "sorted by class, and `validation_split`",
    ),
    "sorted and not shuffled": ((X, SORTED), {"shuffle": False}, "Remove `shuffle=False`"),
    "sorted data set": ((dataset(X, SORTED),), {}, "Call `shuffle` on the data set before"),
    "sorted data set with two classes in a batch": (
        (dataset(X, SORTED, batch=16),),
        {},
        "each of the first 4 batches of `x` has few classes: the rows are sorted by class",
    ),
    "one class": (
        (X, Y),
        {"validation_data": (X_VAL, np.ones(30, int))},
        "the validation data have a single class (1), and the training data have 3",
    ),
    "one class in a small data set": (
        (X, Y),
        {"validation_data": dataset(X_VAL, np.ones(30, int))},
        "the validation data have a single class (1)",
    ),
    "lacking classes": (
        (X[:60], SORTED[:60]),
        {"validation_data": VALIDATION},
        "the validation data have classes that the training data lack: 2 (10 of 30 rows)",
    ),
    "labels of a binary loss": (
        (X, np.where(Y > 0, 1, -1)),
        {"builder": lambda hp: build(hp, 1, "binary_crossentropy")},
        "`y` must have labels from 0 to 1 for the loss binary_crossentropy; got labels from -1",
    ),
    "repeated rows": (
        (X, Y),
        {"validation_data": (np.concatenate([X_VAL, X[:30]]), np.tile(Y_VAL, 2))},
        "30 of 60 validation rows are training rows as well",
    ),
    "repeated rows of a frame": (
        (frame(b=["red", "blue"] * 45), Y),
        {"validation_data": (frame(b=["red", "blue"] * 45)[20:50], Y[20:50]), "builder": None},
        "30 of 30 validation rows are training rows as well",
    ),
    "repeated rows of a data set": (
        (dataset(X, Y),),
        {"validation_data": dataset(np.concatenate([X_VAL, X[:30]]), np.tile(Y_VAL, 2))},
        "validation rows are training rows as well. (Only the first batches were compared.)",
    ),
    "fractions of classes": (
        (X, Y * 0.5),
        {},
        "`y` must have whole numbers for the loss sparse_categorical_crossentropy; got 0.5",
    ),
    "fewer outputs than targets": (
        (X, X[:, :2]),
        {"builder": regression},
        "`y` must have as many columns as the model has outputs; got 2 and 1",
    ),
    "the same data set": ((dataset(X, Y),), {}, "`validation_data` is the training data set"),
    "NaN where the models are not known": (
        (with_value(X, np.nan, 3, 0), Y),
        {"builder": None},
        "Most models have no finite loss on such rows",
    ),
    "NaN in validation with another objective": (
        (X, Y),
        {"validation_data": (with_value(X_VAL, np.nan, 3, 3), Y_VAL), "objective": "val_accuracy"},
        "`x of validation_data` must be finite",
    ),
}


@pytest.mark.parametrize("kind", MISLEADS)
def test_data_that_mislead_are_one_warning(look, kind):
    data, options, message = MISLEADS[kind]
    if kind == "the same data set":
        options = {"validation_data": data[0]}
    (warning,) = look(*data, **options)
    assert message in warning


def test_regression_targets_are_not_taken_for_classes(look):
    target = SORTED[:, None].astype("float32")
    assert look(X, target, validation_split=0.2, builder=regression) == []
    assert look(X, np.arange(90), validation_split=0.2, builder=None) == []
    assert look(X, np.sort(X[:, 0]), validation_split=0.2, builder=None) == []


def test_rows_that_are_equal_by_chance_are_not_reported(look):
    x = np.tile(np.eye(4, dtype="float32"), (30, 1))
    assert look(x[:90], Y, validation_data=(x[:30], Y_VAL)) == []


def test_generators_are_not_consumed_and_of_data_sets_only_the_first_batches_are(look):
    rows = iter([(X[:10], Y[:10])] * 3)
    assert look((row for row in rows), steps_per_epoch=3) == []
    assert len(list(rows)) == 3
    batches = Batches(X, Y)
    look(batches)
    assert batches.read == set(range(4))
    read = []

    def rows_read():
        for index in range(90):
            read.append(index)
            yield X[index], Y[index]

    signature = (tf.TensorSpec((4,)), tf.TensorSpec((), tf.int64))
    data = tf.data.Dataset.from_generator(rows_read, output_signature=signature)
    look(data.batch(10).repeat())
    assert max(read) < 45


def test_large_arrays_are_read_in_blocks_and_not_copied(monkeypatch):
    """A table of 2 GiB that no memory stands behind: reading all of it would be noticed."""
    read = []

    class Table(np.ndarray):
        def __getitem__(self, rows):
            if isinstance(rows, slice):
                read.append(len(range(*rows.indices(len(self)))))
            return np.asarray(super().__getitem__(rows))

    rows, columns = 1 << 21, 256
    table = np.broadcast_to(np.float32(1.0), (rows, columns)).view(Table)
    assert data_quality.non_finite(table) is None
    assert max(read) * columns * 4 <= 1 << 24 and sum(read) * columns * 4 <= (1 << 28) + (1 << 24)
    read.clear()
    assert data_quality.label_range(table) == (1.0, 1.0)
    assert sum(read) * columns * 4 <= (1 << 28) + (1 << 24)


def test_rows_of_images_are_compared_in_full():
    """The hash of a long row is that of some of its bytes."""
    images = RNG.integers(0, 255, (40, 32, 32, 3), dtype="uint8")
    changed = images[:20].copy()
    changed[:, 7, 7, 1] ^= 1
    assert data_quality.repeated_rows([images], [changed]) is None
    repeated = data_quality.repeated_rows([images], [np.concatenate([changed, images[:5]])])
    assert (repeated.repeated, repeated.read) == (5, 25)


def test_repeated_texts_of_tensors_are_counted_in_any_language():
    texts = [[f"grüße {i}"] for i in range(40)]
    training, validation = tf.constant(texts[:30]), tf.constant(texts[25:])
    repeated = data_quality.repeated_rows([training], [validation])
    assert (repeated.repeated, repeated.read) == (5, 15)
    # Texts of another type cannot be compared with them.
    assert data_quality.repeated_rows([training], [np.array(texts[25:], dtype=object)]) is None


def test_configurations_that_fail_do_not_blame_the_data(look):
    def sometimes(hp):
        model = build(hp)
        if hp.get("units") < 3:
            model.add(keras.layers.Reshape((7, 7)))
        return model

    assert look(X, Y, builder=sometimes) == []

    def rejecting(hp):
        raise ValueError("not today")

    assert look(X, Y, builder=rejecting) == []


def test_an_error_in_a_check_is_a_warning(look, monkeypatch):
    def broken(*args, **kwargs):
        raise ZeroDivisionError("in a check")

    monkeypatch.setattr(data_quality, "repeated_rows", broken)
    (warning,) = look(X, Y, validation_data=VALIDATION)
    assert warning.startswith("a check of the data was left out: ZeroDivisionError")


class OwnFit(keras_tuner.HyperModel):
    def build(self, hp):
        return build(hp)

    def fit(self, hp, model, x, y, **kwargs):
        return model.fit(np.nan_to_num(x), y, **kwargs)


def test_a_search_stops_before_its_first_trial_and_looks_once(tmp_path, caplog):
    def search(hypermodel, name, x, y, **options):
        oracle = RandomOracle("val_loss", max_trials=options.pop("max_trials", 1), seed=0)
        tuner = NASTuner(hypermodel, oracle, directory=tmp_path, project_name=name)
        tuner.search(x, y, validation_split=0.2, epochs=1, verbose=0)
        return tuner

    bad = with_value(X, np.nan, 3, 0)
    with pytest.raises(FitArgumentsError, match="`x` must be finite"):
        search(build, "a", bad, Y)
    assert not list((tmp_path / "a").glob("trial_*"))
    tuner = search(OwnFit(), "b", bad, Y)  # whose demands are not known
    assert tuner.oracle.get_best_trials(1)[0].status == "COMPLETED"
    assert caplog.text.count("`x` must be finite") == 1
    caplog.clear()
    search(build, "c", X, SORTED)
    assert caplog.text.count("sorted by class") == 1
    search(build, "c", X, SORTED, max_trials=2)  # a search that is resumed
    assert caplog.text.count("sorted by class") == 1


def test_the_look_does_not_change_what_is_trained(tmp_path, monkeypatch):
    def score(name):
        keras.utils.set_random_seed(7)
        oracle = RandomOracle("val_loss", max_trials=1, seed=0)
        tuner = NASTuner(build, oracle, directory=tmp_path, project_name=name)
        tuner.search(X, Y, validation_data=VALIDATION, epochs=1, verbose=0)
        return tuner.oracle.get_best_trials(1)[0].score

    looked = score("a")
    monkeypatch.setattr(
        "keras_nas_plugin.tuner.check_before_training", lambda *args, **kwargs: None
    )
    assert score("b") == looked
