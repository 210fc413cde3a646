"""A primary that answers 200 with nothing in it, as one does that has just been started."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest

from chromasync.errors import NotFound
from chromasync.lab.proxy import Answer, Fault, Request
from chromasync.reports import Outcome
from tests.support.stage import Stage, fill

NAMES = ("docs", "notes", "more")
SETTINGS = {"SYNC_CHUNK_SIZE": "20"}


def empty(wanted: Callable[[str, str], bool], body: bytes) -> Callable[[Request], Fault | None]:
    """A fault hook: 200 and this body for the requests with a wanted method and path."""

    def hook(request: Request) -> Fault | None:
        if wanted(request.method, urlsplit(request.path).path):
            return Answer(200, body, {"content-type": "application/json"})
        return None

    return hook


NOTHING_LISTED = empty(lambda method, path: path.endswith("/collections"), b"[]")
NO_DATABASES = empty(lambda method, path: path.endswith("/databases"), b"[]")
NO_RECORDS = empty(
    lambda method, path: path.endswith("/get"),
    b'{"ids":[],"embeddings":[],"documents":[],"uris":[],"metadatas":[],"include":[]}',
)


@pytest.mark.long
@pytest.mark.parametrize("cycles", [1, 4])
@pytest.mark.parametrize("fault", [NOTHING_LISTED, NO_RECORDS], ids=["collections", "records"])
def test_nothing_is_deleted_while_the_primary_answers_with_nothing(
    stage: Stage, fault: Callable[[Request], Fault | None], cycles: int
) -> None:
    """However many cycles see it empty; when it is back, adds go on and no hold is left."""
    for name in NAMES:
        stage.create(name, count=50)
    stage.sync(**SETTINGS)
    stage.servers.primary_proxy.fault = fault
    for _ in range(cycles):
        report = stage.sync(**SETTINGS)
        assert report.outcome is Outcome.HELD
        assert report.counts.deleted == 0
        assert {hold.collection_name for hold in report.holds} == set(NAMES)
    stage.servers.primary_proxy.fault = None
    assert all(stage.on_replica(name).count() == 50 for name in NAMES)

    fill(stage.primary.get_collection("docs", embedding_function=None), 10, start=50)
    stage.create("later", count=5)
    report = stage.sync(**SETTINGS)
    assert report.outcome is Outcome.IDENTICAL, report
    assert report.counts.inserted == report.counts.applied == 15
    assert report.holds == ()
    stage.assert_identical()
    stage.assert_quiet(**SETTINGS)


class EveryDatabase(Stage):
    """A stage whose program looks for the databases itself."""

    def values(self, **overrides: str) -> dict[str, str]:
        """The program's settings as text, without a word about databases."""
        return {k: v for k, v in super().values(**overrides).items() if k != "SYNC_DATABASES"}


def test_a_primary_that_lists_no_databases_is_refused(fragile: Stage) -> None:
    """However often it says so: the only copy is not dropped, and afterwards nothing is to do."""
    stage = EveryDatabase(fragile.servers, fragile.folder)
    stage.create(count=5)
    stage.sync()
    stage.servers.primary_proxy.fault = NO_DATABASES
    for _ in range(3):
        with pytest.raises(NotFound) as caught:
            stage.sync()
        assert caught.value.untouched
        assert caught.value.exit_code == 4
    stage.servers.primary_proxy.fault = None
    assert stage.on_replica().count() == 5
    stage.assert_quiet()
    stage.assert_identical()
    stage.close()
