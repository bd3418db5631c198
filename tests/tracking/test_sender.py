"""A thread that does jobs in their order."""

from __future__ import annotations

import threading

import pytest

from keras_nas_plugin.tracking.sender import Sender


def nothing():
    return None


def test_jobs_are_done_in_their_order_by_one_other_thread():
    sender = Sender(nothing)
    done = []
    for number in range(50):
        sender.submit(lambda n: done.append((n, threading.current_thread())), number)
    sender.close()
    assert [number for number, _ in done] == list(range(50))
    (thread,) = {thread for _, thread in done}
    assert thread is not threading.current_thread() and not thread.is_alive()


def test_a_call_returns_what_its_job_did_and_before_the_first_job_none_is_needed():
    sender = Sender(nothing)
    assert sender.call(threading.current_thread) is threading.current_thread()
    sender.submit(nothing)
    assert sender.call(threading.current_thread) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        sender.call(lambda: 1 / 0)
    sender.close()
    assert sender.call(threading.current_thread) is threading.current_thread()


def test_a_job_that_has_not_begun_can_be_called_off():
    sender = Sender(nothing)
    go_on, done = threading.Event(), []
    sender.submit(go_on.wait)
    off = sender.submit(done.append, "off")
    sender.submit(done.append, "on")
    assert off.cancel()
    go_on.set()
    sender.close()
    assert done == ["on"]


def test_a_fault_is_logged_and_the_next_job_is_done(caplog):
    sender = Sender(nothing)
    done = []
    sender.submit(int, "no number")
    sender.submit(done.append, 1)
    sender.close()
    assert done == [1] and "no number" in caplog.text


def test_an_end_of_the_thread_reaches_whoever_waits():
    sender = Sender(nothing)
    go_on = threading.Event()

    def ends():
        go_on.wait()
        raise SystemExit(3)

    first, second = sender.submit(ends), sender.submit(nothing)
    go_on.set()
    for future in (first, second, sender.submit(nothing)):
        with pytest.raises(SystemExit):
            future.result()
    sender.close()


def test_idle_work_is_done_when_it_is_due_and_a_fault_in_it_ends_nothing(caplog):
    waits, done = iter([0.0, 0.0]), threading.Event()

    def idle():
        try:
            return next(waits)
        except StopIteration:
            done.set()
            raise RuntimeError("idle fault") from None

    sender = Sender(idle)
    sender.submit(nothing)  # after it the first wait is asked for, and then the next
    assert done.wait(60)
    assert sender.call(lambda: 7) == 7
    sender.close()
    assert "Tracking failed between two trials" in caplog.text


def test_after_an_interrupted_wait_for_its_end_a_new_thread_begins(monkeypatch):
    sender = Sender(nothing)
    go_on, done = threading.Event(), []
    sender.submit(go_on.wait)
    with monkeypatch.context() as interrupted:

        def join(self, timeout=None):
            raise KeyboardInterrupt

        interrupted.setattr(threading.Thread, "join", join)
        with pytest.raises(KeyboardInterrupt):
            sender.close()
    go_on.set()
    assert sender.call(lambda: 7) == 7
    sender.submit(done.append, 1)
    sender.close()
    assert done == [1]
