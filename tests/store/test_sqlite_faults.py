"""SQLite gone wrong: bad places, foreign and damaged files, full disks, locks."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from chromasync.errors import (
    ChromasyncError,
    SettingsError,
    StoreError,
    StoreUnavailable,
    StoreUnusable,
)
from chromasync.model import Hold, HoldKind, TaskCounts
from chromasync.store import SqlStore, open_store
from chromasync.store.sqlite import SqliteBackend
from tests.store.samples import (
    COLLECTION,
    beat_of,
    chunk_of,
    claim,
    claim_one,
    filled,
    look,
    planned,
    result_for,
)
from tests.support.ledgers import mirror_of


def complaint(error: ChromasyncError) -> str:
    """The error's text, which must say what to do next and name no internals."""
    assert error.hint
    assert "sqlalche.me" not in str(error)
    assert "[SQL" not in str(error)
    return str(error)


def refused(path: Path) -> str:
    """Opening this file must fail for good and leave its bytes alone; returns the complaint."""
    before = path.read_bytes()
    with pytest.raises(StoreUnusable) as caught:
        open_store(path)
    assert path.read_bytes() == before
    assert "left as it is" in str(caught.value)
    return complaint(caught.value)


# ---- where the file may be --------------------------------------------------------------------


@pytest.mark.parametrize("form", ["{}", "sqlite:///{}"])
def test_a_store_is_opened_by_path_or_url(tmp_path: Path, form: str) -> None:
    """Missing folders are made; blanks, percent signs and umlauts are part of the name."""
    path = tmp_path / "new" / "fo lder" / "50%25 ä?.db"
    open_store(form.format(path)).close()
    assert path.is_file()


def test_a_relative_url_is_relative_to_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three slashes are relative, four are absolute, as everywhere."""
    monkeypatch.chdir(tmp_path)
    open_store("sqlite:///data/state.db").close()
    assert (tmp_path / "data" / "state.db").is_file()


@pytest.mark.parametrize(
    "place",
    [
        "postgresql://user:secret@host:port/db",
        "postgres://user:secret@[host/db",
        "postgresql+psycopg://user:secret%@host/db",
        "postgresql+asyncpg://user:secret@host/db",
        "mysql://user:secret@host/db",
        "sqlite://",
        "sqlite:///:memory:",
        ":memory:",
        "",
        "a\0b",
    ],
)
def test_a_place_that_cannot_hold_a_store_is_a_setting_to_correct(place: str) -> None:
    """The complaint says what is allowed and does not repeat a password."""
    with pytest.raises(SettingsError) as caught:
        open_store(place)
    assert "secret" not in complaint(caught.value)
    assert "DATABASE_URL" in str(caught.value)


@pytest.mark.parametrize("bad", ["folder", "below a file", "/proc/nowhere/state.db"])
def test_an_unwritable_place_is_a_setting_to_correct(tmp_path: Path, bad: str) -> None:
    """A folder, a path through a file, a folder that nobody can write to."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    places = {"folder": tmp_path / "folder", "below a file": tmp_path / "file" / "state.db"}
    with pytest.raises(SettingsError) as caught:
        open_store(places.get(bad, Path(bad)))
    assert "SYNC_DATA_DIR" in complaint(caught.value)


# ---- files that are not our state -------------------------------------------------------------


def test_a_file_that_is_no_database_is_left_alone(path: Path) -> None:
    """Someone's text file is neither opened nor overwritten."""
    path.write_text("dear diary, " * 1000)
    assert "is not a database" in refused(path)


