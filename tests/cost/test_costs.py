"""What cycles cost: each phase stays within the figures of `limits.txt`, and no clock is asked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from chromasync.chroma.pace import Pace
from chromasync.cycle import probe
from chromasync.quiet import Quiet
from chromasync.reports import Outcome
from tests.cost.limits import check
from tests.cost.meter import Figures, Wire, counted_statements, figures_of
from tests.support.stage import Stage, fill, running_servers, vectors

RECORDS, CHUNK, CHANGES, SMALL = 2_000, 100, 100, 1_500
SPREAD = range(7, RECORDS, RECORDS // CHANGES)
"""Numbers of the changed records: five in each chunk."""

SETTINGS = {
    "SYNC_CHUNK_SIZE": str(CHUNK),
    "SYNC_WORKERS": "1",  # tasks do not meet each other
}
SCENARIO_ATTEMPTS = 4
READ_ALL, IDS_ONLY = "100%", "0"


class Scene:
    """Two servers of its own, and the figures of each phase so far."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.measured: dict[str, Figures] = {}
        servers = stage.servers
        self.wires = [Wire(servers.primary_proxy), Wire(servers.replica_proxy)]

    def phase(self, name: str, budget: str, *, read: int, applied: int) -> None:
        """Count one cycle, which must read and write so many records and end identical."""
        self._settle()
        with self.stage.app(SYNC_SCRUB_BUDGET=budget) as app, counted_statements() as statements:
            for wire in self.wires:
                wire.passed()
            report = app.sync(Quiet())
            figures = figures_of(self.wires, statements)
        if self.faults:
            return  # the read was repeated in parts, so neither counts nor figures are usual
        assert report.outcome is Outcome.IDENTICAL, report
        assert (report.counts.read, report.counts.applied) == (read, applied), name
        self.measured[name] = figures

    def _settle(self) -> None:
        """Read all records as the engine will: so the primary's index has taken in all writes."""
        for collection in self.stage.primary.list_collections()[:1]:
            collection.get(include=["embeddings"])

    @property
    def faults(self) -> int:
        """Requests that a server could not answer."""
        return sum(wire.faults for wire in self.wires)


def measure(scenario: Callable[[Scene], None], folder: Path) -> dict[str, Figures]:
    """The figures of a scenario in which no server failed.

    A read that meets a write of the index's own thread may fail with 500, and is then repeated in
    parts. Such a scenario is played again on new servers.
    """
    for attempt in range(SCENARIO_ATTEMPTS):
        with ExitStack() as stack:
            (state := folder / str(attempt)).mkdir()
            stage = Stage(stack.enter_context(running_servers()), state)
            stack.callback(stage.close)
            stage.overrides = dict(SETTINGS)
            scene = Scene(stage)
            scenario(scene)
            stage.assert_identical()
            if not scene.faults:
                return scene.measured
    raise AssertionError(f"a server failed in each of {SCENARIO_ATTEMPTS} scenarios")


@pytest.fixture(autouse=True)
def timeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """No decision of a cycle depends on how long something took."""
    monkeypatch.setattr(probe, "SHARE", 0.0)  # one index is probed
    # a slow primary is asked for fewer records at once
    monkeypatch.setattr(Pace, "rows_at_once", lambda *_: None)


def copy_and_stay(scene: Scene) -> None:
    """A first copy, and cycles without a change."""
    fill(scene.stage.create(), RECORDS)
    scene.phase("first copy", IDS_ONLY, read=RECORDS, applied=RECORDS)
    scene.phase("the cycle after it", IDS_ONLY, read=RECORDS, applied=0)
    scene.phase("unchanged, all read", READ_ALL, read=RECORDS, applied=0)
    scene.phase("unchanged, ids only", IDS_ONLY, read=0, applied=0)


def change(scene: Scene) -> None:
    """Changes of each kind, scattered over all chunks, each with the cycle after it."""
    docs = scene.stage.create()
    fill(docs, RECORDS)
    for _ in range(2):
        scene.stage.sync(SYNC_SCRUB_BUDGET=IDS_ONLY)
    fill(docs, CHANGES, start=RECORDS)
    scene.phase("100 added", IDS_ONLY, read=CHANGES, applied=CHANGES)
    scene.phase("100 added, the cycle after", IDS_ONLY, read=CHANGES, applied=0)
    changed = [f"r{n}" for n in SPREAD]
    total = RECORDS + CHANGES
    docs.update(ids=changed, metadatas=[{"n": -1}] * CHANGES)
    scene.phase("100 payloads changed", READ_ALL, read=total, applied=CHANGES)
    scene.phase("100 payloads, the cycle after", IDS_ONLY, read=CHANGES, applied=0)
    docs.update(ids=changed, embeddings=vectors(CHANGES, seed=9))
    scene.phase("100 embeddings changed", READ_ALL, read=total, applied=CHANGES)
    scene.phase("100 embeddings, the cycle after", IDS_ONLY, read=CHANGES, applied=0)
    docs.delete(ids=changed)
    scene.phase("100 deleted", IDS_ONLY, read=0, applied=CHANGES)
    scene.phase("100 deleted, the cycle after", IDS_ONLY, read=0, applied=0)


def many_small_collections(scene: Scene) -> None:
    """Collections of one record each."""
    for number in range(SMALL):
        scene.stage.create(f"small{number}").add(
            ids=["r0"], embeddings=vectors(1, seed=number), documents=[f"text {number}"]
        )
    scene.phase("1,500 collections, first copy", IDS_ONLY, read=SMALL, applied=SMALL)
    scene.phase("1,500 collections, the cycle after", IDS_ONLY, read=SMALL, applied=0)
    scene.phase("1,500 collections, all read", READ_ALL, read=SMALL, applied=0)
    scene.phase("1,500 collections, ids only", IDS_ONLY, read=0, applied=0)


def test_a_first_copy_and_unchanged_cycles_cost_what_they_did(tmp_path: Path) -> None:
    """No figure of a first copy and of the cycles after it grows unnoticed."""
    check(measure(copy_and_stay, tmp_path))


@pytest.mark.long
def test_scattered_changes_cost_what_they_did(tmp_path: Path) -> None:
    """No figure grows unnoticed for 100 changes of each kind, and for the cycle after each."""
    check(measure(change, tmp_path))


@pytest.mark.longest
@pytest.mark.long
@pytest.mark.timeout(1800)
def test_many_small_collections_cost_what_they_did(tmp_path: Path) -> None:
    """No figure of 1,500 collections of one record grows unnoticed."""
    check(measure(many_small_collections, tmp_path))
