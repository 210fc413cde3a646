"""What a folder of Chroma's says about itself: whether it is one, and which Chroma wrote it.

Chroma brings the database of a folder up to date when it starts on it, without being asked. Some
older versions then cannot open the folder any more. So the steps that were done to the database are
compared with those that the Chroma at hand would do, before it is started on the folder.

    steps of the folder           opened to read, or to look    opened to be written
    none                          refused: there is no data     opened: a new folder
    all that Chroma has           opened                        opened
    fewer                         refused                       opened, and so upgraded
    fewer than those of 1.0       refused                       refused
    others, too                   refused: Chroma is older      refused
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

from chromasync.errors import FolderError
from chromasync.folders.server import ChromaServer

DATABASE = "chroma.sqlite3"

Steps = frozenset[tuple[str, int]]
"""The steps that were done to a database, each with its part of it and its number there."""

FIRST_OF_1_0 = ("metadb", 5)
"""A step that 1.0 added; a database of 0.5 or 0.6 does not have it."""


def steps_of(folder: Path) -> Steps:
    """The steps that were done to the database of a folder; none if it has no data yet.

    The file is read as it is. Nothing is locked, and no journal is rolled back.

    Raises:
        FolderError: the file is no database of Chroma's.
    """
    file = folder / DATABASE
    if not file.is_file() or not file.stat().st_size:
        return frozenset()
    place = f"file:{quote(str(file), errors='surrogateescape')}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(place, uri=True)) as database:
            rows = database.execute("SELECT dir, version FROM migrations").fetchall()
    except sqlite3.Error as error:
        raise FolderError(
            f"{file} is no database of Chroma's: {error}.",
            hint="Give a folder that Chroma wrote.",
        ) from None
    return frozenset((str(part), int(number)) for part, number in rows)


@cache
def steps_by(command: tuple[str, ...]) -> Steps:
    """The steps of the Chroma that `command` runs, seen in a new folder; takes one start of it.

    Raises:
        LocalServerError: it does not start.
    """
    with TemporaryDirectory(prefix="chromasync-") as folder:
        with ChromaServer(Path(folder), command=command):
            pass
        return steps_of(Path(folder))


def refuse_steps(folder: Path, there: Steps, ours: Steps, *, may_upgrade: bool) -> None:
    """Raise if the Chroma at hand must not, or cannot, open the folder.

    Args:
        there: the steps of the folder, which has some.
        ours: those of the Chroma at hand.
        may_upgrade: the folder is written to, so Chroma may bring it up to date.

    Raises:
        FolderError: the folder is older or newer than the Chroma at hand.
    """
    if there - ours:
        raise FolderError(
            f"The folder {folder} was written by a newer Chroma than the one that is installed "
            "here.",
            hint="Install that version here, or start a server of it on the folder and give the "
            "server's URL.",
        )
    if FIRST_OF_1_0 not in there and FIRST_OF_1_0 in ours:
        raise FolderError(
            f"The folder {folder} was written by Chroma 0.5 or 0.6. The Chroma that is installed "
            "here would convert it, and not all that is in it may survive that.",
            hint=_own_server(folder, "chromadb==0.6.3"),
        )
    if ours - there and not may_upgrade:
        raise FolderError(
            f"The folder {folder} was written by an older Chroma. The one that is installed here "
            "would upgrade it, and the older one might not open it any more.",
            hint=_own_server(folder, "that version of chromadb"),
        )


def _own_server(folder: Path, version: str) -> str:
    return (
        f"Start its own server on it and give the server's URL: install {version} in an "
        f"environment of its own, and run there `chroma run --path {folder} --port 8100`."
    )
