"""Compares the test's collections with the official client, if it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from chromasync.lab.judge import Judgement, close, definition_of, judge_page
from chromasync.lab.selftest.stage import Stage
from chromasync.model import Side

if TYPE_CHECKING:  # the official client takes a second to import
    from chromadb import Collection
    from chromadb.api import ClientAPI

PAGE = 250


def is_able(stage: Stage) -> bool:
    """Whether the official client is installed, and can reach both servers.

    It knows neither path prefixes nor the certificates of our settings.
    """
    if find_spec("chromadb") is None:
        return False
    connections = [stage.place.connection(side) for side in Side]
    return not any(
        urlsplit(c.url).path.strip("/") or c.ca_file or c.client_cert or not c.verify
        for c in connections
    )


def ask(stage: Stage, names: Sequence[str]) -> Judgement:
    """Compare the collections of these names on both sides; names on one side only count, too."""
    judgement = Judgement()
    clients = [_connect(stage, side) for side in Side]
    try:
        ours, theirs = (
            _collections(client, stage, side) for client, side in zip(clients, Side, strict=True)
        )
        for name in sorted({*names, *ours, *theirs}):
            if name not in ours or name not in theirs:
                judgement.note("collection", f"{name!r} is not on both sides")
            else:
                _judge(ours[name], theirs[name], judgement)
    finally:
        for client in clients:
            close(client)
    return judgement


def _judge(ours: Collection, theirs: Collection, judgement: Judgement) -> None:
    if definition_of(ours) != definition_of(theirs):
        judgement.note("definition", repr(ours.name))
    ids = ours.get(include=[])["ids"]
    for extra in set(theirs.get(include=[])["ids"]).difference(ids):
        judgement.note("extra", f"{extra!r} in {theirs.name!r}")
    for start in range(0, len(ids), PAGE):
        judge_page(ours, theirs, ids[start : start + PAGE], judgement)


def _collections(client: ClientAPI, stage: Stage, side: Side) -> dict[str, Collection]:
    """The test's collections on one side, by their names on the primary."""
    listed = {_name_of(stage, side, c.name): c for c in client.list_collections()}
    return {name: c for name, c in listed.items() if name.startswith(stage.prefix)}


def _name_of(stage: Stage, side: Side, name: str) -> str:
    if side is Side.PRIMARY:
        return name
    return stage.settings.sync_target.source_of_name(stage.tenant, stage.database, name)


def _connect(stage: Stage, side: Side) -> ClientAPI:
    import chromadb  # noqa: PLC0415 -- takes a second, and may not be installed
    from chromadb.config import Settings as ClientSettings  # noqa: PLC0415 -- same

    connection = stage.place.connection(side)
    tenant, database = stage.tenant, stage.database
    if side is Side.REPLICA:
        tenant, database, _ = stage.settings.sync_target.place_of(tenant, database, "")
    address = urlsplit(connection.url)
    secure = address.scheme == "https"
    return chromadb.HttpClient(
        host=address.hostname or "",
        port=address.port or (443 if secure else 80),
        ssl=secure,
        headers=dict(connection.headers),
        tenant=tenant,
        database=database,
        settings=ClientSettings(anonymized_telemetry=False),
    )
