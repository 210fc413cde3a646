"""Wrong servers: a clear error, the right exit code, and nothing changed on either side."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from chromasync.lab.chroma_server import free_port
from chromasync.lab.proxy import Answer, Fault, Request, TruncateBody
from tests.bad_input.conftest import contents
from tests.support.stage import Stage, fill

NOTHING = "http://127.0.0.1:{port}"
HTML = Answer(200, b"<html><body>Please log in</body></html>")
QUICK = {"SYNC_HTTP_TIMEOUT": "2"}


def refused(stage: Stage, code: int, *words: str, command: str = "sync", **settings: str) -> None:
    """The command fails with this exit code and these words, and changes nothing."""
    before = contents(stage)
    ended = stage.command(command, **settings)
    assert ended.returncode == code, ended.stderr
    for word in words:
        assert word in ended.stderr
    assert ended.stderr.count("Error: ") == 1
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
    assert contents(stage) == before


@pytest.mark.long
@pytest.mark.parametrize("side", ["primary", "replica"])
def test_nothing_listens(stage: Stage, side: str) -> None:
    """Exit code 3, with the side, the address and what to check."""
    url = NOTHING.format(port=free_port())
    refused(
        stage,
        3,
        f"The {side} at {url} cannot be reached",
        "Check that the server runs and that its URL is right",
        **{f"{side.upper()}_URL": url},
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("command", "side"), [("sync", "primary"), ("sync", "replica"), ("plan", "primary")]
)
def test_a_web_site_is_not_chroma(stage: Stage, website: str, side: str, command: str) -> None:
    """HTML with status 200 is named for what it is: exit code 4 at once."""
    refused(
        stage,
        4,
        f"The {side} at {website} does not",
        "a web page",
        "Check the URL, its path prefix and any proxy",
        command=command,
        **{f"{side.upper()}_URL": website},
    )


def test_a_wrong_path_prefix_is_not_chroma(stage: Stage) -> None:
    """A real server, the wrong path: 404 everywhere is not an empty primary."""
    stage.sync()
    url = f"{stage.servers.primary.url}/nowhere"
    refused(stage, 4, f"The primary at {url}", "Check the URL, its path prefix", PRIMARY_URL=url)


def _ends_with(*ends: str) -> Callable[[Request], bool]:
    return lambda request: request.path.split("?")[0].endswith(ends)


@pytest.mark.long
@pytest.mark.parametrize(
    ("where", "fault", "words"),
    [
        ("/collections", HTML, "a web page"),
        ("/get", HTML, "a web page"),
        ("/count", HTML, "a web page"),
        ("/collections", Answer(200, b'{"not": "a list"}'), "something else"),
        ("/count", Answer(200, b'"many"'), "something else"),
        ("/databases", Answer(200, b"[1, 2]"), "something else"),
    ],
    ids=["listing", "records", "count", "no list", "no number", "no databases"],
)
def test_a_proxy_page_in_place_of_an_answer(
    stage: Stage, where: str, fault: Fault, words: str
) -> None:
    """An answer with status 200 that is none ends the cycle before anything is written."""
    stage.sync()
    # with more records than a server may cap, the count is asked for, too
    fill(stage.primary.get_collection("docs", embedding_function=None), 120, start=50)
    stage.servers.primary_proxy.fault = lambda r: fault if _ends_with(where)(r) else None
    writes = len(stage.replica_writes())
    refused(stage, 4, "The primary at", words, **QUICK)
    changes = ("add", "upsert", "update")
    assert [w for w in stage.replica_writes()[writes:] if w.path.endswith(changes)] == []


def test_truncated_json_is_asked_for_again(stage: Stage) -> None:
    """An answer cut off in the middle is repeated, and only its repetition counts."""
    cut = [3]

    def fault(request: Request) -> Fault | None:
        if request.path.endswith("/get") and cut[0]:
            cut[0] -= 1
            return TruncateBody()
        return None

    stage.servers.primary_proxy.fault = fault
    stage.sync()
    assert cut == [0]
    stage.assert_identical()


@pytest.mark.long
def test_json_that_stays_truncated_deletes_nothing(stage: Stage) -> None:
    """A listing that is cut off each time: exit code 3, and the replica keeps everything."""
    stage.sync()
    fill(stage.replica.create_collection("more", embedding_function=None), 2)
    listing = _ends_with("/collections")
    stage.servers.primary_proxy.fault = lambda r: TruncateBody(0.7) if listing(r) else None
    refused(stage, 3, "truncated or invalid JSON")


def test_an_empty_answer_with_status_200_deletes_nothing(stage: Stage) -> None:
    """A primary that says it has nothing is held, however often it says so."""
    stage.sync()
    before = contents(stage)

    def fault(request: Request) -> Fault | None:
        if request.path.endswith("/collections"):
            return Answer(200, b"[]")
        return Answer(200, b"0") if request.path.endswith("/collections_count") else None

    stage.servers.primary_proxy.fault = fault
    for _ in range(3):
        assert stage.sync().exit_code == 4
    assert contents(stage) == before


@pytest.mark.long
def test_refused_credentials(stage: Stage) -> None:
    """401 is no empty server: exit code 4, with what to check, in JSON too."""
    stage.sync()
    stage.servers.primary_proxy.fault = lambda _: Answer(401, b'{"error":"AuthError"}')
    refused(stage, 4, "The primary at", "refuses access", "Check the token")
    ended = stage.command("sync", "--json")
    document = json.loads(ended.stdout)
    assert document["error"]["kind"] == "AccessRefused"
    assert document["exit_code"] == ended.returncode == 4


@pytest.mark.long
def test_a_primary_of_the_wrong_name_is_not_an_empty_one(stage: Stage) -> None:
    """A database that the primary does not have is an error, not a reason to delete."""
    stage.sync()
    refused(stage, 4, "nowhere", SYNC_DATABASES="nowhere")


@pytest.mark.long
def test_swapped_urls_before_the_first_cycle(stage: Stage) -> None:
    """No ledger tells them apart yet: what only the true primary has is held, not dropped."""
    before = contents(stage)
    proxies = stage.servers.primary_proxy, stage.servers.replica_proxy
    writes = [len(proxy.writes()) for proxy in proxies]
    for _ in range(3):
        ended = stage.command("sync", PRIMARY_URL=proxies[1].url, REPLICA_URL=proxies[0].url)
        assert ended.returncode == 4, ended.stderr
        assert "the primary never had it" in " ".join(ended.stdout.split())
    assert contents(stage) == before
    assert [len(proxy.writes()) for proxy in proxies] == writes
