"""The ids of a collection in the ledger, in the ledger's order."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from chromasync.ledger.idset import IdSet
from chromasync.ports import Chunks


def lists_of(store: Chunks, collection_id: str) -> Iterator[list[str]]:
    """The ids, chunk by chunk."""
    chunks = (store.load_chunk(head.id) for head in store.chunk_heads(collection_id))
    return (chunk.ids for chunk in chunks if chunk is not None)


def ids_of(store: Chunks, collection_id: str) -> Iterator[str]:
    """The ids one by one."""
    return chain.from_iterable(lists_of(store, collection_id))


def id_set_of(store: Chunks, collection_id: str) -> IdSet:
    """The ids as a set, at 20 bytes an id."""
    return IdSet.of(lists_of(store, collection_id))


def absent_of(store: Chunks, collection_id: str) -> frozenset[str]:
    """Records of the primary that are not on the replica, because they were set aside."""
    aside = store.quarantined(collection_id)
    return frozenset(record.record_id for record in aside if record.absent)


def copied_set_of(store: Chunks, collection_id: str) -> IdSet:
    """The ids as a set, without those that are not on the replica."""
    absent = absent_of(store, collection_id)
    lists = lists_of(store, collection_id)
    return IdSet.of([i for i in ids if i not in absent] if absent else ids for ids in lists)
