"""The content and the capabilities of a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

DEFAULT_TENANT = "default_tenant"
MARKS_DATABASE = "chromasync-marks"
"""The database of each tenant in which the replica carries its marks; it is never mirrored."""

Scalar = str | int | float | bool
MetadataValue = Scalar | list[Scalar]
Metadata = dict[str, MetadataValue]
Floats: TypeAlias = "NDArray[np.float32]"


class Side(StrEnum):
    """One of the two servers."""

    PRIMARY = "primary"
    REPLICA = "replica"


class Space(StrEnum):
    """The distance function of a collection."""

    L2 = "l2"
    COSINE = "cosine"
    IP = "ip"


def mark_place(tenant: str, database: str) -> str:
    """The name of a mirrored place, under which replica and store keep its mark."""
    return f"{tenant}/{database}"


# ---- content ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Collection:
    """A collection as a server lists it; `metadata` is empty when the server says null.

    `live` is the distance that its index uses; None when no query has shown it, so that its
    description counts.
    """

    id: str
    name: str
    tenant: str
    database: str
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    configuration: Mapping[str, Any] = field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    dimension: int | None = None
    live: Space | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """A primary collection, its replica, and the distance function they share."""

    primary: Collection
    replica: Collection
    space: Space


@dataclass(frozen=True, slots=True)
class Definition:
    """The definition of a collection to create."""

    name: str
    tenant: str
    database: str
    metadata: Mapping[str, Scalar]
    configuration: Mapping[str, Any] | None = None
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Records:
    """Records in columns, all of the same length n.

    `metadatas` has an empty dict where the server says null. `embeddings` is float32 of shape
    (n, dimension), or None when embeddings were not asked for, or are known to be unchanged.
    `text_digest` is the digest of the text in which the server sent the embeddings, where it was
    asked for.
    """

    ids: list[str]
    documents: list[str | None]
    metadatas: list[Metadata]
    uris: list[str | None]
    embeddings: Floats | None
    text_digest: bytes | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int]) -> Self:
        """The records at `rows`, in that order."""
        return replace(
            self,
            ids=[self.ids[i] for i in rows],
            documents=[self.documents[i] for i in rows],
            metadatas=[self.metadatas[i] for i in rows],
            uris=[self.uris[i] for i in rows],
            embeddings=None if self.embeddings is None else self.embeddings[list(rows)],
            text_digest=None,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Neighbours:
    """The answer to a query: the nearest records, with their distances and embeddings.

    `embeddings` is float32 of shape (n, dimension), in the order of `ids` and `distances`.
    """

    ids: list[str]
    distances: list[float]
    embeddings: Floats


@dataclass(frozen=True, slots=True)
class Change:
    """The changed fields of one existing record; None leaves a field as it is.

    In `metadata` a None value removes the key; other keys stay.
    """

    id: str
    embedding: Floats | None = None
    document: str | None = None
    metadata: Mapping[str, MetadataValue | None] | None = None
    uri: str | None = None
    clear_uri: bool = False


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The capabilities of a server, as probed (not derived from its version).

    Attributes:
        version: the version that the server reports (every 1.x server reports 1.0.0).
        max_batch_size: advisory number of records in one write.
        base64: takes embeddings as base64 text.
        schema: collections have a schema.
        configuration: takes the present shape of `configuration` on create and PUT.
        arrays: metadata values may be arrays.
        null_columns: a column of a write may hold nulls beside values without harm.
        limitations: one sentence for each kind of content that this server cannot store.
    """

    version: str
    max_batch_size: int
    base64: bool
    schema: bool
    configuration: bool
    arrays: bool
    null_columns: bool
    limitations: tuple[str, ...] = ()
