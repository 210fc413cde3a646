"""A process killed at any named point of a cycle: the next one leads at once and converges."""

from __future__ import annotations

import signal

import pytest

from chromasync import faultpoints
from chromasync.faultpoints import (
    AFTER_CLAIM,
    AFTER_COLLECTION_CREATED,
    AFTER_COMMIT,
    AFTER_COMPLETE,
    AFTER_OPEN,
    AFTER_PLAN,
    AFTER_READ,
    AFTER_WALK,
    AFTER_WRITE,
    BEFORE_CLOSE,
    BEFORE_DROP,
    BEFORE_KEEP,
    BEFORE_SEND,
    BETWEEN_LEDGERS,
    BETWEEN_RENAMES,
    MID_PRUNE,
    MID_WRITE,
)
from chromasync.model import CycleStatus
from tests.chaos.processes import live_tasks, run
from tests.chaos.profile import NIGHTLY
from tests.chaos.scenes import SETTINGS, Scene, arrange_changes, arrange_first_copy
from tests.support.stage import Stage, fill

IN_A_FIRST_COPY = [
    (AFTER_OPEN, 1),
    (AFTER_COLLECTION_CREATED, 2),
    (AFTER_PLAN, 1),
    (AFTER_CLAIM, 5),
    (AFTER_READ, 3),
    (AFTER_WRITE, 3),
    (AFTER_COMPLETE, 4),
    (AFTER_COMMIT, 25),
]
AMONG_CHANGES = [
    (BETWEEN_LEDGERS, 1),
    (BETWEEN_RENAMES, 1),
    (BETWEEN_RENAMES, 3),
    (AFTER_WALK, 4),
    (BEFORE_SEND, 9),
    (MID_WRITE, 4),
    (MID_PRUNE, 1),
    (BEFORE_DROP, 2),
    (BEFORE_CLOSE, 1),
]
if NIGHTLY:
    ONCE = {AFTER_OPEN, AFTER_PLAN, BEFORE_CLOSE}
    SELDOM = {AFTER_COLLECTION_CREATED: 2, BETWEEN_RENAMES: 3, MID_PRUNE: 1, BEFORE_DROP: 3}
    SELDOM |= {BETWEEN_LEDGERS: 1, BEFORE_KEEP: 0}
    IN_A_FIRST_COPY = [(p, n) for p in faultpoints.ALL if p not in SELDOM for n in (1, 2, 5)]
    IN_A_FIRST_COPY = [(p, n) for p, n in IN_A_FIRST_COPY if n == 1 or p not in {*ONCE, AFTER_WALK}]
    AMONG_CHANGES = [
        (point, n)
        for point in faultpoints.ALL
        for n in range(1, 2 if point in ONCE else SELDOM.get(point, 6) + 1)
    ]
CASES = [
    *((arrange_first_copy, *point) for point in IN_A_FIRST_COPY),
    *((arrange_changes, *point) for point in AMONG_CHANGES),
]


def test_every_named_point_is_killed_at() -> None:
    """The cases below name every point that there is, but for one with a test of its own."""
    assert {point for _, point, _ in CASES} | {BEFORE_KEEP} == set(faultpoints.ALL)


@pytest.mark.long
@pytest.mark.parametrize(
    ("arrange", "point", "nth"), CASES, ids=[f"{a.__name__}-{p}-{n}" for a, p, n in CASES]
)
def test_the_next_process_takes_over_at_once_and_converges(
    stage: Stage, arrange: Scene, point: str, nth: int
) -> None:
    """After SIGKILL, one cycle of a fresh process makes both sides identical; then all is quiet."""
    arrange(stage)
    code, said = run(stage, "sync", CHROMASYNC_FAULTPOINT=f"{point}:{nth}", **SETTINGS)
    assert code == -signal.SIGKILL, said
    with stage.app() as app:
        begun = [c.id for c in app.store.cycles(1) if c.status is CycleStatus.RUNNING]
    assert begun or point == AFTER_COMMIT  # whose first commits come before the cycle

    stage.sync_and_judge(**SETTINGS)

    assert live_tasks(stage) == 0
    with stage.app() as app:
        quiet, mended, *earlier = app.store.cycles(3)
    assert [c.id for c in earlier if c.status is CycleStatus.ABANDONED] == begun
    assert mended.status is quiet.status is CycleStatus.COMPLETED


@pytest.mark.long
@pytest.mark.parametrize("point", [MID_WRITE, AFTER_WRITE])
def test_what_the_killed_process_had_written_is_not_forgotten(stage: Stage, point: str) -> None:
    """A record that was written, and deleted on the primary before it was recorded, goes too."""
    docs = stage.create(count=50)
    stage.sync_and_judge(**SETTINGS)
    fill(docs, 50, start=50)
    code, said = run(stage, "sync", CHROMASYNC_FAULTPOINT=point, **SETTINGS)
    assert code == -signal.SIGKILL, said
    written = stage.on_replica().get(offset=50, include=[])["ids"]
    assert written
    docs.delete(ids=written[:-1])  # the newest record stays, so it is not an older primary
    stage.sync_and_judge(**SETTINGS)
    assert not set(written[:-1]) & set(stage.on_replica().get(include=[])["ids"])


@pytest.mark.long
def test_what_the_killed_process_was_about_to_keep_is_kept(stage: Stage) -> None:
    """The next process gives it its other name and goes on; no record of it is lost."""
    settings = SETTINGS | {"SYNC_KEEP_DROPPED": "100000"}
    arrange_changes(stage)
    code, said = run(stage, "sync", CHROMASYNC_FAULTPOINT=f"{BEFORE_KEEP}:2", **settings)
    assert code == -signal.SIGKILL, said
    stage.sync(**settings)
    stage.assert_quiet(**settings)
    report = stage.verify()
    assert report.exit_code == 0, report.findings
    kept = {c.name for c in stage.replica.list_collections() if "kept-" in c.name}
    assert {name.partition(".")[0] for name in kept} == {"remade", "measured", "gone"}
    assert {stage.on_replica(name).count() for name in kept} == {60}
