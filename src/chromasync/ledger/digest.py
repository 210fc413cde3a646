"""Canonical bytes of records and id lists, and their digests.

Every digest but `text_digest` is BLAKE2b with 16 bytes. The format number (`FORMAT`) is stored with
the ledger. A change of the hashed bytes must raise it, and then every mirror adopts again.

* embedding: the row's float32 values, little-endian, as the server returned them.
* payload: JSON of [document, uri, metadata] with sorted keys. JSON keeps 1, 1.0, "1" and true
  apart, null apart from "", and an array apart from a scalar. A server's null metadata equals {}.
* ids: JSON of the list, in order.
* text: the bytes in which a server sent embeddings. It is compared with earlier ones only, as part
  of `answer_digest`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b, sha256

import orjson

from chromasync.model import DIGEST_BYTES, UNKNOWN_DIGEST, Digests, Records, for_json

FORMAT = 1


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=DIGEST_BYTES).digest()


def ids_digest(ids: Sequence[str]) -> bytes:
    """Digest of an id list in its order."""
    return _digest(orjson.dumps(ids))


def text_digest(texts: Sequence[bytes | memoryview]) -> bytes:
    """Digest of the text of embeddings, however many answers it came in.

    It is SHA-256, the first 16 bytes: most processors compute it themselves, which halves the time
    for megabytes of text.

    Args:
        texts: a list of lists in JSON for each answer.
    """
    hashed = sha256()
    for row, text in enumerate(texts):
        hashed.update(b"," if row else b"")
        hashed.update(memoryview(text)[1:-1])
    return hashed.digest()[:DIGEST_BYTES]


def answer_digest(found: Records, embedding: bytes, payload: bytes) -> bytes:
    """Digest of an answer with a `text_digest`, and of what it was decoded to.

    Args:
        found: the answer.
        embedding, payload: the digests of its records, in its order.
    """
    columns = [[for_json(document) for document in found.documents], found.uris, found.metadatas]
    content = orjson.dumps([found.ids, *columns], option=orjson.OPT_SORT_KEYS)
    hashed = blake2b(content, digest_size=DIGEST_BYTES)
    for part in (found.text_digest or b"", embedding, payload):
        hashed.update(part)
    return hashed.digest()


def id_digests(ids: Sequence[str]) -> Digests:
    """One digest per id, in order."""
    return Digests.of([_digest(i.encode()) for i in ids])


def embedding_digests(records: Records) -> Digests:
    """One digest per record's embedding, in order."""
    if records.embeddings is None:
        raise ValueError("digests of embeddings need records read with embeddings")
    rows = records.embeddings.astype("<f4", order="C", copy=False)
    return Digests.of([_digest(row.tobytes()) for row in rows])


def payload_digests(records: Records) -> Digests:
    """One digest per record's document, uri and metadata, in order."""
    columns = zip(records.documents, records.uris, records.metadatas, strict=True)
    return Digests.of(
        [
            _digest(orjson.dumps([for_json(document), uri, metadata], option=orjson.OPT_SORT_KEYS))
            for document, uri, metadata in columns
        ]
    )


def replica_digests(records: Records) -> Digests:
    """One digest per whole record as the replica returned it, in order."""
    return whole_digests(embedding_digests(records), payload_digests(records))


def whole_digests(embedding: Digests, payload: Digests) -> Digests:
    """The digests of whole records from those of their two parts; unknown stays unknown."""
    unknown = UNKNOWN_DIGEST + UNKNOWN_DIGEST
    both = [embedding.row(row) + payload.row(row) for row in range(embedding.rows)]
    return Digests.of([UNKNOWN_DIGEST if one == unknown else _digest(one) for one in both])
