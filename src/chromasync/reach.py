"""How the program reaches both sides: servers, folders, and the primary's pace."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from chromasync.chroma import ChromaReader, ChromaWriter, Connection, Pace, Pacer
from chromasync.config import Role, Settings, folder_of
from chromasync.errors import AnotherInstance, FolderError, SettingsError
from chromasync.folders import Use, open_folder
from chromasync.folders.server import LocalServerError
from chromasync.guard import refuse_equal_urls
from chromasync.model import Side, WorkerStatus
from chromasync.ports import Store
from chromasync.processes import has_ended
from chromasync.shares import RESERVE


def primary_pacer(settings: Settings) -> Pacer:
    """The pace of requests to the primary, for commands that keep no share of the limit.

    Nobody else waits for the private server of a folder, so it may be asked without a pause.
    """
    is_private = folder_of(settings.primary_url) is not None
    pacer = Pacer(Pace(1.0 if is_private else settings.sync_primary_share))
    if settings.sync_max_requests_per_second is not None:
        pacer.allow(RESERVE * settings.sync_max_requests_per_second)
    return pacer


def open_servers(
    settings: Settings, connect: Callable[[Side], Connection], stack: ExitStack
) -> tuple[ChromaReader, ChromaWriter]:
    """Primary (read-only) and replica under its own names; `stack` closes them.

    Raises:
        GuardRefusal: PRIMARY_URL and REPLICA_URL are the same.
        SettingsError: one of them is not set.
    """
    refuse_equal_urls(settings)
    primary = stack.enter_context(ChromaReader(connect(Side.PRIMARY), primary_pacer(settings)))
    return primary, stack.enter_context(ChromaWriter(connect(Side.REPLICA)))


def connection_of(settings: Settings, side: Side) -> Connection:
    """The connection settings of `side`; raises SettingsError when its URL is not set."""
    server = settings.server(side)
    return Connection(
        side=side,
        url=server.url,
        headers=server.headers,
        verify=server.tls_verify,
        ca_file=server.ca_file,
        client_cert=server.client_cert,
        timeout_seconds=server.timeout_seconds,
    )


# ---- folders ---------------------------------------------------------------------------------


class Places:
    """The connections to both sides; a folder gets its private server when it is first asked for.

    Attributes:
        replica: what the command does with a folder as the replica.
        note_away: called if the primary's folder cannot be opened. The folder may come back stale,
            as a server may that was away.
    """

    def __init__(self, settings: Settings, stack: ExitStack) -> None:
        self.replica = Use.LOOK
        self.note_away: Callable[[], object] = lambda: None
        self._settings = settings
        self._stack = stack
        self._urls: dict[Side, str] = {}

    def connection(self, side: Side) -> Connection:
        """The connection settings of a side.

        Raises:
            SettingsError: its URL is not set, or the state file would be in a folder of Chroma's.
            GuardRefusal: both sides are one folder.
            FolderError, FolderInUse, LocalServerError: its folder cannot be opened.
        """
        usual = connection_of(self._settings, side)
        folder = folder_of(usual.url)
        if folder is None:
            return usual
        if side not in self._urls:
            refuse_equal_urls(self._settings)
            _refuse_state_inside(self._settings)
            self._urls[side] = self._open(side, folder)
        return _private(usual, folder, self._urls[side])

    def _open(self, side: Side, folder: Path) -> str:
        use = self.replica if side is Side.REPLICA else Use.READ
        try:
            return self._stack.enter_context(open_folder(folder, use))
        except (FolderError, LocalServerError):
            if side is Side.PRIMARY:
                self.note_away()
            raise


def _private(usual: Connection, folder: Path, url: str) -> Connection:
    """The connection to the private server of a folder; messages name the folder.

    Credentials and certificates are for the server of another day, and stay here.
    """
    return replace(
        usual, url=url, address=str(folder), headers={}, verify=True, ca_file=None, client_cert=None
    )


def refuse_folders(settings: Settings, command: str) -> None:
    """Raise if one of the sides is a folder.

    Raises:
        SettingsError: one is, and `command` needs servers.
    """
    for side in Side:
        folder = folder_of(getattr(settings, f"{side}_url"))
        if folder is not None:
            raise SettingsError(
                f"{side.upper()}_URL is the folder {folder}, and `chromasync {command}` needs a "
                "server.",
                untouched="Nothing was started.",
                hint="A folder is opened for one command: sync, plan, verify or restore. Start a "
                f"server on it (`chroma run --path {folder}`) and give the server's URL"
                f"{_and_state(settings)}.",
            )


def _and_state(settings: Settings) -> str:
    """What keeps the state of a pair with a folder, when a server takes the folder's place."""
    state = settings.store.path
    if settings.database_url is not None or state is None or not state.exists():
        return ""
    return f", and --set DATABASE_URL={settings.store.url} to go on with its state"


def _refuse_state_inside(settings: Settings) -> None:
    """Raise if this program would write its state file into a folder of Chroma's."""
    state = settings.store.path
    for url in (settings.primary_url, settings.replica_url):
        folder = folder_of(url)
        if folder and state and state.resolve().is_relative_to(folder):
            raise SettingsError(
                f"The state file {settings.store.path} would be inside the folder {folder}, which "
                "is Chroma's alone.",
                untouched="Nothing was started.",
                hint="Run the command in another folder, or give --data-dir.",
            )


def refuse_shared_folders(settings: Settings, open_store: Callable[[], Store]) -> None:
    """Raise if other processes would do a part of the work, because they cannot reach a folder.

    Raises:
        SettingsError: the settings share the work among processes, or the state file would be in
            a folder of Chroma's.
        AnotherInstance: workers of other settings are active on the same state store.
    """
    if not _has_folder(settings):
        return
    _refuse_state_inside(settings)
    refuse_shared_role(settings)
    others = [w for w in open_store().workers() if w.status is WorkerStatus.ACTIVE]
    if any(w.role != Role.SINGLE and not has_ended(w.worker_id) for w in others):
        raise _led_by_others()


def refuse_shared_role(settings: Settings) -> None:
    """Raise if the settings share the work on a folder among processes.

    Raises:
        SettingsError: they do.
    """
    if _has_folder(settings) and settings.role is not Role.SINGLE:
        raise SettingsError(
            "With SYNC_DISTRIBUTED, other processes take part in the work, and they cannot reach a "
            "folder.",
            untouched="Nothing was started.",
            hint="Give --set SYNC_DISTRIBUTED=false, and no DATABASE_URL.",
        )


def refuse_led_folders(settings: Settings) -> None:
    """Raise if one of the sides is a folder: the process that leads cannot run this cycle.

    Raises:
        AnotherInstance: one of them is.
    """
    if _has_folder(settings):
        raise _led_by_others()


def _has_folder(settings: Settings) -> bool:
    return any(folder_of(url) for url in (settings.primary_url, settings.replica_url))


def _led_by_others() -> AnotherInstance:
    return AnotherInstance(
        "Another process works on this state store, with servers of its own and without the "
        "folder.",
        untouched="Nothing was changed.",
        hint="Leave DATABASE_URL out of this command: then the replica gets a state file of its "
        "own.",
    )
