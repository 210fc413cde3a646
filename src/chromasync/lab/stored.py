"""The records of a fake server, and its answers with them; see `fake`."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from chromasync.ledger.digest import text_digest
from chromasync.model import Floats, Metadata, MetadataValue, Records
from chromasync.ports import Unchanged


@dataclass(slots=True)
class StoredRecord:
    """One record; a write merges its fields."""

    embedding: Floats
    document: str | None = None
    metadata: Metadata = field(default_factory=dict)
    uri: str | None = None

    def merge(
        self,
        document: str | None,
        metadata: Mapping[str, MetadataValue | None],
        uri: str | None,
    ) -> None:
        """Take in the fields of a write; a null under a key removes it."""
        self.document = self.document if document is None else document
        self.uri = self.uri if uri is None else uri
        for key, value in metadata.items():
            if value is None or value == []:
                self.metadata.pop(key, None)
            else:
                self.metadata[key] = copy.deepcopy(value)


def rows_of(
    stored: Mapping[str, StoredRecord], ids: Sequence[str], width: int, *, embeddings: bool
) -> Records:
    """The stored records with these ids; `width` is the dimension of the collection."""
    rows = [stored[i] for i in ids]
    vectors = np.stack([r.embedding for r in rows]) if rows else np.empty((0, width))
    return Records(
        list(ids),
        [r.document for r in rows],
        [copy.deepcopy(r.metadata) for r in rows],
        [r.uri for r in rows],
        vectors.astype(np.float32) if embeddings else None,
    )


def known(records: Records, asked: int, unchanged: Unchanged) -> Records:
    """The records, without embeddings if these are known by their text (here: by their bytes)."""
    if records.embeddings is None:
        return records
    digest = text_digest([records.embeddings.tobytes()])
    without = replace(records, embeddings=None, text_digest=digest)
    is_known = len(records) == asked and unchanged(without)
    return without if is_known else replace(records, text_digest=digest)
