"""Records deleted between two pages of ids shift others past the boundary; none is missed."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from chromasync.lab.proxy import Fault, Request
from chromasync.ledger import paging
from chromasync.reports import Outcome
from tests.support.stage import Stage, vectors


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "PAGE_IDS", 100)


def before_second_page(stage: Stage, act: Callable[[], object]) -> None:
    """Do something to the primary when the second page of ids is asked for, once."""
    waiting = [act]

    def look(request: Request) -> Fault | None:
        asked = json.loads(request.body) if request.path.endswith("/get") else {}
        if asked.get("include") == [] and asked.get("offset") and waiting:
            waiting.pop()()
        return None

    stage.servers.primary_proxy.fault = look


@pytest.mark.long
@pytest.mark.parametrize("gone", [1, 16, 40])
def test_a_first_copy_misses_nothing(stage: Stage, gone: int) -> None:
    """A cycle that calls itself identical has seen what slipped to the page before."""
    docs = stage.create(count=350)
    before_second_page(stage, lambda: docs.delete(ids=[f"r{n}" for n in range(20, 20 + gone)]))
    report = stage.sync(full=False)
    listed = docs.get(include=[])["ids"]
    copied = stage.on_replica().get(include=[])["ids"]
    assert set(listed) <= set(copied), set(listed) - set(copied)
    assert report.outcome is not Outcome.IDENTICAL or set(listed) == set(copied), report
    stage.sync_and_judge()


def test_a_later_cycle_misses_nothing(stage: Stage) -> None:
    """What is new to the ledger is found though it slips."""
    docs = stage.create(count=100)
    stage.sync()
    docs.add(ids=["new"], embeddings=vectors(1))
    before_second_page(stage, lambda: docs.delete(ids=["r5", "r99"]))
    stage.sync()
    assert "new" in stage.on_replica().get(include=[])["ids"]
    stage.sync_and_judge()


def test_a_comparison_misses_nothing(stage: Stage) -> None:
    """A record that differs is found although it slips to a page that was read."""
    docs = stage.create(count=350)
    stage.sync()
    stage.on_replica().update(ids=["r100"], metadatas=[{"n": -1}])
    before_second_page(stage, lambda: docs.delete(ids=["r5"]))
    report = stage.verify()
    (docs_report,) = report.collections
    found = (docs_report.same, docs_report.changed, docs_report.inconclusive)
    assert found == (349, 1, 0), report
