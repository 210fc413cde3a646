"""For the tests of programs that use chromasync: a private Chroma server, and a judge.

    with chroma_server() as primary, chroma_server() as replica:
        fill(primary)
        chromasync.sync(primary, replica, store=tmp_path / "state.db")
        assert_identical(primary, replica)

Both need the extra `demo`: `pip install 'chromasync[demo]'`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from chromasync.lab.chroma_server import ChromaServer, LocalServerError, loopback_without_proxy
from chromasync.lab.judge import close, connect, judge

if TYPE_CHECKING:  # the official client takes a second to import
    from chromadb.api import ClientAPI

__all__ = ["LocalServerError", "assert_identical", "chroma_server"]


@contextmanager
def chroma_server(folder: str | PathLike[str] | None = None) -> Iterator[str]:
    """A real Chroma server on a free port of 127.0.0.1, which answers; gives its URL.

    It ends with the block, and also when this process is killed. During the block, NO_PROXY has
    127.0.0.1, so that a proxy of the environment does not stand between.

    Args:
        folder: its data, which stay there; without it, a temporary folder that is removed.

    Raises:
        LocalServerError: no server is installed here, or it cannot be started.
    """
    path = None if folder is None else Path(folder)
    with loopback_without_proxy(), ChromaServer(path) as server:
        yield server.url


def assert_identical(
    primary: str | ClientAPI,
    replica: str | ClientAPI,
    *,
    tenant: str = "default_tenant",
    database: str = "default_database",
) -> int:
    """Compare a whole database on both sides through the official client, without our own code.

    It compares collections by name, metadata and index parameters, and records by id, embedding
    (bit by bit; within 1e-6 of its length in cosine collections, where Chroma itself rounds),
    document, metadata with types, and uri.

    Args:
        primary, replica: URLs of servers, or clients of `chromadb`; a client has its own database.

    Returns:
        The number of records that were compared.

    Raises:
        AssertionError: something differs; it counts the differences and names the first five.
        LocalServerError: `chromadb` is not installed.
    """
    if find_spec("chromadb") is None:
        raise LocalServerError(
            "The official client is not installed here.",
            hint="Install it with `pip install 'chromasync[demo]'`.",
        )
    with ExitStack() as stack:
        ours, theirs = (
            stack.enter_context(_client(side, tenant, database)) for side in (primary, replica)
        )
        judgement = judge(ours, theirs)
    if not judgement.identical:
        raise AssertionError("\n".join([f"Not identical: {judgement}.", *judgement.examples]))
    return judgement.records


@contextmanager
def _client(side: str | ClientAPI, tenant: str, database: str) -> Iterator[ClientAPI]:
    if not isinstance(side, str):
        yield side
        return
    client = connect(side, tenant, database)
    try:
        yield client
    finally:
        close(client)
