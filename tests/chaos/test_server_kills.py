"""Servers that die in the middle of a cycle, or come back with older data."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from chromasync import faultpoints
from chromasync.errors import ServerUnreachable
from chromasync.lab.chroma_server import ChromaServer
from chromasync.quiet import Quiet
from chromasync.reports import Outcome
from tests.chaos.profile import NIGHTLY
from tests.chaos.scenes import SETTINGS, Scene, arrange_changes, arrange_first_copy, remake
from tests.support.stage import Stage, drop, fill, vectors

POINTS = [
    (arrange_first_copy, faultpoints.AFTER_WALK),
    (arrange_changes, faultpoints.MID_WRITE),
]
if NIGHTLY:
    POINTS += [
        (arrange_first_copy, faultpoints.MID_WRITE),
        (arrange_changes, faultpoints.MID_PRUNE),
    ]


@pytest.mark.long
@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("side", ["primary", "replica"])
@pytest.mark.parametrize(("scene", "point"), POINTS)
def test_a_server_killed_in_the_middle_of_a_cycle_is_waited_for(
    fragile: Stage, scene: Scene, side: str, point: str
) -> None:
    """The cycle ends with exit code 3 and names the server; once that is back, all goes on."""
    scene(fragile)
    server = getattr(fragile.servers, side)
    kill = Once(point, server.kill)
    with fragile.app(**SETTINGS) as app:
        with faultpoints.injected(kill), pytest.raises(ServerUnreachable) as caught:
            app.sync(Quiet())
        assert kill.done
        assert caught.value.exit_code == 3
        assert caught.value.side == side
        server.start()
        report = app.sync(Quiet())
    assert report.outcome is Outcome.IDENTICAL, report
    fragile.assert_identical()
    fragile.assert_quiet(**SETTINGS)


def test_a_server_that_restarts_in_the_middle_of_a_cycle_is_not_even_noticed(
    fragile: Stage,
) -> None:
    """Requests are repeated until it answers again; the cycle finishes."""
    arrange_first_copy(fragile)

    def restart() -> None:
        fragile.servers.replica.kill()
        fragile.servers.replica.start()

    once = Once(faultpoints.MID_WRITE, restart)
    with faultpoints.injected(once):
        report = fragile.sync(**SETTINGS)
    assert once.done
    assert report.outcome is Outcome.IDENTICAL, report
    fragile.assert_identical()
    fragile.assert_quiet(**SETTINGS)


class Once:
    """A fault hook that acts the first time a point is reached."""

    def __init__(self, point: str, act: Callable[[], object]) -> None:
        self._point = point
        self._act = act
        self.done = False

    def __call__(self, point: str) -> None:
        """What `faultpoints` calls."""
        if point == self._point and not self.done:
            self.done = True
            self._act()


def restore(server: ChromaServer, backup: Path) -> None:
    """Put an older copy in the place of a server's data."""
    server.kill()
    shutil.rmtree(server.path)
    shutil.copytree(backup, server.path)
    server.start()


def back_up(server: ChromaServer, backup: Path) -> None:
    """Copy a server's data while nobody writes."""
    server.kill()
    shutil.copytree(server.path, backup)
    server.start()


@pytest.mark.long
def test_a_replica_restored_from_an_older_copy_is_noticed_and_mended(
    fragile: Stage, tmp_path: Path
) -> None:
    """Records that it lacks or has too many, older content, collections of another day."""
    for name in ("grown", "shrunk", "remade", "renamed", "dropped"):
        fragile.create(name, count=60)
    fragile.sync(**SETTINGS)
    replica = fragile.servers.replica
    back_up(replica, tmp_path / "backup")

    primary = fragile.primary
    grown = primary.get_collection("grown", embedding_function=None)
    fill(grown, 30, start=60)
    grown.update(ids=["r1"], embeddings=vectors(1, seed=5))
    shrunk = primary.get_collection("shrunk", embedding_function=None)
    shrunk.delete(ids=[f"r{n}" for n in range(10)])
    shrunk.update(ids=["r11", "r50"], embeddings=vectors(2, seed=5))
    remake(fragile, "remade", 60, dimension=5)
    primary.get_collection("renamed", embedding_function=None).modify(name="new-name")
    drop(primary, "dropped")
    fragile.create("new", count=20)
    fragile.sync(**SETTINGS)
    fragile.sync(**SETTINGS)
    fragile.assert_identical()

    restore(replica, tmp_path / "backup")
    held = fragile.sync(**SETTINGS)
    assert held.outcome is Outcome.HELD
    assert {hold.collection_name for hold in held.holds} == {"dropped", "remade", "shrunk"}
    fragile.approve()
    report = fragile.sync(**SETTINGS)
    assert report.outcome is Outcome.IDENTICAL, report
    fragile.assert_identical()
    fragile.assert_quiet(**SETTINGS)
