"""The progress line in the kernel of a real notebook."""

import nbclient
import nbformat
import pytest

CELL = """
from keras_nas_plugin import ProgressDisplay
from tests.reports.conftest import failed, record_of, search_info

display = ProgressDisplay(epochs=2)
display.search_started(search_info("."), [])
for number, score in enumerate([0.5, 0.7, 0.6]):
    display.trial_started(f"{number:04d}", {"width": 8})
    display.epoch_ended(f"{number:04d}", 1, {"val_accuracy": score})
    display.trial_ended(record_of(number, {"width": 8}, score))
display.trial_ended(failed(3, {"width": 8}, "ValueError: no way"))
display.search_ended("FINISHED")
"""


@pytest.fixture(scope="module")
def outputs(request):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    resources = {"metadata": {"path": str(request.config.rootpath)}}
    nbclient.NotebookClient(notebook, timeout=120, resources=resources).execute()
    return notebook.cells[0].outputs


def test_one_line_is_updated_in_place_and_ends_with_the_best_trial(outputs):
    (line,) = [output for output in outputs if output.output_type == "display_data"]
    assert "best val_accuracy 0.7000 (trial 0001)" in line.data["text/plain"]
    assert line.data["text/html"].startswith("<code>")


def test_only_the_start_and_failures_are_printed(outputs):
    printed = "".join(output.text for output in outputs if output.output_type == "stream")
    lines = printed.strip().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("Searching with RegularizedEvolutionOracle for val_accuracy")
    assert "trial 0003 (4/60): failed: ValueError: no way" in lines[1]
