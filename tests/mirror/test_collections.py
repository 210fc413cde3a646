"""Collections as a whole: their definition, their names, their coming and going."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from chromasync.lab.judge import judge
from chromasync.lab.proxy import Fault, Request
from chromasync.model import HoldKind, MirrorStatus
from chromasync.reports import CycleReport, Outcome
from tests.support.rest import Rest
from tests.support.stage import Servers, Stage, client_of, close_client, drop, fill
from tests.support.writes import Writes, action_of, is_of_mark, watched

FUNCTION = {"type": "known", "name": "default", "config": {}}
"""How a collection says which embedding function its clients shall use."""
LONGEST = 512
HNSW = {"ef_construction": 55, "max_neighbors": 9, "ef_search": 44}


def sync_watched(stage: Stage, outcome: Outcome = Outcome.IDENTICAL) -> tuple[CycleReport, Writes]:
    """One cycle and its writes; identical after it, and quiet, unless another outcome is meant."""
    with watched(stage.servers.replica_proxy) as writes:
        report = stage.sync()
    assert report.outcome is outcome
    if outcome is Outcome.IDENTICAL:
        stage.assert_identical()
        stage.assert_quiet()
    return report, writes


def described(rest: Rest, name: str = "docs") -> dict[str, Any]:
    """A collection's configuration as the server tells it."""
    found: dict[str, Any] = rest.collections()[name]["configuration_json"]
    return found


# ---- definitions -----------------------------------------------------------------------------


def test_an_empty_collection_and_its_first_records(stage: Stage) -> None:
    """A collection without records or dimension is there at once, and filled when it is filled."""
    docs = stage.create(metadata={"k": 1})
    report, writes = sync_watched(stage)
    assert report.counts.applied == 0
    assert [method for method, _ in writes.to_collections][-1:] == ["POST"]
    fill(docs, 5, dimension=3)
    assert sync_watched(stage)[0].counts.inserted == 5


@pytest.mark.long
def test_collection_metadata_in_all_its_changes(stage: Stage, on_primary: Rest) -> None:
    """Set, changed in value and type, one key removed, cleared: one request each, no record."""
    stage.create(count=10)
    sync_watched(stage)
    steps: list[dict[str, Any]] = [
        {"a": 1, "b": "x"},
        {"a": 1.0, "b": "x", "c": True},
        {"a": "1", "c": True, "ü": 0.1, "large": 2**53 + 1},
        {"a": True},
        {},
        {"again": -1},
    ]
    for metadata in steps:
        on_primary.modify("docs", new_metadata=metadata or {"any": None})
        _, writes = sync_watched(stage)
        assert writes.to_records == []
        ((method, body),) = writes.to_collections
        assert (method, set(body)) == ("PUT", {"new_metadata"})
        held = stage.on_replica().metadata or {}
        assert {k: (type(v), v) for k, v in held.items()} == {
            k: (type(v), v) for k, v in metadata.items()
        }


@pytest.mark.long
@pytest.mark.parametrize("space", ["cosine", "l2", "ip"])
def test_distance_and_index_parameters_are_carried(
    stage: Stage, on_primary: Rest, on_replica: Rest, space: str
) -> None:
    """The replica's index is built like the primary's, and its embedding function is named."""
    hnsw = HNSW | {"space": space, "sync_threshold": 500, "resize_factor": 1.5}
    on_primary.create(configuration={"hnsw": hnsw, "embedding_function": FUNCTION})
    on_primary.create("old", metadata={"hnsw:space": space, "hnsw:M": 7, "topic": "birds"})
    on_primary.create("plain")
    for name in ("docs", "old", "plain"):
        on_primary.write("add", name, ids=["a"], embeddings=[[1.0, 2.0]])
    sync_watched(stage)
    for name in ("docs", "old", "plain"):
        assert described(on_replica, name) == described(on_primary, name)
    assert described(on_replica)["hnsw"] | hnsw == described(on_replica)["hnsw"]
    assert described(on_replica)["embedding_function"] == FUNCTION
    assert stage.on_replica("old").metadata == {"hnsw:space": space, "hnsw:M": 7, "topic": "birds"}


@pytest.mark.long
def test_a_changed_configuration(stage: Stage, on_primary: Rest, on_replica: Rest) -> None:
    """What Chroma lets change in place is changed in place, without a record being sent."""
    stage.create(count=10)
    sync_watched(stage)
    changes: list[dict[str, Any]] = [
        {"hnsw": {"ef_search": 33}},
        {"hnsw": {"ef_search": 21, "max_neighbors": 20, "resize_factor": 1.7}},
        {"hnsw": {"sync_threshold": 300}},
        {"embedding_function": FUNCTION},
        {"embedding_function": FUNCTION | {"name": "onnx_mini_lm_l6_v2"}},
    ]
    for change in changes:
        on_primary.modify("docs", new_configuration=change)
        _, writes = sync_watched(stage)
        assert writes.to_records == []
        assert [method for method, _ in writes.to_collections] == ["PUT"]
        assert described(on_replica) == described(on_primary)


