import functools

import pytest

from keras_nas_plugin.testing.driving import SCORE, Search
from keras_nas_plugin.testing.spaces import small_space
from tests.tracking.conftest import (  # noqa: F401
    database,
    empty_database,
    make_record,
    make_search,
)
from tests.tracking.conftest import track as track_quickly  # noqa: F401


@pytest.fixture
def track(track_quickly):  # noqa: F811
    """`track` with trials so long that the run of each is opened before the trial ends."""
    return functools.partial(track_quickly, paced=True)


@pytest.fixture
def project(tmp_path):
    """Runs a search whose trials report given metrics, and returns the search.

    A report is a mapping of metrics, several of them for several epochs, None for a crash
    or "running" for a trial that never ends.
    """

    def run(make, reports, *, space=small_space, name="search", **options):
        # KerasTuner's own oracles take a limit of 0 for none at all.
        options = {"max_consecutive_failed_trials": 10, **options}
        search = Search(make, tmp_path / name, space, **options)
        for number, report in enumerate(reports):
            trial = search.start(f"tuner{number}")
            if report == "running":
                continue
            if report is None:
                search.finish(trial, None)
                continue
            for step, metrics in enumerate(report if isinstance(report, list) else [report]):
                search.oracle.update_trial(trial.trial_id, metrics, step=step)
            trial.status = "COMPLETED"
            search.oracle.end_trial(trial)
        return search

    return run


def scores(*values):
    """One report per value, of the objective alone."""
    return [None if value is None else {SCORE: value} for value in values]
