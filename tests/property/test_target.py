"""Where collections of several databases may meet on the replica, nothing is mixed up."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromasync.errors import ChromasyncError
from chromasync.model import Collection, MirrorStatus, Records
from chromasync.plan.listing import place_of
from chromasync.worker import attempt, pool
from tests.support.properties import examples
from tests.support.worlds import EVENTS, World, world_of

MEETING = [
    {"SYNC_TARGET": "cloud/{database}/{name}"},
    {"SYNC_TARGET": "cloud/all/{tenant}.{name}", "SYNC_DATABASES": "default_database,hr"},
]
"""Templates that lead collections of two databases to one, some of them under the same name."""


@pytest.fixture(scope="module", autouse=True)
def impatient() -> Iterator[None]:
    """Idle threads look again soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "IDLE_SECONDS", 0.02)
        patch.setattr(attempt, "STORE_RETRY_SECONDS", 0.02)
        yield


def contents(records: Records) -> dict[str, tuple[object, ...]]:
    columns = zip(records.documents, records.metadatas, records.uris, strict=True)
    return dict(zip(records.ids, columns, strict=True))


def by_id(world: World) -> dict[str, Collection]:
    every = [*world.primary._shared.collections.values()]
    return {c.id: c for c in [*every, *world.replica._shared.collections.values()]}


def assert_told_right(world: World) -> None:
    """What is called identical is, and has a place of its own; others that meet it are errors."""
    known = by_id(world)
    wants = world.house.settings.scope.wants
    mirrors = [
        m
        for m in world.house.store.mirrors()
        if m.collection_id in known and wants(known[m.collection_id].name)
    ]
    same = [m for m in mirrors if m.status is MirrorStatus.IDENTICAL]
    assert len({m.replica_id for m in same}) == len(same)
    for mirror in same:
        original, copy = known[mirror.collection_id], known[mirror.replica_id or ""]
        assert place_of(copy) == world.house.settings.sync_target.place_of(*place_of(original))
        assert contents(world.primary.contents(original)) == contents(
            world.replica.contents(copy)
        ), world.log


@pytest.mark.slower
@examples(8)
@given(
    seed=st.integers(0, 10**6),
    rounds=st.lists(st.lists(st.sampled_from(EVENTS), max_size=4), min_size=1, max_size=4),
    target=st.sampled_from(MEETING),
)
def test_collections_that_meet_are_never_mixed_up(
    seed: int, rounds: list[list[str]], target: dict[str, str]
) -> None:
    """In random worlds, in which others meddle and cycles are cut off, too."""
    with tempfile.TemporaryDirectory() as folder, world_of(Path(folder), seed, target) as world:
        for _ in range(8):
            world.befall("create")
        for events in [[], *rounds]:
            for event in events:
                world.befall(event)
            for _ in range(2):
                with suppress(ChromasyncError):
                    world.house.sync(full=True)
                    assert_told_right(world)
