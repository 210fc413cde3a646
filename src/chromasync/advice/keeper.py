"""Keeps the recorded recommendation up to date, on a thread beside the service.

Only the roles that plan do this. An error is logged, and never ends the service.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

from chromasync.advice_reports import AdviceReport
from chromasync.config import Role, Settings
from chromasync.errors import ChromasyncError
from chromasync.events import Event
from chromasync.repeated import Repeated

EVERY_SECONDS = 600.0
PATIENCE_SECONDS = 5.0
"""The end of the service waits no longer for advice in the making."""


class AdviceKeeper:
    """Asks for advice from time to time, within a `with` block.

    Args:
        advise: makes the advice, and records it if it has changed.
    """

    def __init__(self, settings: Settings, advise: Callable[[], AdviceReport]) -> None:
        self._plans = settings.role is not Role.WORKER
        self._advise = advise
        self._outcome = Repeated(Event.NO_ADVICE, "advice")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="advice", daemon=True)

    def __enter__(self) -> Self:
        if self._plans:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._plans:
            self._thread.join(PATIENCE_SECONDS)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_SECONDS):
            self.look()

    def look(self) -> None:
        """Make the advice once."""
        try:
            self._advise()
        except ChromasyncError as error:
            self._outcome.failed(str(error))
        else:
            self._outcome.succeeded()
