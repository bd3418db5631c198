"""The example of the README must run as printed, and needs nothing else."""

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

README = Path(__file__).resolve().parents[1] / "README.md"


def test_the_readme_example_runs(tmp_path, monkeypatch):
    import mlflow

    blocks = re.findall(r"<!-- example.*?-->\n```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 1
    code = blocks[0]
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 10
    assert max(map(len, lines)) <= 100
    # The printed numbers of trials and epochs belong to a real search.
    quick = code.replace('("val_accuracy", 20)', '("val_accuracy", 2)')
    quick = quick.replace("epochs=5", "epochs=1")
    assert len(quick) == len(code) - 1
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/mlflow.db"  # MLflow caches stores by their URI
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    names = {"__name__": "__main__"}
    exec(compile(quick, str(README), "exec"), names)
    loaded = mlflow.tensorflow.load_model("models:/digits-classifier@challenger")
    best = names["tuner"].get_best_models()[0]
    images, _ = load_digits(return_X_y=True)
    expected = best.predict(images[:5], verbose=0)
    np.testing.assert_allclose(loaded.predict(images[:5], verbose=0), expected, atol=1e-6)
    runs = mlflow.MlflowClient(uri).search_runs(
        [mlflow.get_experiment_by_name("digits").experiment_id]
    )
    assert len(runs) == 3, "one parent and two trials"


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README.read_text()))
def test_readme_links_exist(link):
    assert (README.parent / link).exists(), f"README.md links to {link}, which does not exist"
