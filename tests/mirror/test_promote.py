"""Switchover and failover on real servers: nothing overwrites what applications wrote since."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from chromasync import faultpoints
from chromasync.errors import GuardRefusal, ReplicaPromoted, ServerUnreachable
from chromasync.failover_reports import PromoteOutcome, PromoteReport
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.proxy import Answer, RecordingProxy, Request
from chromasync.model import MARKS_DATABASE, DirectionState, HoldKind
from chromasync.quiet import Quiet
from chromasync.reports import FenceOutcome, Outcome
from tests.support.drills import (
    ADDED,
    application_goes_on,
    arrange,
    contents,
    every,
    primary_dies,
    primary_returns,
)
from tests.support.forked import Forked
from tests.support.rest import Rest
from tests.support.stage import Servers, Stage, fill, vectors

pytestmark = pytest.mark.usefixtures("short_waits")
DECIDE = 6
REFUSED = Answer(422, b'{"error":"InvalidArgumentError","message":"it is refused on purpose"}')
LATE = [f"late{n}" for n in range(12)]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Stage]:
    """Two servers of the test's own; either may become the primary, so both take writes."""
    with ExitStack() as stack:
        one, two = stack.enter_context(ChromaServer()), stack.enter_context(ChromaServer())
        first = stack.enter_context(RecordingProxy(one.url))
        second = stack.enter_context(RecordingProxy(two.url))
        (tmp_path / "state").mkdir()
        stage = Stage(Servers(one, two, first, second), tmp_path / "state", "wares")
        stage.overrides = {"SYNC_CHUNK_SIZE": "50", "SYNC_LEAD_SECONDS": "6"}
        stack.callback(stage.close)
        yield stage


def turned(stage: Stage) -> dict[str, str]:
    """The settings after a promotion."""
    return {
        "PRIMARY_URL": stage.servers.replica_proxy.url,
        "REPLICA_URL": stage.servers.primary_proxy.url,
    }


def promote(stage: Stage, *, fence: bool = False, anyway: bool = False) -> PromoteReport:
    with stage.app() as app:
        return app.promote(Quiet(), wait_for_fence=fence, anyway=anyway)


def assert_left_alone(stage: Stage) -> None:
    """No command with the former settings writes to the promoted replica, and each says why."""
    before, held = len(stage.replica_writes()), every(stage)
    with pytest.raises(ReplicaPromoted):
        stage.sync()
    for command in ("sync", "plan", "status"):
        done = stage.command(command)
        assert done.returncode == DECIDE, (command, done.stdout, done.stderr)
    assert stage.replica_writes()[before:] == []
    assert every(stage) == held


@pytest.mark.long
def test_a_switchover_loses_nothing_and_turns_round(pair: Stage) -> None:
    """Fence, comparison, promotion; then only what the application changed travels back."""
    arrange(pair)
    pair.sync()
    fill(pair.primary.get_collection("docs", embedding_function=None), 30, start=500)
    report = promote(pair, fence=True)
    assert report.outcome is PromoteOutcome.PROMOTED
    assert report.fence is not None
    assert report.fence.outcome is FenceOutcome.VERIFIED
    assert report.verify is not None
    assert report.verify.different == 0
    pair.assert_identical()
    assert_left_alone(pair)

    application_goes_on(pair)
    mine = every(pair)
    before = len(pair.servers.primary_proxy.writes())
    done = pair.sync(**turned(pair))
    assert done.outcome is Outcome.IDENTICAL, done
    pair.assert_identical()
    assert every(pair) == mine
    sent = done.counts
    assert (sent.inserted, sent.deleted) == (len(ADDED) + 5, 1)
    assert sent.updated + sent.replaced == 1
    assert len(pair.servers.primary_proxy.writes()) > before
    quiet = pair.sync(**turned(pair))
    assert (quiet.outcome, quiet.counts.applied) == (Outcome.IDENTICAL, 0)


