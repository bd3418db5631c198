"""The background thread runs jobs in the order in which they were submitted."""

from __future__ import annotations

import threading

import pytest

from keras_nas_plugin.tracking.mlflow.worker import BackgroundWorker


def nothing():
    return None


def test_jobs_run_in_order_in_one_background_thread():
    worker = BackgroundWorker(nothing)
    results = []
    for number in range(50):
        worker.submit(lambda n: results.append((n, threading.current_thread())), number)
    worker.close()
    assert [number for number, _ in results] == list(range(50))
    (thread,) = {thread for _, thread in results}
    assert thread is not threading.current_thread() and not thread.is_alive()


def test_call_returns_the_result_and_starts_no_thread_before_the_first_job():
    worker = BackgroundWorker(nothing)
    assert worker.call(threading.current_thread) is threading.current_thread()
    worker.submit(nothing)
    assert worker.call(threading.current_thread) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 / 0)
    worker.close()
    assert worker.call(threading.current_thread) is threading.current_thread()


def test_a_job_that_has_not_started_can_be_cancelled():
    worker = BackgroundWorker(nothing)
    proceed, results = threading.Event(), []
    worker.submit(proceed.wait)
    cancelled = worker.submit(results.append, "off")
    worker.submit(results.append, "on")
    assert cancelled.cancel()
    proceed.set()
    worker.close()
    assert results == ["on"]


def test_an_error_is_logged_and_the_next_job_runs(caplog):
    worker = BackgroundWorker(nothing)
    results = []
    worker.submit(int, "no number")
    worker.submit(results.append, 1)
    worker.close()
    assert results == [1] and "no number" in caplog.text


def test_an_error_that_ends_the_thread_is_raised_to_every_waiting_caller():
    worker = BackgroundWorker(nothing)
    proceed = threading.Event()

    def exit_thread():
        proceed.wait()
        raise SystemExit(3)

    first, second = worker.submit(exit_thread), worker.submit(nothing)
    proceed.set()
    for future in (first, second, worker.submit(nothing)):
        with pytest.raises(SystemExit):
            future.result()
    worker.close()


def test_idle_work_runs_when_due_and_an_error_in_it_does_not_end_the_thread(caplog):
    waits, results = iter([0.0, 0.0]), threading.Event()

    def idle():
        try:
            return next(waits)
        except StopIteration:
            results.set()
            raise RuntimeError("idle fault") from None

    worker = BackgroundWorker(idle)
    worker.submit(
        nothing
    )  # the idle function is called after it, and again when the first wait is over
    assert results.wait(60)
    assert worker.call(lambda: 7) == 7
    worker.close()
    assert "Tracking failed between two trials" in caplog.text


def test_a_new_thread_starts_after_an_interrupted_close(monkeypatch):
    worker = BackgroundWorker(nothing)
    proceed, results = threading.Event(), []
    worker.submit(proceed.wait)
    with monkeypatch.context() as interrupted:

        def join(self, timeout=None):
            raise KeyboardInterrupt

        interrupted.setattr(threading.Thread, "join", join)
        with pytest.raises(KeyboardInterrupt):
            worker.close()
    proceed.set()
    assert worker.call(lambda: 7) == 7
    worker.submit(results.append, 1)
    worker.close()
    assert results == [1]
