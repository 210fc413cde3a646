"""The three drills on real servers, in one process: nothing is lost until someone decides.

The primary comes back stale after a fail-over; another server answers at its address; it comes
back older. Each is told by the exit code 6 of every command that looks, beforehand and afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chromasync.errors import ServerUnreachable
from chromasync.model import HoldKind
from chromasync.reports import Outcome
from tests.support.crew import Crew
from tests.support.drills import (
    ADDED,
    RECORDS,
    SINCE,
    another_server,
    application_goes_on,
    arrange,
    every,
    fresh,
    older_copy,
    primary_dies,
    primary_returns,
    restorable,
)
from tests.support.stage import Stage, drop, fill, vectors

pytestmark = pytest.mark.usefixtures("short_waits")

DECIDE = 6
QUICK = {"SYNC_CHUNK_SIZE": "50"}


@pytest.fixture
def own(tmp_path: Path, crew: Crew | None) -> Iterator[Stage]:
    """Servers that keep their data in folders of their own."""
    with restorable(tmp_path) as stage:
        stage.crew = crew
        stage.overrides = dict(QUICK)
        yield stage


def assert_undecided(stage: Stage, kind: HoldKind, *names: str) -> None:
    """Every command that looks says what waits for a decision, and that nothing is identical."""
    before = len(stage.replica_writes())
    for command in ("doctor", "plan", "sync", "plan", "sync", "status", "doctor"):
        done = stage.command(command)
        assert done.returncode == DECIDE, (command, done.stdout, done.stderr)
        said = done.stdout + done.stderr
        assert all(name in said for name in names), (command, said)
        assert not any(line.startswith("Identical") for line in done.stdout.splitlines())
    assert stage.replica_writes()[before:] == []
    with stage.app() as app:
        assert {hold.kind for hold in app.store.holds()} >= {kind}


def assert_ends_identical(stage: Stage) -> None:
    """Someone decides for the primary: a few cycles later both sides are equal."""
    stage.approve()
    for _ in range(3):
        if stage.sync().outcome is Outcome.IDENTICAL:
            break
        stage.approve()
    stage.assert_identical()
    stage.assert_quiet()


@pytest.mark.long
def test_a_stale_primary_overwrites_nothing(stage: Stage) -> None:
    """The primary dies, a cycle fails, the application goes on with the replica."""
    stage.overrides = dict(QUICK)
    arrange(stage)
    stage.sync()
    primary_dies(stage)
    with pytest.raises(ServerUnreachable):
        stage.sync()
    precious = application_goes_on(stage)
    primary_returns(stage)
    assert_undecided(stage, HoldKind.DIVERGED, "docs", "made-by-the-app")
    assert every(stage) == precious
    fill_elsewhere(stage)
    stage.sync()
    assert every(stage)["docs"] == precious["docs"], "what comes to another collection goes on"
    assert_ends_identical(stage)


def fill_elsewhere(stage: Stage) -> None:
    """The primary is written to, in a collection that nobody touched on the replica."""
    mail = stage.primary.get_collection("mail", embedding_function=None)
    mail.add(ids=["new"], embeddings=vectors(1))


@pytest.mark.long
@pytest.mark.parametrize("mark", ["on", "off"])
def test_a_stale_primary_and_a_lost_state_overwrite_nothing(
    stage: Stage, tmp_path: Path, mark: str
) -> None:
    """The same with a new SYNC_DATA_DIR: nobody remembers what was left on the replica."""
    stage.overrides = QUICK | {"SYNC_MARK": mark}
    arrange(stage)
    stage.sync()
    precious = application_goes_on(stage)
    stage.overrides["SYNC_DATA_DIR"] = str(tmp_path / "another")
    stage.command("plan")
    for _ in range(3):
        assert stage.command("sync").returncode in (4, DECIDE)
        kept = every(stage)
        assert kept["made-by-the-app"] == precious["made-by-the-app"]
        assert {i: kept["docs"][i] for i in [*ADDED, "r3"]} == {
            i: precious["docs"][i] for i in [*ADDED, "r3"]
        }
    stage.overrides.pop("SYNC_DATA_DIR")


@pytest.mark.long
@pytest.mark.parametrize("moved", [False, True])
def test_another_server_at_the_address_changes_nothing(stage: Stage, moved: bool) -> None:
    """Whether it answers at the old address or the address was changed."""
    stage.overrides = dict(QUICK)
    arrange(stage)
    stage.sync()
    precious = every(stage)
    with another_server(stage):
        if moved:
            stage.overrides["PRIMARY_URL"] = stage.servers.primary_proxy.url.replace(
                "127.0.0.1", "localhost"
            )
        assert_undecided(stage, HoldKind.OTHER_PRIMARY)
        assert every(stage) == precious
    stage.overrides.pop("PRIMARY_URL", None)
    assert stage.sync().outcome is Outcome.IDENTICAL
    assert every(stage) == precious


@pytest.mark.long
@pytest.mark.crewed(in_ci=False)
def test_another_server_and_a_lost_state_change_nothing(stage: Stage, tmp_path: Path) -> None:
    """Of three collections none is mostly the same, so none is adopted unasked."""
    stage.overrides = dict(QUICK)
    arrange(stage)
    stage.sync()
    precious = every(stage)
    with another_server(stage):
        stage.overrides["SYNC_DATA_DIR"] = str(tmp_path / "another")
        assert_undecided(stage, HoldKind.ADOPTION, "docs", "mail", "wiki")
        assert every(stage) == precious


@pytest.mark.long
def test_an_older_primary_deletes_nothing(own: Stage, tmp_path: Path) -> None:
    """Restored from a backup, and written to since; the newest records are on the replica alone."""
    arrange(own)
    own.sync()
    with older_copy(own, tmp_path, own.sync), fresh(own) as stage:
        stage.overrides = own.overrides
        assert_undecided(stage, HoldKind.OLDER_PRIMARY, "docs")
        kept = every(stage)["docs"]
        assert set(SINCE) <= kept.keys()
        assert kept["r1"][1]["n"] == -1
        assert_ends_identical(stage)


@pytest.mark.long
@pytest.mark.crewed
def test_everything_at_once_loses_nothing(own: Stage, tmp_path: Path) -> None:
    """The primary is older, one collection was made anew on it, and the replica was written to."""
    arrange(own)
    own.sync()
    with older_copy(own, tmp_path, own.sync), fresh(own) as stage:
        stage.overrides = own.overrides
        drop(stage.primary, "wiki")
        fill(stage.create("wiki", space="l2"), RECORDS, seed=4, dimension=5)
        fill(stage.create("new"), 5)
        primary_dies(stage)
        with pytest.raises(ServerUnreachable):
            stage.sync()
        mail = stage.on_replica("mail")
        mail.add(ids=["app"], embeddings=vectors(1))
        primary_returns(stage)
        for _ in range(3):
            assert stage.command("sync").returncode == DECIDE
            kept = every(stage)
            assert set(SINCE) <= kept["docs"].keys()
            assert "app" in kept["mail"]
            assert kept["wiki"].keys() == {f"r{n}" for n in range(RECORDS)}
            assert len(kept["new"]) == 5, "what is new on the primary is copied all the same"
        with stage.app() as app:
            kinds = {hold.collection_name: hold.kind for hold in app.store.holds()}
        assert kinds["docs"] is HoldKind.OLDER_PRIMARY
        assert kinds["mail"] is HoldKind.DIVERGED
        assert_ends_identical(stage)


@pytest.mark.long
@pytest.mark.crewed(in_ci=False)
def test_an_older_primary_and_a_lost_state_delete_nothing(own: Stage, tmp_path: Path) -> None:
    """What the replica has more is of unknown origin, and what differs may be newer there."""
    arrange(own)
    own.sync()
    with older_copy(own, tmp_path, own.sync), fresh(own) as stage:
        stage.overrides = QUICK | {"SYNC_DATA_DIR": str(tmp_path / "another")}
        for _ in range(3):
            assert stage.command("sync").returncode in (4, DECIDE)
            kept = every(stage)["docs"]
            assert set(SINCE) <= kept.keys()
            assert kept["r1"][1]["n"] == -1