@pytest.mark.parametrize(
    "planned", [True, pytest.param(False, marks=pytest.mark.long)], ids=["switchover", "failover"]
)
def test_plan_and_doctor_show_the_turn(pair: Stage, planned: bool) -> None:
    """Before the first cycle with exchanged URLs, they say what travels; nothing is turned yet."""
    arrange(pair)
    pair.sync()
    promote(pair, fence=planned, anyway=not planned)
    application_goes_on(pair)
    before = pair.status().direction
    plan = pair.plan(**turned(pair))
    assert "The direction turns with the next cycle" in plan.warnings[0]
    doctor = pair.command("doctor", **turned(pair))
    assert doctor.returncode == 0, doctor.stdout
    assert "The direction turns with the next cycle" in " ".join(doctor.stdout.split())
    assert pair.status().direction == before
    assert pair.command("plan").returncode == DECIDE
    assert pair.command("doctor").returncode == DECIDE
    done = pair.sync(**turned(pair))
    assert done.outcome is Outcome.IDENTICAL, done
    assert sum(p.create for p in plan.collections) == done.counts.inserted == len(ADDED) + 5
    assert sum(p.update for p in plan.collections) == 1
    assert sum(p.delete for p in plan.collections) == done.counts.deleted == 1


@pytest.mark.long
def test_it_can_be_turned_back(pair: Stage) -> None:
    """A second switchover leads to the first direction, through the mark of the first promotion."""
    arrange(pair)
    pair.sync()
    promote(pair, fence=True)
    fill(pair.on_replica("mail"), 10, start=900)
    assert pair.sync(**turned(pair)).outcome is Outcome.IDENTICAL
    with pair.app(**turned(pair)) as app:
        assert app.promote(Quiet(), wait_for_fence=True).outcome is PromoteOutcome.PROMOTED
    with pytest.raises(ReplicaPromoted):
        pair.sync(**turned(pair))
    fill(pair.primary.get_collection("wiki", embedding_function=None), 10, start=950)
    assert pair.sync().outcome is Outcome.IDENTICAL
    pair.assert_identical()
    pair.assert_quiet()


def test_a_failover_names_what_may_be_missing(pair: Stage) -> None:
    """The returning primary overwrites nothing, and what it alone has waits for a decision."""
    arrange(pair)
    synced = pair.sync()
    docs = pair.primary.get_collection("docs", embedding_function=None)
    docs.add(ids=LATE, embeddings=vectors(len(LATE), seed=9), documents=["too late"] * len(LATE))
    docs.update(ids=["r5"], metadatas=[{"n": -5}])
    primary_dies(pair)
    with pytest.raises(ServerUnreachable):
        pair.sync()
    report = promote(pair)
    assert report.outcome is PromoteOutcome.PROMOTED
    assert not report.direction.planned
    assert report.identical_as_of == synced.identical_as_of
    application_goes_on(pair)
    primary_returns(pair)
    assert_left_alone(pair)

    mine, theirs = every(pair), contents(docs)
    held = pair.sync(**turned(pair))
    assert held.exit_code == DECIDE
    assert {h.kind for h in held.holds} == {HoldKind.DIVERGED}
    (hold,) = (h for h in held.holds if h.collection_name == "docs")
    assert hold.count == len(LATE) + 1
    assert "the direction was turned" in hold.reason
    assert contents(docs) == theirs
    pair.overrides |= turned(pair)
    pair.approve()
    for _ in range(3):
        if pair.sync().outcome is Outcome.IDENTICAL:
            break
        pair.approve()
    pair.assert_identical()
    assert every(pair) == mine


def test_a_living_primary_needs_a_fence(pair: Stage) -> None:
    """Or someone who gives up what was not copied yet."""
    arrange(pair)
    pair.sync()
    with pytest.raises(GuardRefusal, match="The primary answers"):
        promote(pair)
    assert pair.status().direction.is_following
    assert promote(pair, anyway=True).outcome is PromoteOutcome.PROMOTED
    assert promote(pair, anyway=True).outcome is PromoteOutcome.ALREADY
    assert_left_alone(pair)


