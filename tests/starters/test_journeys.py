"""From data to a registered model that takes raw input, in two commands."""

import json
import runpy
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from mlflow.pyfunc import scoring_server

from keras_nas_plugin.cli.main import cli
from keras_nas_plugin.starters import read_clip, read_image, read_series
from tests.starters import sources


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder to work in, with a store."""
    folder = tmp_path_factory.mktemp("journeys")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patch.setenv("MLFLOW_REGISTRY_URI", f"sqlite:///{folder}/mlflow.db")
        yield folder


def keras_nas(*words):
    result = CliRunner().invoke(cli, list(map(str, words)))
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


def search(source, *words):
    name = source.name.partition(".")[0]
    recipe = f"{name}.py" if (source.parent / f"{name}.py").exists() else source.name
    options = ["--max-trials", 1, "--epochs", 1, "--seed", 0, "--register", name]
    keras_nas("search", recipe, *options, *words)
    return mlflow.pyfunc.load_model(f"models:/{name}@challenger")


def check_export(name, format_name):
    """The model is exported with its preprocessing, and predicts the same in the runtime."""
    words = ["export", f"{name}@challenger", "--format", format_name, "--json"]
    if (recipe := Path(f"{name}.py")).exists():
        words += ["--data", recipe]
    result = CliRunner().invoke(cli, list(map(str, words)))
    assert result.exit_code == 0, result.output + repr(result.exception)
    exported = json.loads(result.stdout)
    assert exported["rows"] > 1 and exported["largest_difference"] < 1e-4
    assert Path(exported["folder"], exported["file"]).exists()


def test_a_table_in_one_command(folder):
    source = sources.penguins(folder / "penguins.csv")
    model = search(source, "--target", "species")
    raw = pd.read_csv(source)
    answers = model.predict(raw)  # integers, real numbers, texts; values of each are missing
    assert set(answers["class"]) <= {"Adelie", "Chinstrap", "Gentoo"}
    assert np.allclose([sum(row.values()) for row in answers["probabilities"]], 1, atol=1e-5)
    record = json.loads(raw.drop(columns="species").tail(1).to_json(orient="records"))
    record[0]["bill_mm"] = None
    request = json.dumps({"dataframe_records": record})
    schema = model.metadata.get_input_schema()
    response = scoring_server.invocations(request, "application/json", model, schema)
    assert response.status == 200, response.response
    assert "class" in json.loads(response.response)["predictions"][0]
    check_export("penguins", "savedmodel")
    # The second time, the recipe is used as it is.
    words = ["search", source, "--max-trials", 1, "--epochs", 1, "--no-tracking"]
    assert "is used as it is" in keras_nas(*words)


def test_images(folder):
    source = sources.photos(folder / "photos")
    assert "Classification: 24 images of 2 classes, 16x16" in keras_nas("init", source)
    model = search(source)
    images = np.stack([read_image(path) for path in sorted(source.rglob("*.png"))])
    assert set(model.predict(images)["class"]) <= {"day", "night"}
    check_export("photos", "litert")


def test_images_with_boxes(folder):
    source = sources.squares(folder / "squares")
    assert "Detection: 12 boxes of 2 classes in 12 images of 32x24" in keras_nas("init", source)
    model = search(source, "--seed", 1)  # of a small model
    keras_nas("predict", "squares@challenger", source / "images", "-o", "squares.csv")
    assert len(pd.read_csv("squares.csv")) == 12
    check_export("squares", "savedmodel")
    images = np.stack([read_image(path, channels=1) for path in source.rglob("*.png")])
    for objects in runpy.run_path("squares.py")["objects_in"](model, images):
        assert objects.shape[1] == 6
        assert set(objects[:, 0]) <= {0, 1}
        assert ((objects[:, 1:] >= 0) & (objects[:, 1:] <= 1)).all()


def test_images_like_others(folder):
    source = sources.photos(folder / "skies", size=(8, 8))
    assert "WARNING: 24 images are few" in keras_nas("init", source, "--task", "generation")
    search(source)
    keras_nas("predict", "skies@challenger", source, "-o", "skies.csv")
    assert len(pd.read_csv("skies.csv")) == 24
    check_export("skies", "savedmodel")
    model = mlflow.tensorflow.load_model("models:/skies@challenger")
    assert runpy.run_path("skies.py")["new_images"](model, 3).shape == (3, 8, 8, 3)


def test_texts(folder):
    source = sources.messages(folder / "messages.tsv")
    assert "imbalanced" in keras_nas("init", source)
    model = search(source)
    answers = model.predict(pd.DataFrame({"text": ["win a free prize", "see you later"]}))
    assert set(answers["class"]) <= {"ham", "spam"}
    check_export("messages", "savedmodel")


def test_sound_clips(folder):
    source = sources.clips(folder / "clips")
    keras_nas("init", source)
    model = search(source)
    samples = np.stack([read_clip(path)[0] for path in sorted(source.rglob("*.wav"))])
    answers = model.predict(samples)
    assert set(answers["class"]) <= {"high", "low"}
    # What is predicted for a clip does not depend on the others of a batch.
    alone = model.predict(samples[:1])
    assert alone["probability"][0] == pytest.approx(answers["probability"][0], abs=1e-5)
    check_export("clips", "litert")


def test_series(folder):
    source = sources.motions(folder / "motions.ts")
    keras_nas("init", source)
    model = search(source)
    series = read_series(source).stacked(20)
    assert set(model.predict(series)["class"]) <= {"up", "down"}
    check_export("motions", "onnx")
