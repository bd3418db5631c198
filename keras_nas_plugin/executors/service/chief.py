"""The chief's server: KerasTuner's service, with leases for the workers that renew them."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from concurrent import futures
from typing import Any

import grpc
import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer

from keras_nas_plugin.errors import WorkerError
from keras_nas_plugin.executors.service.leases import Leases, lease_seconds
from keras_nas_plugin.executors.service.wire import (
    AGREED,
    CHANGED,
    DECLARE,
    HELD,
    LOST,
    RENEW,
    SERVICE,
    SESSION_KEY,
    WORKER_KEY,
    Declaration,
    Renewal,
    chief_address,
)
from keras_nas_plugin.oracles.reassignment import assign, holder, requeue
from keras_nas_plugin.space.declarations import ChangedRangeError, RangeChecks

logger = logging.getLogger("keras_nas_plugin")

# Threads are started when calls arrive. A call that proposes a trial keeps its thread, and those
# that wait for it theirs; renewals need more.
_THREADS = 1024
_POLL_SECONDS = 0.2
_STOP_SECONDS = 2.0
# How often a trial runs again whose worker was lost.
_MOST_LOSSES = 1
# Holds the trials that have failed because their workers were lost.
_NOBODY = "nobody"


@dataclasses.dataclass(frozen=True)
class LostTrial:
    """A trial that has failed because its workers were lost.

    Attributes:
        trial: The trial, whose message says what happened.
        worker: The last of its workers.
        started_ms: When it was assigned first, in milliseconds since 1970.
    """

    trial: Trial
    worker: str
    started_ms: int


class Chief(OracleServicer):
    """Serves an oracle to workers, one call at a time.

    A trial whose worker no longer renews its lease, or has started again, is assigned once to the
    next worker that asks; if that worker is lost as well, the trial has failed. Results of a
    worker whose trial belongs to another are refused.

    Args:
        oracle: The oracle.
        leases: The workers' leases.
        ranges: Recognizes ranges that were changed before the search was resumed.
    """

    def __init__(self, oracle: keras_tuner.Oracle, leases: Leases, ranges: RangeChecks) -> None:
        super().__init__(oracle)
        self._leases = leases
        self._ranges = ranges
        self._lock = threading.Lock()
        self._losses: dict[str, int] = {}
        self._failed: list[LostTrial] = []
        # The process of each worker, and the processes that these have replaced.
        self._sessions: dict[str, str] = {}
        self._replaced: set[str] = set()
        # The worker that renewed a lease last, and when there was a worker.
        self._latest: str | None = None
        self._last_seen = time.monotonic()
        self._started_ms: dict[str, int] = {}
        #: The error that ended the search, if it did not end by itself.
        self.error: BaseException | None = None
        #: A range that a worker has declared, in which the search must continue.
        self.changed: ChangedRangeError | None = None

    # ------------------------------------------------------------------ calls of workers

    def GetSpace(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See `keras_tuner.Oracle.get_space`."""
        with self._lock:
            return super().GetSpace(request, context)

    def UpdateSpace(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See `keras_tuner.Oracle.update_space`."""
        with self._lock:
            return super().UpdateSpace(request, context)

    def GetTrial(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See `keras_tuner.Oracle.get_trial`."""
        with self._lock:
            return super().GetTrial(request, context)

    def GetBestTrials(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See `keras_tuner.Oracle.get_best_trials`."""
        with self._lock:
            return super().GetBestTrials(request, context)

    def CreateTrial(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See `keras_tuner.Oracle.create_trial`; an error of the oracle ends the search.

        A worker that renews a lease is told to wait while others train the last trials, which
        it may have to take over.
        """
        worker = request.tuner_id
        with self._lock:
            if self._is_replaced(context):
                stopped = Trial(self.oracle.get_space(), status=TrialStatus.STOPPED)
                return protos.get_service().CreateTrialResponse(trial=stopped.to_proto())
            if self.changed is not None:  # the worker asks again
                idle = Trial(self.oracle.get_space(), status=TrialStatus.IDLE)
                return protos.get_service().CreateTrialResponse(trial=idle.to_proto())
            trial = self._next_trial(worker)
            if trial.status == TrialStatus.STOPPED:
                waits = worker in self._leases.workers and self.oracle.ongoing_trials
                if waits and self.error is None:
                    trial.status = TrialStatus.IDLE
                else:
                    self.stop_triggered = True
            return protos.get_service().CreateTrialResponse(trial=trial.to_proto())

    def _next_trial(self, worker: str) -> Trial:
        if self.error is None:
            try:
                trial: Trial = self.oracle.create_trial(worker)
                self._started_ms.setdefault(trial.trial_id, _now_ms())
                return trial
            except Exception as error:
                self._end_with(error)
        self.oracle.tuner_ids.discard(worker)
        return Trial(self.oracle.get_space(), status=TrialStatus.STOPPED)

    def UpdateTrial(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See `keras_tuner.Oracle.update_trial`."""
        with self._lock:
            self._check_holder(request.trial_id, context)
            return super().UpdateTrial(request, context)

    def EndTrial(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See `keras_tuner.Oracle.end_trial`; an error of the oracle ends the search."""
        with self._lock:
            self._check_holder(request.trial.trial_id, context)
            try:
                return super().EndTrial(request, context)
            except Exception as error:
                self._end_with(error)
                return protos.get_service().EndTrialResponse()

    def renew(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        """Renew the lease of a worker.

        Args:
            message: A `Renewal`.
            context: The call.

        Returns:
            `HELD` if the trial that the worker trains is its own, else `LOST`.
        """
        renewal = Renewal.from_bytes(message)
        worker, session = renewal.worker, renewal.session
        if session in self._replaced:
            return LOST
        self._latest = worker
        if renewal.leaves:
            self._leases.end(worker)
            with self._lock:
                self._sessions.pop(worker, None)
                requeue(self.oracle, worker)
            return HELD
        self._leases.renew(worker)
        if self._sessions.get(worker) != session:
            with self._lock:
                self._enter(worker, session)
        held = renewal.trial_id is None or self._holds(worker, renewal.trial_id)
        return HELD if held else LOST

    def declare(self, message: bytes, context: grpc.ServicerContext) -> bytes:
        """Compare the range of a hyperparameter that training declares with that of the search.

        Args:
            message: A `Declaration`.
            context: The call.

        Returns:
            `CHANGED` if the search continues in the declared range, so that the worker's trial
            ends; else `AGREED`.
        """
        declaration = Declaration.from_bytes(message)
        declared = declaration.hyperparameter
        with self._lock:
            if self._is_replaced(context):
                return AGREED  # nothing that this process reports counts
            if not self._ranges.is_changed(declared, same=declaration.same):
                return AGREED
            self.changed = ChangedRangeError(declared)
            return CHANGED

    def _enter(self, worker: str, session: str) -> None:
        """Register the process of a worker; a process that it replaces has lost its trial."""
        previous = self._sessions.get(worker)
        self._sessions[worker] = session
        if previous is not None and previous != session:
            self._replaced.add(previous)
            self._lose(worker, f"{worker} has started again")

    def _is_replaced(self, context: grpc.ServicerContext) -> bool:
        """Whether a call comes from a process that another has replaced under the same id."""
        return dict(context.invocation_metadata()).get(SESSION_KEY) in self._replaced

    def _holds(self, worker: str, trial_id: str) -> bool:
        """Whether a trial is a worker's; one that waits for a retry becomes the worker's again."""
        if not self._lock.acquire(timeout=self._leases.seconds / 4):
            return True  # a proposal takes long; the next renewal asks again
        try:
            return holder(self.oracle, trial_id) == worker or assign(self.oracle, trial_id, worker)
        finally:
            self._lock.release()

    def _check_holder(self, trial_id: str, context: grpc.ServicerContext) -> None:
        """Refuse a call about a trial that is another worker's."""
        worker = dict(context.invocation_metadata()).get(WORKER_KEY)
        if self._is_replaced(context):
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, "its worker's process was started again"
            )
        assigned = holder(self.oracle, trial_id)
        if worker is not None and assigned is not None and assigned != worker:
            context.abort(
                grpc.StatusCode.FAILED_PRECONDITION, f"the trial is assigned to {assigned}"
            )

    def _end_with(self, error: Exception) -> None:
        self.error = error
        self.stop_triggered = True

    # ------------------------------------------------------------------ supervision

    @property
    def ended(self) -> bool:
        """Whether the search has ended and every worker has left."""
        if not self.stop_triggered or self._leases.workers:
            return False
        # Workers of KerasTuner hold no lease, and are told by their next call.
        return not self.oracle.ongoing_trials and not self.oracle.tuner_ids

    def supervise(self) -> list[LostTrial]:
        """Take the trials of the workers whose leases have run out.

        Returns:
            The trials that are not assigned again.

        Raises:
            WorkerError: No worker is left, and the search has not ended.
        """
        expired = self._leases.take_expired()
        with self._lock:
            for worker in expired:
                self._lose(worker, f"{worker} was not heard from for {self._leases.seconds:g} s")
            failed, self._failed = self._failed, []
        now = time.monotonic()
        if self._latest is None or self._leases.workers or self.stop_triggered:
            self._last_seen = now
        elif now - self._last_seen >= self._leases.seconds:
            raise WorkerError(
                f"The search stops, because no worker is left; the last was {self._latest}. Start "
                "the chief and workers again to resume."
            )
        return failed

    def _lose(self, worker: str, reason: str) -> None:
        """Take the trial of a worker that does not train it any more, for the next that asks."""
        trial = requeue(self.oracle, worker)
        if trial is None:
            logger.warning("%s.", reason)
            return
        trial_id = trial.trial_id
        self._losses[trial_id] = self._losses.get(trial_id, 0) + 1
        if self._losses[trial_id] <= _MOST_LOSSES:
            logger.warning("%s; trial %s is assigned to the next worker.", reason, trial_id)
            return
        # Nobody's trial until it has ended: a worker would train it, or report on it.
        assign(self.oracle, trial_id, _NOBODY)
        trial.status, trial.message = TrialStatus.FAILED, f"{reason} while it trained the trial"
        started_ms = self._started_ms.get(trial_id, _now_ms())
        self._failed.append(LostTrial(trial, worker, started_ms))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class ChiefServer:
    """A chief that listens at the address of KerasTuner's environment variables.

    Args:
        oracle: The oracle.
        ranges: Recognizes ranges that were changed before the search was resumed.

    Raises:
        WorkerError: The address cannot be used.
    """

    def __init__(self, oracle: keras_tuner.Oracle, ranges: RangeChecks) -> None:
        self._chief = Chief(oracle, Leases(lease_seconds()), ranges)
        # Without `so_reuseport`, a second chief at this address is refused.
        self._server = grpc.server(
            futures.ThreadPoolExecutor(_THREADS, thread_name_prefix="chief"),
            options=[("grpc.so_reuseport", 0)],
        )
        protos.get_service_grpc().add_OracleServicer_to_server(self._chief, self._server)
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            RENEW: grpc.unary_unary_rpc_method_handler(self._chief.renew),
            DECLARE: grpc.unary_unary_rpc_method_handler(self._chief.declare),
        }
        self._server.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(SERVICE, handlers)]
        )
        address = chief_address()
        try:
            self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise WorkerError(
                "`KERASTUNER_ORACLE_IP` and `KERASTUNER_ORACLE_PORT` must be an address of this "
                f"machine that no other process uses; got {address}"
            ) from error
        self._server.start()

    def wait(self) -> list[LostTrial]:
        """Wait until trials have failed because their workers were lost, or the search has ended.

        Returns:
            These trials; empty when the search has ended.

        Raises:
            WorkerError: No worker is left.
            ChangedRangeError: Training declares another range than the search that was resumed.
            Exception: The oracle's error that ended the search.
        """
        while not self._chief.ended:
            time.sleep(_POLL_SECONDS)
            if self._chief.changed is not None:
                raise self._chief.changed
            if failed := self._chief.supervise():
                return failed
        if self._chief.error is not None:
            raise self._chief.error
        return []

    def stop(self) -> None:
        """Answer no further calls."""
        self._server.stop(_STOP_SECONDS).wait()
