"""SQLite: one file on a local disk, many threads and processes.

Writers begin IMMEDIATE. Otherwise a transaction that reads first and then writes would fail at once
if another one wrote in between. Readers never wait: the journal is a write-ahead log. The threads
of one process wait on a lock of their own, because SQLite's waiting is unfair. With
`synchronous=NORMAL`, a power failure may lose the last commits, but not consistency. The ledger can
be built anew.
"""

from __future__ import annotations

import errno
import os
import random
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

from sqlalchemy import URL, Connection, Engine, QueuePool, Table, create_engine, event, inspect
from sqlalchemy.dialects import sqlite

from chromasync.errors import SettingsError, StoreError, StoreUnavailable, StoreUnusable
from chromasync.processes import has_ended
from chromasync.store.core import WRITES, translated
from chromasync.store.schema import schema_versions

BUSY_SECONDS = 30.0
_ROOM_BYTES = 2**18
_UNTOUCHED = "The file was left as it is."
_ELSEWHERE = "Name another file in DATABASE_URL, or another folder in SYNC_DATA_DIR."
_REBUILD = "Move it away: a new one is built by comparing both sides, without a new copy."
_DEFECT = "This is a defect in chromasync; please report it."
_PRAGMAS = (
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA secure_delete=OFF",
    "PRAGMA journal_size_limit=67108864",
)

_NOT_WRITABLE = ("It cannot be opened for writing", "Check its permissions")
_PASSING = {
    sqlite3.SQLITE_FULL: ("The disk is full", "Free some space"),
    sqlite3.SQLITE_IOERR: ("Reading or writing failed", "Check the disk and its space"),
    sqlite3.SQLITE_CANTOPEN: _NOT_WRITABLE,
    sqlite3.SQLITE_PERM: _NOT_WRITABLE,
    sqlite3.SQLITE_READONLY: _NOT_WRITABLE,
}
_LASTING = {
    sqlite3.SQLITE_CORRUPT: ("is corrupted", _REBUILD),
    sqlite3.SQLITE_NOTADB: ("is not a database", _ELSEWHERE),
}


class SqliteBackend:
    """`Backend` for SQLite.

    Args:
        path: the state file; its folder is created when missing.
        busy_seconds: how long to wait for the write of another process.
        stands_for: the file to name in messages instead of this one.

    Raises:
        SettingsError: the path cannot hold a state file.
        StoreUnusable: the file is not a database, or another program's.
        StoreUnavailable: it is locked, or the disk fails.
    """

    types: Mapping[str, str] = {
        "key": "INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT",
        "instant": "REAL",
        "double": "DOUBLE",
        "blob": "BLOB",
    }
    driver_error: type[Exception] = sqlite3.Error
    asks_first = True
    retry_seconds = 0.0

    def __init__(
        self, path: Path, busy_seconds: float = BUSY_SECONDS, stands_for: Path | None = None
    ) -> None:
        _check_path(path)
        self.place = f"the state file {stands_for or path}"
        self.engine = _create_engine(path, busy_seconds)
        self._busy_seconds = busy_seconds
        self._turn = threading.Lock()
        try:
            with translated(self):
                self._refuse_foreign()
                self._enable_wal()
        except BaseException:
            self.close()
            raise

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the writes of other threads of this process."""
        if not self._turn.acquire(timeout=self._busy_seconds):
            raise self._locked()
        try:
            yield
        finally:
            self._turn.release()

    def passes(self, error: BaseException | None) -> bool:  # noqa: ARG002 (the seam's signature)
        """Never: SQLite has waited for the lock already."""
        return False

    def insert(self, table: Table) -> sqlite.Insert:
        """An INSERT that understands ON CONFLICT."""
        return sqlite.insert(table)

    def is_gone(self, holder: str) -> bool:
        """Whether `holder` (`host:pid:createtime:uuid`) names an ended process of this host."""
        return has_ended(holder)

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """A transaction that writes; SQLite allows only one at a time."""
        with self.turn(), self.engine.execution_options(**{WRITES: True}).begin() as tx:
            yield tx

    def connections(self) -> None:
        """None: a file has no limit of connections."""

    def urgent(self) -> SqliteBackend:
        """Itself: a second connection would wait for the same lock."""
        return self

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def translate(self, error: Exception) -> StoreError:
        """Our error for `error`, by SQLite's result code."""
        driver = getattr(error, "orig", None) or error
        if isinstance(driver, OSError):
            return self._unavailable(driver.strerror or str(driver), "Check the disk")
        code = getattr(driver, "sqlite_errorcode", -1) & 0xFF
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return self._locked()
        if code in _PASSING:
            return self._unavailable(*_PASSING[code])
        hint = _REBUILD if isinstance(driver, (sqlite3.Error, ValueError)) else _DEFECT
        return self._unusable(*_LASTING.get(code, (f"raised an unexpected error ({driver})", hint)))

    def _locked(self) -> StoreUnavailable:
        return self._unavailable(
            f"Another program has kept it locked for {self._busy_seconds:g} seconds",
            "Look for a database tool with an open transaction",
        )

    def _unavailable(self, what: str, hint: str) -> StoreUnavailable:
        return StoreUnavailable(
            f"{what}: {self.place}.",
            untouched="This step was not recorded.",
            hint=f"{hint}; work resumes by itself.",
        )

    def _unusable(self, what: str, hint: str) -> StoreUnusable:
        return StoreUnusable(
            f"{self.place[0].upper()}{self.place[1:]} {what}.", untouched=_UNTOUCHED, hint=hint
        )

    def _refuse_foreign(self) -> None:
        with self.engine.begin() as tx:
            names = inspect(tx).get_table_names()
        if names and schema_versions.name not in names:
            shown = ", ".join(names[:3])
            raise self._unusable(f"belongs to another program (its tables: {shown})", _ELSEWHERE)

    def _enable_wal(self) -> None:
        """Switch to the write-ahead log; retried, because the switch does not wait for locks."""
        deadline = time.monotonic() + self._busy_seconds
        while True:
            try:
                mode = self._journal_mode()
                break
            except sqlite3.OperationalError as error:
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.005, 0.05))  # noqa: S311 (jitter)
        if mode != "wal":
            raise SettingsError(
                f"SQLite cannot keep a write-ahead log for {self.place}.",
                untouched=_UNTOUCHED,
                hint="Put the state file on a local disk (DATABASE_URL or SYNC_DATA_DIR).",
            )

    def _journal_mode(self) -> str:
        pooled = self.engine.raw_connection()
        try:
            cursor = pooled.cursor()
            cursor.execute("PRAGMA journal_mode=WAL")
            return str(*cursor.fetchone() or ("",))
        finally:
            pooled.close()


