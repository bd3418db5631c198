"""One tracker for several searches: trials of the same id are told apart."""

from __future__ import annotations

from keras_nas_plugin.tracking import MLflowTracker
from keras_nas_plugin.tracking.retrained import run_of_trial


def test_a_trial_is_that_of_its_search(database, store, make_search, make_record):
    tracker = MLflowTracker("shared", tracking_uri=database)
    searches = [make_search(search_id=name) for name in ("first", "second")]
    for search in searches:
        tracker.search_started(search, [])
        tracker.trial_started("00", {"depth": 1})
        tracker.trial_ended(make_record(0, values={"depth": 1}))
        tracker.search_ended("FINISHED")
    runs = [run_of_trial(tracker, search, "00") for search in searches]
    found = [store(database).client.get_run(run).data.tags for run in runs]
    assert [tags["nas.search_id"] for tags in found] == ["first", "second"]
    assert run_of_trial(tracker, searches[0], "01") is None
