"""The direction of the mirror: promotion, and turning round (a part of `ports.Control`).

    following --begin--> promoting --finish--> promoted --turn--> following (the other way)
                 <--cancel--

`Direction.turns` rises with each turn and each cancelled promotion. The mark of a promotion has the
number, so it is told from that of a later one.

`begin` takes the lead away for good: the lead row names no process, and it does not expire. So no
process can lead until the promotion is cancelled or the direction was turned, older programs
included. It also cancels all tasks. Nobody can plan new ones, so no worker begins anything. Workers
and a leader that were at work may write until their lease ends: `Direction.writers_until` is the
end of the last one.

`turn` exchanges both sides in one transaction. The collections of the promoted replica become the
primary's, and each ledger stays: its ids, and the digest of each record as the former primary
returned it. All chunks are suspect, so everything is compared on both sides once.

The former primary may have the only copy of a record that the replica never took whole: one that
was quarantined, or stored without some parts. The ledger forgets the digests of their chunks.
So such a record counts as one that only the former primary has, and is held.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Table,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    select,
    update,
)

from chromasync.model import (
    CycleStatus,
    Digests,
    Direction,
    DirectionState,
    Mirror,
    MirrorStatus,
    PrimaryCollection,
    Side,
    unpack_ids,
)
from chromasync.plan.direction import promoted_error
from chromasync.store.core import COORDINATOR, Backend, Core
from chromasync.store.instants import correct_instants
from chromasync.store.ledger import mirrors_in, put_mirrors
from chromasync.store.queue import cancel_live
from chromasync.store.retry import retried
from chromasync.store.rows import DIRECTION
from chromasync.store.schema import (
    RUNNING,
    Later,
    Now,
    cycles,
    deletions,
    holds,
    leases,
    quarantine,
)
from chromasync.store.schema_ledger import (
    REPLICA,
    applied_digests,
    chunk_ids,
    chunks,
    mirrors,
    primary_collections,
    replica_chunks,
)
from chromasync.store.schema_retry_charges import retry_charges
from chromasync.store.schema_servers import (
    deployment,
    direction,
    kept,
    known_ids,
    marks,
    removals,
    restored,
)

NOBODY = "a promoted replica"
"""The name in the lead row while nobody may lead."""

FOR_GOOD_SECONDS = 100 * 365 * 86_400.0
ENDED_BY = "the replica was promoted"

Combine = Callable[[Digests, Digests], Digests]
"""Computes the digests of whole records from those of their embeddings and payloads."""

_ROW = select(*DIRECTION.columns)
_LOCKED = _ROW.with_for_update()
_LEASE = select(
    leases.c.holder,
    # a clock that went back leaves an end that is too far away
    case(
        (leases.c.expires_at > Later(leases.c.ttl_seconds), Later(leases.c.ttl_seconds)),
        else_=leases.c.expires_at,
    ).label("ends_at"),
).where(leases.c.name == COORDINATOR)
_LAST_WRITER = select(func.max(replica_chunks.c.distrusted_at)).where(replica_chunks.c.suspect)
_ABANDON = (
    update(cycles)
    .where(RUNNING)
    .values(cycle_status=CycleStatus.ABANDONED, finished_at=Now(), error_message=ENDED_BY)
)
_SWAP_SIDES = update(known_ids).values(
    side=case((known_ids.c.side == Side.PRIMARY, Side.REPLICA.value), else_=Side.PRIMARY.value)
)
_APPLIED = (
    select(
        applied_digests.c.chunk_id,
        applied_digests.c.embedding_digests,
        applied_digests.c.payload_digests,
        chunk_ids.c.ids,
        replica_chunks.c.reduced_count,
    )
    .join(chunks, chunks.c.id == applied_digests.c.chunk_id)
    .join(chunk_ids, chunk_ids.c.chunk_id == applied_digests.c.chunk_id)
    .join(
        replica_chunks,
        and_(
            replica_chunks.c.chunk_id == applied_digests.c.chunk_id,
            replica_chunks.c.replica == REPLICA,
        ),
    )
    .where(chunks.c.collection_id == bindparam("key"), applied_digests.c.replica == REPLICA)
    .order_by(applied_digests.c.chunk_id)
)
_ASIDE = select(quarantine.c.record_id).where(quarantine.c.collection_id == bindparam("key"))
_PUT_APPLIED = (
    update(applied_digests)
    .where(applied_digests.c.chunk_id == bindparam("b_chunk"), applied_digests.c.replica == REPLICA)
    .values(
        embedding_digests=bindparam("b_embeddings"),
        payload_digests=bindparam("b_payloads"),
        replica_digests=bindparam("b_replicas"),
    )
)
_OF_CHUNKS = replica_chunks.c.chunk_id.in_(
    select(chunks.c.id).where(chunks.c.collection_id == bindparam("key"))
)
_DOUBT = (
    update(replica_chunks)
    .where(_OF_CHUNKS, replica_chunks.c.replica == REPLICA)
    .values(
        checked_at=None,
        checked_cycle=None,
        suspect=True,
        distrusted_at=None,
        in_hand=False,
        gone_count=0,
        reduced_count=0,
    )
)
_MOVE = (
    update(chunks)
    .where(chunks.c.collection_id == bindparam("key"))
    .values(
        collection_id=bindparam("new_key"),
        read_at=None,
        read_cycle=None,
        recheck=False,
        recheck_ids=None,
        looked_cycle=None,
    )
)
_OF_ONE_DIRECTION: tuple[Table, ...] = (
    holds,
    deletions,
    quarantine,
    retry_charges,
    removals,
    marks,
    kept,
    restored,
)


class DirectionPart(Core):
    """The direction of the mirror."""

    @retried
    def direction(self) -> Direction:
        """Whether the replica follows, or was promoted."""
        with self._reading() as tx:
            return direction_in(tx)

    @retried
    def begin_promotion(
        self, who: str, url: str, *, planned: bool, lease_seconds: float
    ) -> Direction:
        """Let no process write to the replica any more; a repeat keeps the first one's instant.

        Args:
            who: who promotes, as `user@host`.
            url: the replica's address.
            planned: it is a switchover.
            lease_seconds: a worker whose task was called back may write for so long at most.

        Raises:
            ReplicaPromoted: it was promoted already.
        """
        with self._writing(long=True) as tx:
            before = DIRECTION.build(tx.execute(_LOCKED).one())
            if before.state is DirectionState.PROMOTED:
                raise promoted_error(before)
            if before.is_following:
                begun = self._begin(tx, who, url, lease_seconds)
                tx.execute(update(direction).values(begun | {"planned": planned}))
            else:
                tx.execute(update(direction).values(promoted_by=who, planned=planned))
            return direction_in(tx)

    def _begin(self, tx: Connection, who: str, url: str, lease_seconds: float) -> dict[str, Any]:
        lease = tx.execute(_LEASE.with_for_update()).first()
        leads = lease is not None and lease.holder and not self._backend.is_gone(lease.holder)
        correct_instants(tx, lease_seconds)
        tx.execute(_ABANDON)
        cancel_live(tx, self._backend, ENDED_BY)
        _take_for_good(tx)
        ends: list[datetime | None] = [tx.execute(_LAST_WRITER).scalar()]
        if lease is not None and leads:
            ends.append(lease.ends_at)
        return {
            "direction_state": DirectionState.PROMOTING,
            "since_at": Now(),
            "promoted_by": who,
            "replica_url": url,
            "writers_until": max((end for end in ends if end is not None), default=None),
            "identical_as_of": None,
        }

    @retried
    def cancel_promotion(self, turns: int | None = None) -> bool:
        """Follow again; whether a promotion was under way.

        Args:
            turns: `Direction.turns` of the promotion; None for whichever is under way.
        """
        with self._writing() as tx:
            before = DIRECTION.build(tx.execute(_LOCKED).one())
            if before.state is not DirectionState.PROMOTING or turns not in (None, before.turns):
                return False
            tx.execute(update(direction).values(_FOLLOWING | {"turns": before.turns + 1}))
            _free_lead(tx)
        return True

    @retried
    def finish_promotion(self, turns: int, identical_as_of: datetime | None) -> Direction:
        """Record that the replica is the primary now, unless this promotion was cancelled.

        Args:
            turns: `Direction.turns` of the promotion. Another one that was begun meanwhile may
                still have to wait, so this call does nothing then.
        """
        promoted = update(direction).where(
            direction.c.direction_state == DirectionState.PROMOTING, direction.c.turns == turns
        )
        with self._writing() as tx:
            tx.execute(
                promoted.values(
                    direction_state=DirectionState.PROMOTED,
                    since_at=Now(),
                    identical_as_of=identical_as_of,
                )
            )
            return direction_in(tx)

    @retried
    def turn(
        self,
        turns: int,
        keys: Collection[str],
        combine: Combine,
        moved: Sequence[Mirror] = (),
    ) -> bool:
        """Exchange both sides after a promotion; whether this call did.

        Args:
            turns: `Direction.turns` of the promotion; after a turn, a repeat does nothing.
            keys: the collections whose ledger is kept; all others are forgotten.
            combine: see `Combine`.
            moved: collections that have another place on the promoted side, with that place.
        """
        placed = {mirror.collection_id: mirror for mirror in moved}
        with self._writing(long=True) as tx:
            before = DIRECTION.build(tx.execute(_LOCKED).one())
            if before.state is not DirectionState.PROMOTED or before.turns != turns:
                return False
            known = (placed.get(m.collection_id, m) for m in mirrors_in(tx))
            former = [mirror for mirror in known if mirror.collection_id in keys]
            _turn_mirrors(tx, self._backend, former, combine)
            for table in _OF_ONE_DIRECTION:
                tx.execute(delete(table))
            tx.execute(_SWAP_SIDES)
            tx.execute(update(deployment).values(_UNSEEN | {"away_since": before.since_at}))
            turned = _FOLLOWING | {"turns": before.turns + 1, "since_at": before.since_at}
            tx.execute(update(direction).values(turned))
            _free_lead(tx)
        return True

    # ---- restored collections ---------------------------------------------------------------

    @retried
    def note_restored(self, copies: dict[str, str]) -> None:
        """Store which collections were restored, each with the replica's collection it is from."""
        new = self._backend.insert(restored)
        there = {name: new.excluded[name] for name in ("replica_id", "restored_at")}
        put = new.on_conflict_do_update(index_elements=["collection_id"], set_=there)
        rows = [
            {"collection_id": copy, "replica_id": source, "restored_at": Now()}
            for copy, source in copies.items()
        ]
        with self._writing() as tx:
            for row in rows:
                tx.execute(put.values(row))

    @retried
    def restored(self) -> dict[str, str]:
        """The replica's collection that each restored collection was copied from."""
        with self._reading() as tx:
            rows = tx.execute(select(restored.c.collection_id, restored.c.replica_id))
            return {row[0]: row[1] for row in rows}

    @retried
    def forget_restored(self, copies: Collection[str]) -> None:
        """Forget restored collections: none of them counts as the primary's from now on."""
        with self._writing() as tx:
            tx.execute(delete(restored).where(restored.c.collection_id.in_(copies)))