def test_another_programs_database_is_left_alone(path: Path) -> None:
    """Not even its journal mode changes."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE embeddings_queue (id INTEGER)")
    assert "another program (its tables: embeddings_queue)" in refused(path)
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_an_empty_file_becomes_a_store(path: Path) -> None:
    """An empty file is an empty database."""
    path.touch()
    store = open_store(path)
    assert store.mirrors() == []
    store.close()


def test_a_newer_schema_is_refused(path: Path) -> None:
    """An older program must not write what it does not understand."""
    open_store(path).close()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("INSERT INTO sync_schema VALUES (99, 0, NULL)")
    with pytest.raises(StoreUnusable, match="version 99") as caught:
        open_store(path)
    assert "newer chromasync" in complaint(caught.value)


def test_missing_tables_are_noticed_at_once(path: Path) -> None:
    """A store that someone has emptied is refused at the start, not in the middle of a cycle."""
    open_store(path).close()
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DROP TABLE sync_tasks")
    with pytest.raises(StoreUnusable, match=r"missing.*sync_tasks") as caught:
        open_store(path)
    assert complaint(caught.value)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 3]


def no_header(data: bytes) -> bytes:
    return bytes(100) + data[100:]


def bad_schema_page(data: bytes) -> bytes:
    return data[:100] + b"\xff" * 3996 + data[4096:]


def bad_pages(data: bytes) -> bytes:
    return data[:4096] + b"\xa5" * (len(data) - 4096)


def zeroed_tail(data: bytes) -> bytes:
    return data[:8192] + bytes(len(data) - 8192)


@pytest.mark.parametrize("damage", [cut, no_header, bad_schema_page, bad_pages, zeroed_tail])
def test_a_damaged_file_is_an_error_of_ours_and_is_not_touched(
    path: Path, damage: Callable[[bytes], bytes]
) -> None:
    """Cut off, overwritten, zeroed: opening or using it says so and repairs nothing by itself."""
    broken = damage(filled(path))
    path.write_bytes(broken)

    def use() -> None:
        store = open_store(path)
        try:
            for read in (store.mirrors, store.holds, store.workers, store.quarantined):
                read()
            for head in store.chunk_heads(COLLECTION):
                store.load_chunk(head.id)
            claim(store, 100)
        finally:
            store.close()

    with pytest.raises(StoreUnusable) as caught:
        use()
    assert complaint(caught.value)
    assert path.read_bytes() == broken


def test_a_value_nobody_wrote_is_an_error_of_ours(file_store: SqlStore, path: Path) -> None:
    """A hand-edited state that means nothing does not come out as a raw exception."""
    file_store.save_mirror(mirror_of(COLLECTION, "t", "d", "n"))
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE sync_mirrors SET sync_status = 'happy'")
    with pytest.raises(StoreUnusable, match="happy"):
        file_store.mirrors()


# ---- full disks, locks, lost files ------------------------------------------------------------


def limit_pages(store: SqlStore, more: int) -> Callable[[], None]:
    """Let the file grow by `more` pages only, like a disk that is full; returns the cure."""
    engine = store._backend.engine
    allowed = [0]

    def restrict(connection: Any, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count={allowed[0]}")

    ((pages,),) = look(store, text("PRAGMA page_count"))
    allowed[0] = pages + more
    event.listen(engine, "checkout", restrict)

    def cure() -> None:
        allowed[0] = 1_000_000_000

    return cure


def test_a_full_disk_passes_without_a_trace(file_store: SqlStore) -> None:
    """What did not fit was not recorded at all; once there is room, the same step goes through."""
    cycle = planned(file_store, 1)
    task = claim_one(file_store)
    big = [chunk_of([f"{n}-{os.urandom(20).hex()}" for n in range(1000)]) for _ in range(20)]
    result = result_for(file_store, task)
    cure = limit_pages(file_store, 5)
    with pytest.raises(StoreUnavailable, match="disk is full") as caught:
        file_store.save_chunks(big)
    assert "not recorded" in complaint(caught.value)
    assert len(file_store.chunk_heads(COLLECTION)) == 1
    assert file_store.complete_task(task, result)
    cure()
    assert len(file_store.save_chunks(big)) == 20
    assert file_store.task_counts(cycle.id) == TaskCounts(completed=1)


ANY_WRITE: dict[str, Callable[[SqlStore], object]] = {
    "save_mirror": lambda s: s.save_mirror(mirror_of(COLLECTION, "t", "d", "n")),
    "take_lead": lambda s: s.take_lead("one", 60),
    "open_cycle": lambda s: s.open_cycle(),
    "claim_tasks": lambda s: claim(s, 1),
    "save_hold": lambda s: s.save_hold(Hold(COLLECTION, "n", HoldKind.DROP, 1, "r")),
    "beat": lambda s: s.beat(beat_of()),
    "rescue_tasks": lambda s: s.rescue_tasks(),
    "prune_history": lambda s: s.prune_history(keep_seconds=1, keep_tasks=1),
}


@pytest.mark.parametrize("write", ANY_WRITE.values(), ids=ANY_WRITE)
def test_a_foreign_lock_is_waited_for_and_then_reported(
    path: Path, write: Callable[[SqlStore], object]
) -> None:
    """Writers give up with a sentence that names the cause; readers are not disturbed at all."""
    open_store(path).close()
    store = SqlStore(SqliteBackend(path, busy_seconds=0.05))
    planned(store, 1)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="locked") as caught:
            write(store)
        assert complaint(caught.value)
        assert len(store.chunk_heads(COLLECTION)) == 1
        other.execute("ROLLBACK")
    write(store)
    store.close()


def test_a_lock_at_the_very_start_is_waited_for(path: Path) -> None:
    """Another starter that holds the file while we switch on the log is only a delay."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN EXCLUSIVE")
        started = []
        backend_waits = subprocess.Popen(
            [sys.executable, "-c", _OPEN, str(path)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert backend_waits.stdout is not None
            started.append(backend_waits.stdout.readline())
            other.execute("ROLLBACK")
            assert backend_waits.communicate(timeout=60)[0] == "opened\n"
        finally:
            backend_waits.kill()
            backend_waits.communicate()
    assert started == ["opening\n"]


_OPEN = """
import sys
from chromasync.store import open_store
print("opening", flush=True)
open_store(sys.argv[1]).close()
print("opened")
"""


def fabricated(code: int) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("as the driver says it")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreUnavailable),
        (sqlite3.SQLITE_LOCKED, StoreUnavailable),
        (sqlite3.SQLITE_FULL, StoreUnavailable),
        (sqlite3.SQLITE_IOERR_WRITE, StoreUnavailable),
        (sqlite3.SQLITE_READONLY_DBMOVED, StoreUnavailable),
        (sqlite3.SQLITE_CANTOPEN, StoreUnavailable),
        (sqlite3.SQLITE_CORRUPT_VTAB, StoreUnusable),
        (sqlite3.SQLITE_NOTADB, StoreUnusable),
        (sqlite3.SQLITE_CONSTRAINT_CHECK, StoreUnusable),
    ],
)
def test_every_result_code_has_its_place_in_our_tree(
    file_store: SqlStore, code: int, expected: type[StoreError]
) -> None:
    """Extended codes count as what they extend."""
    error = file_store._backend.translate(fabricated(code))
    assert type(error) is expected
    assert complaint(error)


def test_an_error_of_the_operating_system_is_transient(file_store: SqlStore) -> None:
    """A disk that answers with an error may answer better later."""
    error = file_store._backend.translate(OSError(28, "No space left on device"))
    assert isinstance(error, StoreUnavailable)
    assert "No space left on device" in complaint(error)


def test_a_dropped_table_in_mid_run_is_an_error_of_ours(file_store: SqlStore, path: Path) -> None:
    """Someone tampers while we run: no raw exception, nothing half written."""
    planned(file_store, 1)
    task = claim_one(file_store)
    result = result_for(file_store, task)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("DROP TABLE sync_quarantine")
    with pytest.raises(StoreUnusable, match="sync_quarantine"):
        file_store.complete_task(task, result)
    assert look(file_store, text("SELECT task_status FROM sync_tasks")) == [("processing",)]
