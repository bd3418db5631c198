"""The report of a search that trained real models."""

import json

import numpy as np
import pytest

from keras_nas_plugin import NASTuner, RegularizedEvolutionOracle
from keras_nas_plugin.reports import report_data, write_report
from tests.tuner.conftest import dense


def build(hp):
    if hp.Choice("act", ["relu", "leaky"]) == "leaky":
        with hp.conditional_scope("act", ["leaky"]):
            hp.Float("slope", 0.05, 0.3)
    return dense(hp)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    rng = np.random.default_rng(7)
    x = rng.random((48, 4), dtype="float32")
    y = (x[:, 0] > 0.5).astype("int32")
    oracle = RegularizedEvolutionOracle(
        "val_loss", max_trials=12, seed=0, population_size=6, tournament_size=3
    )
    tuner = NASTuner(
        build,
        oracle=oracle,
        directory=tmp_path_factory.mktemp("searches"),
        project_name="real",
        tracker=None,
    )
    tuner.search(x[:32], y[:32], validation_data=(x[32:], y[32:]), epochs=1, verbose=0)
    return tuner


def test_every_section_of_the_report_has_data(searched, tmp_path):
    data = report_data(searched.project_dir)
    assert data["counts"] == {"finished": 12, "failed": 0, "killed": 0}
    assert data["best"]["score"] == min(data["trials"]["score"])
    assert {decision["name"] for decision in data["importance"]["decisions"]} == {
        "act",
        "slope",
        "units",
    }
    assert data["front"]["axes"][1]["name"] == "parameters"
    assert data["calibration"]["trials"] == 0
    children = [parents for parents in data["trials"]["parents"] if parents]
    assert children and data["random_reference"]["trials"] == 12 - len(children)
    assert data["random_reference"]["note"] is None
    path = write_report(searched.project_dir, tmp_path / "report.html")
    embedded = path.read_text(encoding="utf-8").partition('id="report-data">')[2]
    assert json.loads(embedded.partition("</script>")[0]) == data
