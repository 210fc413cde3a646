"""A folder of Chroma's in the place of a server: the texts that mean one, and its URL.

The URL is `file://` and the real path of the folder, so a folder has one URL, however it is given.
"""

from __future__ import annotations

import os
import re
from hashlib import blake2b
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes, urlsplit

SCHEME = "file:"
LONGEST_NAME = 60

_PATH = re.compile(r"\.{1,2}(/.*)?|~?/.*", re.DOTALL)


def read_folder(text: str) -> str | None:
    """The URL of the folder that a text means; None if it means no folder.

    Raises:
        ValueError: it means a folder, and there cannot be such a folder.
    """
    if text.startswith(SCHEME):
        path = _path_in(text)
    elif _PATH.fullmatch(text):
        path = text
    else:
        return None
    if "\0" in path:
        raise ValueError("no path has a null character")
    try:
        real = Path(path).expanduser().resolve()
    except (OSError, RuntimeError) as error:  # a loop of links; no home
        raise ValueError(f"the path cannot be followed: {error}") from None
    return f"{SCHEME}//{quote('/' + str(real).lstrip('/'), errors='surrogateescape')}"


def _path_in(url: str) -> str:
    """The absolute path in a `file:` URL."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise ValueError("the URL of a folder has three slashes: file:///PATH")
    if parts.query or parts.fragment:
        raise ValueError("a ? or # in a path is written as %3F or %23")
    if not parts.path.startswith("/"):
        raise ValueError("the path in a URL begins with a slash: file:///PATH")
    return os.fsdecode(unquote_to_bytes(parts.path))


def folder_of(url: str) -> Path | None:
    """The folder that a URL of the settings means; None for a server."""
    if not url.startswith(SCHEME):
        return None
    return Path(os.fsdecode(unquote_to_bytes(urlsplit(url).path)))


def file_name_of(url: str) -> str:
    """A part of a file's name that is different for each server and each folder."""
    folder = folder_of(url)
    name = urlsplit(url).netloc if folder is None else folder.name
    readable = re.sub(r"[^\w.-]", "_", name)[:LONGEST_NAME]
    return f"{readable}-{blake2b(url.encode(), digest_size=4).hexdigest()}"
