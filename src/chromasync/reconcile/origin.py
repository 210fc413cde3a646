"""Whose record the replica holds: ours, or one that others wrote there. Pure.

The question is asked of a record that differs from the primary's, or that the primary has no more.
What is ours may be overwritten or deleted, because its content came from the primary. Everything
else may be the only copy of something.

    the replica            the ledger                              whose
    ---------------------  --------------------------------------  ---------------------------------
    (anything)             the chunk was in our hands when we      ours: we may have written it
                           were cut off
    cannot give it         (anything else)                         foreign: nobody can tell
    does not have it       never written, quarantined as absent,   ours: nothing there to lose
                           or waiting to be deleted by us
    does not have it       written; the primary has it no more     ours: both sides agree
    does not have it       written; the primary has it             foreign: others deleted it
    has it                 remembers what the replica returned,    ours: untouched since then
                           and it returns the same
    has it                 holds exactly this content              ours: copied from the primary
    has it                 otherwise, also when never written      foreign: others wrote it

A replica returns the same bytes as long as nobody writes, though not those that were written:
cosine embeddings and metadata floats drift by an ulp. So what it *returned* is compared exactly;
content of the ledger's is found exactly on l2 and ip, and on cosine only by luck. A record equal to
the primary's, within the tolerance of `diff`, needs no write and is not asked about.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from chromasync.ledger.digest import embedding_digests, payload_digests, replica_digests
from chromasync.model import UNKNOWN_DIGEST, Records


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger says of one record.

    Attributes:
        embedding, payload, replica: its three digests.
        absent: it need not be there: it was quarantined without being written, or waits to be
            deleted, and a process that was cut off may have done that.
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
        known: what the ledger says of it.
        held: what the replica holds of it now.
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
