"""Decides whether the replica diverged during an outage of the primary; pure.

When the primary fails, applications may write to the replica. These writes exist nowhere else, and
a primary that comes back must not overwrite them. So after an *outage* everything on the replica is
compared with the state that this program left there, before the first write:

    record not seen before, on the replica only       gained
    record that this program left there, gone         lost
    record that this program left there, different    changed
    the collection itself                             new, dropped, renamed or redefined

Each of these is *foreign* unless the primary has the same now. One foreign record makes the whole
collection *diverged*: nothing is written to it until someone decides.

A time without any contact to the primary counts as an outage, too, if it is longer than
SYNC_ASSUME_AWAY, or if its length is unknown because a clock jumped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b

import orjson

from chromasync.definition import described
from chromasync.model import DIGEST_BYTES, Collection, Deployment, Hold, HoldKind
from chromasync.plan.removals import IdSum

SHOWN_IDS = 3
"""Ids that are named as examples."""


def why_away(
    deployment: Deployment,
    now: datetime,
    assume_away_seconds: float,
    promoted_at: datetime | None = None,
) -> str:
    """Why the primary may have been away since the last clean cycle; empty if it was not.

    Args:
        promoted_at: when the present primary was promoted; None if it never was.
    """
    if promoted_at is not None and deployment.away_since == promoted_at:
        at = f"{promoted_at:%Y-%m-%d %H:%M:%S} UTC"
        return f"the direction was turned after the promotion at {at}"
    if deployment.away_since is not None:
        return f"the primary could not be reached at {deployment.away_since:%Y-%m-%d %H:%M:%S} UTC"
    seen_at = deployment.primary_seen_at
    if seen_at is None:
        return ""
    silence = (now - seen_at).total_seconds()
    if silence < 0:
        return "the time since the last contact to the primary is unknown, because a clock jumped"
    if silence > assume_away_seconds:
        return f"there was no contact to the primary for {_duration(silence)}"
    return ""


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"


@dataclass(slots=True)
class Ids:
    """A set of ids: its size, its digest, and a few ids as examples.

    `unlisted` counts further records whose ids are unknown.
    """

    sum: IdSum = field(default_factory=IdSum)
    shown: list[str] = field(default_factory=list)
    unlisted: int = 0

    @property
    def count(self) -> int:
        """The size of the set."""
        return self.sum.count + self.unlisted

    def add(self, ids: Iterable[str]) -> None:
        """Add ids that are not in the set yet."""
        every = list(ids)
        self.sum.add(every)
        self.shown += every[: max(0, SHOWN_IDS - len(self.shown))]

    def words(self) -> str:
        """The count with examples, such as `40 (a, b, c, …)`."""
        if not self.shown:
            return f"{self.count:,}"
        more = ", …" if self.count > len(self.shown) else ""
        return f"{self.count:,} ({', '.join(map(_short, self.shown))}{more})"


def _short(record_id: str) -> str:
    return record_id if len(record_id) <= 40 else f"{record_id[:39]}…"


@dataclass(slots=True)
class Foreign:
    """The changes by others in one collection of the replica.

    Attributes:
        gained: records that only the replica has.
        lost: records that were deleted there, and that the primary still has.
        changed: records that were changed there.
        definition: the change of the collection itself, as a part of a sentence; empty for none.
        primary_only: records that only the primary has, lost ones included; for people.
    """

    gained: Ids = field(default_factory=Ids)
    lost: Ids = field(default_factory=Ids)
    changed: Ids = field(default_factory=Ids)
    definition: str = ""
    primary_only: Ids = field(default_factory=Ids)

    def __bool__(self) -> bool:
        return bool(self.count or self.definition)

    @property
    def count(self) -> int:
        """The number of records that someone must decide about."""
        return self.gained.count + self.lost.count + self.changed.count

    def set_digest(self, replica_id: str) -> str:
        """A digest of exactly this difference on exactly this replica."""
        kinds = (self.gained, self.lost, self.changed)
        parts = [ids.sum.digest() for ids in kinds]
        return IdSum().digest(HoldKind.DIVERGED, replica_id, self.definition, *parts)

    def words(self) -> str:
        """The differences of both sides, as a part of a sentence."""
        return ", ".join(self._parts())

    def _parts(self) -> Iterator[str]:
        if self.definition:
            yield self.definition
        if self.gained.count:
            yield f"the replica has {self.gained.words()} records that the primary lacks"
        if self.changed.count:
            yield f"{self.changed.words()} were changed on the replica"
        if self.lost.count:
            yield f"{self.lost.words()} were deleted on the replica"
        beyond = self.primary_only.count - self.lost.count
        if beyond > 0:
            yield f"the primary has {self.primary_only.words()} records that the replica lacks"


def hold_of_changed(
    key: str, place: tuple[str, str, str], replica_id: str, ids: Iterable[str], why_away: str
) -> Hold | None:
    """The hold of records that tasks found written by others; None if there are none."""
    foreign = Foreign()
    foreign.changed.add(ids)
    if not foreign:
        return None
    return diverged_hold(key, place, replica_id, foreign, why_away or "SYNC_DRIFT=hold")


def diverged_hold(
    key: str, place: tuple[str, str, str], replica_id: str, foreign: Foreign, why: str
) -> Hold:
    """The hold of a whole collection that others wrote to."""
    tenant, database, name = place
    return Hold(
        key,
        name,
        HoldKind.DIVERGED,
        foreign.count,
        f"others wrote to the replica ({why}): {foreign.words()}",
        tenant=tenant,
        database=database,
        set_digest=foreign.set_digest(replica_id),
    )


def definition_digest(replica: Collection) -> bytes:
    """A digest of everything in a collection's definition that can change."""
    settings = described(replica)
    said = [
        replica.name,
        dict(replica.metadata),
        {
            name: str(getattr(settings, name))
            for name in ("space", "index", "ef_construction", "max_neighbors", "ef_search")
        },
        settings.resize_factor,
        settings.sync_threshold,
        dict(settings.embedding_function or {}),
        dict(settings.spann),
        sorted(settings.indexes),
    ]
    text = orjson.dumps(said, option=orjson.OPT_SORT_KEYS)
    return blake2b(text, digest_size=DIGEST_BYTES).digest()