def test_nothing_can_be_promoted_that_was_never_copied(pair: Stage) -> None:
    """An empty state store is one of another place."""
    pair.create("docs", count=3)
    with pair.app() as app:
        assert app.store.mirrors() == []
    with pytest.raises(GuardRefusal, match="Nothing was copied"):
        promote(pair, anyway=True)


@pytest.mark.long
def test_an_application_that_still_writes_is_noticed(pair: Stage) -> None:
    """The comparison after the fence finds it, and the replica follows on."""
    arrange(pair)
    pair.sync()
    docs = pair.primary.get_collection("docs", embedding_function=None)

    def write(point: str) -> None:
        if point == faultpoints.BEFORE_COMPARISON:
            docs.add(ids=LATE, embeddings=vectors(len(LATE), seed=9))

    with faultpoints.injected(write):
        report = promote(pair, fence=True)
    assert report.outcome is PromoteOutcome.DIFFERENT
    assert report.exit_code == 1
    assert "still writes to the primary" in report.reason
    assert pair.status().direction.is_following
    pair.sync_and_judge()


@pytest.mark.long
@pytest.mark.parametrize("point", faultpoints.OF_PROMOTION)
def test_a_promotion_that_was_killed_goes_on(pair: Stage, point: str) -> None:
    """Whenever it dies, nobody writes to the replica, and the same command finishes it."""
    arrange(pair)
    pair.sync()
    killed = pair.command("promote", "--wait-for-fence", CHROMASYNC_FAULTPOINT=point)
    assert killed.returncode == -9, killed.stderr
    assert not pair.status().direction.is_following
    assert_left_alone(pair)
    done = pair.command("promote", "--wait-for-fence")
    assert done.returncode == 0, done.stderr
    assert pair.status().direction.state is DirectionState.PROMOTED
    application_goes_on(pair)
    assert_left_alone(pair)
    assert pair.sync(**turned(pair)).outcome is Outcome.IDENTICAL
    pair.assert_identical()


@pytest.mark.long
@pytest.mark.parametrize(
    "point", [faultpoints.AFTER_PROMOTION_BEGAN, faultpoints.AFTER_PROMOTION_MARK]
)
def test_a_promotion_that_was_killed_can_be_cancelled(pair: Stage, point: str) -> None:
    """Then the replica follows as before, although it may have the mark of a promotion."""
    arrange(pair)
    pair.sync()
    pair.command("promote", "--anyway", CHROMASYNC_FAULTPOINT=point)
    assert pair.command("promote", "--cancel").returncode == 0
    fill(pair.primary.get_collection("docs", embedding_function=None), 5, start=700)
    pair.sync_and_judge()


@pytest.mark.long
def test_the_mark_keeps_out_whoever_does_not_know(pair: Stage, tmp_path: Path) -> None:
    """A state store from an older backup, and a new one, write nothing to a promoted replica."""
    arrange(pair)
    pair.sync()
    restore = pair.keep_state()
    promote(pair, anyway=True)
    application_goes_on(pair)
    held = every(pair)
    restore()
    before = len(pair.replica_writes())
    with pytest.raises(ReplicaPromoted, match="older than the promotion"):
        pair.sync()
    (tmp_path / "new").mkdir()
    with pytest.raises(ReplicaPromoted, match="Another chromasync store promoted"):
        pair.sync(SYNC_DATA_DIR=str(tmp_path / "new"))
    assert pair.command("doctor").returncode == DECIDE
    assert pair.replica_writes()[before:] == []
    assert every(pair) == held


