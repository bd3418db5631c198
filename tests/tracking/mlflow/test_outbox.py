"""The outbox keeps the records of trials that could not be sent."""

from __future__ import annotations

import dataclasses
import logging

from keras_nas_plugin.tracking.mlflow.outbox import Outbox


def test_records_are_in_the_order_in_which_the_trials_ended(tmp_path, make_record):
    outbox = Outbox(tmp_path / "project")
    assert outbox.records() == []
    for number in (3, 1, 2):
        outbox.put(make_record(number))
    assert Outbox(tmp_path / "project").records() == [make_record(i) for i in (1, 2, 3)]


def test_removing_a_trial_twice_is_not_an_error(tmp_path, make_record):
    outbox = Outbox(tmp_path)
    outbox.put(make_record(1))
    assert outbox.has("01")
    outbox.remove(make_record(1))
    outbox.remove(make_record(1))
    assert outbox.records() == [] and not outbox.has("01")


def test_removing_a_record_keeps_that_of_a_later_attempt(tmp_path, make_record):
    outbox = Outbox(tmp_path)
    first, second = make_record(1, status="FAILED"), make_record(1, ended_ms=9, started_ms=8)
    outbox.put(first)
    outbox.put(second)
    outbox.remove(first)
    assert outbox.records() == [second]
    outbox.remove(second)
    assert outbox.records() == []


def test_a_later_attempt_replaces_an_earlier_one(tmp_path, make_record):
    outbox = Outbox(tmp_path)
    outbox.put(make_record(1, status="KILLED"))
    later = dataclasses.replace(make_record(1), score=0.9)
    outbox.put(later)
    assert outbox.records() == [later]


def test_a_file_that_cannot_be_read_is_logged_and_not_removed(tmp_path, make_record, caplog):
    outbox = Outbox(tmp_path)
    outbox.put(make_record(1))
    broken = outbox.folder / "02.json"
    broken.write_text('{"trial_id":', encoding="utf-8")
    with caplog.at_level(logging.WARNING, logger="keras_nas_plugin"):
        assert outbox.records() == [make_record(1)]
    assert "02.json" in caplog.text
    assert broken.exists()


def test_trial_ids_cannot_leave_the_folder(tmp_path, make_record):
    outbox = Outbox(tmp_path)
    outbox.put(make_record(1, trial_id="../../up"))
    assert [record.trial_id for record in outbox.records()] == ["../../up"]
    assert {path.parent for path in tmp_path.rglob("*.json")} == {outbox.folder}
