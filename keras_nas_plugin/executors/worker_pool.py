"""Trials run in workers, which are supervised."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from keras_nas_plugin.errors import BudgetExhaustedError, WorkerError
from keras_nas_plugin.executors.base import Executor
from keras_nas_plugin.executors.unfinished import unfinished_record
from keras_nas_plugin.executors.worker_link import sendable
from keras_nas_plugin.executors.worker_types import Assignment, Worker, WorkerFactory
from keras_nas_plugin.records.trial import FAILED, KILLED, Status, TrialRecord
from keras_nas_plugin.training.context import SearchContext
from keras_nas_plugin.training.running import TrialOutcome

logger = logging.getLogger("keras_nas_plugin")

# Methods of the oracle that workers may call, and what turns their results into plain data.
_CALLS: Mapping[str, Callable[[Any], Any]] = {
    "get_space": lambda space: space.get_config(),
    "update_space": lambda nothing: None,
    "get_trial": lambda trial: trial.get_state(),
    "update_trial": lambda trial: trial.get_state(),
    "get_best_trials": lambda trials: [trial.get_state() for trial in trials],
}
# Workers of a slot that end before they have loaded anything, after which no further one starts.
_MOST_FAILED_STARTS = 3
# How often the memory of workers is looked at.
_MEMORY_SECONDS = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Supervision:
    """When a trial in a worker is given up.

    Attributes:
        trial_timeout: Seconds that a trial may train; None for no limit.
        max_retries: How often a trial whose worker died is run again.
        memory_limit: Bytes of memory that a worker may use alone; None for no limit.
    """

    trial_timeout: float | None
    max_retries: int
    memory_limit: int | None = None


class WorkerPool(Executor):
    """Runs one trial at a time in each of several workers, and replaces those that die.

    A search begins when all workers that have a machine to run on are ready. Those that wait for
    one join it later, and the others are then never idle because of them.

    Args:
        context: The search.
        factory: Starts the workers.
        supervision: When a trial is given up.
    """

    def __init__(
        self, context: SearchContext, factory: WorkerFactory, supervision: Supervision
    ) -> None:
        self._context = context
        self._factory = factory
        self._supervision = supervision
        self._workers: dict[str, Worker] = {}
        self._assigned: dict[str, Assignment] = {}
        self._ended: list[TrialOutcome] = []
        # By slot: how many of its workers in a row have died before they were ready.
        self._failed_starts: collections.Counter[str] = collections.Counter()
        # Whether a worker has become ready that has no trial.
        self._joined = False
        # Messages that have arrived and are not handled yet, with the slots they came from.
        self._inbox: collections.deque[tuple[str, str, list[Any]]] = collections.deque()
        self._memory_checked = 0.0

    def __enter__(self) -> Self:
        try:
            self._factory.open()
            for slot in self._factory.slots:
                self._start(slot)
            while not self._can_begin():
                self._supervise()
        except BaseException:
            self._stop()
            raise
        return self

    def _can_begin(self) -> bool:
        workers = self._workers.values()
        return any(worker.ready for worker in workers) and all(
            worker.ready or worker.unplaced for worker in workers
        )

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        for worker in self._workers.values():
            worker.kill()
        self._workers.clear()
        self._factory.close()

    def _start(self, slot: str) -> None:
        self._workers[slot] = self._factory.start(slot)

    # ------------------------------------------------------------------ the executor

    @property
    def finished(self) -> bool:
        return False

    @property
    def in_flight(self) -> int:
        return len(self._assigned) + len(self._ended)

    def free_slots(self) -> Sequence[str]:
        if any(assignment.alone for assignment in self._assigned.values()):
            return ()
        return tuple(
            slot
            for slot, worker in self._workers.items()
            if slot not in self._assigned and worker.ready
        )

    def submit(self, trial: Trial, slot: str) -> None:
        self._assigned[slot] = Assignment(trial)
        self._send(slot)

    def _send(self, slot: str) -> None:
        self._assigned[slot].sent = True
        trial, oracle = self._assigned[slot].trial, self._context.oracle
        screened_metrics = getattr(oracle, "screened_metrics", None)
        screened = {} if screened_metrics is None else dict(screened_metrics(trial.trial_id))
        deadline = self._context.budget.deadline
        seconds_left = None if deadline is None else deadline - time.monotonic()
        self._workers[slot].send("trial", trial.get_state(), screened, seconds_left)

    def collect(self) -> Sequence[TrialOutcome]:
        self._joined = False
        try:
            if not self._assigned and not self.free_slots():
                self._supervise()  # no worker is ready
            while self._assigned and not self._ended and not self._joined:
                self._supervise()
        except KeyboardInterrupt as error:
            self._take_results()
            for slot in list(self._assigned):
                self._interrupt(slot, error)
        ended, self._ended = self._ended, []
        return ended

    def _take_results(self) -> None:
        """Handle results that have arrived, and nothing else: the search ends."""
        for slot in self._assigned:
            with contextlib.suppress(EOFError):
                self._receive(slot)
        for slot, kind, content in self._inbox:
            if kind == "outcome" and slot in self._assigned:
                self._handle(slot, kind, content)
        self._inbox.clear()

    def _interrupt(self, slot: str, error: BaseException) -> None:
        assignment = self._assigned.pop(slot)
        record = self._record(assignment, KILLED)
        self._ended.append(TrialOutcome(assignment.trial, record, error))

    # ------------------------------------------------------------------ supervision

    def _supervise(self) -> None:
        """Wait up to a second for workers, and handle what they sent and how they ended."""
        slots = {id(worker): slot for slot, worker in self._workers.items()}
        for worker in self._factory.arrived(list(self._workers.values())):
            slot = slots[id(worker)]
            try:
                self._receive(slot)
            except EOFError:
                self._lost(slot, worker.stop())
        while self._inbox:
            self._handle(*self._inbox.popleft())
        self._check_timeouts()
        self._check_memory()
        self._move_waiting()
        self._send_again()

    def _receive(self, slot: str) -> None:
        """Put the messages of a worker that have arrived into the inbox.

        Raises:
            EOFError: None has, and none will.
        """
        for kind, *content in self._workers[slot].messages():
            self._inbox.append((slot, kind, content))

    def _handle(self, slot: str, kind: str, content: list[Any]) -> None:
        trackers = self._context.trackers
        if kind == "ready":
            self._workers[slot].placement = content[0]
            self._failed_starts[slot] = 0
            self._joined |= slot not in self._assigned
        elif kind == "cannot_start":
            raise WorkerError(
                "`executor` must be able to start its workers, which load the hypermodel and the "
                f"arguments of `search`; {slot} could not: {content[0]}"
            )
        elif kind == "started":
            self._assigned[slot].begin(self._workers[slot].placement)
            trackers.trial_started(*content)
        elif kind == "epoch":
            trackers.epoch_ended(*content)
        elif kind == "call":
            self._answer(slot, *content)
        elif kind == "outcome":
            self._ended.append(self._outcome(self._assigned.pop(slot).trial, *content))

    def _answer(self, slot: str, method: str, args: Sequence[Any], kwargs: Mapping) -> None:
        oracle = self._context.oracle
        try:
            if method == "update_space":
                args = [keras_tuner.HyperParameters.from_config(args[0])]
            value = _CALLS[method](getattr(oracle, method)(*args, **kwargs))
        except Exception as error:
            self._workers[slot].send("raise", sendable(error))
        else:
            self._workers[slot].send("answer", value)

    def _outcome(
        self,
        trial: Trial,
        record: TrialRecord,
        error: BaseException | None,
        reported: bool,
        status: str,
        message: str | None,
        config: dict[str, Any],
    ) -> TrialOutcome:
        trial.hyperparameters = keras_tuner.HyperParameters.from_config(config)
        trial.status, trial.message = status, message
        return TrialOutcome(trial, record, error, reported)

    def _lost(self, slot: str, cause: str) -> None:
        """Replace a worker that has died; its trial runs again, or has failed."""
        worker = self._workers[slot]
        counts = not worker.displaced
        if counts and not worker.ready:
            self._failed_starts[slot] += 1
            if self._failed_starts[slot] >= _MOST_FAILED_STARTS:
                raise WorkerError(
                    f"`executor` must be able to start its workers; {slot} {cause} before it had "
                    "loaded the hypermodel and the arguments of `search`"
                )
        self._start(slot)
        assignment = self._assigned.get(slot)
        if assignment is None:
            logger.warning("%s %s, and was replaced.", slot, cause)
            return
        assignment.sent, assignment.began = False, None
        if worker.ready and worker.out_of_memory:
            self._ran_out_of_memory(slot, f"its worker {cause}, by the system")
            return
        assignment.losses += counts and worker.ready
        trial_id = assignment.trial.trial_id
        if assignment.losses <= self._supervision.max_retries:
            logger.warning("%s %s; trial %s runs again.", slot, cause, trial_id)
            return
        self._fail(slot, f"The worker process {cause} while it trained the trial")

    def _check_memory(self) -> None:
        limit, now = self._supervision.memory_limit, time.monotonic()
        if limit is None or now < self._memory_checked + _MEMORY_SECONDS:
            return
        self._memory_checked = now
        for slot, assignment in list(self._assigned.items()):
            used = self._workers[slot].memory if assignment.sent else None
            if used is None or used <= limit:
                continue
            self._workers[slot].kill()
            self._start(slot)
            assignment.sent, assignment.began = False, None
            self._ran_out_of_memory(
                slot,
                f"its worker used {used / 1e9:.2f} GB, and `memory_per_worker` is "
                f"{limit / 1e9:.2f} GB",
            )

    def _ran_out_of_memory(self, slot: str, how: str) -> None:
        """A trial runs again alone, once: others may have used the memory."""
        assignment = self._assigned[slot]
        if assignment.alone or not self._supervision.max_retries:
            self._fail(slot, f"out of memory: {how}")
            return
        assignment.alone = True
        logger.warning(
            "Trial %s ran out of memory: %s. It runs again alone.", assignment.trial.trial_id, how
        )

    def _send_again(self) -> None:
        """Send trials whose workers were replaced, and those that run alone when they may."""
        for slot, assignment in self._assigned.items():
            others = [each for each in self._assigned.values() if each.sent]
            blocked = bool(others) if assignment.alone else any(each.alone for each in others)
            if not assignment.sent and not blocked and self._workers[slot].ready:
                self._send(slot)

    def _move_waiting(self) -> None:
        """Move trials whose workers have no machine to run on to workers that are free."""
        workers = self._workers
        waiting = [slot for slot in self._assigned if workers[slot].unplaced]
        free = [slot for slot in workers if slot not in self._assigned and workers[slot].ready]
        for slot, other in zip(waiting, free, strict=False):
            workers[slot], workers[other] = workers[other], workers[slot]
        deadline = self._context.budget.deadline
        if deadline is None or time.monotonic() < deadline:
            return
        error = BudgetExhaustedError("`budget` ended while a trial waited for a worker")
        for slot in waiting:
            if workers[slot].unplaced:
                self._interrupt(slot, error)

    def _check_timeouts(self) -> None:
        limit = self._supervision.trial_timeout
        for slot, assignment in list(self._assigned.items()):
            if limit is None or assignment.began is None:
                continue
            if time.monotonic() - assignment.began >= limit:
                self._workers[slot].kill()
                self._start(slot)
                self._fail(slot, f"The trial trained longer than `trial_timeout`, {limit:g} s")

    def _fail(self, slot: str, reason: str) -> None:
        assignment = self._assigned.pop(slot)
        assignment.trial.status, assignment.trial.message = TrialStatus.INVALID, reason
        record = self._record(assignment, FAILED, reason)
        self._ended.append(TrialOutcome(assignment.trial, record))

    def _record(
        self, assignment: Assignment, status: Status, error: str | None = None
    ) -> TrialRecord:
        return unfinished_record(
            self._context,
            assignment.trial,
            status,
            started_ms=assignment.started_ms,
            error=error,
            placement=assignment.placement,
        )
