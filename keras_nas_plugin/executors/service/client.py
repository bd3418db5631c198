"""A worker's connection to its chief: calls that end, and a lease that is renewed."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import keras_tuner
from keras_tuner.engine.hyperparameters import HyperParameter
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_client import OracleClient

from keras_nas_plugin.errors import WorkerError
from keras_nas_plugin.executors.service.leases import RENEWALS, lease_seconds
from keras_nas_plugin.executors.service.wire import (
    CHANGED,
    DECLARE,
    LOST,
    RENEW,
    SERVICE,
    SESSION_KEY,
    WORKER_KEY,
    Declaration,
    Renewal,
    chief_address,
)
from keras_nas_plugin.oracles.changes import max_trials_of
from keras_nas_plugin.records.trial import load_records

logger = logging.getLogger("keras_nas_plugin")

# Seconds that one attempt of a call may take; a proposal that takes longer is asked for again,
# and the chief answers with the same trial.
_CALL_SECONDS = 60.0
_RETRY_SECONDS = 0.5
# How long a worker that starts waits for its chief, and until it says so.
_START_SECONDS, _NOTICE_SECONDS = 600.0, 5.0
# Consecutive renewals that nobody answers, after which the chief is dead.
_MOST_REFUSALS = 3

# gRPC waits longer before each new attempt to connect, up to two minutes by default.
_CHANNEL = (("grpc.max_reconnect_backoff_ms", 1000), ("grpc.initial_reconnect_backoff_ms", 200))


class LeaseLostError(KeyboardInterrupt):
    """Interrupts a training whose trial is not this worker's any more, or whose chief is gone."""


class ChiefLostError(WorkerError):
    """The chief does not answer."""


class Lease:
    """Renews a worker's lease in a thread, and interrupts its training when the lease is lost.

    Args:
        channel: The connection to the chief.
        worker: The worker's id.
        seconds: How long a lease lasts.
    """

    def __init__(self, channel: grpc.Channel, worker: str, seconds: float) -> None:
        self._renew: Callable[..., bytes] = channel.unary_unary(f"/{SERVICE}/{RENEW}")
        self._worker = worker
        #: Identifies this process to the chief.
        self.session = uuid.uuid4().hex
        self._seconds = seconds
        self._lock = threading.Lock()
        self._trial_id: str | None = None
        self._thread_id = 0
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        #: Whether the trial that trains, or the last one, was assigned to another worker.
        self.lost = False
        #: Whether the chief has stopped answering.
        self.chief_lost = threading.Event()

    def start(self) -> None:
        """Begin to renew the lease; the chief must have answered."""
        self.chief_lost.clear()
        if self._thread is None:
            self._stopped.clear()
            with contextlib.suppress(grpc.RpcError):
                self._send()
            self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the lease."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopped.set()
        thread.join()
        if not self.chief_lost.is_set():
            with contextlib.suppress(grpc.RpcError):
                self._send(leaves=True)

    def confirm(self, trial_id: str) -> bool:
        """Whether a trial that has been trained is still this worker's, or the chief is gone."""
        if not self.lost and not self.chief_lost.is_set():
            with contextlib.suppress(grpc.RpcError):
                self.lost = self._send(trial_id) == LOST
        return not self.lost

    @contextlib.contextmanager
    def training(self, trial_id: str) -> Iterator[None]:
        """Interrupt the code of this block, in this thread, when the lease is lost.

        Raises:
            LeaseLostError: The lease was lost.
        """
        with self._lock:
            self._trial_id, self._thread_id = trial_id, threading.get_ident()
            self.lost = False
        try:
            yield
        finally:
            with self._lock:
                self._trial_id = None

    def _send(self, trial_id: str | None = None, *, leaves: bool = False) -> bytes:
        renewal = Renewal(self._worker, self.session, trial_id, leaves)
        return self._renew(renewal.to_bytes(), timeout=self._seconds / 2)

    def _run(self) -> None:
        refusals, heard = 0, time.monotonic()
        while not self._stopped.wait(self._seconds / RENEWALS):
            trial_id = self._trial_id
            try:
                answer = self._send(trial_id)
            except grpc.RpcError as error:
                refusals += error.code() == grpc.StatusCode.UNAVAILABLE
                if refusals >= _MOST_REFUSALS or time.monotonic() - heard > self._seconds:
                    self.chief_lost.set()
                    self._interrupt(trial_id)
                    return
                continue
            refusals, heard = 0, time.monotonic()
            if answer == LOST and trial_id is not None:
                self._interrupt(trial_id, lost=True)

    def _interrupt(self, trial_id: str | None, *, lost: bool = False) -> None:
        """Raise `LeaseLostError` in the thread that trains, if it still trains this trial."""
        with self._lock:
            if trial_id is None or trial_id != self._trial_id or self.lost:
                return
            self.lost = lost
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread_id), ctypes.py_object(LeaseLostError)
            )


