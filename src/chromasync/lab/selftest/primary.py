"""The one place of the program that writes to a primary.

The engine cannot: whatever it makes for the primary refuses writes before a byte is sent. The
self-test must, because it plays the application whose changes are to arrive. So it makes a writer
of the kind that is meant for a replica and points it at the primary's URL; it is used for
collections of the self-test's own prefix alone, and never handed to the engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from chromasync.chroma import ChromaWriter, Connection
from chromasync.errors import ServerError
from chromasync.model import Side


@contextmanager
def writable_primary(connection: Connection) -> Iterator[ChromaWriter]:
    """A writer for the primary behind `connection`; its errors speak of the primary."""
    disguised = replace(connection, side=Side.REPLICA)
    try:
        with ChromaWriter(disguised) as writer:
            yield writer
    except ServerError as error:
        if disguised.place in error.what:
            error.what = error.what.replace(disguised.place, connection.place)
            error.hint = error.hint.replace("REPLICA_", "PRIMARY_")
            error.side = Side.PRIMARY
        raise