@pytest.mark.long
def test_a_replica_that_takes_no_mark_can_be_promoted_and_turned(pair: Stage) -> None:
    """It still has the mark of a replica, from before; that keeps nobody from following it."""
    arrange(pair)
    pair.sync()
    denied = Answer(403, b'{"error":"AuthError","message":"read only"}')
    pair.servers.replica_proxy.fault = lambda request: None if request.is_read else denied
    report = promote(pair, anyway=True)
    assert report.outcome is PromoteOutcome.PROMOTED
    assert "stores no mark" in report.warnings[0]
    pair.servers.replica_proxy.fault = None
    application_goes_on(pair)
    mine = every(pair)
    assert_left_alone(pair)
    for _ in range(2):
        assert pair.sync(**turned(pair)).outcome is Outcome.IDENTICAL
    assert every(pair) == mine


# ---- what the replica lacks ------------------------------------------------------------------


@pytest.mark.long
def test_what_only_the_former_primary_has_whole_is_held(pair: Stage) -> None:
    """Records that the replica refused, or stored an older state of, are not lost in the turn."""
    docs = pair.create("docs", space="l2", count=60)
    pair.sync()
    refuse(pair.servers.replica_proxy, "r7", "alone")
    docs.update(ids=["r7"], metadatas=[{"n": -7}])
    docs.add(ids=["alone"], embeddings=vectors(1), documents=["nobody else has it"])
    assert {q.record_id for q in pair.sync().quarantined} == {"r7", "alone"}
    assert promote(pair, anyway=True).outcome is PromoteOutcome.PROMOTED
    pair.servers.replica_proxy.fault = None
    theirs = contents(docs)
    held = pair.sync(**turned(pair))
    assert {h.kind for h in held.holds} == {HoldKind.DIVERGED}
    assert held.holds[0].count == 2
    assert contents(docs) == theirs


def test_another_server_at_the_replica_s_address_is_not_promoted(pair: Stage) -> None:
    """Neither an empty server nor one with other collections of the same names."""
    arrange(pair)
    pair.sync()
    primary_dies(pair)
    with ChromaServer() as other:
        for fill_it in (False, True):
            if fill_it:
                fill_like(other, pair)
            with pytest.raises(GuardRefusal, match="none of the collections"):
                promote_at(pair, other.url)
    assert pair.status().direction.is_following


@pytest.mark.long
def test_nothing_is_promised_of_a_replica_that_lost_something(pair: Stage) -> None:
    """A dropped collection and missing records have no instant any more, and are named."""
    arrange(pair)
    pair.sync()
    primary_dies(pair)
    pair.replica.delete_collection("mail")
    pair.on_replica("docs").delete(ids=["r1"])
    report = promote(pair)
    assert report.outcome is PromoteOutcome.PROMOTED
    known = {c.name: c.identical_as_of is not None for c in report.collections}
    assert known == {"docs": False, "mail": False, "wiki": True}
    assert report.direction.identical_as_of is None
    assert any("lacks collections" in w and "mail" in w for w in report.warnings)
    assert any("fewer records" in w and "docs" in w for w in report.warnings)


@pytest.mark.long
def test_nothing_is_promised_of_an_older_replica(pair: Stage) -> None:
    """A replica without the mark of the last cycle was restored, or is another server."""
    arrange(pair)
    pair.sync()
    primary_dies(pair)
    with Rest(pair.servers.replica.url, MARKS_DATABASE) as rest:
        rest.drop("marks")
    report = promote(pair)
    assert report.outcome is PromoteOutcome.PROMOTED
    assert all(c.unsure for c in report.collections)
    assert any("does not carry the mark" in w for w in report.warnings)


@pytest.mark.long
def test_a_primary_that_answers_with_an_error_is_alive(pair: Stage) -> None:
    """A wrong token or a limit of requests, for example, is no reason for a failover."""
    arrange(pair)
    pair.sync()
    for answer in (Answer(401, b'{"error":"Unauthorized"}'), Answer(429, b"slow down")):
        pair.servers.primary_proxy.fault = lambda _, answer=answer: answer
        with pytest.raises(GuardRefusal, match="although with an error"):
            promote(pair)
    assert promote(pair, anyway=True).outcome is PromoteOutcome.PROMOTED