def test_metadata_indexes_that_are_switched_off(
    stage: Stage, on_primary: Rest, on_replica: Rest
) -> None:
    """A schema made by a person arrives; the keys that writes add to it are no difference."""
    schema = on_primary.call("POST", "/collections", {"name": "pattern"})["schema"]
    on_primary.drop("pattern")
    schema["keys"]["hidden"] = {
        "string": {"string_inverted_index": {"enabled": False, "config": {}}}
    }
    on_primary.create(schema=schema)
    fill(stage.primary.get_collection("docs", embedding_function=None), 5)
    sync_watched(stage)
    held = on_replica.collections()["docs"]["schema"]["keys"]
    assert held["hidden"]["string"]["string_inverted_index"]["enabled"] is False


# ---- names -----------------------------------------------------------------------------------


@pytest.mark.long
def test_a_rename_sends_no_record(stage: Stage) -> None:
    """One request renames it; changes of the same time are sent as themselves."""
    docs = stage.create(count=50)
    replica_id = (stage.sync(), stage.on_replica().id)[1]
    docs.modify(name="moved")
    _, writes = sync_watched(stage)
    assert writes.to_records == []
    assert writes.to_collections == [("PUT", {"new_name": "moved"})]
    docs.modify(name="moved-again", metadata={"k": 1})
    docs.update(ids=["r1"], metadatas=[{"n": -1}])
    _, writes = sync_watched(stage)
    assert writes.by_id == {"r1": [("update", {"metadata": {"n": -1}})]}
    assert stage.on_replica("moved-again").id == replica_id


@pytest.mark.long
def test_names_that_go_round(stage: Stage) -> None:
    """Two collections that swapped names, and three that passed them on, send no record."""
    made = [stage.create(name, count=5 + n) for n, name in enumerate(["one", "two", "three"])]
    sync_watched(stage)
    for names in (["two", "one", "three"], ["one", "three", "two"], ["three", "two", "one"]):
        for collection in made:
            collection.modify(name=f"{collection.name}-aside")
        for collection, name in zip(made, names, strict=True):
            collection.modify(name=name)
        _, writes = sync_watched(stage)
        assert writes.to_records == []
        assert {method for method, _ in writes.to_collections} == {"PUT"}


@pytest.mark.long
def test_a_freed_name_goes_to_a_new_collection(stage: Stage) -> None:
    """Renamed away and created anew under the old name: one is renamed, the other copied."""
    docs = stage.create(count=20)
    sync_watched(stage)
    docs.modify(name="archive")
    stage.create(count=3, space="l2")
    report, writes = sync_watched(stage)
    assert (report.counts.inserted, report.counts.applied) == (3, 3)
    assert writes.actions == {"add": 3}
    assert stage.on_replica("archive").count() == 20


@pytest.mark.long
def test_a_name_that_went_to_an_excluded_collection_is_free(stage: Stage) -> None:
    """Renamed to what SYNC_EXCLUDE names, and made anew: the new one has the name there too."""
    stage.overrides["SYNC_EXCLUDE"] = "*-old"
    docs = stage.create(count=20)
    sync_watched(stage)
    docs.modify(name="docs-old")
    docs.update(ids=["r0"], metadatas=[{"mirrored": "no more"}])
    stage.create(count=3)
    with watched(stage.servers.replica_proxy) as writes:
        report = stage.sync()
    assert (report.outcome, writes.actions) == (Outcome.IDENTICAL, {"add": 3})
    assert [c.name for c in report.collections] == ["docs"]
    assert stage.on_replica("docs").count() == 3
    (metadata,) = stage.on_replica("docs-old").get(ids=["r0"])["metadatas"] or []
    assert "mirrored" not in metadata
    assert stage.verify().exit_code == 0
    with watched(stage.servers.replica_proxy) as writes:
        assert stage.sync().outcome is Outcome.IDENTICAL
    assert writes.requests == []


