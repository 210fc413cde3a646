"""Ordinary life that walks around a delete guard: each event on real servers, in both ways to run.

Somebody empties collections one by one, approves something and then the world changes, swaps
addresses, narrows the settings. What the replica alone still has stays until someone decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chromasync.errors import GuardRefusal
from chromasync.lab.chroma_server import ChromaServer
from chromasync.reports import CycleReport, Outcome
from tests.support.drills import contents
from tests.support.stage import Servers, Stage, client_of, close_client, drop, fill, vectors

pytestmark = [pytest.mark.long, pytest.mark.crewed(in_ci=False)]

COUNT = 300
MANY = 150
"""More than the floor below which nobody is asked, and more than the limit of a collection."""


@pytest.fixture(autouse=True)
def small(stage: Stage) -> None:
    """Several chunks a collection."""
    stage.overrides["SYNC_CHUNK_SIZE"] = "50"


@pytest.fixture
def twin(servers: Servers, stage: Stage) -> Iterator[Stage]:
    """Another database on the same servers."""
    twin = Stage(servers, stage.folder, f"{stage.database}-twin")
    yield twin
    twin.close()


def emptied(stage: Stage, name: str, first: int = 0, count: int | None = None) -> None:
    """Delete records on the primary: all, or some from the oldest on."""
    collection = stage.primary.get_collection(name, embedding_function=None)
    ids = sorted(collection.get(include=[])["ids"], key=lambda i: int(i[1:]))
    collection.delete(ids=ids[first:] if count is None else ids[first : first + count])


def counts(stage: Stage) -> dict[str, int]:
    """Records on the replica by collection."""
    return {c.name: c.count() for c in stage.replica.list_collections()}


def assert_held(stage: Stage, cycles: int = 3, **settings: str) -> CycleReport:
    """So many cycles lose nothing on the replica, and each says that something is held."""
    before = counts(stage)
    for _ in range(cycles):
        report = stage.sync(**settings)
        assert report.outcome is Outcome.HELD, report
        assert report.counts.deleted == 0
        now = counts(stage)
        assert all(now.get(name, 0) >= count for name, count in before.items()), (before, now)
    return report


def test_nearly_everything_emptied_at_once(stage: Stage) -> None:
    """A bug empties collection after collection; a few records elsewhere are left."""
    for number in range(8):
        stage.create(f"col{number}", count=20)
    stage.sync()
    for number in range(7):
        emptied(stage, f"col{number}")
    emptied(stage, "col7", count=15)
    assert sum(hold.count for hold in assert_held(stage).holds) == 155


def test_collections_made_anew_and_left_empty(stage: Stage) -> None:
    """A migration broke after drop and create: no collection is missing by its name."""
    for number in range(6):
        stage.create(f"col{number}", count=30)
    stage.sync()
    for number in range(6):
        drop(stage.primary, f"col{number}")
        stage.create(f"col{number}")
    assert_held(stage)


@pytest.mark.crewed
def test_half_of_the_collections_at_a_time(stage: Stage) -> None:
    """Half is most: 8, 4, 2 and 1 do not go one after the other."""
    for number in range(8):
        stage.create(f"col{number}", count=5)
    stage.sync()
    for number in range(4):
        drop(stage.primary, f"col{number}")
    assert_held(stage, 4)


@pytest.mark.parametrize(
    "settings", [{}, {"SYNC_INCLUDE": "col1,col2"}], ids=["excluded", "narrowed"]
)
def test_the_mirrored_collections_vanish_beside_others(
    stage: Stage, settings: dict[str, str]
) -> None:
    """What filters leave out counts neither as gone nor as still there."""
    for number in range(1, 6):
        stage.create(f"col{number}", count=60)
    chosen = settings or {"SYNC_EXCLUDE": "col3,col4,col5"}
    if settings:
        stage.sync()
    stage.sync(**chosen)
    drop(stage.primary, "col1")
    drop(stage.primary, "col2")
    assert_held(stage, 3, **chosen)


@pytest.mark.parametrize("limit", ["0", "0%"])
def test_never_means_never(stage: Stage, limit: str) -> None:
    """A limit of nothing has no floor."""
    stage.create(count=COUNT)
    stage.sync()
    emptied(stage, "docs", count=1)
    assert_held(stage, 3, SYNC_MAX_DELETE=limit)


# ---- an approval is for a set --------------------------------------------------------------------


def lost(stage: Stage, first: int) -> Callable[[], None]:
    """Delete many records on the primary; gives what brings them back."""
    docs = stage.primary.get_collection("docs", embedding_function=None)
    ids = [f"r{n}" for n in range(first, first + MANY)]
    docs.delete(ids=ids)
    return lambda: docs.add(ids=ids, embeddings=vectors(MANY, seed=first))


def approved(stage: Stage) -> Callable[[], None]:
    """An approved loss; gives what takes it back."""
    stage.create(count=COUNT)
    stage.sync()
    give_back = lost(stage, 0)
    assert_held(stage, 1)
    stage.approve()
    return give_back


def test_other_records_than_those_approved(stage: Stage) -> None:
    """They come back, and as many others go before the next cycle."""
    give_back = approved(stage)
    give_back()
    lost(stage, MANY)
    assert_held(stage)


@pytest.mark.parametrize("way", ["SYNC_EXCLUDE", "SYNC_DATABASES"])
def test_an_approval_of_what_left_the_settings(stage: Stage, twin: Stage, way: str) -> None:
    """The primary recovers while the collection is left out; later, others go."""
    fill(twin.create("other"), 5)
    fill(twin.create("more"), 5)
    give_back = approved(stage)
    away = "docs" if way == "SYNC_EXCLUDE" else twin.database
    stage.sync(**{way: away})
    give_back()
    stage.sync(**{way: away})
    lost(stage, MANY)
    assert_held(stage)


def test_an_approval_on_the_wrong_replica(stage: Stage) -> None:
    """REPLICA_URL named another server when everything was approved there."""
    stage.create(count=COUNT)
    stage.sync()
    with ChromaServer() as wrong:
        client = client_of(wrong.url, stage.database)
        docs = client.create_collection("docs", embedding_function=None)
        fill(docs, COUNT)
        fill(stage.on_replica(), 40, start=COUNT)
        docs.add(ids=[f"s{n}" for n in range(40)], embeddings=vectors(40))
        stage.sync(REPLICA_URL=wrong.url)
        stage.approve()
        close_client(client)
    assert_held(stage)
    assert counts(stage) == {"docs": COUNT + 40}


# ---- records of unknown origin -------------------------------------------------------------------


def strangers(stage: Stage, name: str = "new") -> None:
    """A collection of another application on the replica, which the primary never had."""
    collection = stage.replica.create_collection(name, embedding_function=None)
    fill(collection, MANY, dimension=7)


@pytest.mark.parametrize("first", [20, 0], ids=["at once", "later"])
def test_a_new_collection_takes_a_name_that_others_use(stage: Stage, first: int) -> None:
    """It is empty at first, or has another dimension from the start."""
    stage.create("steady", count=5)
    strangers(stage)
    new = stage.create("new")
    fill(new, first)
    assert_held(stage, 2)
    fill(new, MANY, start=first)
    assert_held(stage, 2)
    stage.approve()
    stage.sync()
    stage.sync()
    stage.assert_identical()


def test_a_collection_is_renamed_to_a_name_that_others_use(stage: Stage) -> None:
    """What is under the name stays until someone lets it go."""
    stage.create("steady", count=5)
    docs = stage.create(count=20)
    stage.sync()
    strangers(stage)
    docs.modify(name="new")
    assert_held(stage)
    stage.approve()
    stage.sync()
    stage.sync()
    stage.assert_identical()


# ---- which server is which -----------------------------------------------------------------------


def test_a_former_replica_as_primary(stage: Stage) -> None:
    """The replica moved to another server; a deploy swaps the primary with the former one."""
    docs = stage.create(count=60)
    stage.sync()
    former = stage.servers.replica.url
    with ChromaServer() as second:
        stage.sync(REPLICA_URL=second.url)
        docs.update(ids=["r1"], metadatas=[{"n": -1}])
        stage.sync(REPLICA_URL=second.url)
        swapped: Any = {"PRIMARY_URL": former, "REPLICA_URL": stage.servers.primary.url}
        with pytest.raises(GuardRefusal):
            stage.sync(**swapped)
        assert stage.command("doctor", **swapped).returncode == 4
        assert contents(docs)["r1"][1]["n"] == -1


@pytest.mark.crewed
def test_one_store_and_two_replicas_in_turns(stage: Stage) -> None:
    """Each gets what it lacks; nothing is lost on either, and nothing is called identical early."""
    docs = stage.create(count=60)
    stage.sync_and_judge()
    with ChromaServer() as second:
        stage.sync(REPLICA_URL=second.url)
        docs.update(ids=["r1", "r2"], metadatas=[{"n": -1}] * 2)
        stage.sync(REPLICA_URL=second.url)
    for _ in range(2):
        report = stage.sync()
        if report.outcome is not Outcome.IDENTICAL:
            stage.approve()
    stage.assert_identical()
