"""What a client asks and believes of a server that may have no default tenant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from chromasync.chroma import ChromaReader
from chromasync.chroma.client import Client
from chromasync.chroma.connection import Connection
from chromasync.chroma.paths import collection_path
from chromasync.chroma.tenant import IDENTITY_PATH
from chromasync.errors import (
    AccessRefused,
    NotFound,
    ServerBusy,
    ServerError,
    ServerFault,
    ServerUnreachable,
)
from chromasync.model import DEFAULT_TENANT, Collection, Side


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ChromaReader, dict[str, Any]]]:
    """A reader, and its server's answer to each path: a value, an error, or none: not found."""
    answers: dict[str, Any] = {}

    def answer(_client: Client, ask: Any, *_: Any) -> Any:
        found = answers.get(ask.path, NotFound("There is none.", side=Side.REPLICA, status=404))
        if isinstance(found, ServerError):
            raise found
        return found

    monkeypatch.setattr(Client, "_counted", answer)
    with ChromaReader(Connection(Side.REPLICA, "http://replica:1", attempts=1)) as reader:
        yield reader, answers


@pytest.mark.parametrize("kind", [ServerUnreachable, ServerFault, ServerBusy])
def test_a_server_that_does_not_say_whose_token_it_is_has_no_known_databases(
    asked: tuple[ChromaReader, dict[str, Any]], kind: type[ServerError]
) -> None:
    """That default_tenant is missing is no answer yet: every copy would count as gone."""
    reader, answers = asked
    answers[IDENTITY_PATH] = kind("Not now.", side=Side.REPLICA)
    with pytest.raises(kind):
        reader.list_databases(DEFAULT_TENANT)
    answers[IDENTITY_PATH] = {"tenant": "cloud"}
    answers["/api/v2/tenants/cloud/databases"] = ["main"]
    assert reader.list_databases(DEFAULT_TENANT) == ["main"]


def test_a_server_that_refuses_to_say_it_has_no_such_tenant(
    asked: tuple[ChromaReader, dict[str, Any]],
) -> None:
    """A proxy may let nobody ask; then the first answer counts."""
    reader, answers = asked
    answers[IDENTITY_PATH] = AccessRefused("Not you.", side=Side.REPLICA, status=403)
    assert reader.list_databases(DEFAULT_TENANT) == []


def test_the_pace_is_asked_about_the_path_that_is_measured(
    asked: tuple[ChromaReader, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It knows the seconds of a record by the tenant of the token."""
    reader, answers = asked
    answers[IDENTITY_PATH] = {"tenant": "cloud"}
    answers["/api/v2/tenants/cloud/databases"] = ["main"]
    reader.list_databases(DEFAULT_TENANT)
    paths: list[str] = []
    monkeypatch.setattr(reader.pacing, "rows_at_once", paths.append)
    docs = Collection("0", "docs", DEFAULT_TENANT, "main")
    with pytest.raises(NotFound):
        reader.read(docs, ["a"])
    real = collection_path(replace(docs, tenant="cloud"))
    assert paths == [f"{real}/get"]
