"""Folders as different versions of Chroma leave them: the steps of their database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from chromasync.folders.database import DATABASE, FIRST_OF_1_0, Steps

EARLY: Steps = frozenset({("metadb", 4), ("sysdb", 9)})
FIRST = EARLY | {FIRST_OF_1_0}
LATEST = FIRST | {("metadb", 6)}


def write_steps(folder: Path, steps: Steps) -> None:
    with closing(sqlite3.connect(folder / DATABASE)) as database, database:
        database.execute("CREATE TABLE migrations (dir, version, filename, sql, hash)")
        rows = [(part, number, "", "", "") for part, number in steps]
        database.executemany("INSERT INTO migrations VALUES (?, ?, ?, ?, ?)", rows)
