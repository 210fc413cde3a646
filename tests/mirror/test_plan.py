"""What `plan` says is what the next cycle does; it writes nothing itself."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chromasync.model import HoldKind
from chromasync.plan.removals import NEVER_HAD
from chromasync.quiet import Quiet
from chromasync.reports import CycleReport, PlannedAction, PlannedCollection, PlanReport
from tests.chaos.profile import NIGHTLY
from tests.support.stage import Stage, drop, fill, vectors

if TYPE_CHECKING:
    from chromadb import Collection

Counts = tuple[int, int, int]


def the(report: PlanReport, name: str = "docs") -> PlannedCollection:
    (planned,) = [c for c in report.collections if c.name == name]
    return planned


def planned_counts(report: PlanReport) -> dict[str, Counts]:
    """Create, update, delete by collection, but for what would be held."""
    return {c.name: (c.create, c.update, 0 if c.held else c.delete) for c in report.collections}


def done_counts(report: CycleReport) -> dict[str, Counts]:
    return {
        c.name: (c.counts.inserted, c.counts.updated + c.counts.replaced, c.counts.deleted)
        for c in report.collections
    }


def fingerprints(folder: Path) -> dict[str, str]:
    """What lies in a folder, byte by byte, and what the state file says, row by row."""
    found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
    database = folder / "chromasync.db"
    if database.exists():
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            found["rows"] = "\n".join(connection.iterdump())
    return found


def test_a_plan_writes_nothing_anywhere(stage: Stage) -> None:
    """Not to either server and not to the state file, whatever there would be to do."""
    docs = stage.create(count=30)
    stage.create("goes", count=2)
    stage.sync()
    docs.delete(ids=["r1"])
    docs.update(ids=["r2"], metadatas=[{"n": -2}])
    fill(docs, 5, start=100)
    drop(stage.primary, "goes")
    stage.create("comes", count=3)
    stage.on_replica().delete(ids=["r7"])
    state = fingerprints(stage.folder)
    writes = len(stage.replica_writes())
    report = stage.plan()
    assert report.exit_code == 4
    assert fingerprints(stage.folder) == state
    assert len(stage.replica_writes()) == writes


def test_looking_before_the_first_cycle_leaves_no_trace(stage: Stage, tmp_path: Path) -> None:
    """Neither a plan nor a status makes a state file, or the folder for it."""
    stage.create(count=3)
    folder = tmp_path / "not" / "yet"
    report = stage.plan(SYNC_DATA_DIR=str(folder))
    assert (the(report).action, the(report).create) == (PlannedAction.CREATE, 3)
    with stage.app(SYNC_DATA_DIR=str(folder)) as app:
        assert app.status().collections == ()
    assert list(tmp_path.iterdir()) == []
    assert stage.replica_writes() == [] or stage.replica.count_collections() == 0


@pytest.mark.long
def test_exit_codes_and_words(stage: Stage) -> None:
    """0 nothing to do, 1 something to do, 4 something would be held; the same with --json."""
    stage.overrides["SYNC_MAX_DELETE"] = "2"
    docs = stage.create(count=10)
    assert stage.plan().exit_code == 1
    stage.sync()
    assert stage.plan().exit_code == 0
    fill(docs, 1, start=50)
    changing = stage.command("plan")
    assert changing.returncode == 1
    assert "A cycle would create 1, update 0 and delete 0 records" in changing.stdout
    assert "Nothing was written." in changing.stdout
    docs.delete(ids=["r0", "r1", "r2"])
    holding = stage.command("plan", "--json")
    assert holding.returncode == 4
    document = json.loads(holding.stdout)
    assert document["exit_code"] == 4
    (planned,) = document["collections"]
    assert (planned["delete"], planned["held"]) == (3, True)
    assert planned["reason"] == "3 deletes are more than the limit of 2 for this collection"


def test_bytes_are_near_what_is_sent(stage: Stage) -> None:
    """The size of a first copy, and of a change of metadata alone, as the proxy counts it."""
    docs = stage.create()
    fill(docs, 300, dimension=64)
    for changed in (0, 40):
        if changed:
            docs.update(
                ids=[f"r{n}" for n in range(changed)], metadatas=[{"name": "other"}] * changed
            )
        expected = stage.plan().bytes
        before = len(stage.replica_writes())
        stage.sync()
        writes = stage.replica_writes()[before:]
        sent = sum(r.body_size for r in writes if r.path.endswith(("add", "update")))
        assert 0.7 * sent < expected < 1.3 * sent, (expected, sent)


def test_an_approved_hold_is_no_longer_held(stage: Stage) -> None:
    """A plan knows what someone approved, for deletes and for whole collections."""
    stage.overrides["SYNC_MAX_DELETE"] = "2"
    docs = stage.create(count=10)
    stage.create("goes", count=4)
    stage.sync()
    fill(stage.replica.create_collection("foreign", embedding_function=None), 3)
    docs.delete(ids=["r0", "r1", "r2"])
    drop(stage.primary, "goes")
    report = stage.plan()
    held = {c.name: (c.delete, c.held) for c in report.collections}
    assert held == {"docs": (3, True), "goes": (4, True), "foreign": (3, True)}
    stage.sync()
    stage.approve()
    report = stage.plan()
    assert report.exit_code == 1
    actions = {c.name: (c.action, c.delete, c.held) for c in report.collections}
    assert actions == {
        "docs": (PlannedAction.NONE, 3, False),
        "goes": (PlannedAction.DROP, 4, False),
        "foreign": (PlannedAction.DROP, 3, False),
    }
    assert stage.sync().counts.deleted == 10
    stage.assert_identical()


@pytest.mark.long
def test_whole_collections_are_planned_as_they_will_be_done(stage: Stage) -> None:
    """Created, renamed, redefined, adopted, replaced, dropped: the action and what it costs."""
    for name in ("stays", "renamed", "goes", "again", "meta"):
        stage.create(name, count=4)
    stage.sync()
    primary = stage.primary
    primary.get_collection("renamed", embedding_function=None).modify(name="new-name")
    primary.get_collection("meta", embedding_function=None).modify(metadata={"now": "with"})
    drop(primary, "goes")
    drop(primary, "again")
    stage.create("again", space="l2", count=3)
    stage.create("comes", count=2)
    stage.create("adopted", count=6)
    fill(stage.replica.create_collection("adopted", embedding_function=None), 5, start=100)
    report = stage.plan()
    assert {c.name: (c.action, c.create, c.delete) for c in report.collections} == {
        "stays": (PlannedAction.NONE, 0, 0),
        "new-name": (PlannedAction.RENAME, 0, 0),
        "meta": (PlannedAction.MODIFY, 0, 0),
        "goes": (PlannedAction.HOLD, 0, 4),
        "again": (PlannedAction.REPLACE, 3, 1),
        "comes": (PlannedAction.CREATE, 2, 0),
        "adopted": (PlannedAction.REPLACE, 6, 5),
    }
    done = stage.sync()
    assert done.counts.inserted == sum(c.create for c in report.collections)
    assert done.counts.deleted == 0
    assert {h.collection_name: (h.count, h.unconfirmed) for h in done.holds} == {
        "goes": (4, True),
        "again": (1, True),
        "adopted": (5, False),
    }
    report = stage.plan()
    assert {c.name: (c.action, c.delete, c.held) for c in report.collections if c.delete} == {
        "goes": (PlannedAction.DROP, 4, False),
        "again": (PlannedAction.REPLACE, 1, False),
        "adopted": (PlannedAction.REPLACE, 5, True),
    }
    done = stage.sync()
    assert done.counts.deleted == 4 + 1
    assert {h.collection_name for h in done.holds} == {"adopted"}


def test_a_replica_that_changed_by_itself_is_in_the_plan(stage: Stage) -> None:
    """Records that someone deleted there are planned to be mended, those they added to be held."""
    stage.overrides |= {"SYNC_CHUNK_SIZE": "10", "SYNC_SCRUB_BUDGET": "0"}
    stage.create(count=40)
    stage.sync()
    stage.sync()
    replica = stage.on_replica()
    replica.delete(ids=["r3", "r25"])
    fill(replica, 1, start=900)
    plan = stage.plan()
    assert planned_counts(plan) == {"docs": (2, 0, 0)}
    assert (the(plan).delete, the(plan).held, plan.exit_code) == (1, True, 4)
    report = stage.sync()
    assert done_counts(report) == {"docs": (2, 0, 0)}
    assert [(h.kind, h.count, h.reason) for h in report.holds] == [(HoldKind.SURPLUS, 1, NEVER_HAD)]
    stage.approve("docs")
    plan = stage.plan()
    assert (planned_counts(plan), plan.exit_code) == ({"docs": (0, 0, 1)}, 1)
    assert done_counts(stage.sync()) == {"docs": (0, 0, 1)}
    stage.assert_identical()


def test_a_damaged_ledger_can_still_be_planned(stage: Stage) -> None:
    """Both sides are compared instead, as the cycle will."""
    docs = stage.create(count=10)
    stage.sync()
    with stage.state() as state:
        state.execute("UPDATE sync_chunk_ids SET ids = x'00ff'")
    docs.update(ids=["r4"], metadatas=[{"n": -4}])
    assert planned_counts(stage.plan()) == {"docs": (0, 1, 0)}


@pytest.mark.long
@pytest.mark.parametrize("seed", range(12 if NIGHTLY else 1))
def test_random_changes_are_done_as_planned(stage: Stage, seed: int) -> None:
    """Counts of the plan equal those of the cycle after it, again and again."""
    chance = random.Random(seed)
    stage.overrides |= {
        "SYNC_CHUNK_SIZE": "15",
        "SYNC_MAX_DELETE": "6",
        "SYNC_SCRUB_BUDGET": chance.choice(["25%", "0"]),
    }
    changes = Changes(chance, stage.create(space=chance.choice(["l2", "cosine"]), count=50))
    stage.sync()
    for _ in range(6):
        changes.make()
        plan = stage.plan()
        report = stage.sync()
        assert planned_counts(plan) == done_counts(report), changes.log
        held = {c.name: c.delete for c in plan.collections if c.held}
        assert held == {c.name: c.held for c in report.collections if c.held}, changes.log
        if report.holds and chance.random() < 0.5:
            stage.approve()
            changes.log.append("approved")
    with stage.app() as app:
        app.sync(Quiet(), full=True)
    stage.approve()
    stage.sync()
    stage.assert_identical()


class Changes:
    """Random changes of one collection; `log` says which."""

    def __init__(self, chance: random.Random, collection: Collection) -> None:
        self.chance = chance
        self.collection = collection
        self.ids = [f"r{n}" for n in range(50)]
        self.next = 50
        self.log: list[str] = []

    def make(self) -> None:
        for _ in range(self.chance.randrange(4)):
            kind = self.chance.choice([self.add, self.delete, self.update, self.readd])
            self.log.append(f"{kind.__name__} {kind()}")
        self.log.append("sync")

    def some(self, most: int) -> list[str]:
        return self.chance.sample(self.ids, min(len(self.ids) - 1, self.chance.randrange(1, most)))

    def add(self) -> int:
        count = self.chance.randrange(1, 25)
        fill(self.collection, count, start=self.next)
        self.ids += [f"r{n}" for n in range(self.next, self.next + count)]
        self.next += count
        return count

    def delete(self) -> list[str]:
        chosen = self.some(9)
        self.collection.delete(ids=chosen)
        self.ids = [i for i in self.ids if i not in chosen]
        return chosen

    def update(self) -> list[str]:
        chosen = self.some(9)
        values = [{"changed": self.chance.random()} for _ in chosen]
        self.collection.update(ids=chosen, metadatas=values)  # type: ignore[arg-type]
        return chosen

    def readd(self) -> list[str]:
        chosen = self.some(5)
        self.collection.delete(ids=chosen)
        self.collection.add(
            ids=chosen,
            embeddings=vectors(len(chosen), seed=self.chance.randrange(99)),
            documents=["again"] * len(chosen),
        )
        return chosen
