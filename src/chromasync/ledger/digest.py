"""Canonical bytes of records and id lists, and their digests.

Every digest is BLAKE2b with 16 bytes. The format number (`FORMAT`) is stored with the ledger. A
change of the hashed bytes must raise it, and then every mirror adopts again.

* embedding: the row's float32 values, little-endian, as the server returned them.
* payload: JSON of [document, uri, metadata] with sorted keys. JSON keeps 1, 1.0, "1" and true
  apart, null apart from "", and an array apart from a scalar. A server's null metadata equals {}.
* ids: JSON of the list, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import orjson

from chromasync.model import DIGEST_BYTES, Records

FORMAT = 1


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=DIGEST_BYTES).digest()


def ids_digest(ids: Sequence[str]) -> bytes:
    """Digest of an id list in its order."""
    return _digest(orjson.dumps(ids))


def id_digests(ids: Sequence[str]) -> bytes:
    """One digest per id, laid end to end (16 bytes each)."""
    return b"".join([_digest(i.encode()) for i in ids])


def embedding_digests(records: Records) -> bytes:
    """One digest per record's embedding, laid end to end (16 bytes each)."""
    if records.embeddings is None:
        raise ValueError("digests of embeddings need records read with embeddings")
    rows = np.ascontiguousarray(records.embeddings, dtype="<f4")
    return b"".join([_digest(row.tobytes()) for row in rows])


def payload_digests(records: Records) -> bytes:
    """One digest per record's document, uri and metadata, laid end to end (16 bytes each)."""
    columns = zip(records.documents, records.uris, records.metadatas, strict=True)
    return b"".join(
        [
            _digest(orjson.dumps([document, uri, metadata], option=orjson.OPT_SORT_KEYS))
            for document, uri, metadata in columns
        ]
    )


def replica_digests(records: Records) -> bytes:
    """One digest per whole record as the replica returned it, laid end to end (16 bytes each)."""
    embedding, payload = embedding_digests(records), payload_digests(records)
    rows = range(len(records))
    return b"".join([_digest(at(embedding, row) + at(payload, row)) for row in rows])


def at(digests: bytes, row: int) -> bytes:
    """The digest of one row; `digests` are laid end to end."""
    return digests[row * DIGEST_BYTES : (row + 1) * DIGEST_BYTES]
