"""Collections that go to another place on the replica, or beside the originals, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chromasync.errors import GuardRefusal, ReplicaPromoted, SettingsError
from chromasync.failover_reports import PromoteOutcome
from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.judge import Judgement, judge_page
from chromasync.lab.proxy import RecordingProxy
from chromasync.quiet import Quiet
from chromasync.reports import Outcome, PlannedAction
from tests.support.crew import Crew
from tests.support.stage import TENANT, Servers, Stage, client_of, close_client, drop, fill

if TYPE_CHECKING:
    from chromadb import Collection

SUFFIX = "-copies"


@pytest.fixture
def away(servers: Servers, tmp_path: Path, crew: Crew | None) -> Iterator[Stage]:
    """A stage whose copies have another database and other names."""
    stage = Stage(servers, tmp_path, suffix=SUFFIX)
    stage.crew = crew
    stage.overrides["SYNC_TARGET"] = f"{{tenant}}/{{database}}{SUFFIX}/copy.{{name}}"
    yield stage
    stage.close()
    assert servers.primary_proxy.writes() == []


def assert_copy(original: Collection, copy: Collection) -> None:
    """One collection has what the other one has, as the official client sees them."""
    ids = original.get(include=[])["ids"]
    assert sorted(copy.get(include=[])["ids"]) == sorted(ids)
    judgement = Judgement()
    judge_page(original, copy, ids, judgement)
    assert judgement.identical, judgement.examples
    assert judgement.records == len(ids)


def names(stage: Stage) -> list[str]:
    """The collections of the replica's database."""
    return sorted(c.name for c in stage.replica.list_collections())


@pytest.mark.long
@pytest.mark.crewed
def test_a_life_at_another_place(away: Stage) -> None:
    """First copy, plan, verify, status, a rename, a change, and a drop."""
    docs = away.create(count=60)
    for name in ("wiki", "mail", "chat"):
        away.create(name, count=4)
    assert {p.action for p in away.plan().collections} == {PlannedAction.CREATE}
    assert away.sync().outcome is Outcome.IDENTICAL
    assert names(away) == ["copy.chat", "copy.docs", "copy.mail", "copy.wiki"]
    assert_copy(docs, away.on_replica("copy.docs"))
    assert away.verify().exit_code == 0
    assert away.command("doctor").returncode == 0
    assert [c.name for c in away.status().collections] == ["chat", "docs", "mail", "wiki"]
    docs.modify(name="papers")
    fill(docs, 5, start=100)
    (renamed,) = (p for p in away.plan().collections if p.name == "papers")
    assert (renamed.action, renamed.create) == (PlannedAction.RENAME, 5)
    assert away.sync().counts.inserted == 5
    assert_copy(docs, away.on_replica("copy.papers"))
    drop(away.primary, "wiki")
    away.sync()
    away.sync()
    assert names(away) == ["copy.chat", "copy.mail", "copy.papers"]
    away.assert_quiet()


def test_a_copy_that_is_there_is_adopted_and_renamed(away: Stage) -> None:
    """A lost state store finds the copies again; another name for them copies nothing."""
    docs = away.create(count=30)
    away.sync()
    for path in away.folder.iterdir():
        path.unlink()
    (planned,) = away.plan().collections
    assert planned.action is PlannedAction.ADOPT
    assert (away.sync().outcome, away.sync().counts.applied) == (Outcome.IDENTICAL, 0)
    away.overrides["SYNC_TARGET"] = f"{{tenant}}/{{database}}{SUFFIX}/{{name}}-2"
    report = away.sync()
    assert (report.outcome, report.counts.applied) == (Outcome.IDENTICAL, 0)
    assert names(away) == ["docs-2"]
    assert_copy(docs, away.on_replica("docs-2"))


def test_copies_beside_the_originals(servers: Servers, tmp_path: Path) -> None:
    """On the primary's own server, in a tenant of this test: the originals stay as they are."""
    url, tenant = servers.primary.url, "beside"
    client = client_of(url, "wares", tenant)
    stage = Stage(servers, tmp_path, "wares")
    stage.overrides = {
        "SYNC_TENANTS": tenant,
        "PRIMARY_URL": url,
        "REPLICA_URL": url,
        "SYNC_TARGET": "{tenant}/{database}/{name}-copy",
    }
    docs = client.create_collection("docs", embedding_function=None)
    fill(docs, 40)
    with pytest.raises(GuardRefusal, match="copies would be copied again"):
        stage.sync()
    stage.overrides["SYNC_EXCLUDE"] = "*-copy"
    with pytest.raises(GuardRefusal, match="lead to one server"):
        stage.sync(REPLICA_URL=url.replace("127.0.0.1", "localhost"))
    for count in (0, 10):
        if count:
            fill(docs, count, start=100)
        assert stage.sync().outcome is Outcome.IDENTICAL
        copy = client.get_collection("docs-copy", embedding_function=None)
        assert_copy(docs, copy)
    assert stage.verify().exit_code == 0
    assert stage.command("doctor").returncode == 0
    assert stage.sync().counts.applied == 0
    assert sorted(c.name for c in client.list_collections()) == ["docs", "docs-copy"]
    stage.close()
    close_client(client)


@pytest.mark.long
@pytest.mark.usefixtures("short_waits")
def test_there_and_back_again(tmp_path: Path) -> None:
    """A promoted replica turns round by the template of the way back, and by no other one."""
    with ExitStack() as stack:
        one, two = stack.enter_context(ChromaServer()), stack.enter_context(ChromaServer())
        first = stack.enter_context(RecordingProxy(one.url))
        second = stack.enter_context(RecordingProxy(two.url))
        stage = Stage(Servers(one, two, first, second), tmp_path, "wares", suffix=SUFFIX)
        stack.callback(stage.close)
        stage.overrides["SYNC_LEAD_SECONDS"] = "6"
        docs = stage.create(count=60)
        stage.sync()
        with stage.app() as app:
            promoted = app.promote(Quiet(), wait_for_fence=True)
            assert promoted.outcome is PromoteOutcome.PROMOTED
        with pytest.raises(ReplicaPromoted):
            stage.sync()
        copy = stage.on_replica()
        fill(copy, 5, start=100)
        stage.overrides |= {
            "PRIMARY_URL": second.url,
            "REPLICA_URL": first.url,
            "SYNC_DATABASES": f"wares{SUFFIX}",
            "SYNC_TARGET": "{tenant}/wares/{name}-back",
        }
        with pytest.raises(SettingsError, match=r"does not lead back to .*/docs"):
            stage.sync()
        assert [c.name for c in stage.primary.list_collections()] == ["docs"]
        stage.overrides["SYNC_TARGET"] = "{tenant}/wares/{name}"
        report = stage.sync()
        assert (report.outcome, report.counts.inserted) == (Outcome.IDENTICAL, 5)
        assert_copy(copy, docs)
        assert stage.sync().counts.applied == 0


@pytest.mark.long
def test_a_restore_leads_back(away: Stage, tmp_path: Path) -> None:
    """The new server gets the primary's places, and is the primary without another copy."""
    docs = away.create(count=30)
    away.sync()
    with ChromaServer() as new:
        with away.app() as app:
            assert app.restore(Quiet(), new.url).exit_code == 0
        client = client_of(new.url, away.database, TENANT)
        assert_copy(docs, client.get_collection("docs", embedding_function=None))
        close_client(client)
        report = away.sync(PRIMARY_URL=new.url)
        assert (report.outcome, report.counts.applied) == (Outcome.IDENTICAL, 0)
        assert names(away) == ["copy.docs"]