class _Calls(grpc.UnaryUnaryClientInterceptor):
    """Gives calls a deadline, states who calls, and repeats them while the chief lives.

    Args:
        worker: The worker's id.
        session: Identifies its process.
        gives_up: Called after each attempt that was not answered; raises to give up.
        answered: Called after each attempt that was answered.
    """

    def __init__(
        self,
        worker: str,
        session: str,
        gives_up: Callable[[], None],
        answered: Callable[[], None],
    ) -> None:
        self._caller = ((WORKER_KEY, worker), (SESSION_KEY, session))
        self._gives_up = gives_up
        self._answered = answered

    def intercept_unary_unary(
        self, continuation: Callable[..., Any], client_call_details: Any, request: Any
    ) -> Any:
        """See `grpc.UnaryUnaryClientInterceptor`."""
        details = client_call_details._replace(
            timeout=_CALL_SECONDS,
            wait_for_ready=False,
            metadata=[*(client_call_details.metadata or ()), *self._caller],
        )
        while True:
            call = continuation(details, request)
            unanswered = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            if call.code() not in unanswered:
                self._answered()
                return call
            self._gives_up()
            time.sleep(_RETRY_SECONDS)


class ChiefRanges:
    """Asks the chief whether a range that a trial of this worker declares is a change.

    Args:
        declare: Sends a `Declaration`, and returns the answer.
    """

    def __init__(self, declare: Callable[[bytes], bytes]) -> None:
        self._declare = declare
        self._answered: set[str] = set()

    def is_changed(self, declared: HyperParameter, *, same: bool) -> bool:
        """See `RangeChecks`; the chief is asked once for each name."""
        if declared.name in self._answered:
            return False
        answer = self._declare(Declaration.of(declared, same=same).to_bytes())
        self._answered.add(declared.name)
        return answer == CHANGED