def test_what_is_excluded_later_decides_nothing(stage: Stage) -> None:
    """A collection with a hold, excluded: neither outcome, status nor lag look at it again."""
    stage.create("kept", count=5)
    other = stage.create("other", count=300)
    sync_watched(stage)
    other.delete(ids=[f"r{n}" for n in range(250)])
    assert stage.sync().outcome is Outcome.HELD
    stage.overrides["SYNC_EXCLUDE"] = "other"
    report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL
    assert ([c.name for c in report.collections], report.holds) == (["kept"], ())
    assert report.identical_as_of == report.collections[0].identical_as_of
    status = stage.status()
    assert (status.exit_code, [c.name for c in status.collections]) == (0, ["kept"])
    assert stage.on_replica("other").count() == 300
    stage.overrides.pop("SYNC_EXCLUDE")
    assert stage.sync().outcome is Outcome.HELD


# ---- created again under the same name ----------------------------------------------------------


@dataclass(frozen=True)
class Again:
    """How a collection of 30 records of dimension 8 and cosine is created again."""

    space: str = "cosine"
    dimension: int = 8
    seed: int = 0


AGAIN = {
    "another dimension": Again(dimension=3),
    "another distance": Again(space="l2"),
    "both": Again(space="ip", dimension=3),
    "the same definition": Again(seed=7),
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("what", "name"), [*((what, "docs") for what in AGAIN), ("both", "n" * LONGEST)]
)
def test_a_collection_created_again(stage: Stage, what: str, name: str) -> None:
    """The new one is built beside the old one, which serves its name until the copy is complete."""
    again = AGAIN[what]
    stage.create(name, count=30)
    stage.create("other", count=9)
    sync_watched(stage)
    old_id = str(stage.on_replica(name).id)
    drop(stage.primary, name)
    docs = stage.create(name, space=again.space)
    fill(docs, 30, dimension=again.dimension, seed=again.seed)
    proxy = stage.servers.replica_proxy
    with old_one_serving(stage, name, old_id) as seen, watched(proxy) as writes:
        assert stage.sync().outcome is Outcome.IDENTICAL
    assert seen
    assert writes.actions == {"add": 30, "delete": 30}
    added = [r.path for r in writes.to_records if action_of(r) == "add"]
    assert not [path for path in added if old_id in path]
    assert str(stage.on_replica(name).id) != old_id
    assert {c.name for c in stage.replica.list_collections()} == {name, "other"}
    stage.assert_identical()
    stage.assert_quiet()


@contextmanager
def old_one_serving(stage: Stage, name: str, old_id: str) -> Iterator[list[int]]:
    """At every add, the replica's collection of this name is the old one, whole."""
    seen: list[int] = []

    def look(request: Request) -> Fault | None:
        if action_of(request) == "add" and not is_of_mark(request):
            served = stage.replica.get_collection(name, embedding_function=None)
            seen.append(served.count() if str(served.id) == old_id else -1)
        return None

    stage.servers.replica_proxy.fault = look
    try:
        yield seen
    finally:
        stage.servers.replica_proxy.fault = None
    assert set(seen) == {30}


# ---- gone --------------------------------------------------------------------------------------


def test_a_dropped_collection_is_held_once_and_then_gone(stage: Stage) -> None:
    """The first cycle that misses it only says so; the second drops it, and nothing else."""
    stage.create(count=30)
    for other in ("other", "more"):
        stage.create(other, count=5)
    sync_watched(stage)
    drop(stage.primary, "docs")
    report, writes = sync_watched(stage, Outcome.HELD)
    assert writes.requests == []
    assert [(h.collection_name, h.kind, h.count) for h in report.holds] == [
        ("docs", HoldKind.DROP, 30)
    ]
    assert {c.name: c.status for c in report.collections} == {
        "docs": MirrorStatus.VANISHED,
        "other": MirrorStatus.IDENTICAL,
        "more": MirrorStatus.IDENTICAL,
    }
    assert stage.on_replica().count() == 30
    report, _ = sync_watched(stage)
    assert report.counts.deleted == 30
    assert {c.name for c in stage.replica.list_collections()} == {"other", "more"}


# ---- where collections are, and which ----------------------------------------------------------


