"""The lowest level asks before each attempt whether a request may be sent."""

from __future__ import annotations

import pytest

from chromasync.chroma import ChromaReader, Connection
from chromasync.errors import Paused
from chromasync.model import Side

NOBODY = "http://127.0.0.1:9"
"""No server listens there."""


@pytest.mark.parametrize("admitted", [0, 2])
def test_a_pause_ends_the_repetitions_of_a_request(admitted: int) -> None:
    """Not even a server that is away is asked again, although attempts are left."""
    asked: list[int] = []

    def admit() -> None:
        asked.append(len(asked))
        if len(asked) > admitted:
            raise Paused("ann@here paused chromasync.")

    connection = Connection(Side.PRIMARY, NOBODY, wait_initial_seconds=0.001, admit=admit)
    with ChromaReader(connection) as reader:
        with pytest.raises(Paused):
            reader.list_collections("t", "d")
        assert sum(reader.request_counts.values()) == admitted
    assert len(asked) == admitted + 1
