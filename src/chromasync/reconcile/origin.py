"""Decides whether a record of the replica is ours, or was written by others. Pure.

The decision concerns a record that differs from the primary's, or that is gone from the primary.
A record of ours may be overwritten or deleted, because its content came from the primary. Any other
record may be the only copy of its content.

    the replica            the ledger                              the record is
    ---------------------  --------------------------------------  ---------------------------------
    (anything)             a worker of ours was cut off while it   ours: we may have written it
                           had the chunk
    cannot return it       (anything else)                         foreign: unknown content
    does not have it       never written, quarantined as absent,   ours: nothing there to lose
                           or waiting to be deleted by us
    does not have it       written; gone from the primary          ours: both sides agree
    does not have it       written; the primary has it             foreign: others deleted it
    has it                 has the digest of the replica's last    ours: unchanged since then
                           answer, and it returns the same
    has it                 holds exactly this content              ours: copied from the primary
    has it                 otherwise, also when never written      foreign: others wrote it

Without writes, a replica returns the same bytes each time. They may differ from the written bytes:
cosine embeddings and metadata floats drift by an ulp. So the digest of the replica's last *answer*
is compared exactly. The digest of the primary's content matches on l2 and ip, and on cosine only by
chance. A record that equals the primary's within the tolerance of `diff` needs no write and no
decision.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from chromasync.ledger.digest import embedding_digests, payload_digests, replica_digests
from chromasync.model import UNKNOWN_DIGEST, Records


@dataclass(frozen=True, slots=True)
class Known:
    """The ledger's facts about one record.

    Attributes:
        embedding, payload, replica: its three digests.
        absent: it may be missing: it was quarantined without being written, or its deletion
            waits, and a process that was cut off may have deleted it.
        in_hand: one of our workers was cut off while it had the chunk.
    """

    embedding: bytes
    payload: bytes
    replica: bytes
    absent: bool = False
    in_hand: bool = False

    @property
    def written(self) -> bool:
        """Whether it is known to be on the replica."""
        return self.payload != UNKNOWN_DIGEST


@dataclass(frozen=True, slots=True)
class Found:
    """The digests of one record as the replica returned it, in the order of `Known`."""

    embedding: bytes
    payload: bytes
    replica: bytes


class Nothing(Enum):
    """Why the replica returned no record."""

    MISSING = "missing"
    UNREADABLE = "unreadable"


Held = Found | Nothing


def found(record: Records) -> Found:
    """The digests of a single record."""
    return Found(embedding_digests(record), payload_digests(record), replica_digests(record))


def is_ours(known: Known, held: Held, *, on_primary: bool) -> bool:
    """Whether a record that differs may be overwritten or deleted: see the table above.

    Args:
        known: the ledger's facts about it.
        held: the replica's present state of it.
        on_primary: whether the primary has it.
    """
    if known.in_hand:
        return True
    match held:
        case Nothing.UNREADABLE:
            return False
        case Nothing.MISSING:
            return known.absent or not known.written or not on_primary
        case Found():
            copied = (held.embedding, held.payload) == (known.embedding, known.payload)
            return copied or held.replica == known.replica
        case _:
            assert_never(held)
