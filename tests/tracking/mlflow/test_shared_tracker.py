"""One tracker for several searches distinguishes trials with equal ids."""

from __future__ import annotations

from keras_nas_plugin.tracking import MLflowTracker


def test_find_run_distinguishes_two_searches_with_equal_trial_ids(
    database, store, make_search, make_record
):
    tracker = MLflowTracker("shared", tracking_uri=database)
    searches = [make_search(search_id=name) for name in ("first", "second")]
    for search in searches:
        tracker.search_started(search, [])
        tracker.trial_started("00", {"depth": 1})
        tracker.trial_ended(make_record(0, values={"depth": 1}))
        tracker.search_ended("FINISHED")
    run_ids = [tracker.find_run(search, "00") for search in searches]
    tags = [store(database).client.get_run(run_id).data.tags for run_id in run_ids]
    assert [values["nas.search_id"] for values in tags] == ["first", "second"]
    assert tracker.find_run(searches[0], "01") is None
