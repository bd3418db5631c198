"""The validation rows of a recipe that returns a single `(x, y)`."""

import json

import numpy as np
import pandas as pd
import pytest

from keras_nas_plugin.cli.held_out import held_out_data
from keras_nas_plugin.cli.recipe import fit_arguments, split_arguments
from keras_nas_plugin.cli.recipe_reference import RecipeReference
from keras_nas_plugin.cli.split import random_split
from keras_nas_plugin.errors import RecipeError
from keras_nas_plugin.records.search import SearchInfo
from keras_nas_plugin.registry.search_data import SearchData
from keras_nas_plugin.training.fit_arguments import FitArguments
from tests.integration.forkserver import new_store

X, SORTED = np.arange(100.0).reshape(50, 2), np.repeat([0, 1], [40, 10])


@pytest.mark.parametrize(
    "labels",
    [SORTED, SORTED[:, None], np.eye(2)[SORTED], np.array(["a", "b"])[SORTED], SORTED == 1],
    ids=["integers", "one column", "one-hot", "texts", "booleans"],
)
def test_each_class_has_its_share_of_the_validation_rows(labels):
    split = random_split(X, labels, seed=3)
    assert split.stratified and split.rows == (40, 10)
    rows = (split.validation[0][:, 0] // 2).astype(int)
    assert np.bincount(SORTED[rows]).tolist() == [8, 2]
    assert (split.validation[1] == labels[rows]).all()
    together = np.concatenate([split.training[0], split.validation[0]])
    assert sorted(together[:, 0]) == X[:, 0].tolist()


def test_the_seed_decides_the_rows():
    drawn = [random_split(X, SORTED, seed).validation[0].tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize(
    "labels",
    [np.arange(50), X[:, 0], np.r_[0, 1, 1, np.full(47, 2)], {"a": SORTED, "b": SORTED}],
    ids=["numbers", "floats", "a class with one row", "several outputs"],
)
def test_rows_are_drawn_from_all_rows_where_they_cannot_be_stratified(labels):
    split = random_split(X, labels, seed=0)
    assert not split.stratified and split.rows == (40, 10)


def test_frames_and_structures_keep_their_form():
    frame = pd.DataFrame(X, columns=["a", "b"])
    split = random_split({"table": frame, "array": X}, pd.Series(SORTED), seed=0)
    x, y = split.validation
    assert list(x["table"].columns) == ["a", "b"] and y.shape == (10,)
    assert (x["table"].to_numpy() == x["array"]).all()
    assert list(y.index) == list(x["table"].index)


def test_a_single_row_cannot_be_split():
    with pytest.raises(RecipeError, match="rows to train on and rows to validate on; got 1"):
        random_split(X[:1], SORTED[:1], seed=0)


def test_only_a_single_pair_is_split_and_earlier_searches_keep_their_last_fifth():
    last_fifth = {"x": X, "y": SORTED, "validation_split": 0.2}
    assert fit_arguments((X, SORTED)) == split_arguments((X, SORTED), None)[0] == last_fifth
    for loaded in (
        {"x": X, "y": SORTED, "validation_split": 0.2},
        ((X, SORTED), (X, SORTED)),
        (X, SORTED[:, None][:0].tolist()),
    ):
        assert split_arguments(loaded, 0)[1] is None
    arguments, split = split_arguments((X, SORTED), 0)
    assert arguments.keys() == {"x", "y", "validation_data"} and split.seed == 0


RECIPE = """
import keras
import numpy as np

def build_model(hp):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, activation="softmax")])
    rate = hp.Float("rate", 1e-3, 1e-1)
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.SGD(rate), loss, metrics=["accuracy"], run_eagerly=True)
    return model

def load_data():
    y = np.repeat([0, 1], [40, 10])
    return np.stack([y, -y], axis=1).astype("float32"), y
"""


def test_rows_that_are_sorted_by_class_are_split_and_the_seed_is_recorded(write, nas, tmp_path):
    write(RECIPE)
    words = "search recipe.py --max-trials {} --epochs 1 --no-tracking --json"
    first = nas(words.format(1), "--seed 5")
    assert first.returncode == 0, first.err
    line = "Validation: 10 of 50 rows, drawn at random from each class (seed 0)."
    assert line in first.err and "sorted by class" not in first.err
    folder = tmp_path / "searches" / "recipe"
    search = SearchInfo.load(folder)
    assert search.settings["split_seed"] == 0 and search.settings["split_stratified"] is True
    assert RecipeReference.read(folder).split_seed == 0
    digests = [dataset.digest for dataset in search.datasets]
    assert "has changed since" not in first.err
    write(RECIPE.replace('"softmax"', '"sigmoid"'))
    second = nas(words.format(2), "--seed 6 --resume")
    assert second.returncode == 0 and line in second.err, second.err
    assert "recipe.py has changed since the search was run last." in second.err
    assert [dataset.digest for dataset in SearchInfo.load(folder).datasets] == digests
    retrained = nas("retrain --seeds 1 --epochs 1")
    assert retrained.returncode == 0, retrained.err
    assert "differ" not in retrained.err
    reference = json.loads((folder / "recipe.json").read_text("utf-8"))
    del reference["split_seed"]  # as an earlier version wrote it
    (folder / "recipe.json").write_text(json.dumps(reference), "utf-8")
    third = nas(words.format(3))
    assert "Validation:" not in third.err and "resumes with different data" in third.err


def test_promotion_judges_on_the_validation_rows_that_the_search_drew(write, nas, tmp_path):
    write(RECIPE)
    uri = f"--tracking-uri {new_store(tmp_path)}"
    # As in a search that was started by a version that drew other rows.
    (tmp_path / "searches" / "recipe").mkdir(parents=True)
    RecipeReference(
        file=str(tmp_path / "recipe.py"), builder="", data="load_data", digest="", split_seed=5
    ).save(tmp_path / "searches" / "recipe")
    search = nas("search recipe.py --max-trials 1 --epochs 1 --register drawn", uri)
    assert search.returncode == 0 and "(seed 5)" in search.err, search.err
    x = np.stack([SORTED, -SORTED], axis=1).astype("float32")
    x_val, y_val = random_split(x, SORTED, seed=5).validation
    np.savez(tmp_path / "all.npz", x=x, y=SORTED)
    np.savez(tmp_path / "drawn.npz", x=x_val, y=y_val)
    judge = "promote drawn --require accuracy>=0 --no-smoke-test --dry-run --json --data"

    def digest_of(*words):
        process = nas(judge, *words, uri)
        assert process.returncode == 0, process.err
        return json.loads(process.out)["data"]["digest"]

    expected = digest_of("drawn.npz")
    assert digest_of("recipe.py --split validation") == expected
    assert digest_of("all.npz --split validation") == expected
    assert digest_of("all.npz") != expected  # all rows
    refused = nas(judge, "drawn.npz --split validation", uri)
    message = "must have the rows of the search of version 1, whose validation rows are taken "
    assert refused.returncode == 2 and f"{message}from them by the seed 5" in refused.err


@pytest.mark.parametrize(
    ("search_data", "message"),
    [
        (SearchData("3"), "the run of version 3 in MLflow does not say which rows"),
        (
            SearchData("3", None, {"training": frozenset("a")}),
            "the rows of the search of version 3, whose validation rows are taken from them; got "
            "training data with the digest [0-9a-f]+ instead of a",
        ),
        (
            SearchData("3", 0, retrained=True),
            "`--split` must be test for version 3, which was retr",
        ),
    ],
)
def test_validation_rows_that_cannot_be_drawn_again_are_refused(tmp_path, search_data, message):
    np.savez(tmp_path / "rows.npz", x=X, y=SORTED)
    with pytest.raises(RecipeError, match=message):
        validation_of(tmp_path / "rows.npz", search_data)


def test_a_champion_that_was_trained_on_the_rows_is_a_warning(tmp_path, caplog):
    np.savez(tmp_path / "rows.npz", x=X, y=SORTED, x_val=X[:9], y_val=SORTED[:9])
    validation_of(tmp_path / "rows.npz", SearchData("3"))
    assert not caplog.messages
    validation_of(tmp_path / "rows.npz", SearchData("3", retrained_champion="2"))
    (message,) = caplog.messages
    assert message.startswith("The champion, version 2, was retrained on the training and")


def test_the_last_rows_are_used_for_a_search_that_drew_none(tmp_path):
    """Earlier versions, and data functions that return `validation_split`."""
    np.savez(tmp_path / "rows.npz", x=X, y=SORTED)
    fit = FitArguments.bind((), {"x": X, "y": SORTED})
    digests = {data.context: frozenset([data.digest]) for data in fit.describe("rows")}
    x, y = validation_of(tmp_path / "rows.npz", SearchData("3", None, digests))
    assert x.tolist() == X[40:].tolist() and y.tolist() == SORTED[40:].tolist()


def validation_of(path, search_data):
    return held_out_data(
        str(path), function="load_data", split="validation", search_data=lambda: search_data
    )


def test_arrays_without_test_rows_are_not_taken_for_test_rows(tmp_path):
    np.savez(tmp_path / "rows.npz", x=X, y=SORTED, x_val=X[:9], y_val=SORTED[:9])
    target = str(tmp_path / "rows.npz")
    options = {"function": "load_data", "search_data": lambda: SearchData("3")}
    with pytest.raises(RecipeError, match="must hold test data; got none"):
        held_out_data(target, split="test", **options)
    assert held_out_data(target, split="validation", **options)[0].tolist() == X[:9].tolist()
