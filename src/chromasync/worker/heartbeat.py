"""The heartbeat thread of a process: it reports proof of life, and it rescues tasks.

Every process rescues the tasks of all processes: it returns tasks whose lease expired to the queue.
Heartbeats are informational. Only `cancel_tasks` uses them, to decide whether to charge a retry.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import uuid
from collections.abc import Callable

import psutil

from chromasync import __version__
from chromasync.errors import ChromasyncError
from chromasync.events import Event
from chromasync.logs import get_logger
from chromasync.model import WorkerBeat, WorkerStatus
from chromasync.ports import Store
from chromasync.repeated import Repeated

RESCUE_SECONDS = 2.5
BEAT_SECONDS = 15.0

log = get_logger()


def process_name() -> str:
    """The unique name of this process: host:pid:start:random."""
    started = psutil.Process().create_time()
    return f"{socket.gethostname()}:{os.getpid()}:{started}:{uuid.uuid4().hex[:8]}"


class Heartbeat:
    """A thread that sends heartbeats and rescues tasks until it is stopped.

    Args:
        store: the state store.
        name: this process, see `process_name`.
        current_task: the id of a task that is being worked on, or None.
        rescued: called when tasks were returned to the queue.
        complete: adds to each heartbeat what others know about this process.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        current_task: Callable[[], int | None],
        rescued: Callable[[], None],
        complete: Callable[[WorkerBeat], WorkerBeat] = lambda beat: beat,
    ) -> None:
        self._complete = complete
        self._store = store
        self._name = name
        self._current_task = current_task
        self._rescued = rescued
        self._status = WorkerStatus.ACTIVE
        self._process = psutil.Process()
        self._beats = Repeated(Event.NO_PROOF_OF_LIFE, "proof of life")
        self._rescues = Repeated(Event.NO_RESCUE, "rescue of tasks")
        self._stop = threading.Event()
        self.thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Send one heartbeat, and start the thread."""
        self._process.cpu_percent()
        self.beat()
        self.thread.start()

    def stop(self) -> None:
        """Stop the thread, and report that this process has stopped."""
        self._stop.set()
        self.thread.join()
        self._show(WorkerStatus.STOPPED)

    def drain(self) -> None:
        """Report from now on that this process claims no more tasks."""
        self._show(WorkerStatus.DRAINING)

    def beat(self) -> None:
        """Write one heartbeat, with the memory and CPU of this process."""
        beat = WorkerBeat(
            worker_id=self._name,
            status=self._status,
            current_task_id=self._current_task(),
            memory_mb=self._process.memory_info().rss / 1e6,
            cpu_percent=self._process.cpu_percent(),
            hostname=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
        )
        self._store.beat(self._complete(beat))

    def _show(self, status: WorkerStatus) -> None:
        self._status = status
        self._try(self.beat, self._beats)

    def _run(self) -> None:
        since_beat = 0.0
        while True:
            pause = RESCUE_SECONDS * random.uniform(0.8, 1.2)  # noqa: S311 (not all at once)
            if self._stop.wait(pause):
                return
            self._try(self._rescue, self._rescues)
            since_beat += pause
            if since_beat >= BEAT_SECONDS:
                self._try(self.beat, self._beats)
                since_beat = 0.0

    def _rescue(self) -> None:
        count = self._store.rescue_tasks()
        if count:
            log.warning(Event.RESCUED, count=count)
            self._rescued()

    @staticmethod
    def _try(step: Callable[[], None], outcome: Repeated) -> None:
        try:
            step()
        except ChromasyncError as error:
            outcome.failed(str(error))
        else:
            outcome.succeeded()
