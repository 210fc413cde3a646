"""Compares both sides with the records written to the primary, without a ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chromasync.lab.judge import same_embedding, same_metadata
from chromasync.lab.selftest.material import Content, Truth
from chromasync.model import Collection, Records
from chromasync.ports import Reader

IDS_AT_ONCE = 1000
RECORDS_AT_ONCE = 250
SHOWN = 10


def differences(reader: Reader, collection: Collection, truth: Truth) -> list[str]:
    """One sentence for each of the first differences of a side from the written records."""
    found: list[str] = []
    for sentence in _differences(reader, collection, truth):
        if len(found) == SHOWN:
            return [*found, f"{collection.name} differs in more than that on the {reader.side}."]
        found.append(sentence)
    return found


def count_right(reader: Reader, collection: Collection, truth: Truth, ids: Sequence[str]) -> int:
    """Number of these records that a side holds as written to the primary."""
    records = reader.read(collection, [i for i in ids if i in truth.records])
    return len(records) - sum(1 for _ in _differing(records, truth))


def find(reader: Reader, name: str, place: tuple[str, str]) -> Collection | None:
    """The collection of this name in a tenant's database."""
    return next((c for c in reader.list_collections(*place) if c.name == name), None)


def all_ids(reader: Reader, collection: Collection) -> list[str]:
    """Every id of a collection, in the server's order."""
    found: list[str] = []
    while page := reader.list_ids(collection, offset=len(found), limit=IDS_AT_ONCE):
        found += page
    return found


def _differences(reader: Reader, collection: Collection, truth: Truth) -> Iterator[str]:
    where = f"on the {reader.side}"
    count, wanted_count = reader.count(collection), len(truth.records)
    if count != wanted_count:
        yield f"{collection.name} counts {count} records {where} instead of {wanted_count}."
    ids = set(all_ids(reader, collection))
    for record_id in sorted(ids - truth.records.keys()):
        yield f"{collection.name} has a record {record_id} {where} that should not be there."
    for record_id in sorted(truth.records.keys() - ids):
        yield f"{collection.name} has no record {record_id} {where}."
    wanted = sorted(ids & truth.records.keys())
    for start in range(0, len(wanted), RECORDS_AT_ONCE):
        records = reader.read(collection, wanted[start : start + RECORDS_AT_ONCE])
        for record_id, fields in _differing(records, truth):
            yield f"{collection.name} has another {fields} in record {record_id} {where}."


def _differing(records: Records, truth: Truth) -> Iterator[tuple[str, str]]:
    for row, record_id in enumerate(records.ids):
        fields = [*_fields(records, row, truth.records[record_id], truth.space)]
        if fields:
            yield record_id, " and ".join(fields)


def _fields(records: Records, row: int, wanted: Content, space: str) -> Iterator[str]:
    embeddings = records.embeddings
    if embeddings is None or not same_embedding(wanted.embedding, embeddings[row], space):
        yield "embedding"
    if records.documents[row] != wanted.document:
        yield "document"
    if records.uris[row] != wanted.uri:
        yield "uri"
    if not same_metadata(wanted.metadata, records.metadatas[row]):
        yield "metadata"
