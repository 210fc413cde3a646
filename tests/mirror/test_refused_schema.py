"""A primary whose schema the replica's server refuses in part: the rest is kept, and that is said.

The primary is one in memory, because no single-node Chroma would hold such a collection.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chromasync.chroma import ChromaWriter
from chromasync.chroma.connection import Connection
from chromasync.config import Settings, load_settings
from chromasync.definition import without_sparse_indexes
from chromasync.lab.fake import FakeServer
from chromasync.model import MARKS_DATABASE, Collection, Definition, MirrorStatus, Records, Side
from chromasync.ports import Writer
from chromasync.quiet import Quiet
from chromasync.reports import CycleReport, Outcome
from chromasync.role import Participant
from chromasync.store import SqlStore, open_store
from chromasync.verify import Verifier
from tests.support.ledgers import joined, record
from tests.support.stage import TENANT, Stage

SENTENCE = "The replica's server does not keep these indexes: sp/sparse_vector_index=on."
LISTED = Path(__file__).parents[1] / "unit" / "listed_collections.json"


def schema_with_sparse_index() -> dict[str, Any]:
    """What a distributed server lists: an index of sparse vectors, and another one switched off."""
    listed = json.loads(LISTED.read_text(encoding="utf-8"))["1.5.9"]["plain"]["schema"]
    schema: dict[str, Any] = copy.deepcopy(listed)
    config = {"bm25": False, "embedding_function": {"type": "unknown"}, "source_key": "#document"}
    index = {"sparse_vector_index": {"enabled": True, "config": config}}
    off = copy.deepcopy(schema["defaults"]["string"])
    off["string_inverted_index"]["enabled"] = False
    schema["keys"] |= {"sp": {"sparse_vector": index}, "topic": {"string": off}}
    return schema


class SingleNode(FakeServer):
    """A replica in memory that holds what the transport gets into a single-node server."""

    def create_collection(self, definition: Definition) -> Collection:
        """See `ports.Writer`; the sparse index is off, and the mark's collection has no schema."""
        if definition.schema is None:
            assert definition.database == MARKS_DATABASE
            return super().create_collection(definition)
        reduced = without_sparse_indexes(definition.schema)
        return super().create_collection(replace(definition, schema=reduced))


@pytest.fixture(params=["in memory", "real"])
def replica(request: pytest.FixtureRequest, stage: Stage) -> Iterator[Writer]:
    """A server that refuses indexes of sparse vectors."""
    if request.param == "in memory":
        yield SingleNode(database=stage.database)
        return
    with ChromaWriter(Connection(Side.REPLICA, stage.servers.replica_proxy.url)) as writer:
        yield writer


class Scene:
    """A primary with one such collection, and cycles that mirror it."""

    def __init__(self, stage: Stage, replica: Writer, folder: Path) -> None:
        self.replica = replica
        self.primary = FakeServer(Side.PRIMARY, database=stage.database)
        self.docs = self.primary.make("docs", schema=schema_with_sparse_index())
        self.primary.put(self.docs, joined(*[record(i) for i in "abc"]))
        self.store: SqlStore = open_store(folder / "state.db")
        self.settings: Settings = load_settings(flags=stage.values())
        self.database = stage.database

    def cycle(self) -> CycleReport:
        with Participant(self.primary, self.replica, self.store, self.settings) as participant:
            return participant.run_cycle(Quiet())

    def copied(self) -> Collection:
        (found,) = self.replica.list_collections(TENANT, self.database)
        return found


@pytest.fixture
def scene(stage: Stage, replica: Writer, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(stage, replica, tmp_path)
    yield scene
    scene.store.close()


def test_it_is_copied_once_and_called_limited(scene: Scene) -> None:
    """In every cycle the state and the sentence are the same, and nothing is written again."""
    first = scene.cycle()
    made = scene.copied()
    assert first.counts.inserted == 3
    reports = [first, *(scene.cycle() for _ in range(3))]
    assert [r.counts.applied for r in reports] == [3, 0, 0, 0]
    assert scene.copied().id == made.id
    for report in reports:
        assert (report.outcome, report.warnings) == (Outcome.LIMITED, ())
        (docs,) = report.collections
        assert docs.status is MirrorStatus.LIMITED
        assert SENTENCE in docs.message


def test_what_the_server_takes_of_the_schema_is_kept(scene: Scene) -> None:
    """Another index that a person switched off is off on the replica too."""
    scene.cycle()
    schema = scene.copied().schema
    assert schema is not None
    topic = schema["keys"]["topic"]["string"]["string_inverted_index"]
    assert topic["enabled"] is False


def test_a_change_on_the_primary_arrives(scene: Scene) -> None:
    """A limited collection is mirrored like any other."""
    scene.cycle()
    added: Records = joined(record("d"))
    scene.primary.put(scene.docs, added)
    scene.primary.remove(scene.docs, ["a"])
    report = scene.cycle()
    assert (report.counts.inserted, report.counts.deleted) == (1, 1)
    assert sorted(scene.replica.list_ids(scene.copied(), offset=0, limit=9)) == ["b", "c", "d"]


def test_it_is_verified(scene: Scene) -> None:
    """The records are equal, and nothing calls for a new copy."""
    scene.cycle()
    report = Verifier(scene.primary, scene.replica, scene.settings).verify(Quiet())
    (docs,) = report.collections
    assert (docs.same, docs.changed, docs.missing, docs.extra) == (3, 0, 0, 0)
