"""Delivery: the thread that sends to one receiver, so that a slow one delays nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from chromasync.alerts.messages import Message
from chromasync.alerts.receivers import Receiver
from chromasync.alerts.state import Due
from chromasync.errors import AlertNotTaken
from chromasync.events import Event
from chromasync.logs import get_logger
from chromasync.repeated import Repeated

FIRST_PAUSE_SECONDS = 15.0
LONGEST_PAUSE_SECONDS = 900.0
LONGEST_RETRY_AFTER_SECONDS = 3600.0

log = get_logger()


class Delivery:
    """Carries one message at a time; after a failure it rests for a while.

    It keeps no queue: after a failure the message is made anew, so it says what is true then.

    Args:
        receiver: where it carries messages to.
        returned: called when a message was taken.
        first_pause_seconds: rest after a failure; it doubles with each further one.
    """

    def __init__(
        self,
        receiver: Receiver,
        returned: Callable[[], None],
        first_pause_seconds: float = FIRST_PAUSE_SECONDS,
    ) -> None:
        self.receiver = receiver
        self._returned = returned
        self._first_pause = first_pause_seconds
        self._pause = first_pause_seconds
        self._rests_until = 0.0
        self._in_hand: Due | None = None
        self._taken = False
        self._thread: threading.Thread | None = None
        self._outcome = Repeated(Event.ALERT_NOT_TAKEN, f"alerts to the {receiver.place}")

    @property
    def is_free(self) -> bool:
        """Whether it can carry a message now."""
        return self._in_hand is None and time.monotonic() >= self._rests_until

    @property
    def taken(self) -> Due | None:
        """What the receiver took, until `put_down`."""
        return self._in_hand if self._taken else None

    def carry(self, due: Due, message: Message) -> None:
        """Send a message on a thread of its own."""
        self._in_hand = due
        name = f"alerts-{self.receiver.name}"
        self._thread = threading.Thread(
            target=self._send, args=(due, message), name=name, daemon=True
        )
        self._thread.start()

    def put_down(self) -> None:
        """Forget the message that was taken."""
        self._taken, self._in_hand = False, None

    def wait(self, seconds: float) -> None:
        """Wait for the end of the message that is being sent."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _send(self, due: Due, message: Message) -> None:
        try:
            self.receiver.send(message)
        except AlertNotTaken as error:
            self._rest(error)
        except Exception:
            log.exception(Event.ALERT_FAILED, receiver=self.receiver.place)
            self._rest(None)
        else:
            self._pause = self._first_pause
            self._taken = True
            self._outcome.succeeded()
            log.info(
                Event.ALERT_SENT,
                kind=due.kind.value,
                phase=due.phase.value,
                subjects=len(due.alerts),
                receiver=self.receiver.place,
            )
            self._returned()

    def _rest(self, error: AlertNotTaken | None) -> None:
        asked = (error.retry_after_seconds if error else None) or 0.0
        pause = max(self._pause, min(asked, LONGEST_RETRY_AFTER_SECONDS))
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        self._rests_until = time.monotonic() + pause
        if error is not None:
            self._outcome.failed(str(error), retry_in_seconds=pause)
        self._in_hand = None
