"""Any writes on the primary, any foreign changes on the replica, any kills: after quiet, identical.

Failing runs print the steps that lead there. The seeded run of every day is short; the long one
draws anew each time: `make chaos`.
"""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chromasync import faultpoints, steering
from chromasync.errors import Paused
from chromasync.lab.proxy import Request
from chromasync.quiet import Quiet
from chromasync.reports import Outcome
from tests.chaos.mortal import sync_until
from tests.chaos.processes import live_tasks
from tests.chaos.profile import NIGHTLY
from tests.support.rest import Rest
from tests.support.stage import Servers, Stage, running_servers

if TYPE_CHECKING:
    from chromadb import Collection

SETTINGS = {"SYNC_CHUNK_SIZE": "3"}
NAMES = ["one", "two", "three"]
MOST_CYCLES = 8
"""Until quiet: two to see that a collection vanished, one more for each kind of approval."""

PROFILE = settings(
    max_examples=400 if NIGHTLY else 8,
    stateful_step_count=40 if NIGHTLY else 14,
    derandomize=not NIGHTLY,
    database=None,
    deadline=None,
    print_blob=True,
    phases=[Phase.generate, *([Phase.shrink] if NIGHTLY else [])],
    suppress_health_check=list(HealthCheck),
)

names = st.sampled_from(NAMES)
numbers = st.integers(0, 9)
values = st.one_of(
    st.sampled_from([0, 1, 1.0, True, "1", "", 0.1, -0.0, 2**53 + 1, "äöü\n🙂"]),
    st.sampled_from([["x", "y"], [1, 2], [0.5], [True, False]]),
)
metadatas = st.dictionaries(st.sampled_from(["k", "l", "m"]), values, max_size=3)
texts = st.sampled_from(["", "some text", "another\ntext", "🙂"])


@dataclass
class Known:
    """What the test knows of a primary collection."""

    dimension: int
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)