_FOLLOWING: dict[str, Any] = {
    "direction_state": DirectionState.FOLLOWING,
    "since_at": None,
    "promoted_by": None,
    "replica_url": None,
    "planned": False,
    "writers_until": None,
    "identical_as_of": None,
}
_UNSEEN: dict[str, Any] = {
    "primary_url": None,
    "primary_seen_at": None,
    "clean_cycle": None,
    "clean_at": None,
}


def direction_in(tx: Connection) -> Direction:
    """Like `direction`, in the caller's transaction."""
    return DIRECTION.build(tx.execute(_ROW).one())


def _take_for_good(tx: Connection) -> None:
    held = {
        "holder": NOBODY,
        "ttl_seconds": FOR_GOOD_SECONDS,
        "expires_at": Later(FOR_GOOD_SECONDS),
    }
    ours = leases.c.name == COORDINATOR
    taken = update(leases).where(ours).values(held | {"token": leases.c.token + 1})
    if not tx.execute(taken).rowcount:
        tx.execute(insert(leases).values(held | {"name": COORDINATOR, "token": 1}))


def _free_lead(tx: Connection) -> None:
    ours = leases.c.name == COORDINATOR
    tx.execute(update(leases).where(ours).values(holder="", ttl_seconds=0.0, expires_at=Now()))