class WholeTenants(Stage):
    """A stage of all databases of two tenants of its own; a third one is none of its business."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        super().__init__(servers, folder)
        self.tenants = [f"{self.database}-{letter}" for letter in "ab"]
        self.overrides = {"SYNC_TENANTS": ",".join(self.tenants)}

    def values(self, **overrides: str) -> dict[str, str]:
        return {k: v for k, v in super().values(**overrides).items() if k != "SYNC_DATABASES"}

    def fill_place(self, tenant: str, database: str, count: int) -> None:
        """A collection of this many records in a database of the primary."""
        with Rest(self.servers.primary.url, database, tenant) as rest:
            rest.create(metadata={"place": f"{tenant}/{database}"})
            ids = [str(n) for n in range(count)]
            rest.write("add", ids=ids, embeddings=[[float(n), 1.0] for n in range(count)])

    def judge_place(self, tenant: str, database: str) -> int:
        """Assert that a database is identical on both sides; how many records it holds."""
        sides = (self.servers.primary.url, self.servers.replica.url)
        primary, replica = (client_of(url, database, tenant) for url in sides)
        judgement = judge(primary, replica)
        close_client(primary)
        close_client(replica)
        assert judgement.identical, (str(judgement), judgement.examples)
        return judgement.records


@pytest.fixture
def tenants(servers: Servers, tmp_path: Path) -> Iterator[WholeTenants]:
    stage = WholeTenants(servers, tmp_path)
    yield stage
    stage.close()


@pytest.mark.long
def test_every_database_of_the_named_tenants(tenants: WholeTenants) -> None:
    """Databases come and go within their tenants; a tenant that is not named stays out."""
    one, two = tenants.tenants
    stranger = f"{tenants.database}-stranger"
    places = {(one, "first"): 4, (one, "second"): 5, (two, "first"): 6}
    for (tenant, database), count in {**places, (stranger, "first"): 3}.items():
        tenants.fill_place(tenant, database, count)
    assert tenants.sync().counts.inserted == 15
    tenants.assert_quiet()
    tenants.fill_place(two, "late", 7)
    assert tenants.sync().counts.applied == 7
    tenants.assert_quiet()
    for (tenant, database), count in {**places, (two, "late"): 7}.items():
        assert tenants.judge_place(tenant, database) == count
    with Rest(tenants.servers.replica.url, "first", stranger) as rest:
        assert rest.collections() == {}


def test_a_database_that_is_gone(tenants: WholeTenants) -> None:
    """Its collections are held in the first cycle and leave in the second, the others stay."""
    one, two = tenants.tenants
    for tenant, database in ((one, "first"), (one, "second"), (two, "first")):
        tenants.fill_place(tenant, database, 4)
    tenants.sync()
    with Rest(tenants.servers.primary.url, "first", one) as rest:
        rest.drop_database()
    assert tenants.sync().outcome is Outcome.HELD
    with Rest(tenants.servers.replica.url, "first", one) as rest:
        assert set(rest.collections()) == {"docs"}
        report = tenants.sync()
        assert (report.outcome, report.counts.deleted) == (Outcome.IDENTICAL, 4)
        assert rest.collections() == {}
    tenants.assert_quiet()
    assert tenants.judge_place(one, "second") == 4


@pytest.mark.long
@pytest.mark.parametrize(
    ("settings", "chosen"),
    [
        ({"SYNC_INCLUDE": "docs*,one"}, {"docs", "docs-old", "one"}),
        ({"SYNC_EXCLUDE": "*-old,one"}, {"docs", "two"}),
        ({"SYNC_INCLUDE": "docs*", "SYNC_EXCLUDE": "*-old"}, {"docs"}),
    ],
)
def test_only_the_chosen_collections(
    stage: Stage, settings: dict[str, str], chosen: set[str]
) -> None:
    """Patterns choose collections by name; the others are neither copied nor touched."""
    stage.overrides |= settings
    for name in ("docs", "docs-old", "one", "two"):
        stage.create(name, count=3)
    fill(stage.replica.create_collection("two-old", embedding_function=None), 2)
    report = stage.sync()
    assert report.outcome is Outcome.IDENTICAL
    assert report.counts.inserted == 3 * len(chosen)
    assert {c.name for c in stage.replica.list_collections()} == chosen | {"two-old"}
    stage.assert_quiet()


@pytest.mark.long
def test_many_collections_change_at_once(stage: Stage) -> None:
    """One cycle serves collections of every kind side by side; each gets only its own changes."""
    spaces = ["cosine", "l2", "ip"]
    made = [
        stage.create(f"many{n}", space=spaces[n % 3], count=n * 3, metadata={"n": n})
        for n in range(12)
    ]
    report, writes = sync_watched(stage)
    assert report.counts.inserted == sum(n * 3 for n in range(12))
    assert writes.actions == {"add": report.counts.inserted}
    made[3].update(ids=["r1"], metadatas=[{"n": -1}])
    made[4].delete(ids=["r2"])
    made[5].modify(name="many5-renamed")
    made[6].modify(metadata={"n": 66})
    fill(made[0], 2)
    stage.create("late", count=1)
    _, writes = sync_watched(stage)
    assert writes.actions == {"update": 1, "delete": 1, "add": 3}
    puts = [body for method, body in writes.to_collections if method == "PUT"]
    assert sorted(puts, key=str) == [{"new_metadata": {"n": 66}}, {"new_name": "many5-renamed"}]