def _create_engine(path: Path, busy_seconds: float) -> Engine:
    engine = create_engine(
        URL.create("sqlite+pysqlite", database=str(path)),
        connect_args={
            "isolation_level": None,
            "timeout": busy_seconds,
            "check_same_thread": False,
        },
        poolclass=QueuePool,
        max_overflow=-1,
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: Any, _record: object) -> None:
    for pragma in _PRAGMAS:
        connection.execute(pragma)


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _check_path(path: Path) -> None:
    problem = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            problem = "it is a folder"
        elif not os.access(path if path.exists() else path.parent, os.W_OK):
            problem = "permission denied"
    except OSError as error:
        problem = error.strerror or str(error)
    if problem:
        raise _no_place(path, problem)


@contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A file for a rehearsal: `path` itself if it exists, otherwise a temporary file beside it.

    SQLite never writes a transaction to the disk that it rolls back. So the free space is tested
    with another temporary file. Such a test also finds a read-only file system, which permissions
    do not show, and it works for root.

    Raises:
        SettingsError: no file can be created there.
        StoreUnavailable: the disk is full.
    """
    with ExitStack() as stack:
        try:
            folder = next(place for place in path.absolute().parents if place.exists())
            with TemporaryFile(dir=folder, buffering=0) as file:
                file.write(bytes(_ROOM_BYTES))
            is_there = path.exists()
            if not is_there:
                folder = Path(stack.enter_context(TemporaryDirectory(dir=folder)))
        except OSError as error:
            raise _no_room(path, error) from error
        yield path if is_there else folder / path.name


def _no_room(path: Path, error: OSError) -> SettingsError | StoreUnavailable:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return _no_place(path, error.strerror or str(error))
    return StoreUnavailable(
        f"The disk is full: the state file {path}.",
        untouched=_UNTOUCHED,
        hint="Free some space; work resumes by itself.",
    )


def _no_place(path: Path, problem: str) -> SettingsError:
    return SettingsError(
        f"There can be no state file at {path}: {problem}.",
        untouched="Nothing was started.",
        hint="Name a writable place in SYNC_DATA_DIR or DATABASE_URL.",
    )
