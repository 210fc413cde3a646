"""A replica that learned to hold more: what was left out for its sake is written after all."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from chromasync.lab.chroma_server import ChromaServer
from chromasync.lab.proxy import RecordingProxy
from chromasync.reports import Outcome
from tests.compat_servers import command
from tests.mirror.test_versions import Pair, fill
from tests.support.rest import Rest
from tests.support.stage import Servers
from tests.support.writes import watched

DATABASE = "upgraded"
LISTS = [{"tags": ["a", "b"]}, {"n": [1, 2]}]


@pytest.mark.parametrize("budget", ["25%", "0"])
def test_lists_arrive_after_an_upgrade_in_place(tmp_path: Path, budget: str) -> None:
    """The primary did not change, so its digests tell nothing; the chunk is compared all the same.

    Until the chunk's turn comes, nobody calls it identical.
    """
    folder = tmp_path / "replica"
    with ExitStack() as stack:
        primary = stack.enter_context(ChromaServer())
        proxy = stack.enter_context(RecordingProxy(primary.url, refuse_writes=True))
        left = stack.enter_context(Rest(primary.url, DATABASE))
        left.create(configuration={"hnsw": {"space": "l2"}})
        fill(left, "docs")
        left.write("update", ids=["r7", "r8"], metadatas=LISTS)
        with ChromaServer(folder, command=command("1.3.0")) as old:
            port = int(old.url.rpartition(":")[2])
            second = stack.enter_context(RecordingProxy(old.url))
            right = stack.enter_context(Rest(old.url, DATABASE))
            servers = Servers(primary, old, proxy, second)
            stage = Pair(servers, tmp_path / "state", left, right, DATABASE)
            stage.overrides["SYNC_SCRUB_BUDGET"] = budget
            stage.cycle(Outcome.LIMITED, without_lists=True)
        stack.enter_context(ChromaServer(folder, port=port))
        if budget == "0":
            assert stage.sync().outcome is Outcome.LIMITED
        with watched(second) as writes:
            report = stage.sync(full=budget == "0")
        assert (report.outcome, report.counts.drifted) == (Outcome.IDENTICAL, 0), report
        assert writes.by_id == {
            name: [("update", {"metadata": metadata})]
            for name, metadata in zip(["r7", "r8"], LISTS, strict=True)
        }
        stage.judge()
        assert proxy.writes() == []
