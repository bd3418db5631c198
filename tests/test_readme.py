"""The README's example is the first thing a user copies: it has to run as it stands."""

import re
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest
from sklearn.datasets import load_digits

README = Path(__file__).resolve().parents[1] / "README.md"


def build_model(hp: keras_tuner.HyperParameters) -> keras.Model:
    model = keras.Sequential([keras.Input((64,))])
    model.add(keras.layers.Dense(hp.Choice("units", [8, 16, 32]), activation="relu"))
    model.add(keras.layers.Dense(10, activation="softmax"))
    rate = hp.Float("learning_rate", 1e-3, 1e-1, sampling="log")
    model.compile(
        keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def test_example_runs_as_printed(tmp_path, monkeypatch):
    import mlflow

    blocks = re.findall(r"<!-- example.*?-->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 1
    code = blocks[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    # The printed numbers of trials and epochs belong to a real search.
    quick = code.replace("max_trials=50", "max_trials=3").replace("epochs=10", "epochs=1")
    assert quick != code
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32")
    names = {
        "build_model": build_model,
        "x": images[:400],
        "y": labels[:400],
        "x_val": images[400:600],
        "y_val": labels[400:600],
    }
    exec(compile(quick, str(README), "exec"), names)
    loaded = mlflow.tensorflow.load_model("models:/fashion-classifier@challenger")
    expected = names["best"].predict(images[:5], verbose=0)
    np.testing.assert_allclose(loaded.predict(images[:5], verbose=0), expected, atol=1e-6)
    runs = mlflow.MlflowClient("sqlite:///mlflow.db").search_runs(
        [mlflow.get_experiment_by_name("fashion").experiment_id]
    )
    assert len(runs) == 4, "one parent and three trials"


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README.read_text()))
def test_links_lead_somewhere(link):
    assert (README.parent / link).exists(), f"README.md links to {link}, which does not exist"