def _turn_mirrors(
    tx: Connection, backend: Backend, former: Sequence[Mirror], combine: Combine
) -> None:
    """Exchange both sides of these mirrors, and forget all others."""
    turned = [(m.collection_id, _turned(m, m.replica_id)) for m in former if m.replica_id]
    for key, _ in turned:
        _turn_digests(tx, key, combine)
        tx.execute(_DOUBT, {"key": key})
    for table in (mirrors, primary_collections):
        tx.execute(delete(table))
    for key, mirror in turned:
        tx.execute(_MOVE, {"key": key, "new_key": mirror.collection_id})
    if turned:
        put_mirrors(tx, backend, [mirror for _, mirror in turned])
    # ledgers of collections that were never on the replica
    ours = select(primary_collections.c.collection_id)
    tx.execute(delete(chunks).where(chunks.c.collection_id.not_in(ours)))
    known = select(chunks.c.id)
    for table in (replica_chunks, applied_digests, chunk_ids):
        tx.execute(delete(table).where(table.c.chunk_id.not_in(known)))


def _turn_digests(tx: Connection, key: str, combine: Combine) -> None:
    """Store how the former primary returned the records of a collection, chunk by chunk."""
    aside = set(tx.execute(_ASIDE, {"key": key}).scalars())
    for chunk_id, embeddings, payloads, ids, reduced in tx.execute(_APPLIED, {"key": key}).all():
        embedding, payload = Digests(embeddings), Digests(payloads)
        if reduced or _may_hold(ids, aside):
            embedding = payload = Digests.unknown(payload.rows)
        put = {"b_embeddings": embedding, "b_payloads": payload}
        replica = combine(embedding, payload)
        tx.execute(_PUT_APPLIED, put | {"b_chunk": chunk_id, "b_replicas": replica})


def _may_hold(packed: bytes, wanted: AbstractSet[str]) -> bool:
    """Whether a stored id list has one of these ids, or cannot be read."""
    try:
        return bool(wanted) and not wanted.isdisjoint(unpack_ids(packed))
    except ValueError:  # the next cycle finds the damage, and rebuilds the ledger
        return True


def _turned(former: Mirror, replica_id: str) -> Mirror:
    """The mirror of the promoted collection on the former primary."""
    known = former.primary
    return Mirror(
        PrimaryCollection(
            replica_id,
            known.tenant,
            known.database,
            known.name,
            ordered=False,
            count=former.replica_count,
            space=known.space,
            dimension=known.dimension,
            first_cycle=known.first_cycle,
        ),
        replica_id=former.collection_id,
        status=MirrorStatus.SYNCING,
        replica_count=known.count,
    )
