"""Every change of one record arrives in one cycle, and only what changed is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.rest import Rest
from tests.support.stage import Stage, fill
from tests.support.writes import Fields, Writes, action_of, watched

OLD = [1.0, 2.0, 3.0, 4.0]
NEW = [0.5, -2.0, 3.0, 8.0]
WHOLE = {
    "embedding": OLD,
    "document": "the text",
    "metadata": {"n": 1, "kept": "as it is"},
    "uri": "file:///here",
}
BARE = {"embedding": OLD, "metadata": {"n": 1}}
"""A record without document and uri."""

Change = Callable[[Rest, str], None]
Sent = list[tuple[str, Fields]]


def put(primary: Rest, record_id: str, record: Fields) -> None:
    """Add one record; fields that it lacks are null."""
    primary.write("add", ids=[record_id], **{f"{name}s": [v] for name, v in record.items()})


def update(**fields: Any) -> Change:
    """Change these fields of one record."""
    columns = {f"{name}s": [value] for name, value in fields.items()}
    return lambda primary, record_id: primary.write("update", ids=[record_id], **columns)


def replaced(record: Fields) -> Change:
    """Delete the record and add this one under its id."""

    def change(primary: Rest, record_id: str) -> None:
        primary.write("delete", ids=[record_id])
        put(primary, record_id, record)

    return change


@dataclass(frozen=True)
class Case:
    """One record before, what happens to it on the primary, and what may be sent for it."""

    change: Change
    sent: Sent
    before: Fields | None = None


def only(**fields: Any) -> Sent:
    """One update that names these fields."""
    return [("update", fields)]


CASES: dict[str, Case] = {
    "embedding": Case(update(embedding=NEW), only(embedding=NEW)),
    "document": Case(update(document="another text"), only(document="another text")),
    "document emptied": Case(update(document=""), only(document="")),
    "empty document filled": Case(
        update(document="text"), only(document="text"), WHOLE | {"document": ""}
    ),
    "document to null": Case(
        replaced({k: v for k, v in WHOLE.items() if k != "document"}),
        [("delete", {}), ("upsert", {k: v for k, v in WHOLE.items() if k != "document"})],
    ),
    "document from null": Case(update(document="new"), only(document="new"), BARE),
    "value": Case(update(metadata={"n": 2}), only(metadata={"n": 2})),
    "key added": Case(update(metadata={"more": "x"}), only(metadata={"more": "x"})),
    "key removed": Case(update(metadata={"n": None}), only(metadata={"n": None})),
    "key renamed": Case(update(metadata={"n": None, "m": 1}), only(metadata={"n": None, "m": 1})),
    "last keys removed": Case(
        update(metadata={"n": None, "kept": None}), only(metadata={"n": None, "kept": None})
    ),
    "first key": Case(
        update(metadata={"n": 1}), only(metadata={"n": 1}), {"embedding": OLD, "document": "d"}
    ),
    "uri set": Case(update(uri="file:///new"), only(uri="file:///new"), BARE),
    "uri changed": Case(update(uri="file:///there"), only(uri="file:///there")),
    "uri emptied": Case(update(uri=""), only(uri="")),
    "uri cleared": Case(update(metadata={"chroma:uri": None}), only(metadata={"chroma:uri": None})),
    "all at once": Case(
        update(embedding=NEW, document="d", metadata={"n": None, "m": 2.5}, uri="u"),
        only(embedding=NEW, document="d", metadata={"n": None, "m": 2.5}, uri="u"),
    ),
    "new": Case(lambda primary, name: put(primary, name, WHOLE), [("add", WHOLE)], {}),
    "new and bare": Case(
        lambda primary, name: put(primary, name, {"embedding": OLD}),
        [("add", {"embedding": OLD})],
        {},
    ),
    "deleted": Case(lambda primary, name: primary.write("delete", ids=[name]), [("delete", {})]),
    "added again as it was": Case(replaced(WHOLE), []),
    "added again with less": Case(
        replaced(WHOLE | {"metadata": {"n": 1}}), only(metadata={"kept": None})
    ),
    "added again with another embedding": Case(
        replaced(WHOLE | {"embedding": NEW}), only(embedding=NEW)
    ),
    "added again without uri": Case(
        replaced({k: v for k, v in WHOLE.items() if k != "uri"}),
        only(metadata={"chroma:uri": None}),
    ),
    "written over with the same": Case(update(embedding=OLD, document="the text"), []),
    "untouched": Case(lambda primary, name: None, []),
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("space", "chunk_size"), [("cosine", "1000"), ("cosine", "5"), ("l2", "5"), ("ip", "1000")]
)
def test_each_change_arrives_and_only_it_is_sent(
    stage: Stage, on_primary: Rest, space: str, chunk_size: str
) -> None:
    """One cycle carries every kind of change, each as its own fields and nothing else."""
    stage.overrides["SYNC_CHUNK_SIZE"] = chunk_size
    docs = stage.create(space=space)
    for name, case in CASES.items():
        before = WHOLE if case.before is None else case.before
        if before:
            put(on_primary, name, before)
    fill(docs, 12, dimension=4)
    stage.sync()
    for name, case in CASES.items():
        case.change(on_primary, name)
    with watched(stage.servers.replica_proxy) as writes:
        counts = stage.sync().counts
    assert sent(writes, space) == {n: c.sent for n, c in CASES.items() if c.sent}
    updated = sum(c.sent[0][0] == "update" for c in CASES.values() if c.sent)
    assert (counts.inserted, counts.updated, counts.replaced) == (2, updated, 1)
    assert (counts.deleted, counts.drifted) == (1, 0)
    stage.assert_identical()
    stage.assert_quiet()


def sent(writes: Writes, space: str) -> dict[str, Sent]:
    """What was sent of each record, with embeddings as the primary was given them.

    A cosine collection's own come back from it a few ulp off.
    """
    found = writes.by_id
    for _, fields in (part for parts in found.values() for part in parts):
        for known in (OLD, NEW):
            if space == "cosine" and fields.get("embedding") == pytest.approx(known, rel=1e-6):
                fields["embedding"] = known
    return found


@pytest.mark.long
def test_a_field_changed_everywhere_is_the_only_column_sent(stage: Stage, on_primary: Rest) -> None:
    """Changed payloads cost no embedding, changed embeddings no payload."""
    stage.create(count=300, space="l2")
    names = [f"r{n}" for n in range(300)]
    stage.sync()
    changes: dict[str, list[Any]] = {
        "metadata": [{"n": -n} for n in range(1, 301)],
        "embedding": [[float(n)] * 8 for n in range(300)],
        "document": [f"rewritten {n}" for n in range(300)],
        "uri": [f"file:///moved/{n}" for n in range(300)],
    }
    for field, values in changes.items():
        on_primary.write("update", ids=names, **{f"{field}s": values})
        with watched(stage.servers.replica_proxy) as writes:
            counts = stage.sync().counts
        assert [action_of(request) for request in writes.requests] == ["update"]
        assert {name for write in writes.records for name in write.fields} == {field}
        assert (counts.updated, counts.applied) == (300, 300)
        stage.assert_identical()
    stage.assert_quiet()


def test_a_payload_change_costs_a_small_part_of_a_copy(stage: Stage) -> None:
    """One value changed in 1 % of the records is not a twentieth of a copy's bytes."""
    docs = stage.create()
    fill(docs, 500, dimension=384)
    with watched(stage.servers.replica_proxy) as copied:
        stage.sync()
    docs.update(ids=[f"r{n}" for n in (7, 77, 277, 377, 477)], metadatas=[{"seen": True}] * 5)
    with watched(stage.servers.replica_proxy) as changed:
        stage.sync()
    assert changed.actions == {"update": 5}
    assert changed.body_bytes < copied.body_bytes / 20
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.long
def test_a_document_becomes_null_and_comes_back(stage: Stage, on_primary: Rest) -> None:
    """Null, empty and text are three states, each reached from each other in one cycle."""
    stage.create(space="l2")
    states: dict[str, Fields] = {"null": {}, "empty": {"document": ""}, "text": {"document": "d"}}
    order = ["text", "null", "empty", "null", "text", "empty", "text"]
    for state in order:
        replaced({"embedding": OLD, "metadata": {"n": 1}} | states[state])(on_primary, "a")
        stage.sync()
        (found,) = stage.on_replica().get()["documents"] or []
        assert found == states[state].get("document")
        stage.assert_identical()
        stage.assert_quiet()


@pytest.mark.long
def test_many_changes_between_two_cycles_arrive_as_one(stage: Stage, on_primary: Rest) -> None:
    """Only the last state counts: what changed and changed back costs nothing."""
    stage.create(count=10)
    stage.sync()
    for n in (7, 8, 9):
        documents = [f"try {n}", "x"]
        columns = {"metadatas": [{"n": n}, {"n": 2}], "documents": documents}
        on_primary.write("update", ids=["r1", "r2"], **columns)
    on_primary.write("update", ids=["r2"], documents=["the text of record 2"])
    put(on_primary, "brief", {"embedding": [0.0] * 8})
    on_primary.write("delete", ids=["brief"])
    with watched(stage.servers.replica_proxy) as writes:
        stage.sync()
    assert writes.by_id == {"r1": only(document="try 9", metadata={"n": 9})}
    stage.assert_identical()
    stage.assert_quiet()
