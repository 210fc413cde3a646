"""The replica's mark with several processes: whoever writes first, writes it first."""

from __future__ import annotations

import pytest

from chromasync.lab.proxy import RecordingProxy
from tests.distributed.fleet import Fleet
from tests.mirror.test_mark import mark_of
from tests.support.stage import Stage, fill
from tests.support.writes import is_of_mark


@pytest.mark.long
def test_a_worker_writes_the_mark_before_its_first_record(stage: Stage, fleet: Fleet) -> None:
    """The coordinator prepares it in the store, and writes the last one of the cycle itself."""
    docs = stage.create("docs", count=50)
    with RecordingProxy(stage.servers.replica.url) as proxy:
        fleet.coordinator(SYNC_COORDINATOR_WORKS="false")
        fleet.worker(REPLICA_URL=proxy.url)
        fleet.assert_converges()
        before = len(proxy.writes())
        fill(docs, 50, start=50)
        fleet.assert_converges()
        sent = proxy.writes()[before:]
    marks = [n for n, request in enumerate(sent) if is_of_mark(request)]
    assert marks[:1] == [0]
    assert len(marks) < len(sent)
    mark = mark_of(stage)
    assert (mark["final"], mark["released"]) == (True, False)
    leads = {beat.worker_id for beat in fleet.beats(fleet.members[0])}
    assert {mark["holder"]} == leads, "it names the leader, whoever wrote it"


@pytest.mark.long
def test_a_coordinator_that_takes_over_knows_the_mark(stage: Stage, fleet: Fleet) -> None:
    """It is the store's, not a process's: nothing is doubtful when another one leads."""
    docs = stage.create("docs", count=50)
    first = fleet.coordinator("first")
    fleet.assert_converges()
    fleet.coordinator("second")
    first.kill()
    fill(docs, 20, start=50)
    fleet.assert_converges()
    assert "Every record there is compared" not in "".join(m.log for m in fleet.members)