class ChiefClient(OracleClient):
    """What a worker has in place of its oracle: calls to the chief.

    KerasTuner's own client waits for up to an hour in each call. This one waits for a chief that
    has not started, ends with `ChiefLostError` when a chief stops answering, and reads results
    from the project folder once the search has ended.

    Args:
        oracle: The worker's own oracle, which has the settings and can read the folder.
        folder: The project folder.
    """

    def __init__(self, oracle: keras_tuner.Oracle, folder: Path) -> None:
        super().__init__(oracle)
        self._local_oracle = oracle
        channel = grpc.insecure_channel(chief_address(), options=_CHANNEL)
        seconds = lease_seconds()
        #: The lease of this worker.
        self.lease = Lease(channel, self.tuner_id, seconds)
        self._folder = folder
        self._lease_seconds = seconds
        # How long an unanswered call is repeated, and since when none has been answered.
        self._patience = _START_SECONDS
        self._silent_since: float | None = None
        self._noticed = False
        self._closed = False
        calls = _Calls(self.tuner_id, self.lease.session, self._unanswered, self._heard)
        answered = grpc.intercept_channel(channel, calls)
        self.stub = protos.get_service_grpc().OracleStub(answered)
        #: See `keras_nas_plugin.space.declarations.RangeChecks`.
        declare: Callable[..., bytes] = answered.unary_unary(f"/{SERVICE}/{DECLARE}")
        self.range_checks = ChiefRanges(declare)

    def __deepcopy__(self, memo: object) -> ChiefClient:
        return self

    def join(self) -> bool:
        """Wait for the chief, and hold a lease until `close` is called.

        Returns:
            False if the search is complete, and its chief has ended.

        Raises:
            ChiefLostError: The chief did not start in time.
        """
        if self._closed:
            self._patience, self._silent_since = _START_SECONDS, None
            self._closed = self._noticed = False
        self.get_space()
        if not self._closed:
            self.lease.start()
            self.get_space()  # the chief may have ended before it knew of the lease
        return not self._closed

    def close(self) -> None:
        """End the lease; results are read from the project folder if the chief has gone."""
        self.lease.stop()
        self._patience, self._closed = 0.0, True

    def close_if_complete(self) -> bool:
        """End the lease if the project folder has all results of the search, and say so."""
        limit = max_trials_of(self._local_oracle)
        if limit is None or len(list(load_records(self._folder))) < limit:
            return False
        logger.warning("The search is complete, and its chief has ended.")
        self.close()
        return True

    def lost(self) -> ChiefLostError:
        """The error that says that the chief is gone."""
        return ChiefLostError(
            f"The chief at {chief_address()} does not answer, so {self.tuner_id} stops. Start the "
            "chief and workers again to resume."
        )

    def _heard(self) -> None:
        self._silent_since = None
        if not self._closed:
            self._patience = self._lease_seconds

    def _unanswered(self) -> None:
        """Raise `ChiefLostError`, unless the call is to be repeated."""
        now = time.monotonic()
        if self._silent_since is None:
            self._silent_since = now
        silent = now - self._silent_since
        if self._patience == _START_SECONDS and silent > _NOTICE_SECONDS and not self._noticed:
            self._noticed = True
            if not self.close_if_complete():
                logger.warning("%s waits for the chief at %s.", self.tuner_id, chief_address())
        if self.lease.chief_lost.is_set() or silent >= self._patience:
            raise self.lost()

    def _own(self) -> keras_tuner.Oracle:
        """The worker's own oracle, with the results in the project folder.

        Raises:
            ChiefLostError: The search has not ended.
        """
        if not self._closed:
            raise self.lost()
        self._local_oracle.reload()
        return self._local_oracle

    # ------------------------------------------------------------------ the oracle

    def get_space(self) -> keras_tuner.HyperParameters:
        """See `keras_tuner.Oracle.get_space`."""
        try:
            return super().get_space()
        except ChiefLostError:
            return self._own().get_space()

    def get_trial(self, trial_id: str) -> Trial:
        """See `keras_tuner.Oracle.get_trial`."""
        try:
            return super().get_trial(trial_id)
        except ChiefLostError:
            return self._own().get_trial(trial_id)

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """See `keras_tuner.Oracle.get_best_trials`."""
        try:
            return list(super().get_best_trials(num_trials))
        except ChiefLostError:
            return list(self._own().get_best_trials(num_trials))

    def create_trial(self, tuner_id: str) -> Trial:
        """See `keras_tuner.Oracle.create_trial`."""
        if self._closed:
            return Trial(self._local_oracle.get_space(), status=TrialStatus.STOPPED)
        return super().create_trial(tuner_id)

    def update_trial(self, trial_id: str, metrics: Mapping[str, float], step: int = 0) -> Trial:
        """See `keras_tuner.Oracle.update_trial`."""
        with self._refusals(trial_id):
            return super().update_trial(trial_id, metrics, step)
        return Trial(self.get_space(), trial_id=trial_id, status=TrialStatus.RUNNING)

    def end_trial(self, trial: Trial) -> None:
        """See `keras_tuner.Oracle.end_trial`."""
        with self._refusals(trial.trial_id):
            super().end_trial(trial)

    @contextlib.contextmanager
    def _refusals(self, trial_id: str) -> Iterator[None]:
        """Discard a result that the chief refuses, because the trial is another worker's."""
        try:
            yield
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.FAILED_PRECONDITION:
                raise
            logger.warning("The result of trial %s is discarded: %s.", trial_id, error.details())