class ReplicationMachine(RuleBasedStateMachine):
    """A primary that is written, a replica that is meddled with, and a program that gets killed."""

    servers: Servers

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.known: dict[str, Known] = {}
        self.vectors = np.random.default_rng(0)
        self.meddled = False
        self.vanished = False
        self.servers.primary_proxy.reset()
        self.servers.replica_proxy.reset()

    @initialize(suffix=st.sampled_from(["", "-copies"]))
    def begin(self, suffix: str) -> None:
        """A place on the replica, the same as on the primary or another one."""
        self.stage = Stage(self.servers, Path(self.folder.name), suffix=suffix)
        # the official client embeds documents itself unless their embeddings come with them
        self.primary_rest = Rest(self.servers.primary.url, self.stage.database)
        self.replica_rest = Rest(self.servers.replica.url, self.stage.database + suffix)

    def teardown(self) -> None:
        try:
            self.settle()
        finally:
            for rest in (self.primary_rest, self.replica_rest):
                rest.close()
            self.stage.close()
            self.folder.cleanup()

    # ---- the primary ------------------------------------------------------------------------

    def on_primary(self, name: str) -> Collection:
        return self.stage.primary.get_collection(name, embedding_function=None)

    def embeddings(self, name: str, count: int) -> np.ndarray:
        shape = count, self.known[name].dimension
        return self.vectors.standard_normal(shape).astype(np.float32)

    @rule(
        name=names,
        space=st.sampled_from(["cosine", "l2", "ip"]),
        dimension=st.sampled_from([2, 3]),
        metadata=st.one_of(st.none(), st.just({"made": 1, "by": "hand"})),
    )
    def create(self, name: str, space: str, dimension: int, metadata: Any) -> None:
        """A new collection, or another one in the place of the one that has the name."""
        if name in self.known:
            self.drop(name)
        self.stage.create(name, space=space, metadata=metadata)
        self.known[name] = Known(dimension)

    @rule(name=names)
    def drop(self, name: str) -> None:
        if self.known.pop(name, None) is not None:
            self.stage.primary.delete_collection(name)
            self.vanished = True

    @rule(name=names, left_out=st.sets(numbers, max_size=6))
    def import_again(self, name: str, left_out: set[int]) -> None:
        """The same collection with another id, and with most or few of its records."""
        if name not in self.known:
            return
        entry, records = self.primary_rest.collections()[name], self.primary_rest.records(name)
        kept = {i: r for i, r in records.items() if i not in {f"r{n}" for n in left_out}}
        self.stage.primary.delete_collection(name)
        described = {"metadata": entry["metadata"]} if entry["metadata"] else {}
        self.primary_rest.create(name, configuration=entry["configuration_json"], **described)
        self.vanished = True
        if kept:
            self.primary_rest.write(
                "add",
                name,
                ids=list(kept),
                embeddings=[record.embedding for record in kept.values()],
                documents=[record.document for record in kept.values()],
                metadatas=[record.metadata or None for record in kept.values()],
                uris=[record.uri for record in kept.values()],
            )
        for record_id in records.keys() - kept.keys():
            self.known[name].metadata.pop(record_id, None)

    @precondition(lambda self: len(self.known) > 1)
    @rule(pair=st.permutations(NAMES))
    def swap_names(self, pair: list[str]) -> None:
        one, other, *_ = [name for name in pair if name in self.known]
        left, right = self.on_primary(one), self.on_primary(other)
        left.modify(name="meanwhile")
        right.modify(name=one)
        left.modify(name=other)
        self.known[one], self.known[other] = self.known[other], self.known[one]

    @rule(name=names, other=names)
    def rename(self, name: str, other: str) -> None:
        if name in self.known and other not in self.known:
            self.on_primary(name).modify(name=other)
            self.known[other] = self.known.pop(name)

    @rule(name=names, metadata=st.dictionaries(st.sampled_from(["x", "y"]), numbers, min_size=1))
    def describe(self, name: str, metadata: dict[str, int]) -> None:
        if name in self.known:
            self.on_primary(name).modify(metadata=metadata)

    @rule(name=names, some=st.sets(numbers, min_size=1), metadata=metadatas, text=texts)
    def write(self, name: str, some: set[int], metadata: Any, text: str) -> None:
        """Add records, or write over them: keys that are there stay, as Chroma merges."""
        if name not in self.known:
            return
        ids = [f"r{n}" for n in sorted(some)]
        self.on_primary(name).upsert(
            ids=ids,
            embeddings=self.embeddings(name, len(ids)),
            documents=[text] * len(ids),
            metadatas=[metadata] * len(ids) if metadata else None,
        )
        for record_id in ids:
            self.known[name].metadata.setdefault(record_id, {}).update(metadata)

    @rule(name=names, some=st.sets(numbers, min_size=1), with_document=st.booleans())
    def re_add(self, name: str, some: set[int], with_document: bool) -> None:
        """Delete records and add them again at the end, perhaps without document and metadata."""
        if name not in self.known:
            return
        ids = [f"r{n}" for n in sorted(some)]
        collection = self.on_primary(name)
        collection.delete(ids=ids)
        collection.add(
            ids=ids,
            embeddings=self.embeddings(name, len(ids)),
            documents=["again"] * len(ids) if with_document else None,
            uris=None if with_document else [f"file:///{i}" for i in ids],
        )
        self.known[name].metadata.update({record_id: {} for record_id in ids})

    @rule(name=names, some=st.sets(numbers, min_size=1, max_size=4))
    def delete(self, name: str, some: set[int]) -> None:
        if name in self.known:
            ids = [f"r{n}" for n in some]
            self.on_primary(name).delete(ids=ids)
            self.vanished = True
            for record_id in ids:
                self.known[name].metadata.pop(record_id, None)

    @rule(
        name=names,
        number=numbers,
        what=st.sampled_from(["embedding", "document", "key", "remove key", "uri", "no uri"]),
        text=texts,
        value=values,
    )
    def update(self, name: str, number: int, what: str, text: str, value: Any) -> None:
        """Change one field of one record."""
        record_id = f"r{number}"
        if name not in self.known or record_id not in self.known[name].metadata:
            return
        keys = self.known[name].metadata[record_id]
        change: dict[str, Any] = {}
        match what:
            case "embedding":
                change = {"embeddings": self.embeddings(name, 1).tolist()}
            case "document":
                change = {"documents": [text]}
            case "key":
                change = {"metadatas": [{"k": value}]}
                keys["k"] = value
            case "remove key" if keys:
                gone = min(keys)
                change = {"metadatas": [{gone: None}]}
                del keys[gone]
            case "uri":
                change = {"uris": [f"file:///{text!r}"]}
            case "no uri":
                change = {"metadatas": [{"chroma:uri": None}]}
        if change:
            self.primary_rest.write("update", name, ids=[record_id], **change)

    # ---- the replica, by someone else -------------------------------------------------------

    def on_replica(self, name: str) -> Collection | None:
        there = {c.name for c in self.stage.replica.list_collections()}
        return self.stage.on_replica(name) if name in there else None

    @rule(name=names, some=st.sets(numbers, min_size=1, max_size=5))
    def meddle_delete(self, name: str, some: set[int]) -> None:
        if (collection := self.on_replica(name)) is not None:
            collection.delete(ids=[f"r{n}" for n in some])
            self.meddled = True

    @rule(name=names, some=st.sets(numbers, min_size=1, max_size=5), text=texts)
    def meddle_change(self, name: str, some: set[int], text: str) -> None:
        if self.on_replica(name) is not None:
            ids = [f"r{n}" for n in some]
            metadatas = [{"k": "meddled", "z": 1}] * len(ids)
            documents = [text] * len(ids)
            self.replica_rest.write(
                "update", name, ids=ids, documents=documents, metadatas=metadatas
            )
            self.meddled = True

    @rule(name=names, count=st.integers(1, 4))
    def meddle_add(self, name: str, count: int) -> None:
        collection = self.on_replica(name)
        if collection is None or name not in self.known:
            return
        there = collection.get(limit=1, include=["embeddings"])["embeddings"]
        if there is None or not len(there):
            return
        rows = self.vectors.standard_normal((count, len(there[0]))).astype(np.float32)
        collection.upsert(ids=[f"foreign{n}" for n in range(count)], embeddings=rows)
        self.meddled = True

    @rule(name=names)
    def meddle_drop(self, name: str) -> None:
        if self.on_replica(name) is not None:
            self.stage.replica.delete_collection(name)
            self.meddled = True

    @rule(name=st.sampled_from([*NAMES, "foreign"]), count=st.integers(0, 2))
    def meddle_create(self, name: str, count: int) -> None:
        if self.on_replica(name) is None:
            collection = self.stage.replica.create_collection(name, embedding_function=None)
            if count:
                rows = self.vectors.standard_normal((count, 2)).astype(np.float32)
                collection.add(ids=[f"r{n}" for n in range(count)], embeddings=rows)
            self.meddled = True

    @rule(name=names)
    def meddle_rename(self, name: str) -> None:
        collection = self.on_replica(name)
        if collection is not None and self.on_replica("renamed") is None:
            collection.modify(name="renamed")
            self.meddled = True

    # ---- the program ------------------------------------------------------------------------

    @rule()
    def cycle(self) -> None:
        self.stage.sync(**SETTINGS)

    @rule(point=st.sampled_from(faultpoints.ALL), nth=st.integers(1, 4), full=st.booleans())
    def killed_cycle(self, point: str, nth: int, full: bool) -> None:
        sync_until(self.stage, point, nth, full=full, **SETTINGS)

    @rule(
        number=st.integers(1, 16),
        full=st.booleans(),
        grace=st.sampled_from([0.0, steering.GRACE_SECONDS]),
    )
    def paused_cycle(self, number: int, full: bool, grace: float) -> None:
        """A cycle that someone pauses at any request; without a grace, it is the last one."""
        with self.stage.app(**SETTINGS) as app, pytest.MonkeyPatch.context() as patch:
            patch.setattr(steering, "GRACE_SECONDS", grace)
            asked = itertools.count(1)

            def pause(_: Request) -> None:
                if next(asked) == number:
                    app.store.pause("ann@here", "")
                    app._steering.note(app.store.orders())

            for proxy in (self.servers.primary_proxy, self.servers.replica_proxy):
                patch.setattr(proxy, "fault", pause)
            try:
                app.sync(Quiet(), full=full)
            except Paused:
                assert app.status().is_paused
            app.resume()
        assert live_tasks(self.stage) == 0

    @rule()
    def settle(self) -> None:
        """Nothing changes any more: identical after as many cycles as are promised, then quiet."""
        cycles = MOST_CYCLES if self.meddled or self.vanished else 1
        for _ in range(cycles):
            report = self.stage.sync(full=self.meddled, **SETTINGS)
            if report.outcome is Outcome.IDENTICAL:
                break
            if report.holds:
                with self.stage.app() as app:
                    app.note_shown(app.status())
                    app.approve([], everything=True)
        assert report.outcome is Outcome.IDENTICAL, report
        self.stage.assert_identical()
        self.stage.assert_quiet(**SETTINGS)
        self.meddled = self.vanished = False
        assert live_tasks(self.stage) == 0
        for name in self.known:
            held = [record_id for ids in self.stage.ledger_ids(name) for record_id in ids]
            assert sorted(held) == sorted(self.on_primary(name).get(include=[])["ids"]), name

    @invariant()
    def the_primary_is_never_written(self) -> None:
        assert self.servers.primary_proxy.writes() == []


@pytest.mark.longest
@pytest.mark.long
@pytest.mark.timeout(0 if NIGHTLY else 600)
def test_whatever_happens_the_replica_becomes_identical() -> None:
    """Random steps of all three, and after each quiet: identical, and nothing left to do.

    On servers of their own: collections are dropped full here, and what Chroma then leaves behind
    would turn up in the records of other tests.
    """
    with running_servers() as ReplicationMachine.servers:
        run_state_machine_as_test(ReplicationMachine, settings=PROFILE)
