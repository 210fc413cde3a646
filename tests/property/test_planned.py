"""A cycle does exactly what the plan before it said, in random worlds."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromasync.config import Drift
from chromasync.dryrun import DryRun
from chromasync.errors import ChromasyncError
from chromasync.model import Collection
from chromasync.plan.listing import Place, place_of
from chromasync.quiet import Quiet
from chromasync.reports import CycleReport, PlannedAction, PlannedCollection, PlanReport
from chromasync.worker import attempt, pool
from tests.support.properties import examples
from tests.support.worlds import EVENTS, TARGETS, World, world_of

Replica = dict[str, Collection]
"""Its collections by id."""


@pytest.fixture(scope="module", autouse=True)
def impatient() -> Iterator[None]:
    """Idle threads look again soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "IDLE_SECONDS", 0.02)
        patch.setattr(attempt, "STORE_RETRY_SECONDS", 0.02)
        yield


def plan_of(world: World) -> PlanReport:
    house = world.house
    return DryRun(world.primary, house.seen, house.store, house.settings).plan(Quiet())


def on_replica(world: World) -> Replica:
    return {collection.id: collection for collection in world.listed(world.replica)}


def told(world: World, plan: PlanReport, report: CycleReport) -> str:
    """Everything that helps to understand a difference."""
    parts = [world.log, plan.collections, plan.warnings]
    parts += [report.collections, report.holds, report.warnings]
    return "\n".join(str(line) for part in parts for line in part)


def assert_done(world: World) -> None:
    """Plan, run one cycle, and compare."""
    before = on_replica(world)
    try:
        plan = plan_of(world)
    except ChromasyncError as error:
        with pytest.raises(type(error)):
            world.house.sync()
        return
    report = world.house.sync()
    world.log.append(f"cycle {report.cycle.id}")
    words = told(world, plan, report)
    assert_same_writes(world, plan, report, words)
    assert_same_removals(plan, report, words)
    assert_same_collections(plan, before, on_replica(world), words)


def place_in(planned: PlannedCollection) -> Place:
    return planned.tenant, planned.database, planned.name


def assert_same_writes(world: World, plan: PlanReport, report: CycleReport, words: str) -> None:
    """Records created and updated, collection by collection; refused ones are tried in vain."""
    inserted: Counter[Place] = Counter()
    updated: Counter[Place] = Counter()
    for done in report.collections:
        inserted[done.tenant, done.database, done.name] += done.counts.inserted
        updated[done.tenant, done.database, done.name] += done.counts.updated + done.counts.replaced
    for planned in plan.collections:
        if planned.action in {PlannedAction.DROP, PlannedAction.HOLD}:
            continue
        place = place_in(planned)
        refused = world.refused_in(place)
        in_vain = planned.create + planned.update - inserted[place] - updated[place]
        assert 0 <= in_vain <= refused, words
        if not refused:
            assert planned.create == inserted[place], words


def assert_same_removals(plan: PlanReport, report: CycleReport, words: str) -> None:
    """Records deleted altogether, and what is held of each collection."""
    goes = sum(planned.delete - planned.held_count for planned in plan.collections)
    assert goes == report.counts.deleted, words
    held = {(hold.tenant, hold.database, hold.collection_name) for hold in report.holds}
    assert {place_in(planned) for planned in plan.collections if planned.held} == held, words


def assert_same_collections(plan: PlanReport, before: Replica, after: Replica, words: str) -> None:
    """What became of each collection as a whole."""
    made = after.keys() - before.keys()
    gone = {key for key, was in before.items() if key not in after or is_kept(was, after[key])}
    actions = Counter(planned.action for planned in plan.collections)
    least = actions[PlannedAction.CREATE]
    assert least <= len(made) <= least + actions[PlannedAction.REPLACE], words
    drops = [p for p in plan.collections if p.action is PlannedAction.DROP and p.delete]
    assert len(gone) >= len(drops), words
    assert not (plan.is_idle and (made or gone)), words
    for planned in plan.collections:
        was, now = at(before, place_in(planned)), at(after, place_in(planned))
        assert is_as_planned(planned.action, was, now), words


def is_kept(was: Collection, now: Collection) -> bool:
    return "kept-" in now.name and now.name != was.name


def at(replica: Replica, place: Place) -> Collection | None:
    return next((c for c in replica.values() if place_of(c) == place), None)


def is_as_planned(action: PlannedAction, was: Collection | None, now: Collection | None) -> bool:
    """Whether the collection under a name became what the plan said."""
    ids = [None if one is None else one.id for one in (was, now)]
    match action:
        case PlannedAction.NONE:
            return ids[0] == ids[1] and (was is None or now is None or same_words(was, now))
        case PlannedAction.MODIFY:
            return None is not ids[0] == ids[1] and was != now
        case PlannedAction.ADOPT:
            return None is not ids[0] == ids[1]
        case PlannedAction.RENAME:
            return now is None or ids[0] != ids[1]
        case _:
            return True


def same_words(was: Collection, now: Collection) -> bool:
    return (was.metadata, was.configuration) == (now.metadata, now.configuration)


@examples(12)
@given(
    seed=st.integers(0, 10**6),
    rounds=st.lists(st.lists(st.sampled_from(EVENTS), max_size=4), min_size=1, max_size=4),
    flags=st.fixed_dictionaries(
        {
            "SYNC_SCRUB_BUDGET": st.sampled_from(["0", "50%"]),
            "SYNC_KEEP_DROPPED": st.sampled_from(["off", "86400"]),
            "SYNC_MARK": st.sampled_from(["true", "false"]),
            "SYNC_DRIFT": st.sampled_from([drift.value for drift in Drift]),
        }
    ),
    target=st.sampled_from(TARGETS),
)
def test_a_cycle_does_what_the_plan_said(
    seed: int, rounds: list[list[str]], flags: dict[str, str], target: dict[str, str]
) -> None:
    """Actions, records created, updated and deleted, and what is held, again and again."""
    flags |= target
    with tempfile.TemporaryDirectory() as folder, world_of(Path(folder), seed, flags) as world:
        for _ in range(5):
            world.befall("create")
        for events in [[], *rounds]:
            for event in events:
                world.befall(event)
            assert_done(world)
