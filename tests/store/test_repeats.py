"""A lost answer to COMMIT is harmless: every repeated method done twice is done once."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import select

from chromasync import faultpoints
from chromasync.errors import StoreUnavailable
from chromasync.ledger.digest import whole_digests
from chromasync.model import (
    Alert,
    ControlRow,
    Cycle,
    CycleStatus,
    Deletion,
    Deployment,
    Direction,
    Hold,
    HoldKind,
    Kept,
    KnownDistance,
    MarkRow,
    Quarantined,
    Recommendation,
    Removal,
    Side,
    Space,
    Task,
    Term,
    Usage,
    WorkerStatus,
)
from chromasync.store import SqlStore, open_store, queue, retry_charges
from chromasync.store.schema import Instant, metadata
from chromasync.trials import new_trial
from tests.store.conftest import Opener
from tests.store.samples import (
    COLLECTION,
    OTHER,
    beat_of,
    chunk_of,
    claim,
    claim_one,
    expire,
    loaded,
    plan_into,
    planned,
    result_for,
    task_for,
)
from tests.support.ledgers import mirror_of
from tests.support.postgres import Databases

MIRROR = mirror_of(COLLECTION, "t", "d", "n")
TRIAL = new_trial()
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
ALERT = Alert("webhook", "held", "id", "`docs`", "Held.", LONG_AGO)
HOLD = Hold(COLLECTION, "n", HoldKind.DROP, 1, "r", set_digest="3f9a")


@dataclass(frozen=True)
class Scene:
    """A store in the middle of a cycle."""

    store: SqlStore
    term: Term
    cycle: Cycle
    held: Task
    expired: Task
    free_chunk: int
    waiting_chunk: int
    deletion: Deletion


def arranged(store: SqlStore) -> Scene:
    """One completed, one held, one expired and one waiting task; something of everything else."""
    store.save_mirror(MIRROR)
    store.save_mirror(mirror_of(OTHER, "t", "d", "m"))
    store.save_hold(HOLD)
    store.save_mark(MarkRow("t/d", 1, "nonce"))
    store.save_kept(Kept("replica", "t", "d", "kept"))
    store.save_distances([KnownDistance(i, Space.IP, b"words") for i in (COLLECTION, OTHER)])
    store.beat(beat_of())
    store.keep_trial(TRIAL, "you", 60)
    store.take_share("you", 5.0, 0.0, 60)
    term = store.take_lead("me", 60)
    assert term is not None
    assert store.lead_alerts("me", 60, 0)
    assert store.save_alerts("me", [ALERT, replace(ALERT, receiver="old", over_at=LONG_AGO)])
    cycle = planned(store, 4)
    done = claim_one(store)
    aside = [Quarantined(COLLECTION, "0-a", "bad", absent=True)]
    assert store.complete_task(done, result_for(store, done, gone=["0-b"], quarantined=aside))
    held, expired = claim_one(store), claim_one(store)
    expire(store, expired)
    (deletion,) = store.deletions(COLLECTION)
    waiting_chunk = store.chunk_heads(COLLECTION)[-1].id
    return Scene(store, term, cycle, held, expired, done.chunk_id, waiting_chunk, deletion)


REPEATED: dict[str, Callable[[Scene], object]] = {
    "save_mirror": lambda s: s.store.save_mirror(mirror_of(COLLECTION, "t", "d", "other")),
    "save_mirrors": lambda s: s.store.save_mirrors([mirror_of(COLLECTION, "t", "d", "other")]),
    "forget_mirror": lambda s: s.store.forget_mirror(COLLECTION),
    "forget_chunks": lambda s: s.store.forget_chunks(COLLECTION),
    "move_ledger": lambda s: s.store.move_ledger(COLLECTION, OTHER),
    "save_chunks": lambda s: s.store.save_chunks(
        [
            chunk_of(["3-c"], chunk_id=s.waiting_chunk, mark=3),
            chunk_of(["x", "y"]),
            chunk_of([], chunk_id=s.free_chunk),
            chunk_of(["3-a", "3-b"], mark=2),
        ]
    ),
    "distrust": lambda s: s.store.distrust(COLLECTION),
    "note_read": lambda s: s.store.note_read(s.cycle, s.store.chunk_heads(COLLECTION)),
    "replace_surplus": lambda s: s.store.replace_surplus(COLLECTION, [["x"], ["y"]]),
    "finish_deletion": lambda s: s.store.finish_deletion(s.deletion, []),
    "add_tasks": lambda s: s.store.add_tasks(s.cycle.id, [task_for(s.free_chunk)]),
    "claim_task": lambda s: s.store.claim_task("w", 60, 7),
    "complete_task": lambda s: s.store.complete_task(
        s.held, result_for(s.store, s.held, gone=["1-a"])
    ),
    "fail_task": lambda s: s.store.fail_task(s.held, "no\0"),
    "release_tasks": lambda s: s.store.release_tasks([s.held]),
    "renew_tasks": lambda s: s.store.renew_tasks([s.held], 500),
    "rescue_tasks": lambda s: s.store.rescue_tasks(),
    "cancel_tasks": lambda s: s.store.cancel_tasks("no"),
    "beat": lambda s: s.store.beat(beat_of("another")),
    "take_lead": lambda s: s.store.take_lead("me", 60),
    "give_up_lead": lambda s: s.store.give_up_lead(s.term),
    "keep_trial": lambda s: s.store.keep_trial(TRIAL, "me", 60),
    "forget_trial": lambda s: s.store.forget_trial(TRIAL),
    "open_cycle": lambda s: s.store.open_cycle(),
    "close_cycle": lambda s: s.store.close_cycle(s.cycle.id, CycleStatus.FAILED, 3, "x"),
    "save_hold": lambda s: s.store.save_hold(Hold(COLLECTION, "n", HoldKind.DELETES, 1, "r")),
    "clear_hold": lambda s: s.store.clear_hold(COLLECTION, HoldKind.DROP),
    "note_shown": lambda s: s.store.note_shown([HOLD]),
    "approve": lambda s: s.store.approve(HOLD),
    "end_approvals": lambda s: s.store.end_approvals({COLLECTION}),
    "save_deployment": lambda s: s.store.save_deployment(
        Deployment("no", "http://primary", clean_cycle=s.cycle.id)
    ),
    "note_away": lambda s: s.store.note_away(),
    "remember_ids": lambda s: s.store.remember_ids(s.cycle.id, {COLLECTION: Side.PRIMARY}),
    "note_removal": lambda s: s.store.note_removal(s.cycle.id, Removal(COLLECTION, 3, whole=True)),
    "save_kept": lambda s: s.store.save_kept(Kept("another", "t", "d", "kept")),
    "forget_kept": lambda s: s.store.forget_kept("replica"),
    "save_distances": lambda s: s.store.save_distances([KnownDistance(COLLECTION, Space.L2, b"")]),
    "forget_distances": lambda s: s.store.forget_distances({OTHER}),
    "save_mark": lambda s: s.store.save_mark(MarkRow("t/d", 2, "newer")),
    "note_mark_written": lambda s: s.store.note_mark_written("t/d", "nonce"),
    "begin_promotion": lambda s: s.store.begin_promotion(
        "me@here", "http://r", planned=True, lease_seconds=60
    ),
    "cancel_promotion": lambda s: s.store.cancel_promotion(),
    "finish_promotion": lambda s: s.store.finish_promotion(0, None),
    "turn": lambda s: s.store.turn(0, {COLLECTION}, whole_digests),
    "note_restored": lambda s: s.store.note_restored({"new": "replica"}),
    "forget_restored": lambda s: s.store.forget_restored(["new"]),
    "pause": lambda s: s.store.pause("me@here", "why", 60),
    "resume": lambda s: s.store.resume(),
    "want_cycle": lambda s: s.store.want_cycle("me@here", full=True),
    "take_share": lambda s: s.store.take_share("me", 5.0, 0.0, 60),
    "give_up_share": lambda s: s.store.give_up_share("you"),
    "begin_wanted": lambda s: s.store.begin_wanted(1, 7),
    "lead_alerts": lambda s: s.store.lead_alerts("me", 90, 30),
    "give_up_alerts": lambda s: s.store.give_up_alerts("me"),
    "save_alerts": lambda s: s.store.save_alerts("me", [replace(ALERT, told_count=1)]),
    "forget_alerts": lambda s: s.store.forget_alerts(86_400),
    "forget_instants": lambda s: s.store.forget_instants(),
    "record_usage": lambda s: s.store.record_usage("w", 4, Usage(60, records_read=5)),
    "note_usage": lambda s: s.store.note_usage(s.cycle.id, Usage(9), 3.5),
    "note_recommendation": lambda s: s.store.note_recommendation(
        Recommendation("phase 0", "phase 1", "why", "7 USD", ("large",), {"documents": 5})
    ),
    "thin_measurements": lambda s: s.store.thin_measurements(),
    "prune_history": lambda s: s.store.prune_history(keep_seconds=0, keep_tasks=0),
}
COUNTING = {"add_tasks", "rescue_tasks", "cancel_tasks", "prune_history", "thin_measurements"}
"""These say how much they did, which after a repeat is how much was left."""

UNEQUAL = {"claim_number", "duration_seconds", "records_per_second", "store_id"}
"""Columns that differ from one time to the next."""

READING = {
    *("mirrors", "mirror", "task_input", "chunk_heads", "load_chunk", "deletions", "quarantined"),
    *("heads_of", "load_chunks", "waiting_deletions"),
    *("task_counts", "failed_tasks", "tasks_by_worker", "workers", "now", "cycles", "cycle_counts"),
    *("active_workers", "snapshot"),
    *("holds", "schema_version", "connections"),
    *("live_trials", "known_trials"),
    *("deployment", "sides_of", "removals_of_day", "kept", "overdue_kept", "marks"),
    "distances",
    *("newest_instant", "suspicions", "control", "orders", "leader", "alerts", "measurements"),
    "recommendations",
    *("direction", "restored"),
}
IN_STEPS = {"lead_alerts", "open_cycle", "save_chunks", "note_removal", "want_cycle"}
"""These look first at what is there; each of their steps is repeated."""

VIEWS = {"led_by", "urgent", "copied", "close", "backend"}


def content_of(store: SqlStore) -> dict[str, list[tuple[Any, ...]]]:
    """All rows, with instants, durations and random numbers told apart only from none.

    The number of a deletion says nothing, and is left out.
    """
    found = {}
    for table in metadata.sorted_tables:
        with store._reading() as tx:
            rows = tx.execute(select(table)).all()
        shown = [c.name != "id" or table.name != "sync_deletions" for c in table.c]
        opaque = [isinstance(c.type, Instant) or c.name in UNEQUAL for c in table.c]
        found[table.name] = sorted(
            tuple(
                (value is not None) if hide else value
                for value, hide, show in zip(row, opaque, shown, strict=True)
                if show
            )
            for row in rows
        )
    return found


class LoseOneAnswer:
    """Breaks the connection once, right after a commit."""

    def __init__(self) -> None:
        self.lost = 0

    def __call__(self, point: str) -> None:
        if point == faultpoints.AFTER_COMMIT and not self.lost:
            self.lost += 1
            raise ConnectionResetError("the answer to COMMIT was lost")


@pytest.fixture
def two_scenes(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Scene, Scene]]:
    """The same scene in two databases."""
    monkeypatch.setattr(queue, "_step", lambda: 1)
    urls = [databases.take(), databases.take()]
    stores = [open_store(url) for url in urls]
    yield arranged(stores[0]), arranged(stores[1])
    for store, url in zip(stores, urls, strict=True):
        store.close()
        databases.give_back(url)


def comparable(result: object) -> object:
    """A result without its instants."""
    if isinstance(result, Task):
        return (result.id, result.fence, result.chunk_id, result.retry_count)
    if isinstance(result, Cycle):
        return (result.id, result.status, result.counts, result.error)
    if isinstance(result, Recommendation):
        return (result.current_phase, result.recommended_phase, result.rules, result.measured)
    if isinstance(result, ControlRow):
        return (result.paused_by, result.pause_reason)
    if isinstance(result, Direction):
        return (result.state, result.turns, result.by, result.url, result.planned)
    return result


@pytest.mark.long
@pytest.mark.parametrize("name", REPEATED)
def test_a_lost_answer_changes_nothing(two_scenes: tuple[Scene, Scene], name: str) -> None:
    """The method is repeated by itself; rows and result are those of one call."""
    once, twice = two_scenes
    expected = REPEATED[name](once)
    lose = LoseOneAnswer()
    with faultpoints.injected(lose):
        result = REPEATED[name](twice)
    assert lose.lost == 1
    assert content_of(twice.store) == content_of(once.store)
    if name not in COUNTING:
        assert comparable(result) == comparable(expected)


def test_every_method_is_accounted_for() -> None:
    """A new method of the store is put to the test above, or it is known why not."""
    public = {name for name in dir(SqlStore) if not name.startswith("_")}
    assert public == set(REPEATED) | READING | VIEWS
    outlasting = {
        name for name in public - VIEWS if hasattr(getattr(SqlStore, name), "__wrapped__")
    }
    assert outlasting | IN_STEPS == set(REPEATED) | READING


def test_no_method_takes_what_can_be_read_only_once() -> None:
    """A repeat would find an iterator empty, and answer for nothing as if it were all."""
    for name in set(REPEATED) | READING:
        for annotation in inspect.get_annotations(getattr(SqlStore, name)).values():
            assert not re.search(r"\b(Iterable|Iterator|Generator)\b", str(annotation)), name


def test_a_task_that_fails_when_it_is_planned_is_not_planned_again(
    two_scenes: tuple[Scene, Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repeat finds no live task, and all the same begins nothing afresh."""
    monkeypatch.setattr(retry_charges, "MAX_RETRIES", 0)
    once, twice = two_scenes
    for scene in two_scenes:
        scene.store.beat(beat_of(status=WorkerStatus.DEAD))
        scene.store.cancel_tasks("no")
    once.store.add_tasks(once.cycle.id, [task_for(once.held.chunk_id)])
    with faultpoints.injected(LoseOneAnswer()):
        twice.store.add_tasks(twice.cycle.id, [task_for(twice.held.chunk_id)])
    assert content_of(twice.store) == content_of(once.store)
    assert claim(twice.store, 1) == []


def test_adding_chunks_is_not_doubled(pg_store: SqlStore) -> None:
    """What a lost answer told is looked up, in the order in which it was added."""
    planned(pg_store, 1)
    with faultpoints.injected(LoseOneAnswer()):
        ids = pg_store.save_chunks([chunk_of(["a"]), chunk_of(["b"])])
    assert [loaded(pg_store, chunk_id).ids for chunk_id in ids] == [["a"], ["b"]]
    assert len(pg_store.chunk_heads(COLLECTION)) == 3


def test_nothing_is_repeated_without_retry_seconds(opener: Opener, pg_store: SqlStore) -> None:
    """SQLite has waited already, and what is urgent must fail soon."""
    for store in (opener(), pg_store):
        urgent = store.urgent()
        cycle = planned(store, 0)
        plan_into(store, cycle, 1)
        task = claim_one(store)
        with faultpoints.injected(LoseOneAnswer()), pytest.raises(StoreUnavailable):
            urgent.renew_tasks([task], 60)
