"""The difference between the two sides of a record, and the smallest write that removes it.

Equality is of content with types: 1, 1.0, "1" and true differ, null differs from "", and a server's
null metadata equals {}. There are two tolerances, because Chroma changes some written values:

* Embeddings of cosine collections come back a few ulp off (the server stores them normalised, with
  the length beside): equal within `COSINE_TOLERANCE` of the vector's length. l2 and ip are exact.
* Metadata floats may drift by an ulp on each hop (the server's JSON parser): equal within
  `FLOAT_TOLERANCE`, relative.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import assert_never

import numpy as np

from chromasync.model import (
    Capabilities,
    Change,
    Floats,
    Metadata,
    MetadataValue,
    Records,
    Space,
)

COSINE_TOLERANCE = 1e-6
FLOAT_TOLERANCE = 1e-15
HIDDEN_PREFIX = "chroma:"
"""Prefix of the server's own keys; writing some of them as null damages a server permanently."""


class Whole(Enum):
    """A write that concerns a whole record."""

    INSERT = "insert"
    """The replica does not have it."""
    REPLACE = "replace"
    """Its document must become null, which only delete and insert can do."""
    REBUILD = "rebuild"
    """The replica has it but cannot return it; deleted and inserted, it may be readable again."""


Difference = Change | Whole | None


def same_embedding(one: Floats, other: Floats, space: Space) -> bool:
    """Whether two vectors of shape (dimension,) are the same in a collection of this space."""
    if one.shape != other.shape:
        return False
    if np.array_equal(one, other):
        return True
    if space is not Space.COSINE:
        return False
    length = float(np.linalg.norm(one.astype(np.float64)))
    return bool(np.max(np.abs(one.astype(np.float64) - other)) <= COSINE_TOLERANCE * length)


def same_value(one: MetadataValue, other: MetadataValue) -> bool:
    """Whether two metadata values are the same, types included."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_value, one, other))
    if type(one) is not type(other):
        return False
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=FLOAT_TOLERANCE, abs_tol=0.0)
    return one == other


def metadata_delta(wanted: Metadata, present: Metadata) -> dict[str, MetadataValue | None] | None:
    """The keys to set, and to remove (None), so that `present` becomes `wanted`; None if equal."""
    delta: dict[str, MetadataValue | None] = {
        key: value
        for key, value in wanted.items()
        if key not in present or not same_value(value, present[key])
    }
    delta.update({key: None for key in present if key not in wanted})
    return delta or None


@dataclass(frozen=True, slots=True)
class Differ:
    """Compares records of one collection.

    Attributes:
        space: the collection's distance function, which sets the tolerance of embeddings.
    """

    space: Space

    def difference(self, wanted: Records, row: int, present: Records, other: int) -> Difference:
        """The write that makes `present[other]` equal to `wanted[row]`; None if they are equal.

        Embeddings are compared when both sides were read with them.
        """
        if wanted.documents[row] is None and present.documents[other] is not None:
            return Whole.REPLACE
        change = Change(
            id=wanted.ids[row],
            embedding=self._changed_embedding(wanted, row, present, other),
            document=_if_changed(wanted.documents[row], present.documents[other]),
            metadata=metadata_delta(wanted.metadatas[row], present.metadatas[other]),
            uri=_if_changed(wanted.uris[row], present.uris[other]),
            clear_uri=wanted.uris[row] is None and present.uris[other] is not None,
        )
        return change if describe(change) else None

    def _changed_embedding(
        self, wanted: Records, row: int, present: Records, other: int
    ) -> Floats | None:
        if wanted.embeddings is None or present.embeddings is None:
            return None
        mine = wanted.embeddings[row]
        return None if same_embedding(mine, present.embeddings[other], self.space) else mine


def _if_changed(wanted: str | None, present: str | None) -> str | None:
    return None if wanted == present else wanted


def describe(difference: Difference) -> str:
    """The names of the fields that differ, in words; empty when they are equal."""
    match difference:
        case None:
            return ""
        case Whole.INSERT | Whole.REBUILD:
            return "the whole record"
        case Whole.REPLACE:
            return "document"
        case Change():
            fields = {
                "embedding": difference.embedding is not None,
                "document": difference.document is not None,
                "metadata": difference.metadata is not None,
                "uri": difference.uri is not None or difference.clear_uri,
            }
            return ", ".join(name for name, differs in fields.items() if differs)
        case _:
            assert_never(difference)


def carried(records: Records, server: Capabilities) -> tuple[Records, int]:
    """The parts of the records that a server can hold, and how many records are reduced."""
    metadatas = [_carried_metadata(metadata, server) for metadata in records.metadatas]
    reduced = sum(
        len(less) < len(metadata)
        for less, metadata in zip(metadatas, records.metadatas, strict=True)
    )
    return (replace(records, metadatas=metadatas), reduced) if reduced else (records, 0)


def _carried_metadata(metadata: Mapping[str, MetadataValue], server: Capabilities) -> Metadata:
    return {
        key: value
        for key, value in metadata.items()
        if not key.startswith(HIDDEN_PREFIX) and (server.arrays or not isinstance(value, list))
    }
