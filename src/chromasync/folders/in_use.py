"""Keeps a folder for one process: refuses one that is open elsewhere, and locks it for our own.

Chroma takes no lock on a folder, and two processes on one folder lose records. So before a folder
is opened, the open files of all processes are compared with its files. A Chroma keeps the files of
an index open as long as the index is in its memory. It closes its idle connections to the database
after 10 to 20 minutes, so one that is idle and has no index in memory is not seen. Processes of
other users and of other machines cannot be looked into either.

Two commands of this program exclude each other by a lock of the system on the folder itself, which
leaves no file there. The private server inherits the lock, so it lasts until that server has ended,
even if the command is killed.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import psutil

from chromasync.errors import FolderError, FolderInUse

LOCK_SECONDS = 15.0
"""Longest wait for the lock; the server of a killed command ends within this time."""
NAP_SECONDS = 0.1
SHOWN_PROCESSES = 3
PROGRAM, USUAL_FOLDER = "chroma", "chroma"
"""`chroma run` without a path serves this folder of its working folder."""

_DESCRIPTORS = "/proc/{pid}/fd"


@contextmanager
def kept_alone(folder: Path, patience_seconds: float = LOCK_SECONDS) -> Iterator[int]:
    """Lock the folder against other commands; yields the descriptor that holds the lock.

    Raises:
        FolderInUse: another command has the folder.
        FolderError: it cannot be read, or its file system knows no locks.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise FolderError(
            f"The folder {folder} cannot be opened: {error.strerror}.",
            hint="Check the path, and the rights of this user.",
        ) from None
    try:
        _lock(descriptor, folder, patience_seconds)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, folder: Path, patience_seconds: float) -> None:
    until = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise FolderInUse(
                    f"Another command of chromasync works on the folder {folder}.",
                    hint="Wait until it has ended, and repeat this one.",
                ) from None
            time.sleep(NAP_SECONDS)
        except OSError as error:
            raise FolderError(
                f"The folder {folder} cannot be locked: {error.strerror}.",
                hint="Its file system has no locks, which Chroma needs, too. Move the folder to "
                "another disk, or start a server on it and give the server's URL.",
            ) from None
        else:
            return


def refuse_open(folder: Path) -> None:
    """Raise if a process has a file of the folder open, or is a Chroma server on it.

    Raises:
        FolderInUse: it names the processes.
    """
    found = list(users_of(folder))
    if found:  # a process that is just ending closes its files one after another
        time.sleep(NAP_SECONDS)
        found = list(users_of(folder))
    if not found:
        return
    shown = ", ".join(found[:SHOWN_PROCESSES])
    more = f" and {len(found) - SHOWN_PROCESSES} more" if len(found) > SHOWN_PROCESSES else ""
    raise FolderInUse(
        f"The folder {folder} is open in another Chroma: {shown}{more}.",
        hint="End that process, or close its client. If it is a Chroma server, give its URL "
        "instead of the folder.",
    )


def users_of(folder: Path) -> Iterator[str]:
    """The processes that use the folder, as far as this user may look: name and id."""
    files = set(_files_in(folder))
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if _has_open(process, files) or _serves(process, folder):
                ours = process.pid == os.getpid()
                yield f"{'this process' if ours else process.name()} ({process.pid})"


def _files_in(folder: Path) -> Iterator[tuple[int, int]]:
    """Each file below the folder, by device and number: a file may have several paths."""
    for path in folder.rglob("*"):
        with suppress(OSError):
            if path.is_file():
                found = path.stat()
                yield found.st_dev, found.st_ino


def _has_open(process: psutil.Process, files: set[tuple[int, int]]) -> bool:
    for path in _open_in(process):
        with suppress(OSError):
            found = os.stat(path)  # noqa: PTH116 -- follows the link of a descriptor
            if (found.st_dev, found.st_ino) in files:
                return True
    return False


def _open_in(process: psutil.Process) -> Iterable[str]:
    """A path to each open file of a process; none if this user may not look into it.

    On Linux these are links to the files themselves. They lead there even if the process runs in a
    container, where the folder has another path.
    """
    place = _DESCRIPTORS.format(pid=process.pid)
    if not os.path.isdir(_DESCRIPTORS.format(pid="self")):  # noqa: PTH112 -- as above
        return [one.path for one in process.open_files()]
    try:
        return [f"{place}/{number}" for number in os.listdir(place)]  # noqa: PTH208 -- as above
    except OSError:
        return []


def _serves(process: psutil.Process, folder: Path) -> bool:
    """Whether a process is a Chroma server that was started on the folder."""
    words = process.cmdline()
    given = [after for word, after in pairwise(words) if word == "--path"]
    given += [word.removeprefix("--path=") for word in words if word.startswith("--path=")]
    if "run" not in words:
        return False
    if not given and not any(Path(word).name == PROGRAM for word in words):
        return False
    path = Path(given[0] if given else USUAL_FOLDER)
    return (path if path.is_absolute() else Path(process.cwd(), path)).resolve() == folder