@pytest.mark.long
def test_an_interrupted_promotion_lets_the_replica_follow(pair: Stage) -> None:
    """Ctrl-C undoes it, also after the mark was written."""
    arrange(pair)
    pair.sync()

    def interrupt(point: str) -> None:
        if point == faultpoints.BEFORE_COMPARISON:
            raise KeyboardInterrupt

    with faultpoints.injected(interrupt), pytest.raises(KeyboardInterrupt):
        promote(pair, fence=True)
    assert pair.status().direction.is_following
    pair.sync_and_judge()


def refuse(proxy: RecordingProxy, *record_ids: str) -> None:
    """The server refuses every write that carries one of these records."""

    def fault(request: Request) -> Answer | None:
        is_write = not request.is_read and request.body
        asked = json.loads(request.body).get("ids") if is_write else None
        return REFUSED if set(asked or ()).intersection(record_ids) else None

    proxy.fault = fault


def promote_at(stage: Stage, url: str) -> PromoteReport:
    with stage.app(REPLICA_URL=url) as app:
        return app.promote(Quiet(), anyway=True)


# ---- afterwards ------------------------------------------------------------------------------


@pytest.mark.long
def test_a_new_server_becomes_the_replica(pair: Stage) -> None:
    """The former primary is lost for good; the promoted one is copied to an empty server."""
    arrange(pair)
    pair.sync()
    primary_dies(pair)
    promote(pair)
    application_goes_on(pair)
    with ChromaServer() as new, RecordingProxy(new.url) as proxy:
        servers = Servers(pair.servers.replica, new, pair.servers.replica_proxy, proxy)
        after = Stage(servers, pair.folder, pair.database)
        after.overrides = dict(pair.overrides)
        try:
            after.sync_and_judge()
        finally:
            after.close()


@pytest.mark.long
def test_a_service_with_the_new_settings_waits_for_the_former_primary(pair: Stage) -> None:
    """It turns the direction when that answers again; it does not end meanwhile."""
    arrange(pair)
    pair.sync()
    promote(pair, anyway=True)
    application_goes_on(pair)
    primary_dies(pair)
    settings = pair.values(**turned(pair)) | {"SYNC_INTERVAL": "1"}
    log = pair.folder / "service.log"
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    process = Forked(["run"], kept | settings, log)
    try:
        wait_until(lambda: "retry_in_seconds" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        assert pair.status().direction.state is DirectionState.PROMOTED
        primary_returns(pair)
        wait_until(lambda: pair.status().exit_code == 0)
    finally:
        process.kill()
    pair.assert_identical()


def wait_until(holds: Callable[[], bool]) -> None:
    """Look again and again until something holds; a hanging test is ended from outside."""
    while not holds():
        time.sleep(0.2)


@pytest.mark.long
def test_settings_that_lead_elsewhere_turn_nothing(pair: Stage) -> None:
    """Only the promoted replica can be the primary of what follows."""
    arrange(pair)
    pair.sync()
    promote(pair, anyway=True)
    with ChromaServer() as other:
        fill_like(other, pair)
        with pytest.raises(ReplicaPromoted):
            pair.sync(PRIMARY_URL=other.url, REPLICA_URL=pair.servers.primary_proxy.url)
    assert pair.status().direction.state is DirectionState.PROMOTED


def fill_like(other: ChromaServer, stage: Stage) -> None:
    """A server with the same database, and a collection of its own."""
    staging = Stage(
        Servers(other, other, stage.servers.primary_proxy, stage.servers.replica_proxy),
        stage.folder,
        stage.database,
    )
    staging.create("docs", count=3)
    staging.close()
