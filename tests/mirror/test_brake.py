"""A replica that takes no write, for a reason that is not a record's: noticed after a few."""

from __future__ import annotations

import re

import pytest

from chromasync.cycle import waiting
from chromasync.errors import ServerError
from chromasync.lab.proxy import Answer, Request
from chromasync.reports import Outcome
from tests.support.stage import Stage, fill

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("short_waits")]

FULL = b'{"error":"InternalError","message":"(code: 13) database or disk is full"}'
READ_ONLY = b'{"error":"InternalError","message":"attempt to write a readonly database"}'
REFUSALS = {
    "full": Answer(500, FULL),
    "read-only": Answer(500, READ_ONLY),
    "broken": Answer(500, b'{"error":"InternalError","message":"boom"}'),
    "a proxy's own page": Answer(500, b"<html>Internal Server Error</html>"),
    "not allowed": Answer(403, b'{"error":"Forbidden","message":"no write access"}'),
    "unknown token": Answer(401, b'{"error":"Unauthorized","message":"who are you"}'),
    "refused": Answer(400, b'{"error":"InvalidArgumentError","message":"maintenance"}'),
    "reads alone": Answer(405, b"Method Not Allowed"),
}
MOST = 20
"""Writes of a cycle at most; each test has more chunks than that to write."""

CHUNK, BEFORE, SINCE = 10, 20, 130
WORDS = "takes no writes"


def refusing(stage: Stage, answer: Answer) -> None:
    """Let the replica answer each write so, and reads as ever."""

    def refuse(request: Request) -> Answer | None:
        return None if request.is_read else answer

    stage.servers.replica_proxy.fault = refuse


def writes_of_a_cycle(stage: Stage) -> tuple[int, str]:
    """How many writes one cycle sends that fails, and what it says."""
    proxy = stage.servers.replica_proxy
    before = len(proxy.writes())
    with pytest.raises(ServerError) as caught:
        stage.sync()
    return len(proxy.writes()) - before, str(caught.value)


@pytest.mark.parametrize("kind", REFUSALS)
def test_a_few_failing_writes_end_the_cycle(stage: Stage, kind: str) -> None:
    """Whatever its size; no record is set aside, and all goes on when writes are taken again."""
    stage.overrides["SYNC_CHUNK_SIZE"] = str(CHUNK)
    collections = [stage.create(name, count=BEFORE) for name in ("docs", "mail")]
    stage.sync_and_judge()
    for collection in collections:
        fill(collection, SINCE, start=BEFORE)
    refusing(stage, REFUSALS[kind])
    sent, said = writes_of_a_cycle(stage)
    assert WORDS in said
    assert sent <= MOST
    again, _ = writes_of_a_cycle(stage)
    assert again <= MOST
    status = stage.status()
    assert status.quarantined == ()
    assert WORDS in (status.cycles[0].error or "")
    stage.servers.replica_proxy.fault = None
    assert stage.sync_and_judge().counts.inserted == 2 * SINCE


@pytest.mark.crewed(in_ci=False)
def test_a_first_copy_ends_as_well(stage: Stage) -> None:
    """Nothing is there yet, not even a database for what would be copied."""
    for number in range(30):
        stage.create(f"col{number}", count=2)
    refusing(stage, REFUSALS["full"])
    sent, said = writes_of_a_cycle(stage)
    assert sent <= MOST
    assert WORDS in said
    stage.servers.replica_proxy.fault = None
    stage.sync_and_judge()


def test_bad_records_are_still_found_one_by_one(stage: Stage) -> None:
    """Where a harmless write is taken, the failures are about what was sent."""
    stage.overrides["SYNC_CHUNK_SIZE"] = "50"
    stage.create(count=200)
    bad = re.compile(rb'"r(3|4|5|6|7|8|9|10|11|12|13|14|120)"')
    proxy = stage.servers.replica_proxy
    proxy.keep_bodies = True

    def refuse(request: Request) -> Answer | None:
        if request.path.endswith("/add") and bad.search(request.body):
            return Answer(500, b'{"error":"InternalError","message":"boom"}')
        return None

    proxy.fault = refuse
    report = stage.sync()
    assert report.outcome is Outcome.LIMITED
    proxy.fault, proxy.keep_bodies = None, False
    proxy.forget_bodies()
    assert stage.on_replica().count() == 187


@pytest.mark.crewed
def test_records_of_collections_that_are_there(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers find it out by themselves, and the coordinator ends the cycle when they rest."""
    monkeypatch.setattr(waiting, "STALL_SECONDS", 3.0)
    docs = stage.create(count=BEFORE)
    stage.overrides["SYNC_CHUNK_SIZE"] = str(CHUNK)
    stage.sync_and_judge()
    fill(docs, 2 * SINCE, start=BEFORE)
    refusing(stage, REFUSALS["not allowed"])
    sent, said = writes_of_a_cycle(stage)
    assert sent <= MOST
    assert WORDS in said
    stage.servers.replica_proxy.fault = None
    assert stage.sync_and_judge().counts.inserted == 2 * SINCE
