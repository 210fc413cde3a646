"""The service in a thread of the program around it: what `chromasync run` is as a process.

    with chromasync.Service(primary, replica, store="state.db", interval=60) as service:
        ...                       # the service runs
        service.status()
                                  # here it has drained and ended; its error is raised

The thread ends by `stop`, or by an error that a repetition cannot fix. It never ends the process,
and handles no signal. If the program ends without `stop`, the service ends as if it was killed:
nothing is lost, and the next one goes on where it was.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self, Unpack

from chromasync.api import opened
from chromasync.config.from_keywords import Place, settings_from
from chromasync.keywords import SettingKeywords
from chromasync.reach import refuse_folders
from chromasync.reports import StatusSnapshot


class Service:
    """Mirrors in a thread, a cycle every `interval` seconds, until it is stopped.

    `distributed` and `coordinator` set the role, as SYNC_DISTRIBUTED and SYNC_COORDINATOR do for a
    process. The status page is served if `http_port` is given. All methods may be called from any
    thread. A service runs once; make another one to run again.

    Args:
        primary: the URL of the server that is read.
        replica: the URL of the server that is kept identical.
        store: the state store: a SQLite file, or a URL such as `postgresql://…`.
        environment: settings that are not given come from the environment and `chromasync.toml`.

    Raises:
        SettingsError: a keyword or a value is wrong, or a server is missing.
    """

    def __init__(
        self,
        primary: Place | None = None,
        replica: Place | None = None,
        *,
        store: Place | None = None,
        environment: bool = False,
        **settings: Unpack[SettingKeywords],
    ) -> None:
        self._settings = settings_from(
            primary, replica, store, dict(settings), environment=environment
        )
        self._settings.check_role()
        refuse_folders(self._settings, "run")
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="chromasync", daemon=True)

    def start(self) -> Self:
        """Begin; returns at once.

        Raises:
            RuntimeError: it was started before.
        """
        self._thread.start()
        return self

    def stop(self, timeout: float | None = None) -> bool:
        """Ask it to end, and wait until it has finished or handed back what it had begun.

        That takes at most 25 seconds, however slow the servers are.

        Args:
            timeout: longest wait in seconds; 0 only asks.

        Returns:
            Whether it has ended.

        Raises:
            ChromasyncError: the error that ended it earlier.
        """
        self._stop.set()
        return self.join(timeout)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until it has ended, for at most `timeout` seconds; returns whether it has.

        Raises:
            ChromasyncError: the error that ended it.
            RuntimeError: it was never started.
        """
        self._thread.join(timeout)
        if self._thread.is_alive():
            return False
        if self._error is not None:
            raise self._error
        return True

    def is_running(self) -> bool:
        """Whether the thread is alive; False before the start, and after the end for any reason."""
        return self._thread.is_alive()

    def status(self) -> StatusSnapshot:
        """What the state store knows now; no server is asked.

        Raises:
            StoreError: the state store cannot be used.
        """
        with opened(self._settings) as app:
            return app.status()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        # an error of the block is on its way already, and says more to whoever reads it
        if error is None:
            self.join()

    def _run(self) -> None:
        try:
            with opened(self._settings) as app:
                app.run(self._stop)
        except BaseException as error:  # noqa: BLE001 -- whoever joins gets it
            self._error = error
