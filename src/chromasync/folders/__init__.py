"""Opens a folder of Chroma's for one command, by a private server on it.

    Chroma is installed → the folder is one of Chroma's, or may be made → no other command has it
    → no other process has it open → its Chroma is not another one → the server is started

The server listens on 127.0.0.1 alone, and ends with the command. What the folder holds is written
by Chroma itself; this program adds no file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from chromasync.errors import FolderError
from chromasync.events import Event
from chromasync.folders.database import DATABASE, refuse_steps, steps_by, steps_of
from chromasync.folders.in_use import kept_alone, refuse_open
from chromasync.folders.server import ChromaServer, available_command
from chromasync.logs import get_logger

PREFIX = "chromasync-"

log = get_logger()


class Use(StrEnum):
    """What a command does with a folder."""

    READ = "read"
    """It must hold data; Chroma may not upgrade it."""
    WRITE = "write"
    """It is made if it is missing; Chroma may upgrade it."""
    MAKE = "make"
    """As WRITE, but Chroma may not upgrade it: a new folder needs no upgrade."""
    LOOK = "look"
    """As READ, but a folder that is missing or empty is shown as a temporary empty one."""


@contextmanager
def open_folder(folder: Path, use: Use) -> Iterator[str]:
    """A private Chroma server on a folder; yields its URL.

    Raises:
        FolderError: the folder is none of Chroma's, or of another Chroma, or cannot be used.
        FolderInUse: another process has it open.
        LocalServerError: no Chroma is installed here, or it does not start.
    """
    with ExitStack() as stack:
        command = available_command()
        _check(folder, use)
        workspace = Path(stack.enter_context(TemporaryDirectory(prefix=PREFIX)))
        if use is Use.LOOK and not steps_of(folder):
            folder = workspace / "empty"
            folder.mkdir()
        lock = stack.enter_context(kept_alone(_made(folder, use)))
        refuse_open(folder)
        _check_steps(folder, command, use)
        server = ChromaServer(folder, command=command, workspace=workspace, held=[lock])
        yield stack.enter_context(server).url


def _made(folder: Path, use: Use) -> Path:
    """The folder, which is made if it is to be written to; never the folders above it."""
    if use in (Use.WRITE, Use.MAKE):
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise FolderError(
                f"The folder {folder} cannot be made: {error.strerror}.",
                untouched="Nothing was started.",
                hint="Check the path, and the rights of this user.",
            ) from None
    return folder


def _check(folder: Path, use: Use) -> None:
    """Raise if the folder cannot be one of Chroma's.

    Raises:
        FolderError: see the sentences.
    """
    if not folder.exists():
        _check_missing(folder, use)
        return
    if not folder.is_dir():
        raise FolderError(f"{folder} is not a folder.", hint="Give the folder of a Chroma.")
    file = folder / DATABASE
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK) or (
        file.exists() and not os.access(file, os.R_OK | os.W_OK)
    ):
        raise FolderError(
            f"This user may not write in the folder {folder}, and Chroma must, even to read.",
            hint="Change its rights, or copy it and give the copy.",
        )
    if file.is_file():
        return
    others = sorted(one.name for one in folder.iterdir() if not one.name.startswith("."))
    if others or use is Use.READ:
        raise FolderError(
            f"The folder {folder} has no {DATABASE}, so it is no folder of Chroma's.",
            hint="Give the folder that Chroma writes to (`chroma run --path`, PersistentClient)."
            if use is Use.READ
            else "Give a folder of Chroma's, an empty one, or a new one.",
        )


def _check_missing(folder: Path, use: Use) -> None:
    if use is Use.READ:
        raise FolderError(
            f"There is no folder {folder}.",
            untouched="Nothing was started.",
            hint="Check the path; a folder that is read is never made.",
        )
    if not folder.parent.is_dir():
        raise FolderError(
            f"There is no folder {folder.parent}, in which {folder.name} could be made.",
            untouched="Nothing was started.",
            hint="Check the path and whether its disk is mounted, or make that folder.",
        )


def _check_steps(folder: Path, command: list[str], use: Use) -> None:
    there = steps_of(folder)
    if not there:
        if use is Use.READ:
            raise FolderError(
                f"{folder / DATABASE} has no data of Chroma's.", hint="Check the path."
            )
        return
    ours = steps_by(tuple(command))
    refuse_steps(folder, there, ours, may_upgrade=use is Use.WRITE)
    if ours - there:
        log.warning(Event.FOLDER_UPGRADED, folder=str(folder))
